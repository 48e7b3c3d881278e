from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image

from elsewhere.benchmark import run_benchmark
from elsewhere.benchmark.content import study_digest
from elsewhere.benchmark.planning import plan
from elsewhere.benchmark.spec import RunSpec, slug
from elsewhere.benchmark.variants import require_different
from elsewhere.errors import ModelError, SettingsError, StudyError
from elsewhere.networks.stable.ours import write_ours
from elsewhere.networks.stable.unet import FeatureUNet
from elsewhere.study.hashes import FileHashes
from elsewhere.study.study import Study, open_study
from elsewhere.training import Settings


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_study(tiny.segmentation(tmp_path / "study", {"A": 4, "B": 4, "C": 4}))


def planned(study: Study, **changes: object) -> list[RunSpec]:
    question = {
        "methods": ["erm", "vrex"],
        "seeds": [0, 1],
        "held_out": None,
        "settings": Settings(steps=4),
        "options": {},
        "selection": ["source-val"],
        "reference": False,
        "content": "c",
    }
    return plan(study, **{**question, **changes})  # type: ignore[arg-type]


def test_method_by_fold_by_seed(study: Study) -> None:
    specs = planned(study)
    assert {(s.method, s.fold.name, s.seed) for s in specs} == {
        (m, f, s) for m in ("erm", "vrex") for f in "ABC" for s in (0, 1)
    }
    assert len({s.identity for s in specs}) == len({s.folder for s in specs}) == 12


def test_groups_and_single_sites(study: Study) -> None:
    assert [s.fold.held_out for s in planned(study, methods=["erm"], seeds=[0], held_out=["A", "B"])] == [
        ("A",),
        ("B",),
    ]
    assert [s.fold.held_out for s in planned(study, methods=["erm"], seeds=[0], held_out=["A+B"])] == [("A", "B")]
    with pytest.raises(StudyError, match="A, B, C"):
        planned(study, held_out=["Z"])


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": Settings(steps=5)},
        {"settings": Settings(steps=4, learning_rate=0.1)},
        {"options": {"vrex": {"weight": 3.0}}, "methods": ["vrex"]},
        {"seeds": [1]},
        {"content": "other"},
        {"selection": ["oracle"]},
        {"held_out": ["B"]},
        {"patients": 5},
    ],
)
def test_whatever_affects_the_result_changes_the_identity(study: Study, changes: dict[str, object]) -> None:
    question: dict[str, object] = {"methods": ["vrex"], "seeds": [0], "held_out": ["A"]}
    before, after = planned(study, **question)[0], planned(study, **{**question, **changes})[0]
    assert before.identity != after.identity


@pytest.mark.parametrize(
    "changes",
    [
        {"selection": ["last"]},
        {"selection": ["last", "source-val"]},
        {"settings": Settings(steps=4, loggers=["tensorboard"], checkpoint_every=7, log_every=3)},
        {"settings": Settings(steps=4, network="unet")},  # the default, by its name
        {"methods": ["erm", "gin"]},
        {"reference": True},
        {"patients": None},
    ],
)
def test_nothing_else_does(study: Study, changes: dict[str, object]) -> None:
    question: dict[str, object] = {"methods": ["erm"], "seeds": [0], "held_out": ["A"]}
    assert planned(study, **question)[0].identity == planned(study, **{**question, **changes})[0].identity


def test_a_run_that_the_oracle_sees_is_another_and_serves_the_other_rules(study: Study) -> None:
    question: dict[str, object] = {"methods": ["erm"], "seeds": [0], "held_out": ["A"]}
    (honest,) = planned(study, **question, selection=["last"])
    (oracle,) = planned(study, **question, selection=["oracle"])
    (both,) = planned(study, **question, selection=["oracle", "last"])
    assert (honest.selection, oracle.selection, both.selection) == (("last",), ("oracle",), ("last", "oracle"))
    assert honest.identity != oracle.identity == both.identity
    assert "oracle" in oracle.folder.name
    assert "oracle" not in honest.folder.name
    *_, reference = planned(study, **question, selection=["oracle"], reference=True)
    assert (reference.method, reference.selection) == ("reference", ("source-val",))


def test_reference_is_cross_validation_within_the_site(study: Study) -> None:
    found = [s for s in planned(study, seeds=[0], held_out=["A"], reference=True) if s.method == "reference"]
    assert [s.fold.part for s in found] == [(0, 3), (1, 3), (2, 3)]
    assert {s.trained_as for s in found} == {"erm"}
    few = [s for s in planned(study, seeds=[0], held_out=["A"], reference=True, patients=1) if s.method == "reference"]
    assert few == found  # it has all patients of its own site


def test_a_run_survives_json(study: Study) -> None:
    for spec in planned(study, reference=True):
        assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_what_the_oracle_chooses_it_looked_at(study: Study) -> None:
    (spec,) = planned(study, methods=["erm"], seeds=[0], held_out=["A"])
    chosen = replace(spec, selection=("oracle",))
    assert (spec.oracle, chosen.oracle) == (False, True)
    older = {key: value for key, value in chosen.to_dict().items() if key != "oracle"}
    assert RunSpec.from_dict(older) == chosen
    seen = replace(chosen, selection=("last",))
    assert RunSpec.from_dict(seen.to_dict()) == seen
    assert seen.oracle
    assert "oracle" in seen.folder.name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"selection": ["best"]}, "'best'"),
        ({"selection": []}, "source-val"),
        ({"methods": []}, "--methods"),
        ({"methods": ["erm", "erm"]}, "twice"),
        ({"methods": ["em"]}, "erm"),
        ({"methods": ["mine=em"]}, "unknown method 'em'"),
        ({"methods": ["mine=erm", "mine=vrex"]}, "'mine' is named twice"),
        ({"methods": ["erm=vrex"]}, "'erm' is the name of another method"),
        ({"methods": ["reference=vrex"]}, "'reference' is a name that is taken"),
        ({"methods": ["network_options=vrex"]}, "'network_options' is a name that is taken"),
        ({"methods": ["a/b=vrex"]}, "'a/b' has a slash in it"),
        ({"methods": ["a,b=vrex"]}, "'a,b' has a comma in it"),
        ({"methods": ["a=b=vrex"]}, "'a=b' has an equals sign in it"),
        ({"methods": ["a.b=vrex"]}, "'a.b' has a dot in it"),
        ({"methods": ["a\nb=vrex"]}, "character that cannot be shown"),
        ({"methods": ["=vrex"]}, "there is no label"),
        ({"methods": ["drop=dropgen"], "options": {"drop": {"p": 1.0}}}, "p must be at least 0 and below 1, found 1.0"),
        ({"methods": ["vrex", "mine=vrex"]}, "'vrex' and 'mine' in --methods are the same training"),
        ({"patients": 0}, "--patients: found 0, wanted at least 1"),
        ({"methods": ["mine=vrex"], "options": {"other": {"weight": 1.0}}}, "'other', which is not run"),
        ({"methods": ["erm"], "options": {"vrex": {"weight": 1.0}}}, "not run"),
    ],
)
def test_a_question_that_makes_no_sense(study: Study, changes: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        planned(study, **changes)


def test_a_label_is_what_is_shown_and_the_method_what_is_run(study: Study) -> None:
    """The identity is that of the method with these options, whatever it is called."""
    options = {"vrex": {"weight": 3.0}, "mild": {"weight": 0.5}}
    question: dict[str, object] = {"seeds": [0], "held_out": ["A"], "options": options}
    erm, strong, mild = planned(study, methods=["erm", "strong = vrex", "mild=vrex"], **question)
    assert [(s.method, s.trained_as) for s in (erm, strong, mild)] == [
        ("erm", "erm"),
        ("strong", "vrex"),
        ("mild", "vrex"),
    ]
    assert (strong.options["weight"], mild.options["weight"]) == (3.0, 0.5)
    assert [s.folder.parts[1] for s in (erm, strong, mild)] == ["erm", "strong", "mild"]
    assert [s.method_title for s in (erm, strong, mild)] == ["erm", "strong (vrex)", "mild (vrex)"]
    assert strong.title == "strong, without A, seed 0"
    plain = planned(study, methods=["vrex"], **{**question, "options": {"vrex": {"weight": 3.0}}})[0]
    assert strong.identity == plain.identity != mild.identity
    assert erm.identity == planned(study, methods=["erm"], seeds=[0], held_out=["A"])[0].identity


def test_one_training_from_two_copies_of_a_file_is_one_training(tmp_path: Path) -> None:
    """Runs are told apart by their identity, in which a file is its content."""
    for name, content in (("one", b"1"), ("copy", b"1"), ("other", b"2")):
        (tmp_path / name).write_bytes(content)

    def ask(first: str, second: str) -> None:
        options = {"a": {"weights": str(tmp_path / first)}, "b": {"weights": str(tmp_path / second)}}
        require_different({"a": "dropgen", "b": "dropgen"}, options)

    ask("one", "other")
    with pytest.raises(SettingsError, match="'a' and 'b' in --methods are the same training"):
        ask("one", "copy")


def test_options_are_given_by_label_or_by_method() -> None:
    labels = {"erm": "erm", "mild": "vrex"}
    _, options = Settings.parse(["vrex.weight=3", "mild.weight=0.5"], None, labels)
    assert options == {"vrex": {"weight": 3.0}, "mild": {"weight": 0.5}}
    with pytest.raises(SettingsError, match=r"unknown option mild\.wait; did you mean weight"):
        Settings.parse(["mild.wait=0.5"], None, labels)
    with pytest.raises(SettingsError, match=r"option mild\.weight: found 'much', wanted float"):
        Settings.parse(["mild.weight=much"], None, labels)
    with pytest.raises(SettingsError, match="unknown method 'mild'"):
        Settings.parse(["mild.weight=0.5"])


def test_content_is_bytes_not_places(study: Study, tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        return study_digest(open_study(folder), FileHashes(tmp_path / "hashes.tsv"))

    before = digest(study.root)
    shutil.copytree(study.root, tmp_path / "elsewhere")
    assert digest(tmp_path / "elsewhere") == before
    picture = tmp_path / "elsewhere" / "images" / "s0-00.png"
    Image.open(picture).point(lambda value: value // 2).save(picture)
    assert digest(tmp_path / "elsewhere") != before


@pytest.mark.parametrize("name", ["<script>", "a/b", "..", "", "Zürich", "病院", "A B", "x" * 200, "con\n", "A+B"])
def test_any_site_name_is_a_safe_folder(name: str) -> None:
    found = slug(name)
    assert found.isascii()
    assert 0 < len(found) <= 70
    assert not set(found) & set('/\\<>:"|?*\n ')
    assert not found.startswith(".")


def test_site_names_do_not_fall_together() -> None:
    assert len({slug(name) for name in ("a/b", "a_b", "a b", "a:b")}) == 4


def test_a_logger_that_is_not_installed_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = tiny.segmentation(tmp_path / "study", {"A": 4, "B": 4})
    with pytest.raises(SettingsError, match="logger 'wandb' is not installed"):
        run_benchmark(folder, out=tmp_path / "out", methods=["erm"], changes=["loggers=[wandb]"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "multiple"),
    [
        (["patch_size=[32,40]"], [16, 16]),
        (["patch_size=24"], [16, 16]),
        (["patch_size=40", "network_options.channels=[4, 8, 16]"], None),
        (["patch_size=20", "network=dynunet"], None),
        (["patch_size=36", "network=dynunet"], [8, 8]),
        (["patch_size=[32, 18]", "network=dynunet", "spacing=1"], [8, 4]),
        (["patch_size=[32, 18]", "network=dynunet", "spacing=[1, 100]"], None),
        (["patch_size=[32, 18]", "network=dynunet"], None),  # right or wrong by a spacing that only the images tell
    ],
)
def test_a_patch_that_the_network_cannot_halve(study: Study, changes: list[str], multiple: list[int] | None) -> None:
    """Said here and once; without it every run would fail with the sentence of the training."""
    settings, _ = Settings.parse(changes)
    if multiple is None:
        assert planned(study, settings=settings)
        return
    with pytest.raises(SettingsError) as caught:
        planned(study, settings=settings)
    assert f"does not fit network {settings.network or 'unet'}; each must be a multiple of {multiple}" in str(
        caught.value
    )


def test_the_patch_of_the_study_is_looked_at_too(tmp_path: Path) -> None:
    folder = tiny.segmentation(tmp_path / "other", {"A": 2, "B": 2})
    (folder / "study.yaml").write_text("patch_size: [40, 40]\n")
    with pytest.raises(SettingsError, match=r"each must be a multiple of \[16, 16\]"):
        planned(open_study(folder))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"extractor": "mnd"}, SettingsError, r"unknown extractor 'mnd' \(did you mean 'mind'\?\)"),
        ({"extractor": "elsewhere-3d"}, SettingsError, "extractor elsewhere-3d is not for 2D"),
        ({"weights": "junk.pth"}, SettingsError, "extractor mind: has no weights"),
        ({"extractor": "elsewhere-2d", "weights": "junk.pth"}, ModelError, r"junk\.pth: .*"),
        ({"extractor_options": {"radius": "wide"}}, SettingsError, "radius must be a whole number"),
    ],
)
def test_what_a_method_cannot_build_is_said_before_anything_is_trained(
    study: Study, tmp_path: Path, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    (tmp_path / "junk.pth").write_text("hello")
    options = {"dropgen": {k: str(tmp_path / str(v)) if k == "weights" else v for k, v in changes.items()}}
    with pytest.raises(error, match=words):
        planned(study, methods=["erm", "dropgen"], options=options)


def test_planning_leaves_the_random_state_as_it_was(study: Study) -> None:
    before = torch.get_rng_state()
    planned(study, methods=["erm", "dropgen"])
    assert torch.equal(torch.get_rng_state(), before)


FORKED = """
import sys, torch
from elsewhere.methods import card
from elsewhere.study import open_study
from elsewhere.training import Settings
from elsewhere.training.rehearsal import rehearse
import multiprocessing

def work():
    torch.isfinite(torch.randn(5_000_000)).all()

torch.set_num_threads(2)
study = open_study(sys.argv[1])
settings = Settings(steps=1).resolved(study.task, study.dims)
rehearse(settings, study, [("dropgen", {**card("dropgen").defaults, "extractor": "elsewhere-2d"})])
assert torch.get_num_threads() == 2
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(60)
ended = child.exitcode
child.kill()
sys.exit(0 if ended == 0 else 1)
"""


def test_a_process_that_is_forked_after_planning_does_not_hang(study: Study) -> None:
    """As those of `devices=2` on a CPU are."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    done = subprocess.run([sys.executable, "-c", FORKED, str(study.root)], env=environment, timeout=240)
    assert done.returncode == 0


def test_a_file_that_an_option_names_is_its_content(study: Study, tmp_path: Path) -> None:
    def identity(name: str) -> str:
        options = {"dropgen": {"extractor": "elsewhere-2d", "weights": str(tmp_path / name)}}
        return planned(study, options=options, methods=["dropgen"], seeds=[0], held_out=["A"])[0].identity

    for name, seed in (("a", 1), ("other", 2)):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = FeatureUNet(2, 1, features=3, width=4, downs=1, norm="instance", upsampling="linear")
        write_ours(tmp_path / f"{name}.safetensors", network)
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    first = identity("a.safetensors")
    assert identity("b.safetensors") == first != identity("other.safetensors")
    with pytest.raises(SettingsError, match=r"option dropgen.weights: there is no file .*c\.safetensors"):
        identity("c.safetensors")
