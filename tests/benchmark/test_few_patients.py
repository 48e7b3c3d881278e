"""Variants and few patients from the question to the tables: what is run, shown and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny
import yaml
from bench import Bench

from elsewhere.report import write_report

LABELLED = ["erm", "strong=vrex", "mild=vrex"]


def test_a_label_is_on_every_table_and_its_options_are_its_own(bench: Bench, study: Path) -> None:
    changes = [*tiny.SETTINGS, "vrex.ramp=0", "strong.weight=5", "mild.weight=0.5"]
    assert bench(study, methods=LABELLED, changes=changes) == 0
    assert "methods   erm, strong (vrex), mild (vrex)" in bench.said
    assert set(bench.results()["method"]) == {"erm", "strong", "mild"}
    runs = {path.parts[-3]: yaml.safe_load((path / "config.yaml").read_text())["run"] for path in bench.runs()}
    assert {name: (run["trained_as"], run["options"]) for name, run in runs.items()} == {
        "erm": ("erm", {}),
        "strong": ("vrex", {"weight": 5.0, "ramp": 0}),
        "mild": ("vrex", {"weight": 0.5, "ramp": 0}),
    }
    page = write_report(bench.out).read_text()
    assert "erm, strong (vrex), mild (vrex)" in page
    assert "strong.weight" in page
    comparisons = pd.read_csv(bench.out / "comparisons.csv")
    assert set(comparisons["method"]) == {"strong", "mild"}
    assert set(comparisons["baseline"]) == {"erm"}
    assert bench(study, methods=LABELLED, changes=changes) == 0
    assert "3 done, 0 to do" in bench.said


def test_few_patients_train_and_everybody_else_is_judged_as_ever(bench: Bench, study: Path) -> None:
    assert bench(study) == 0
    whole = bench.results()
    assert "few-shot" not in bench.said
    assert "patients" not in json.loads((bench.out / "plan.json").read_text())
    (full,) = bench.runs()
    assert bench(study, patients=3, reference=True) == 0
    assert "patients  few-shot: at most 3 patients train" in bench.said
    assert "few-shot: 3 of 6 training patients train (B " in bench.said
    plan = json.loads((bench.out / "plan.json").read_text())
    assert plan["patients"] == 3
    assert [run["spec"]["patients"] for run in plan["runs"]] == [3, None, None, None]
    few = bench.out / plan["runs"][0]["folder"]
    one, two = (yaml.safe_load((path / "config.yaml").read_text())["split"] for path in (full, few))
    assert len(two["train"]) == 3
    assert set(two["train"]) | set(two["left_out"]) == set(one["train"])
    assert {role: one[role] for role in ("validation", "calibration", "test")} == {
        role: two[role] for role in ("validation", "calibration", "test")
    }
    assert "few-shot: at most 3 patients train" in write_report(bench.out).read_text()
    assert bench(study) == 0
    assert "1 done, 0 to do" in bench.said
    pd.testing.assert_frame_equal(bench.results(), whole)


def test_more_patients_than_there_are(bench: Bench, study: Path) -> None:
    assert bench(study, patients=100) == 0
    assert "few-shot: 100 training patients were asked for and there are 6: all of them train" in bench.said


@pytest.mark.parametrize("methods", [["erm", "erm=vrex"]])
def test_a_label_that_is_a_method_is_said_before_anything_is_made(
    bench: Bench, study: Path, methods: list[str]
) -> None:
    from elsewhere.errors import SettingsError

    with pytest.raises(SettingsError, match="the name of another method"):
        bench(study, methods=methods)
    assert not bench.out.exists()
