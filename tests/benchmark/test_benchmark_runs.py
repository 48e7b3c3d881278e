from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from bench import THREE, Bench, weights
from filelock import FileLock

from elsewhere.benchmark.spec import slug
from elsewhere.errors import RunError
from elsewhere.study.cache import Cache


def test_what_a_benchmark_leaves(bench: Bench, study: Path) -> None:
    assert bench(study, methods=["erm", "vrex"], held_out=None, selection=["source-val", "last"]) == 0
    assert len(bench.runs()) == 6
    for run in bench.runs():
        assert {path.name for path in run.iterdir()} >= {
            "config.yaml", "log.csv", "cases.csv", "predictions.parquet", "model", "done.json",
            "openings.jsonl", "examples", "calibration.json",
        }  # fmt: skip
        assert not (run / "checkpoint").exists(), "a finished run needs none, and it is large"
    results = bench.results()
    assert list(results.columns) == [
        "method", "held_out", "seed", "selection", "split", "class", "metric", "value", "lo", "hi",
        "n_cases", "n_patients",
    ]  # fmt: skip
    assert set(results["metric"]) == {"dice", "iou", "accuracy", "hd95", "assd"}
    assert set(results["split"]) == {"held-out", "in-domain"}
    cases = pd.read_csv(bench.out / "cases.csv")
    away = cases[cases["split"] == "held-out"]
    assert (away["site"] == away["held_out"]).all()
    home = cases[cases["split"] == "in-domain"]
    assert (home["site"] != home["held_out"]).all()
    # The value in the table is the mean over the cases in the file beside it.
    for _, row in results[(results["seed"] == "all")].iterrows():
        keys = ["method", "held_out", "selection", "split", "class", "metric"]
        mine = cases[(cases[keys] == row[keys]).all(axis=1)]
        assert row["value"] == pytest.approx(mine["value"].mean())
        assert row["n_cases"] == len(mine)
    assert "Dice, held out" in bench.said
    assert "over these 3 held-out sites" in bench.said
    assert (bench.out / "study.yaml").is_file()
    assert (bench.out / "covariates.csv").is_file()


def test_nothing_is_done_twice(bench: Bench, study: Path) -> None:
    bench(study)
    (run,) = bench.runs()
    before = (run / "done.json").stat().st_mtime_ns
    assert bench(study) == 0
    assert (run / "done.json").stat().st_mtime_ns == before
    assert "1 done, 0 to do" in bench.said


def test_another_selection_rule_trains_nothing_again(bench: Bench, study: Path) -> None:
    bench(study)
    (run,) = bench.runs()
    log, model = (run / "log.csv").read_text(), weights(run)
    assert bench(study, selection=["last"]) == 0
    assert bench.runs() == [run]
    assert ((run / "log.csv").read_text(), weights(run)) == (log, model)
    assert set(bench.results()["selection"]) == {"last"}
    before = (run / "done.json").stat().st_mtime_ns
    bench(study, selection=["source-val"])  # was evaluated already
    assert (run / "done.json").stat().st_mtime_ns == before


def test_a_finished_run_that_lost_its_model_is_trained_again(bench: Bench, study: Path) -> None:
    bench(study)
    (run,) = bench.runs()
    model = weights(run)
    (run / "model" / "source-val" / "model.safetensors").unlink()
    assert bench(study, selection=["last"]) == 0
    assert weights(run) == model
    assert (run / "model" / "source-val" / "model.safetensors").is_file()


def test_killed_in_the_middle_and_called_again(bench: Bench, study: Path, tmp_path: Path) -> None:
    whole = Bench(tmp_path / "whole")
    long = {"held_out": ["A", "B"], "steps": 30}
    assert whole(study, **long) == 0
    program = (
        "import sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1])\n"
        "import tiny\nfrom elsewhere.benchmark import run_benchmark\n"
        "run_benchmark(sys.argv[2], out=sys.argv[3], methods=['erm'], held_out=['A', 'B'], steps=30, "
        "changes=tiny.SETTINGS)\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(study), str(bench.out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(bench.out.glob("runs/erm/B/*/checkpoint/step-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
    first, second = bench.runs()
    assert (first / "done.json").is_file()
    assert not (second / "done.json").is_file(), "it was to be killed in the second run"
    before = (first / "done.json").stat().st_mtime_ns
    assert bench(study, **long) == 0
    assert (first / "done.json").stat().st_mtime_ns == before
    for mine, theirs in zip(bench.runs(), whole.runs(), strict=True):
        assert weights(mine) == weights(theirs)
        assert weights(mine, "source-val") == weights(theirs, "source-val")
    assert (bench.out / "results.csv").read_text() == (whole.out / "results.csv").read_text()
    assert not list(bench.out.rglob("*.part"))


def test_a_corrupt_image_in_the_middle(bench: Bench, study: Path) -> None:
    """Its case is held out with A and develops with B: both runs need it; the one that is done stays."""
    assert bench(study, held_out=["B+C"]) == 0  # trains on A alone, evaluates on B and C
    victim = study / "images" / "s1-03.png"
    victim.write_bytes(victim.read_bytes()[:60])
    assert bench(study, held_out=["A", "B"]) == 1
    errors = [path.read_text() for path in bench.out.rglob("error.txt")]
    assert len(errors) == 2
    for error in errors:
        assert "s1-03.png" in error.split("\n", 1)[0]
    assert "2 of 2 runs failed" in bench.said
    assert "Traceback" not in bench.said


def test_a_failed_run_is_tried_again_and_stops_no_other(bench: Bench, study: Path) -> None:
    victim = study / "masks" / "s0-01.png"
    good = victim.read_bytes()
    stamp = victim.stat().st_mtime_ns
    # Only the fold that holds A out opens this file without training on it, so training itself succeeds.
    victim.write_bytes(b"not an image")
    config = study / "study.yaml"
    config.write_text("task: segmentation\nclasses: {background: 0, disc: 1}\n")
    assert bench(study, held_out=["A"]) == 1
    (run,) = bench.runs()
    assert (run / "model" / "last" / "model.safetensors").is_file()
    assert "s0-01.png" in (run / "error.txt").read_text()
    victim.write_bytes(good)
    os.utime(victim, ns=(stamp, stamp))
    assert bench(study, held_out=["A"]) == 0
    assert [path for path in bench.runs() if (path / "done.json").is_file()]


def test_the_disk_is_full(bench: Bench, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import elsewhere.files

    def full(source: object, target: object) -> None:
        if str(target).endswith("cases.csv") and "runs" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.rename(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(elsewhere.files.os, "replace", full)
    assert bench(study) == 1
    (run,) = bench.runs()
    assert "the disk is full" in (run / "error.txt").read_text()
    assert not (run / "cases.csv").exists()
    assert not (run / "done.json").exists()
    assert not list(bench.out.rglob("*.part"))
    model = weights(run)
    monkeypatch.undo()
    assert bench(study) == 0
    assert weights(run) == model


def test_two_benchmarks_in_one_folder(bench: Bench, study: Path) -> None:
    bench.out.mkdir()
    with FileLock(bench.out / ".lock"), pytest.raises(RunError, match="already running in this folder"):
        bench(study)


def test_a_stale_lock_blocks_nobody(bench: Bench, study: Path) -> None:
    bench.out.mkdir()
    (bench.out / ".lock").write_text("99999999")
    assert bench(study) == 0


@pytest.mark.parametrize("held_out", ["lonely", "A"])
def test_a_site_with_one_patient(bench: Bench, tmp_path: Path, held_out: str) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 6, "B": 6, "lonely": 1})
    assert bench(study, held_out=[held_out]) == 0
    if held_out == "lonely":
        away = bench.results()
        away = away[(away["split"] == "held-out") & (away["seed"] == "all")]
        assert (away["n_patients"] == 1).all()
        assert away["value"].notna().all()
        assert away["lo"].isna().all()
        assert "[no interval]" in bench.said
        assert "no interval: one patient" in " ".join(bench.said.split())
    else:
        assert "lonely has 1 patient" in bench.said


def test_only_one_patient_a_site_has_nothing_to_select_by(bench: Bench, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 1, "B": 1, "C": 1})
    assert bench(study) == 0
    assert "no validation cases" in bench.said
    assert set(bench.results()["split"]) == {"held-out"}


def test_a_constant_image(bench: Bench, study: Path) -> None:
    for name in ("s0-00", "s1-00", "s2-00"):
        tiny.save(study / "images" / f"{name}.png", np.full((32, 32), 77))
    assert bench(study, held_out=["A", "B"], changes=[*tiny.SETTINGS, "intensity=image-zscore"]) == 0
    assert bench.results()["value"].notna().all()


def test_missing_covariates(bench: Bench, study: Path) -> None:
    with (study / "manifest.csv").open(newline="") as opened:
        assert "" in {row["age"] for row in csv.DictReader(opened)}
    assert bench(study) == 0


def test_a_class_that_only_the_held_out_site_has(bench: Bench, tmp_path: Path) -> None:
    classes = {"C": ("dark", "light", "rare")}
    study = tiny.classification(tmp_path / "study", {"A": 8, "B": 8, "C": 9}, classes)
    assert bench(study, held_out=["C"], changes=tiny.CLASSIFIER) == 0
    assert "class 'rare' is in 3 held-out cases and in no development case" in bench.said
    (run,) = bench.runs()
    assert any("'rare'" in note for note in json.loads((run / "done.json").read_text())["notes"])
    predictions = pd.read_parquet(run / "predictions.parquet")
    away = predictions[predictions["split"] == "held-out"]
    assert len(away) == 9
    assert (away["target"] == 2).sum() == 3
    results = bench.results()
    accuracy = results[
        (results["metric"] == "accuracy") & (results["split"] == "held-out") & (results["seed"] == "all")
    ]
    columns = ["probability:dark", "probability:light", "probability:rare"]
    right = away[columns].to_numpy().argmax(axis=1) == away["target"]
    assert accuracy["value"].item() == pytest.approx(right.mean())
    assert accuracy["n_cases"].item() == 9


def test_each_file_is_decoded_once(bench: Bench, study: Path) -> None:
    assert bench(study, methods=["erm", "vrex"], seeds=2, held_out=None) == 0
    assert Cache().decodes_logged() == sum(THREE.values())


def test_site_names_of_any_kind(bench: Bench, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"<script>alert(1)</script>": 4, "../../x": 4, "Zürich/病院": 4})
    assert bench(study, held_out=None) == 0
    assert set(bench.results()["held_out"]) == {"<script>alert(1)</script>", "../../x", "Zürich/病院"}
    assert {path.parent.parent.name for path in bench.runs()} == {"erm"}
    assert sorted(path.parent.name for path in bench.runs()) == sorted(
        slug(name) for name in ("<script>alert(1)</script>", "../../x", "Zürich/病院")
    )
