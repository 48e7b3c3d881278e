"""Predictions and models made elsewhere, judged: the folder has the tables of a benchmark, with the right numbers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import given
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny
import torch
import yaml
from rich.console import Console
from scipy import special
from sklearn import metrics

from elsewhere import tasks
from elsewhere.benchmark.external import run_evaluation
from elsewhere.benchmark.loading import load
from elsewhere.benchmark.local import Local
from elsewhere.deploy.export import export_model
from elsewhere.errors import ElsewhereError, ModelError, RunError, SettingsError, StudyError
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.study.study import Study
from elsewhere.training.model_io import build, describe, load_model, save_model, weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Evaluated:
    """What an evaluation wrote and printed."""

    def __init__(self, study: Study, out: Path, **question: Any) -> None:
        console = Console(file=io.StringIO(), width=200)
        self.out = run_evaluation(study.root, out=out, console=console, **question)
        self.said = console.file.getvalue()  # type: ignore[attr-defined]
        text = {"held_out": str, "seed": str, "metric": str}
        empty = {name: [""] for name in ("value", "lo", "hi")}
        self.results = pd.read_csv(out / "results.csv", dtype=text, keep_default_na=False, na_values=empty)
        self.cases = pd.read_csv(out / "cases.csv", dtype={"case": str})
        self.plan = json.loads((out / "plan.json").read_text())
        self.notes = json.loads((out / "notes.json").read_text())

    def value(self, site: str, metric: str, of: str = "all") -> float:
        rows = self.results.query("held_out == @site and metric == @metric and `class` == @of and seed == 'all'")
        return float(rows["value"].iloc[0])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_masks(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study", (0, 255))
    folder = given.predicted(study, tmp_path / "masks", 255)
    (folder / "s1-05.png").unlink()
    found = Evaluated(study, tmp_path / "out", predictions=folder, name="nnunet")
    wanted = {}
    for case in study.cases:
        assert isinstance(case.label, Path)
        truth = given.pixels(case.label) > 0
        wanted[case.id] = dice(truth, given.shifted(truth))
    for site, number in (("A", "0"), ("B", "1")):
        of_site = [
            value for name, value in wanted.items() if name.startswith(f"images/s{number}") and name != "images/s1-05"
        ]
        assert found.value(site, "dice") == pytest.approx(np.mean(of_site))
    row = found.results.query("held_out == 'B' and metric == 'dice' and `class` == 'all' and seed == 'all'").iloc[0]
    assert (row["n_cases"], row["n_patients"], row["method"], row["selection"]) == (5, 5, "nnunet", "given")
    assert row["lo"] < row["value"] < row["hi"]
    columns = pq.read_schema(found.out / "predictions.parquet").names
    assert not [name for name in columns if name.startswith(("bin_", "foreground_", "probability"))]
    assert [name for name in columns if name.startswith("lesions_true:")]
    assert found.plan["kind"] == "evaluation"
    assert (found.plan["runs"], found.plan["probabilities"], found.plan["cases_missing"]) == ([], False, 1)
    assert "1 of 12 cases have no prediction in masks and are in no number: images/s1-05" in found.notes[0]
    assert any("masks were read as in the study's masks" in note for note in found.notes)
    assert any("no probabilities: calibration" in note for note in found.notes)
    assert found.notes[0] in found.said
    for site in "AB":
        listed = json.loads((found.out / "examples" / site / "examples.json").read_text())
        assert [one["name"] for one in listed] == ["best", "median", "worst"]
        assert {one["held_out"] for one in listed} == {site}
        assert (found.out / "examples" / site / "best.npz").is_file()
    covariates = pd.read_csv(found.out / "covariates.csv")
    assert len(covariates) == 12
    loaded = load(found.out)
    assert (loaded.methods("given"), loaded.held_out("given"), loaded.rules()) == (("nnunet",), ("A", "B"), ("given",))


def test_saved_probabilities_are_used(tmp_path: Path) -> None:
    """nnU-Net's .npz beside its masks."""
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")
    for path in sorted(folder.iterdir()):
        p = np.where(given.pixels(path) > 0, 0.8, 0.3)
        np.savez(path.with_suffix(".npz"), probabilities=np.stack([1 - p, p])[:, None].astype(np.float16))
    found = Evaluated(study, tmp_path / "out", predictions=folder, held_out=["B"], local=Local((1,), resamples=2))
    table = pq.read_table(found.out / "predictions.parquet").to_pylist()
    assert {row["held_out"] for row in table} == {"B"}
    assert all(sum(row["foreground_true"]) + sum(row["foreground_false"]) == 32 * 32 for row in table)
    assert np.flatnonzero(table[0]["foreground_false"]).tolist() in ([29, 80], [30, 80], [29, 79], [30, 79])
    assert set(pd.read_csv(found.out / "local.csv")["what"]) == {"threshold", "temperature"}
    assert "What N local patients change" in found.said


def test_probabilities_of_other_masks_are_remarked(tmp_path: Path) -> None:
    """Turned by 180 degrees they fit every shape and every sum."""
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")
    paths = sorted(folder.iterdir())
    for number, path in enumerate(paths):
        p = np.where(given.pixels(path) > 0, 0.8, 0.3)
        p = p[::-1, ::-1] if number == 2 else p
        np.savez(path.with_suffix(".npz"), probabilities=np.stack([1 - p, p])[:, None].astype(np.float16))
    found = Evaluated(study, tmp_path / "out", predictions=folder)
    (note,) = [note for note in found.notes if "is not the mask's in more than a tenth of the foreground" in note]
    assert note.endswith(f"of the .npz: images/{paths[2].stem}")


def probabilities(study: Study, path: Path) -> tuple[Path, pd.DataFrame]:
    rng = np.random.default_rng(0)
    rows = []
    for case in study.cases:
        target = study.classes.index(str(case.label))
        p = float(np.clip(0.35 + 0.3 * target + rng.normal(0, 0.25), 0.01, 0.99))
        rows.append({"case": case.id, "light": p, "site": case.site, "target": target})
    table = pd.DataFrame(rows)
    table[["case", "light"]].to_csv(path, index=False)
    return path, table


def test_a_table_of_probabilities(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    path, table = probabilities(study, tmp_path / "p.csv")
    found = Evaluated(study, tmp_path / "out", predictions=path)
    for site, rows in table.groupby("site"):
        auroc = metrics.roc_auc_score(rows["target"], rows["light"])
        assert found.value(str(site), "auroc") == pytest.approx(auroc)
        assert found.value(str(site), "brier") == pytest.approx(metrics.brier_score_loss(rows["target"], rows["light"]))
    assert found.plan["primary"] == "auroc"
    assert "predictions, AUROC" in found.said


def test_a_table_of_labels(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    path, table = probabilities(study, tmp_path / "p.csv")
    table["prediction"] = np.where(table["light"] > 0.5, "light", "dark")
    table[["case", "prediction"]].to_csv(path, index=False)
    found = Evaluated(study, tmp_path / "out", predictions=path)
    for site, rows in table.groupby("site"):
        wanted = metrics.balanced_accuracy_score(rows["target"], rows["light"] > 0.5)
        assert found.value(str(site), "balanced_accuracy") == pytest.approx(wanted)
    assert not set(found.results["metric"]) & {"auroc", "average_precision", "brier", "ece"}
    assert found.plan["metrics_missing"] == ["auroc", "average_precision", "brier", "ece"]
    assert "brier" not in set(found.cases["metric"])
    assert found.plan["primary"] == "balanced_accuracy"
    with pytest.raises(SettingsError, match="only labels or masks were given"):
        Evaluated(study, tmp_path / "again", predictions=path, local=Local((1,)))


def classifier(folder: Path, study: Study, **more: Any) -> Path:
    """A small untrained network, as a run keeps it."""
    rules = Preprocessing(dims=2, channels=("image",), size=(32, 32), intensity="study-zscore", mean=(120,), std=(50,))
    task = tasks.create(study.task, 2, study.classes)
    config = describe("erm", {}, "resnet18", {"width": 4}, task, 2, rules, None) | more
    return save_model(folder, weights(build(config, seed=1)), config, "last")


def test_a_model_and_its_export_agree(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    model = classifier(tmp_path / "model", study)
    path = export_model(load_model(model), "torchscript", tmp_path / "net.ts").path
    ours = Evaluated(study, tmp_path / "ours", model=model)
    theirs = Evaluated(study, tmp_path / "theirs", model=path, trust=True)
    merged = ours.results.merge(theirs.results, on=["held_out", "seed", "class", "metric"])
    assert len(merged) == len(ours.results) == len(theirs.results)
    np.testing.assert_allclose(merged["value_x"], merged["value_y"], atol=1e-4)
    assert ours.plan["source"] == "model"
    assert "is not known here" in ours.notes[0]
    with pytest.raises(ModelError, match="add --trust"):
        Evaluated(study, tmp_path / "untrusted", model=path)
    with pytest.raises(SettingsError, match=r"the model's config.yaml says how images are preprocessed"):
        Evaluated(study, tmp_path / "set", model=model, changes=["size=64"])


def test_a_temperature_is_applied_as_it_is_in_use(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    plain = classifier(tmp_path / "plain", study)
    calibrated = load_model(classifier(tmp_path / "calibrated", study, temperature=2.0))
    path = export_model(calibrated, "torchscript", tmp_path / "net.ts").path
    names = ["probability:dark", "probability:light"]
    found = [
        pd.read_parquet(Evaluated(study, tmp_path / str(i), model=model, trust=True).out / "predictions.parquet")[names]
        for i, model in enumerate((plain, path))
    ]
    np.testing.assert_allclose(found[1], special.softmax(np.log(found[0]) / 2, axis=1), atol=1e-5)
    assert any("temperature, 2, is applied" in note for note in json.loads((tmp_path / "1" / "notes.json").read_text()))


def test_what_a_model_has_seen_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = given.labels_study(tmp_path / "study")
    run = tmp_path / "run"
    model = classifier(run / "model" / "last", study)
    of_a = [case.id for case in study.cases if case.site == "A"]
    split = {"train": of_a[:3], "validation": of_a[3:4], "calibration": [], "test": of_a[4:]}
    (run / "config.yaml").write_text(yaml.safe_dump({"development_sites": ["A"], "split": split}))
    found = Evaluated(study, tmp_path / "out", model=model)
    assert found.plan["seen"] == {
        "A": "4 of its 6 cases trained, selected or calibrated the model",
        "B": "the model was not trained at a site of this name",
    }
    assert found.plan["seen_sites"] == ["A"]
    assert "site A: 4 of its 6 cases trained" in found.notes[0]
    assert "the model was not trained at a site of this name" in found.said
    (run / "config.yaml").write_text(yaml.safe_dump({"development_sites": ["Rome"], "split": split}))
    monkeypatch.chdir(model.parent)
    renamed = Evaluated(study, tmp_path / "renamed", model=Path("last"))
    assert renamed.notes[0] == "site A: 4 of its 6 cases trained, selected or calibrated the model"
    assert renamed.plan["method"] == "erm"
    named = classifier(tmp_path / "named", study, sites=["Rome", "B"])
    elsewhere = Evaluated(study, tmp_path / "other", model=named, held_out=["A"])
    assert "at none of these sites by that name" in elsewhere.notes[0]
    assert "may be among those it learnt from" in Evaluated(study, tmp_path / "b", model=named).notes[0]


def test_fine_tuning_on_local_patients(tmp_path: Path) -> None:
    """The loss on the patients that it was tuned on falls; the model itself stays as it was, and batch norm does."""
    from elsewhere.benchmark.local_fine_tune import fine_tuned
    from elsewhere.study.cache import Cache
    from elsewhere.study.decode import Schema
    from elsewhere.study.store import Store

    study = given.labels_study(tmp_path / "study")
    model = load_model(classifier(tmp_path / "model", study))
    store = Store(Cache(), Schema(study.classes, {}, 2), study.cases, 1, (32, 32), None)
    ids = [case.id for case in study.cases[:6]]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
    tuned = fine_tuned(model, store, ids, 15, seed=0, device=torch.device("cpu"))
    again = fine_tuned(model, store, ids, 15, seed=0, device=torch.device("cpu"))

    def loss(one: Any) -> float:
        stored = [store.load(case) for case in ids]
        image = torch.stack([one.preprocessing.normalise(torch.from_numpy(np.array(s.image)), s) for s in stored])
        return float(one.task.loss(one(image), torch.tensor([s.label for s in stored])).mean())

    assert loss(tuned) < 0.9 * loss(model)
    assert loss(again) == loss(tuned)
    after = tuned.state_dict()
    assert any((before[name] != after[name]).any() for name in before if name.endswith("weight"))
    for name, tensor in before.items():
        assert torch.equal(tensor, model.state_dict()[name])
        if "running" in name:
            assert torch.equal(tensor, after[name])
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    local = Local((1,), resamples=2, fine_tune=2, fine_tunings=1)
    found = Evaluated(study, tmp_path / "out", model=tmp_path / "model", local=local, held_out=["A"])
    rows = pd.read_csv(found.out / "local.csv").query("what == 'fine-tuning'")
    assert set(rows["metric"]) == {"auroc", "balanced_accuracy", "brier"}
    assert sorted(rows.query("metric == 'brier'")["n"]) == [0, 1]


def test_what_makes_no_sense_is_said_before_anything_is_written(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")
    wrong: list[tuple[dict[str, Any], type[ElsewhereError], str]] = [
        ({}, SettingsError, "give one of --predictions and --model"),
        ({"predictions": folder, "model": folder}, SettingsError, "give one of"),
        ({"predictions": folder, "changes": ["size=3"]}, SettingsError, "settings are for --model"),
        ({"predictions": folder, "held_out": ["C"]}, StudyError, "has no site 'C'"),
        ({"predictions": folder, "name": "reference"}, SettingsError, "within a site is called; choose another --name"),
        ({"predictions": tmp_path / "none"}, StudyError, "there is no such file or folder"),
        ({"predictions": study.root / "manifest.csv"}, StudyError, "is a segmentation; wanted a folder of masks"),
    ]
    for question, kind, said in wrong:
        with pytest.raises(kind, match=said):
            Evaluated(study, tmp_path / "out", **question)
        assert not (tmp_path / "out").exists()
    with pytest.raises(RunError, match="is the folder of a study"):
        Evaluated(study, study.root, predictions=folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="is there already and is no evaluation's folder"):
        Evaluated(study, tmp_path / "mine", predictions=folder)


def test_an_evaluation_is_replaced_as_a_whole(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")
    Evaluated(study, tmp_path / "out", predictions=folder)
    again = Evaluated(study, tmp_path / "out", predictions=folder, held_out=["A"])
    assert set(again.results["held_out"]) == {"A"}
    assert [path.name for path in (again.out / "examples").iterdir()] == ["A"]
    tiny.save(folder / "s0-00.png", np.zeros((30, 30)))
    with pytest.raises(StudyError, match=r"s0-00.png: the prediction is 30x30, its image is 32x32"):
        Evaluated(study, tmp_path / "out", predictions=folder)
    assert set(pd.read_csv(tmp_path / "out" / "results.csv")["held_out"]) == {"A"}  # the last good one stays


def test_killed_while_the_tables_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of them may be of another evaluation: nobody reads them, and the same command writes them anew."""
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for made_before in (False, True):
        out = tmp_path / f"out-{made_before}"
        if made_before:
            Evaluated(study, out, predictions=folder, held_out=["A"])
        with monkeypatch.context() as patch:
            patch.setattr("elsewhere.benchmark.external._write_results", killed)
            with pytest.raises(KeyboardInterrupt):
                Evaluated(study, out, predictions=folder)
        with pytest.raises(RunError, match="stopped while its tables were written; run the same 'elsewhere evaluate'"):
            load(out)
        again = Evaluated(study, out, predictions=folder)
        assert set(again.results["held_out"]) == {"A", "B"}
        assert load(out).held_out("given") == ("A", "B")


@pytest.mark.parametrize("name", ["results.csv", "predictions.parquet", "covariates.csv"])
def test_a_damaged_evaluation_says_which_command_mends_it(tmp_path: Path, name: str) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")
    out = Evaluated(study, tmp_path / "out", predictions=folder).out
    (out / name).write_text("{")
    with pytest.raises(RunError, match=rf"{name}: is damaged .*run the same 'elsewhere evaluate' command again"):
        load(out).judged("given", "predictions", "A")
