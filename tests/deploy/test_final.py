"""The final model from end to end: on all sites, whole or absent, and its figures worked out again."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from benchmark import tiny
from elsewhere.deploy import final
from elsewhere.deploy.final import Final, train_final
from elsewhere.deploy.folder import CARD, CONFIG, DEVELOPMENT, SUMS, WEIGHTS, check_folder
from elsewhere.deploy.model import Model, load
from elsewhere.deploy.question import ask, difference
from elsewhere.errors import ModelError, RunError, SettingsError, StudyError
from elsewhere.evidence.intervals import patient_interval
from elsewhere.files import folder_lock
from elsewhere.networks.stable import FeatureUNet, write_ours
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.seal import ROLES, Development, develop_all, seal
from elsewhere.study.study import Study, open_study

SITES = {"A": 8, "B": 8, "C": 7}


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


class Listener:
    """Hears what is said; dies at a stage, after so many steps of it."""

    def __init__(self, dies_at: str = "", after: int = 0) -> None:
        self.dies_at, self.after = dies_at, after
        self.said: list[str] = []
        self.stages: dict[str, list[int]] = {}

    def __call__(self, message: dict[str, Any]) -> None:
        if message["kind"] == "say":
            self.said.append(message["text"])
            return
        self.stages.setdefault(message["stage"], []).append(message["step"])
        assert 0 < message["step"] <= message["steps"]
        if message["stage"] == self.dies_at and message["step"] >= self.after:
            raise Killed


def make(study: Path, out: Path, *changes: str, listener: Listener | None = None, **more: Any) -> Final:
    settings = tiny.CLASSIFIER if study.name == "classified" else tiny.SETTINGS
    question = {"method": "erm", "steps": 6, **more}
    return train_final(ask(study, changes=[*settings, *changes], **question), out, listener or Listener())


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    tiny.segmentation(folder / "discs", SITES)
    tiny.classification(folder / "classified", {"A": 20, "B": 20})
    for manifest in folder.glob("*/manifest.csv"):
        table = pd.read_csv(manifest, dtype=str)
        table.assign(patient="Geheimrat " + table["patient"]).to_csv(manifest, index=False)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _shared_cache(cache: Path, _own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE_CACHE", str(cache))


@pytest.fixture(scope="module")
def finished(studies: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation, trained once for all tests; copy it before you change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELSEWHERE_CACHE", str(cache))
        made = make(studies / "discs", tmp_path_factory.mktemp("finished") / "MODEL", command="elsewhere train it")
    assert made.trained
    return made.folder


@pytest.fixture
def study(studies: Path) -> Study:
    return open_study(studies / "discs")


def developed(study: Study, seed: int = 0) -> Development:
    return develop_all(study, seed, Cache())


# ---- all sites


def test_every_labelled_case_of_every_site_has_a_role(study: Study) -> None:
    development = developed(study)
    roles = {role: {case.id for case in development.role(role)} for role in ROLES}
    assert sorted(case for ids in roles.values() for case in ids) == sorted(study.by_id)
    assert development.sites == ("A", "B", "C")
    patients = [{study.by_id[case].patient for case in ids} for ids in roles.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert development.split.left_out == ()


def test_a_patient_has_the_role_of_the_benchmark_s_folds(study: Study) -> None:
    for seed in (0, 3):
        everybody = developed(study, seed)
        for site in study.sites:
            fold, _ = seal(study, Fold((site,)), seed, Cache())
            for role in ROLES:
                there = {case.id for case in fold.role(role)}
                assert there == {case.id for case in everybody.role(role) if case.site != site}


def test_the_preprocessing_is_that_of_the_training_cases_of_all_sites(study: Study) -> None:
    development = developed(study)
    assert development.fingerprint.n_cases == len(development.split.train)
    assert developed(study).sha256 == development.sha256
    assert developed(study, 1).sha256 != development.sha256
    assert seal(study, Fold(("A",)), 0, Cache())[0].sha256 != development.sha256


def test_a_single_site_is_enough_and_roles_are_for_benchmarks(tmp_path: Path) -> None:
    folder = tiny.segmentation(tmp_path / "one", {"A": 6})
    assert developed(open_study(folder)).sites == ("A",)
    several = tiny.segmentation(tmp_path / "several", {"A": 6, "B": 6})
    (several / "study.yaml").write_text("roles: {train: [A], test: [B]}\n")
    assert developed(open_study(several)).sites == ("A", "B")


def test_a_study_without_labels_trains_nothing(tmp_path: Path) -> None:
    folder = tiny.segmentation(tmp_path / "s", {"A": 2})
    text = (folder / "manifest.csv").read_text().replace("masks/s0-00.png", "").replace("masks/s0-01.png", "")
    (folder / "manifest.csv").write_text(text)
    (folder / "study.yaml").write_text("task: segmentation\nclasses: {background: 0, disc: 1}\n")
    with pytest.raises(StudyError, match="no case has a label to train on"):
        developed(open_study(folder))


# ---- the folder


def test_the_folder_is_whole_and_nothing_else_is_left(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == sorted([WEIGHTS, CONFIG, DEVELOPMENT, CARD, SUMS])
    check_folder(finished)
    assert list(finished.parent.iterdir()) == [finished]
    config = yaml.safe_load((finished / CONFIG).read_text())
    assert (config["study"], config["sites"], config["method"]) == ("discs", ["A", "B", "C"], "erm")
    assert config["data"]["sites"]["A"]["train"]["patients"] == 5
    assert config["elsewhere"] is None
    assert config["temperature"] > 0
    assert 0 < config["thresholds"]["foreground"] < 1
    assert (config["overlap"], config["orientation"]) == (0.5, None)  # axes are those of photographs
    assert config["training"]["steps"] == 6
    assert [step for step, _ in config["training"]["scores"]] == [2, 4, 6]
    assert "    elsewhere train it\n" in (finished / CARD).read_text()


def test_nobody_is_named_in_it(finished: Path, study: Study) -> None:
    everything = b"".join(path.read_bytes() for path in finished.iterdir())
    for case in study.cases:
        assert case.id.encode() not in everything
    assert b"Geheimrat" not in everything
    assert str(study.root).encode() not in everything


def test_the_figures_at_home_can_be_worked_out_again(finished: Path, study: Study) -> None:
    model, development = load(finished, device="cpu"), developed(study)
    dice, patients, sites = [], [], []
    for case in development.role("test"):
        predicted = np.asarray(model.predict(case.images["image"]).labels) == 1
        truth = development.original_label(case.id).array == 1
        dice.append(2 * (predicted & truth).sum() / max(1, predicted.sum() + truth.sum()))
        patients.append(case.patient)
        sites.append(case.site)
    rows = {(row["site"], row["metric"]): row for row in model.config["home"]["rows"] if row["class"] == "all"}
    found = rows[None, "dice"]
    assert found["value"] == pytest.approx(np.mean(dice), abs=1e-6)
    wanted = patient_interval(np.array(dice), patients, bounds=(0, 1))
    assert (found["lo"], found["hi"]) == pytest.approx((wanted.lo, wanted.hi), abs=1e-6)
    assert (found["n_patients"], found["doubt"]) == (len(set(patients)), wanted.doubt)
    for site in set(sites):
        own = [value for value, where in zip(dice, sites, strict=True) if where == site]
        assert rows[site, "dice"]["value"] == pytest.approx(np.mean(own), abs=1e-6)
    flagged = sum(model.predict(case.images["image"]).unlike is True for case in development.role("test"))
    assert f"{flagged} of these {len(dice)} cases are flagged" in " ".join(model.config["home"]["sentences"])


def test_every_case_is_read_for_the_work_of_its_role_only(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else can have been fitted to it: nobody but the development reads a case."""
    stage, read = [""], dict[str, set[str]]()

    def noting(name: str) -> None:
        whole = getattr(final, name)

        def work(*args: Any) -> Any:
            stage[0] = name
            return whole(*args)

        monkeypatch.setattr(final, name, work)

    load_case = Development.load

    def noted(self: Development, case_id: str) -> Any:
        read.setdefault(stage[0], set()).add(case_id)
        return load_case(self, case_id)

    monkeypatch.setattr(Development, "load", noted)
    for name in ("_train", "_calibrate", "figures_at_home"):
        noting(name)
    make(studies / "discs", tmp_path / "MODEL")
    split = developed(open_study(studies / "discs")).split
    assert set(split.validation) < read["_train"] <= {*split.train, *split.validation}
    assert read["_calibrate"] == {*split.train, *split.calibration}  # of training cases the statistics are
    assert read["figures_at_home"] == set(split.test)


def test_the_better_model_on_the_validation_patients_is_the_one(finished: Path) -> None:
    config = yaml.safe_load((finished / CONFIG).read_text())
    scores = dict(config["training"]["scores"])
    assert config["selection"] == "source-val"
    assert config["step"] == config["training"]["best_step"]
    assert scores[config["step"]] == max(scores.values())


def test_few_patients_train_and_the_card_says_how_many(studies: Path, tmp_path: Path) -> None:
    heard = Listener()
    model = load(make(studies / "discs", tmp_path / "MODEL", patients=3, listener=heard).folder, device="cpu")
    whole = developed(open_study(studies / "discs"))
    there = len({case.patient for case in whole.role("train")})
    note = next(line for line in heard.said if line.startswith("few-shot"))
    assert note.startswith(f"few-shot: 3 of {there} training patients train (")
    assert note in model.card
    assert "on 3 patients of" in model.card
    assert model.config["question"]["patients"] == 3
    parts = model.config["data"]["sites"].values()
    assert sum(roles["test"]["patients"] for roles in parts) == len({case.patient for case in whole.role("test")})
    with pytest.raises(RunError, match=r"patients=3, now None"):
        make(studies / "discs", tmp_path / "MODEL")


def test_a_classification_from_end_to_end(studies: Path, tmp_path: Path) -> None:
    made = make(studies / "classified", tmp_path / "MODEL", selection="last")
    model, study = load(made.folder, device="cpu"), open_study(studies / "classified")
    assert (model.task, model.classes) == ("classification", ("dark", "light"))
    assert model.config["step"] == 6
    development = developed_at(study, model)
    found = [model.predict(case.images["image"]) for case in development.role("test")]
    score, truth = [p.probabilities[1] for p in found], [case.label == "light" for case in development.role("test")]
    rows = {(row["site"], row["metric"]): row["value"] for row in model.config["home"]["rows"]}
    assert rows[None, "auroc"] == pytest.approx(roc_auc_score(truth, score))
    assert rows[None, "brier"] == pytest.approx(np.mean((np.array(score) - truth) ** 2), abs=1e-6)
    (point,) = model.config["home"]["operating"]
    called = np.array(score) >= model.thresholds["light"]
    assert point["class"] == "light"
    assert point["sensitivity"]["value"] == pytest.approx(called[np.array(truth)].mean())
    assert point["specificity"]["value"] == pytest.approx((~called[~np.array(truth)]).mean())
    assert "| light |" in model.card


def developed_at(study: Study, model: Model) -> Development:
    return develop_all(study, 0, Cache(), size=model.preprocessing.size)


def test_sites_too_small_for_calibration_and_test_say_so(tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "discs", {"A": 2, "B": 1})
    config = load(make(study, tmp_path / "MODEL").folder, device="cpu").config
    assert (config["temperature"], config["thresholds"], config["conformal"]) == (None, {}, {})
    assert config["home"]["rows"] == []
    card = (tmp_path / "MODEL" / CARD).read_text()
    assert "there are no calibration patients" in card
    assert "the sites are too small for in-domain test patients" in card
    assert "a score, and no flag" in card


# ---- again, and something else


def stamp(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_the_same_command_again_does_nothing(finished: Path, studies: Path) -> None:
    before, listener = stamp(finished), Listener()
    assert make(studies / "discs", finished, "device=cpu", listener=listener) == Final(finished, trained=False)
    assert stamp(finished) == before
    assert listener.stages == {}
    assert list(finished.parent.iterdir()) == [finished]


@pytest.mark.parametrize(
    ("changes", "more", "sentence"),
    [
        ((), {"seed": 1}, r"seed=0, now 1"),
        ((), {"steps": 7}, r"steps=6, now 7"),
        ((), {"method": "gin"}, r"method=erm, now gin"),
        (("learning_rate=0.5",), {}, r"learning_rate=0.001, now 0.5"),
        ((), {"selection": "last"}, r"selection=source-val, now last"),
    ],
)
def test_another_question_is_refused_and_the_model_stays(
    changes: tuple[str, ...], more: dict[str, Any], sentence: str, finished: Path, studies: Path
) -> None:
    before = stamp(finished)
    with pytest.raises(RunError, match=rf"holds a finished model of another question \({sentence}\)"):
        make(studies / "discs", finished, *changes, **more)
    assert stamp(finished) == before
    assert list(finished.parent.iterdir()) == [finished]


def test_other_images_are_another_question(finished: Path, studies: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(studies / "discs", tmp_path / "discs"))
    tiny.save(study / "images" / "s0-00.png", np.zeros((32, 32)))
    with pytest.raises(RunError, match="its images, labels or the split of its patients were not those of now"):
        make(study, finished)
    assert difference({}, {"study": "a"}) == "study=None, now a"


def test_a_folder_of_something_else_is_never_written_to(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file"):
        with pytest.raises(RunError, match="is there already and is no model"):
            make(studies / "discs", tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_a_folder_of_somebody_s_own_is_not_taken_for_the_work_s(studies: Path, tmp_path: Path) -> None:
    """The work is done in MODEL.part, which is removed in the end."""
    mine = tmp_path / "MODEL.part"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"MODEL\.part: is there already and holds thesis\.txt"):
        make(studies / "discs", tmp_path / "MODEL")
    with pytest.raises(SettingsError, match="patch_size"):
        make(studies / "discs", tmp_path / "MODEL", "patch_size=1000000")
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "MODEL").exists()


def test_a_damaged_model_is_not_taken_for_a_finished_one(finished: Path, studies: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "MODEL"))
    (folder / WEIGHTS).write_bytes(b"changed")
    with pytest.raises(Exception, match=r"model\.safetensors is not what it was"):
        make(studies / "discs", folder)
    assert (folder / WEIGHTS).read_bytes() == b"changed"


# ---- killed


def contents(path: Path) -> dict[str, bytes]:
    """Of a safetensors file, whose header is in no fixed order."""
    return {name: array.tobytes() for name, array in load_file(path).items()}


@pytest.mark.parametrize(("stage", "after"), [("training", 3), ("calibrating", 4), ("judging at home", 1)])
def test_killed_anywhere_it_goes_on_and_ends_the_same(
    stage: str, after: int, finished: Path, studies: Path, tmp_path: Path
) -> None:
    out = tmp_path / "MODEL"
    with pytest.raises(Killed):
        make(studies / "discs", out, listener=Listener(stage, after), command="elsewhere train it")
    assert not out.exists()
    work = tmp_path / "MODEL.part"
    assert work.is_dir()
    with pytest.raises(RunError, match=r"MODEL\.part: another training was begun here \(seed=0, now 1\)"):
        make(studies / "discs", out, seed=1)
    listener = Listener()
    assert make(studies / "discs", out, listener=listener, command="elsewhere train it").trained
    steps = listener.stages.get("training", [])
    assert steps == [step for step in steps if step > (2 if stage == "training" else 6)], "it began anew"
    assert not work.exists()
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert contents(out / DEVELOPMENT) == contents(finished / DEVELOPMENT)
    configs = [yaml.safe_load((folder / CONFIG).read_text()) | {"written": ""} for folder in (out, finished)]
    assert configs[0] == configs[1]


def test_killed_before_its_folder_is_removed(finished: Path, studies: Path, tmp_path: Path) -> None:
    """The model is there, and so is what it was made in."""
    out = Path(shutil.copytree(finished, tmp_path / "MODEL"))
    (tmp_path / "MODEL.part" / "model").mkdir(parents=True)
    (tmp_path / "MODEL.part" / "question.json").write_text("{}")
    assert not make(studies / "discs", out).trained
    assert not (tmp_path / "MODEL.part").exists()
    assert stamp(out).keys() == stamp(finished).keys()


def test_a_full_disk_is_said_and_the_same_command_goes_on(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(RunError, match="the disk is full"):
            make(studies / "discs", tmp_path / "MODEL")
    assert not (tmp_path / "MODEL").exists()
    assert make(studies / "discs", tmp_path / "MODEL").trained
    check_folder(tmp_path / "MODEL")


def test_two_at_once_are_refused(studies: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path / "MODEL.part", "a test"):
        with pytest.raises(RunError, match=r"MODEL\.part: a training is already running in this folder"):
            make(studies / "discs", tmp_path / "MODEL")
        assert not (tmp_path / "MODEL").exists()


# ---- a network of one's own


@pytest.fixture
def own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "net_of_mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, dims, in_channels, out_channels, width=4):\n"
        "        first = nn.Conv2d(in_channels, width, 3, padding=1)\n"
        "        super().__init__(first, nn.ReLU(), nn.Conv2d(width, out_channels, 1))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "net_of_mine:Net"
    sys.modules.pop("net_of_mine", None)


def test_a_network_of_one_s_own_is_trained_where_it_is_trusted(own_network: str, studies: Path, tmp_path: Path) -> None:
    changes = (f"network={own_network}", "network_options={width: 6}")
    with pytest.raises(SettingsError, match=r"is code outside of elsewhere.*use --trust"):
        make(studies / "discs", tmp_path / "MODEL", *changes)
    assert "net_of_mine" not in sys.modules
    made = make(studies / "discs", tmp_path / "MODEL", *changes, trust=True)
    with pytest.raises(Exception, match="use --trust"):
        load(made.folder)
    model = load(made.folder, trust=True, device="cpu")
    assert type(model.deployed.method.network).__name__ == "Net"
    assert "its code is not part of this folder" in model.card


# ---- questions that make no sense


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"method": "nope"}, "unknown method 'nope'"),
        ({"changes": ["stepz=3"]}, "unknown setting 'stepz'"),
        ({"changes": ["vrex.weight=1"]}, "options were given for method 'vrex', but the method is erm"),
        ({"changes": ["network=densenet121"]}, "network densenet121 is not for segmentation in 2D"),
        ({"changes": ["network_options.chanels=[4]"]}, "chanels"),
        ({"method": "dropgen", "changes": ["dropgen.p=1.0"]}, "p must be at least 0 and below 1, found 1.0"),
        ({"patients": 0}, "--patients: found 0, wanted at least 1 training patient"),
        ({"selection": "oracle"}, "--selection: found 'oracle', wanted one of: source-val, last"),
    ],
)
def test_a_wrong_question_is_answered_before_anything_is_read(
    more: dict[str, Any], sentence: str, studies: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        ask(studies / "discs", **{"method": "erm", **more})
    assert not list(tmp_path.iterdir())


def test_an_extractor_of_one_s_own_is_run_where_it_is_trusted(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eyes_of_mine.py").write_text(
        "from torch import nn\n"
        "class Eyes(nn.Conv2d):\n"
        "    def __init__(self, features=3):\n"
        "        super().__init__(1, features, 3, padding=1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    changes = ("dropgen.extractor=eyes_of_mine:Eyes", "dropgen.extractor_options={features: 5}")
    with pytest.raises(SettingsError, match=r"extractor eyes_of_mine:Eyes is code outside of elsewhere.*use --trust"):
        make(studies / "discs", tmp_path / "MODEL", *changes, method="dropgen")
    assert "eyes_of_mine" not in sys.modules
    made = make(studies / "discs", tmp_path / "MODEL", *changes, method="dropgen", trust=True)
    with pytest.raises(ModelError, match=r"extractor eyes_of_mine:Eyes is code outside of elsewhere"):
        load(made.folder)
    model = load(made.folder, trust=True, device="cpu")
    assert model.deployed.method.stable.extractor.features == 5
    sys.modules.pop("eyes_of_mine")


def test_a_model_with_pretrained_features_needs_no_file_of_them(studies: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = write_ours(tmp_path / "own.safetensors", FeatureUNet(2, 1, features=3, width=4, downs=1))
    changes = ("dropgen.extractor=elsewhere-2d", f"dropgen.weights={file}")
    made = make(studies / "discs", tmp_path / "MODEL", *changes, method="dropgen")
    file.unlink()
    model = load(made.folder, device="cpu")
    (image,) = sorted((studies / "discs").rglob("*.png"))[:1]
    assert model.predict(image).labels.shape
    assert str(tmp_path) not in (made.folder / "config.yaml").read_text()
