"""A finished model's folder, exported and evaluated: what its config says comes along."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_models import model_folder
from rich.console import Console

import elsewhere
from benchmark import tiny
from elsewhere.benchmark.external import run_evaluation
from elsewhere.deploy.export import export_model, open_model
from elsewhere.deploy.foreign import open_foreign
from elsewhere.errors import ModelError
from elsewhere.study.study import open_study

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rows = []
    for site in "AB":
        for i in range(3):
            rng = np.random.default_rng([ord(site), i])
            mask = np.zeros((32, 32))
            mask[4:12, 4:14], mask[20:28, 16:28] = 1, 2
            tiny.save(tmp_path / "study" / f"{site}{i}.png", 60 + 50 * mask + rng.normal(0, 10, mask.shape))
            tiny.save(tmp_path / "study" / f"{site}{i}-mask.png", mask)
            rows.append(
                {"image": f"{site}{i}.png", "label": f"{site}{i}-mask.png", "site": site, "patient": f"{site}{i}"}
            )
    folder = tiny.manifest(tmp_path / "study", rows)
    (folder / "study.yaml").write_text("classes: {background: 0, a: 1, b: 2}\n")
    return folder


def test_an_exported_folder_brings_its_temperature_and_sites(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", sites=["Rome"], thresholds={"foreground": 0.4})
    done = export_model(open_model(folder), "torchscript", tmp_path / "net.ts")
    classes = ("background", "a", "b")
    foreign = open_foreign(done.path, kind="segmentation", dims=2, classes=classes, channels=("image",), trust=True)
    assert (foreign.config["temperature"], foreign.config["sites"]) == (2.0, ["Rome"])
    assert foreign.config["thresholds"] == {"foreground": 0.4}
    (folder / "card.md").write_text("changed")
    with pytest.raises(ModelError, match=r"card\.md is not what it was"):
        open_model(folder)


def test_a_folder_is_judged_as_it_is_used(tmp_path: Path, study: Path) -> None:
    """The evaluation's confidence and outlier scores are those of `elsewhere.load(...).predict`."""
    folder = model_folder(tmp_path / "model", sites=["A", "Rome"], n_sites=2)
    console = Console(file=io.StringIO(), width=200)
    out = run_evaluation(study, out=tmp_path / "out", model=folder, console=console)
    rows = {row["case"]: row for row in pq.read_table(out / "predictions.parquet").to_pylist()}
    model = elsewhere.load(folder, device="cpu")
    for case in open_study(study).cases:
        said = model.predict(case.images["image"])
        row = rows[case.id]
        assert row["confidence"] == pytest.approx(said.confidence, abs=1e-5)
        assert row["outlier"] == pytest.approx(said.outlier, rel=1e-4)
        assert row["unlike"] == said.unlike
        assert sum(row["bin_confidence"]) == pytest.approx(said.probabilities.max(axis=0).sum(), rel=1e-4)
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["method"], plan["temperature"]) == ("model", 2.0)
    assert plan["seen"] == {
        "A": "the model was trained at this site: its patients may be among those it learnt from",
        "B": "the model was not trained at a site of this name",
    }
