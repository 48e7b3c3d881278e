"""The report of labels that were given without probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import MadeUp, Page

from elsewhere.errors import SettingsError
from elsewhere.report.report import write_report
from elsewhere.report.two_folders import write_comparison

MISSING = ["auroc", "average_precision", "brier", "ece"]


def evaluation(out: Path, *, labels_only: bool) -> Path:
    """Two sites, as `elsewhere evaluate` leaves them."""
    made = out.with_name(f"{out.name}-made")
    specs = MadeUp("classification", {"A": 14, "B": 14}, {"given": 1.0}, seeds=(0,), selection=("given",), home=0,
                   calibration=0).write(made)  # fmt: skip
    out.mkdir()
    table = pd.concat([pd.read_parquet(made / one.folder / "predictions.parquet") for one in specs])
    question = json.loads((made / "plan.json").read_text(encoding="utf-8")) | {"kind": "evaluation", "runs": []}
    results = pd.read_csv(made / "results.csv", dtype=str, keep_default_na=False)
    if labels_only:
        names = [name for name in table if name.startswith("probability:")]
        table[names] = np.eye(len(names))[table[names].to_numpy().argmax(1)]
        table = table.drop(columns=[name for name in table if name == "confidence" or name.startswith("outlier")])
        question |= {"metrics_missing": MISSING, "primary": "balanced_accuracy"}
        results = results[~results["metric"].isin(MISSING)]
    table.to_parquet(out / "predictions.parquet", index=False)
    results.to_csv(out / "results.csv", index=False)
    (out / "covariates.csv").write_bytes((made / "covariates.csv").read_bytes())
    (out / "plan.json").write_text(json.dumps(question), encoding="utf-8")
    return out


def test_sections_made_of_nothing_are_left_out_and_say_why(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "labels", labels_only=True)
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "given reaches a mean balanced accuracy" in page.text
    for section in ("cases", "calibration", "operating-points", "doubt"):
        assert "no probabilities" in page.sections[section], section
        assert len(page.sections[section]) < 250, "a sentence, and no table"
    assert "ECE" not in page.text
    with pytest.raises(SettingsError, match="found 'auroc', wanted for classification without probabilities"):
        write_report(folder, metric="auroc")


def test_beside_probabilities_the_metric_is_one_that_both_have(tmp_path: Path) -> None:
    labels = evaluation(tmp_path / "labels", labels_only=True)
    probabilities = evaluation(tmp_path / "probabilities", labels_only=False)
    page = Page(write_comparison(labels, probabilities).read_text(encoding="utf-8"))
    assert "balanced accuracy over these 2 held-out sites" in page.text
    with pytest.raises(SettingsError, match="found 'auroc', wanted for classification without probabilities"):
        write_comparison(labels, probabilities, metric="auroc")
