"""`elsewhere evaluate` and the report that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark import given
from elsewhere.cli import app, spread_values
from elsewhere.errors import ElsewhereError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def elsewhere(*words: object) -> str:
    done = CliRunner().invoke(app, spread_values([str(word) for word in words]))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_masks_become_a_report(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "masks")
    out = tmp_path / "out"
    said = elsewhere("evaluate", study.root, "--predictions", folder, "--out", out, "--name", "<b>nnU-Net</b>")
    assert f"wrote {out / 'report.html'}" in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;nnU-Net&lt;/b&gt;" in page
    assert "<b>nnU-Net" not in page
    assert "masks were given and no probabilities" in page
    assert json.loads((out / "evidence.json").read_text())


def test_labels_are_reported_by_what_labels_can_say(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    path = tmp_path / "labels.csv"
    rows = [f"{case.id},{case.label if i % 3 else 'dark'}" for i, case in enumerate(study.cases)]
    path.write_text("\n".join(["case,prediction", *rows]))
    elsewhere("evaluate", study.root, "--predictions", path, "--out", tmp_path / "out")
    (found,) = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert found["metric"] == "balanced_accuracy"


def test_several_numbers_of_local_patients(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    path = tmp_path / "p.csv"
    rows = [f"{case.id},{0.3 + 0.4 * (case.label == 'light') * (i % 3 > 0)}" for i, case in enumerate(study.cases)]
    path.write_text("\n".join(["case,light", *rows]))
    words = ("evaluate", study.root, "--predictions", path, "--out", tmp_path / "out")
    said = elsewhere(*words, "--local", 1, 4, "--resamples", 3)
    assert "1 patients" in said
    assert "site A has 6 patients: 4 local ones would leave fewer than 5" in said
    assert spread_values(["--local", "5", "10"]) == ["--local", "5", "--local", "10"]
    with pytest.raises(ElsewhereError, match="--fine-tune: wanted --local N too"):
        elsewhere(*words, "--fine-tune", 5)
