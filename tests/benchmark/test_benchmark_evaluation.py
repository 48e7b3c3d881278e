"""What a run writes about its cases beyond scores, evaluation again without training, and tables changed by hand."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from bench import Bench, weights
from scipy import ndimage
from scipy.special import softmax

from elsewhere.benchmark import assess, scoring
from elsewhere.benchmark.covariates import write_covariates
from elsewhere.benchmark.evaluate import labelled
from elsewhere.errors import RunError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.seal import seal
from elsewhere.study.study import open_study
from elsewhere.tasks import predict
from elsewhere.training import load_model

OUTLIER = ["outlier", "outlier:mahalanobis", "outlier:knn", "outlier:input"]
NEW = ["confidence", *OUTLIER, "unlike"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study of three sites and its finished benchmark, with a reference."""
    root = tmp_path_factory.mktemp("good")
    study = tiny.segmentation(root / "study", {"A": 6, "B": 6, "C": 6})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELSEWHERE_CACHE", str(root / "cache"))
        assert (
            Bench(root / "bench")(study, reference=True, changes=[*tiny.SETTINGS, "learning_rate=0.05"], steps=6) == 0
        )
    return study, root / "bench"


@pytest.fixture
def copy(good: tuple[Path, Path], tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "copy")
    shutil.copytree(good[1], bench.out)
    return bench


def again(bench: Bench, study: Path) -> int:
    return bench(study, reference=True, changes=[*tiny.SETTINGS, "learning_rate=0.05"], steps=6)


def main_run(out: Path) -> Path:
    (run,) = out.glob("runs/erm/A/*")
    return run


def done(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "done.json").read_text())
    return found


def age(run: Path) -> None:
    """As a run was before there was a number of its evaluation."""
    old = {key: value for key, value in done(run).items() if key not in ("evaluation", "files", "versions")}
    (run / "done.json").write_text(json.dumps(old))
    table = pd.read_parquet(run / "predictions.parquet")
    kept = [c for c in table if not c.startswith(("scaled_", "foreground_", "lesions_", "outlier")) and c not in NEW]
    table.loc[table["split"] != "calibration", kept].to_parquet(run / "predictions.parquet")
    (run / "calibration.json").unlink()


def trainings(bench: Bench) -> dict[str, tuple[bytes, bytes]]:
    return {run.name: ((run / "log.csv").read_bytes(), weights(run)) for run in bench.runs()}


def test_calibration_patients_are_in_predictions_and_nowhere_else(good: tuple[Path, Path]) -> None:
    run = main_run(good[1])
    split = yaml.safe_load((run / "config.yaml").read_text())["split"]
    table = pd.read_parquet(run / "predictions.parquet")
    by_split = {name: set(rows["case"]) for name, rows in table.groupby("split")}
    assert by_split["calibration"] == set(split["calibration"])
    assert by_split["in-domain"] == set(split["test"])
    assert set(by_split) == {"held-out", "in-domain", "calibration"}
    for name in ("cases.csv", "results.csv"):
        for path in (good[1] / name, run / name):
            if path.exists():
                assert set(pd.read_csv(path)["split"]) == {"held-out", "in-domain"}
    fitted = json.loads((run / "calibration.json").read_text())["source-val"]
    assert set(fitted) == {"temperature", "n_patients", "n_cases", "reason", "outlier_threshold"}
    assert (fitted["n_patients"], fitted["n_cases"]) == (2, 2)
    assert fitted["temperature"] > 0
    assert "2 calibration patients are too few" in fitted["reason"]


def test_what_is_recorded_of_a_segmentation(good: tuple[Path, Path], tmp_path: Path) -> None:
    """Predicted again by hand, and counted by other means."""
    study, out = good
    run = main_run(out)
    _, held_out = seal(open_study(study), Fold(("A",)), 0, Cache(tmp_path / "cache"), patch_size=[32, 32])
    model = load_model(run / "model" / "source-val")
    fitted = json.loads((run / "calibration.json").read_text())["source-val"]
    table = pd.read_parquet(run / "predictions.parquet").set_index(["split", "case"])
    lesions = np.zeros(3, dtype=int)
    with held_out.open(model, reason="by hand", log=tmp_path / "log") as reader:
        for case in held_out.case_ids:
            stored, label = labelled(reader, case)
            image = model.preprocessing.normalise(torch.from_numpy(np.array(stored.image)), stored)[None]
            p = predict(model, image, model.patch_size, 2)[0].numpy()
            truth, said, row = label.array, p.argmax(0), table.loc[("held-out", case)]  # type: ignore[union-attr]
            foreground = 1 - p[0].astype(np.float64)
            edges = np.linspace(0, 1, 101)
            for name, voxels in (("true", truth > 0), ("false", truth == 0)):
                wanted = np.histogram(foreground[voxels], edges)[0]
                assert np.abs(row[f"foreground_{name}"] - wanted).sum() <= 4, "rounding at an edge"
                assert row[f"foreground_{name}"].sum() == voxels.sum()
            scaled = softmax(np.log(np.maximum(p.astype(np.float64), 1e-38)) / fitted["temperature"], axis=0)
            assert row["scaled_confidence"].sum() == pytest.approx(scaled.max(0).sum(), rel=1e-4)
            assert row["scaled_right"].sum() == row["bin_right"].sum() == (said == truth).sum()
            (true, n), (predicted, m) = (ndimage.label(mask == 1, np.ones((3, 3))) for mask in (truth, said))
            found = sum(bool((said[true == i] == 1).any()) for i in range(1, n + 1))
            false = sum(not (truth[predicted == i] == 1).any() for i in range(1, m + 1))
            counts = [row[f"lesions_{name}:foreground"] for name in ("true", "found", "false")]
            assert counts == [n, found, false]
            lesions += [n, found, false]
            promised = 2 * foreground[said > 0].sum() / (foreground.sum() + (said > 0).sum())
            assert row["confidence"] == pytest.approx(promised if (said > 0).any() else p[0].min(), abs=1e-5)
            assert row["unlike"] == (row["outlier"] > fitted["outlier_threshold"])
            assert np.isfinite(row[OUTLIER].astype(float)).all()
    assert lesions[0] == 6, "a disc each"
    calibration = table.loc["calibration"]
    assert calibration[["scaled_count", "scaled_confidence", "scaled_right"]].isna().all(axis=None)
    assert calibration["outlier"].notna().all()
    assert np.stack(calibration["bin_count"]).sum() == 2 * 32 * 32


def test_a_reference_has_no_calibration(good: tuple[Path, Path]) -> None:
    for run in good[1].glob("runs/reference/*/*"):
        table = pd.read_parquet(run / "predictions.parquet")
        assert set(table["split"]) == {"held-out"}
        assert table[[*OUTLIER, "unlike", "scaled_count"]].isna().all(axis=None)
        assert table["confidence"].between(0, 1).all()
        fitted = json.loads((run / "calibration.json").read_text())["source-val"]
        assert (fitted["temperature"], fitted["outlier_threshold"]) == (None, None)
        assert "a reference is trained within its site" in fitted["reason"]


def test_what_is_recorded_of_a_classification(bench: Bench, tmp_path: Path) -> None:
    study = tiny.classification(tmp_path / "study", {"A": 9, "B": 8, "C": 8})
    assert bench(study, changes=tiny.CLASSIFIER) == 0
    (run,) = bench.runs()
    table = pd.read_parquet(run / "predictions.parquet")
    probabilities = table[["probability:dark", "probability:light"]].to_numpy()
    assert table["confidence"].to_numpy() == pytest.approx(probabilities.max(1))
    fitted = json.loads((run / "calibration.json").read_text())["source-val"]
    assert (table["unlike"].astype(bool) == (table["outlier"] > fitted["outlier_threshold"])).all()
    assert fitted["n_cases"] == (table["split"] == "calibration").sum() > 0
    results = bench.results()
    away = results[(results["metric"] == "accuracy") & (results["seed"] == "all")].set_index("split")["n_cases"]
    assert away["held-out"] == 9
    assert away["in-domain"] == (table["split"] == "in-domain").sum()


def test_a_run_of_an_older_evaluation_is_evaluated_again_and_not_trained(good: tuple[Path, Path], copy: Bench) -> None:
    study, whole = good
    before = trainings(copy)
    results = (copy.out / "results.csv").read_text()
    for run in copy.runs():
        age(run)
    assert again(copy, study) == 0
    assert "0 done, 4 to do" in copy.said
    assert "4 of them are trained already, and only evaluated" in copy.said
    assert trainings(copy) == before
    assert (copy.out / "results.csv").read_text() == results
    for mine, theirs in zip(copy.runs(), sorted(whole.glob("runs/*/*/*")), strict=True):
        pd.testing.assert_frame_equal(*(pd.read_parquet(run / "predictions.parquet") for run in (mine, theirs)))
        assert done(mine)["files"] == done(theirs)["files"]
        assert done(mine)["evaluation"] == 2
        assert done(mine)["seconds"]["training"] == done(theirs)["seconds"]["training"]
    assert again(copy, study) == 0
    assert "4 done, 0 to do" in copy.said


def test_old_results_stay_where_evaluating_again_fails(good: tuple[Path, Path], copy: Bench, tmp_path: Path) -> None:
    """A study whose image can no longer be read: its bytes count as they were, by the hashes of the cache."""
    study, _ = good
    run = main_run(copy.out)
    age(run)

    def broken(*_: object) -> object:
        raise OSError("the disk is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elsewhere.benchmark.run.judge_cases", broken)
        assert again(copy, study) == 1
    assert "the disk is gone" in copy.said
    results = copy.results()
    assert set(results["method"]) == {"erm", "reference"}
    assert again(copy, study) == 0


@pytest.mark.parametrize("name", ["cases.csv", "predictions.parquet", "calibration.json"])
def test_a_table_changed_by_hand_is_refused_by_name(good: tuple[Path, Path], copy: Bench, name: str) -> None:
    study, whole = good
    before = trainings(copy)
    path = main_run(copy.out) / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RunError, match="was changed since the run wrote it") as caught:
        again(copy, study)
    assert str(path) in str(caught.value)
    assert "delete it and run the same 'elsewhere benchmark' command again" in str(caught.value)
    path.unlink()
    assert again(copy, study) == 0
    assert "1 of them is trained already, and only evaluated" in copy.said
    assert path.read_bytes() == (main_run(whole) / name).read_bytes()
    assert trainings(copy) == before


def test_killed_while_the_tables_are_replaced(
    good: tuple[Path, Path], copy: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of another rule are half written: they are nobody's, and the models are still known."""
    study, _ = good
    before = trainings(copy)

    def killed(folder: Path, sheets: object) -> None:
        (folder / "cases.csv").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr("elsewhere.benchmark.run.write_sheets", killed)
    question = {"changes": [*tiny.SETTINGS, "learning_rate=0.05"], "steps": 6}
    with pytest.raises(KeyboardInterrupt):
        copy(study, selection=["last"], **question)
    monkeypatch.undo()
    assert copy(study, **question) == 0
    assert "1 of them is trained already, and only evaluated" in copy.said
    assert trainings(copy) == before


def test_a_model_of_another_split_is_not_evaluated(good: tuple[Path, Path], copy: Bench) -> None:
    study, _ = good
    run = main_run(copy.out)
    age(run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    split = config["split"]
    split["train"][0], split["test"][0] = split["test"][0], split["train"][0]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert again(copy, study) == 1
    assert "trained by another split of the patients; delete the folder" in copy.said


def test_what_is_good_to_have_never_loses_a_run(bench: Bench, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise ValueError("a bug")

    monkeypatch.setattr(assess, "calibrate", broken)
    monkeypatch.setattr(scoring, "lesions", broken)
    monkeypatch.setattr(scoring, "case_confidence", broken)
    assert bench(study) == 0
    (run,) = bench.runs()
    table = pd.read_parquet(run / "predictions.parquet")
    assert set(table["split"]) == {"held-out", "in-domain"}
    assert table[[*NEW, "lesions_true:foreground"]].isna().all(axis=None)
    assert table["foreground_true"].notna().all()
    assert "a bug" in json.loads((run / "calibration.json").read_text())["source-val"]["reason"]
    for what in ("calibration", "lesion counts", "confidence"):
        assert f"{what} could not be made: ValueError: a bug" in " ".join(bench.said.split())


def test_a_calibration_image_that_cannot_be_read(bench: Bench, study: Path, tmp_path: Path) -> None:
    development, _ = seal(open_study(study), Fold(("A",)), 0, Cache(tmp_path / "cache"))
    victim = development.split.calibration[0]
    (study / f"{victim}.png").write_bytes(b"not an image")
    assert bench(study) == 0
    (run,) = bench.runs()
    fitted = json.loads((run / "calibration.json").read_text())["source-val"]
    assert f"{victim}.png" in fitted["reason"]
    assert "calibration could not be made" in bench.said


def test_a_site_without_calibration_patients(bench: Bench, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 4, "B": 4})
    assert bench(study) == 0
    (run,) = bench.runs()
    fitted = json.loads((run / "calibration.json").read_text())["source-val"]
    assert (fitted["temperature"], fitted["outlier_threshold"], fitted["n_cases"]) == (None, None, 0)
    assert "no calibration patients" in fitted["reason"]
    table = pd.read_parquet(run / "predictions.parquet")
    assert table["outlier"].notna().all(), "ranks cases without a threshold too"
    assert table["unlike"].isna().all()
    assert table["scaled_count"].isna().all()


def test_development_statistics_are_of_training_cases_alone(
    bench: Bench, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    real = assess.calibrate

    def watched(predictor: Any, load: Any, train: Any, calibration: Any, **more: Any) -> Any:
        asked.extend([tuple(train), tuple(calibration)])
        return real(predictor, load, train, calibration, **more)

    monkeypatch.setattr(assess, "calibrate", watched)
    assert bench(study) == 0
    split = yaml.safe_load((bench.runs()[0] / "config.yaml").read_text())["split"]
    assert asked == [tuple(split["train"]), tuple(split["calibration"])]


def test_covariates_of_every_case(good: tuple[Path, Path]) -> None:
    study, out = good
    with (out / "covariates.csv").open(newline="") as opened:
        found = list(csv.DictReader(opened))
    with (study / "manifest.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(found[0]) == ["case", "patient", "site", "age"]
    assert [(row["patient"], row["site"], row["age"]) for row in found] == [
        (row["patient"], row["site"], row["age"]) for row in rows
    ]
    assert {"", "40"} <= {row["age"] for row in found}


def test_covariates_called_as_a_column_of_ours(tmp_path: Path) -> None:
    """With another column as the site, the column `site` is a covariate."""
    folder = tiny.classification(tmp_path / "study", {"A": 2, "B": 2})
    with (folder / "manifest.csv").open(newline="") as opened:
        rows = [{**row, "scanner": "X,1" if i % 2 else "NA"} for i, row in enumerate(csv.DictReader(opened))]
    tiny.manifest(folder, rows)
    write_covariates(tmp_path, open_study(folder, site_column="scanner"))
    found = pd.read_csv(tmp_path / "covariates.csv", dtype=str, keep_default_na=False)
    assert list(found) == ["case", "patient", "site", "label", "manifest:site"]
    assert list(found["site"]) == ["NA", "X,1", "NA", "X,1"]
    assert list(found["manifest:site"]) == ["A", "A", "B", "B"]
    assert list(found["label"]) == ["dark", "light", "dark", "light"]
