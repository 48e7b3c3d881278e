from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import work
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torch import Tensor, nn

from elsewhere import tasks
from elsewhere.benchmark.evaluate import Judge
from elsewhere.benchmark.scoring import calibration_bins
from elsewhere.benchmark.sheets import BINS
from elsewhere.benchmark.spec import RunSpec
from elsewhere.benchmark.summary import Cell, mean_of, summarise
from elsewhere.benchmark.tables import write_tables
from elsewhere.errors import ModelError
from elsewhere.study.case import Case, Fold, Geometry, StoredCase
from elsewhere.study.preprocessing import Preprocessing


def finish(out: Path, spec: RunSpec, cases: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> None:
    folder = out / spec.folder
    folder.mkdir(parents=True)
    pd.DataFrame(cases, columns=["method", "held_out", "seed", "selection", "split", "case", "patient", "site", "class",
                                 "metric", "value"]).to_csv(folder / "cases.csv", index=False)  # fmt: skip
    pd.DataFrame(predictions).to_parquet(folder / "predictions.parquet")
    done = {"identity": spec.identity, "selection": ["source-val"], "notes": [], "seconds": {}}
    (folder / "done.json").write_text(json.dumps(done))


def who(spec: RunSpec, i: int, split: str = "held-out") -> dict[str, Any]:
    return {"method": spec.method, "held_out": spec.fold.name, "seed": spec.seed, "selection": "source-val",
            "split": split, "case": f"c{i}", "patient": f"p{i // 2}", "site": spec.fold.name}  # fmt: skip


def segmentation(out: Path, spec: RunSpec, values: list[float]) -> None:
    cases = [who(spec, i) | {"class": "all", "metric": "dice", "value": value} for i, value in enumerate(values)]
    finish(out, spec, cases, [who(spec, i) | {"bin_count": [0] * 15} for i in range(len(values))])


def plan_file(out: Path, specs: list[RunSpec], task: str = "segmentation") -> None:
    runs = [{"folder": str(spec.folder), "spec": spec.to_dict()} for spec in specs]
    (out / "plan.json").write_text(json.dumps({"study": "s", "task": task, "runs": runs}))


def test_seeds_one_by_one_and_together(tmp_path: Path) -> None:
    specs = [work.spec(0), work.spec(1)]
    segmentation(tmp_path, specs[0], [0.2, 0.4, 0.6, 0.8])
    segmentation(tmp_path, specs[1], [0.4, 0.4, 0.6, 1.0])
    table = write_tables(tmp_path, specs).set_index("seed")
    assert table.loc[0, "value"] == pytest.approx(0.5)
    assert table.loc[1, "value"] == pytest.approx(0.6)
    assert table.loc["all", "value"] == pytest.approx(0.55)
    assert (table["n_cases"] == 4).all()
    assert (table["n_patients"] == 2).all()
    assert (table["lo"] <= table["value"]).all()
    assert (table["value"] <= table["hi"]).all()


def test_classification_against_scikit_learn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = np.arange(30) % 3
    specs = [work.spec(0), work.spec(1)]
    found = []
    for spec in specs:
        p = rng.dirichlet([1, 1, 1], size=30) + 0.5 * np.eye(3)[target]
        p /= p.sum(1, keepdims=True)
        found.append(p)
        rows = [
            who(spec, i) | {f"probability:k{k}": p[i, k] for k in range(3)} | {"target": target[i]} for i in range(30)
        ]
        finish(tmp_path, spec, [], rows)
    table = write_tables(tmp_path, specs)

    def value(seed: Any, name: str, metric: str) -> float:
        rows = table[(table["seed"] == seed) & (table["class"] == name) & (table["metric"] == metric)]
        return float(rows["value"].item())

    for seed, p in enumerate(found):
        assert value(seed, "all", "auroc") == pytest.approx(roc_auc_score(target, p, multi_class="ovr"))
        assert value(seed, "all", "accuracy") == pytest.approx((p.argmax(1) == target).mean())
        for k in range(3):
            assert value(seed, f"k{k}", "auroc") == pytest.approx(roc_auc_score(target == k, p[:, k]))
            wanted = average_precision_score(target == k, p[:, k])
            assert value(seed, f"k{k}", "average_precision") == pytest.approx(wanted)
            assert value(seed, f"k{k}", "f1") == pytest.approx(f1_score(target == k, p.argmax(1) == k))
    assert value("all", "all", "auroc") == pytest.approx(np.mean([value(0, "all", "auroc"), value(1, "all", "auroc")]))


def test_in_domain_tests_of_different_seeds_are_of_different_patients(tmp_path: Path) -> None:
    target = np.array([0, 1] * 6)
    specs = [work.spec(0), work.spec(1)]
    rng = np.random.default_rng(1)
    aurocs = []
    for spec, cases in zip(specs, (range(8), range(4, 12)), strict=True):
        p = rng.random(12)
        rows = [
            who(spec, i, "in-domain") | {"probability:a": 1 - p[i], "probability:b": p[i], "target": target[i]}
            for i in cases
        ]
        aurocs.append(roc_auc_score(target[list(cases)], p[list(cases)]))
        finish(tmp_path, spec, [], rows)
    table = write_tables(tmp_path, specs)
    table = table[table["metric"] == "auroc"].set_index("seed")
    assert table["value"].to_dict() == pytest.approx({0: aurocs[0], 1: aurocs[1], "all": np.mean(aurocs)})
    assert table["n_cases"].to_dict() == {0: 8, 1: 8, "all": 12}


def test_what_is_not_finished_is_said(tmp_path: Path) -> None:
    specs = [work.spec(0, site="A"), work.spec(10, site="B")]
    segmentation(tmp_path, specs[0], [0.2, 0.4, 0.6, 0.8])
    plan_file(tmp_path, specs)
    write_tables(tmp_path, specs)
    (summary,) = summarise(tmp_path)
    assert summary.runs == (1, 2)
    assert summary.missing == ("not in the table, for it is not finished: erm, without B, seed 10",)
    assert list(summary.rows[0].cells) == ["A"]
    assert summary.rows[0].mean is None, "a mean over some of the sites would be another number"


def test_nothing_is_finished(tmp_path: Path) -> None:
    specs = [work.spec(0)]
    plan_file(tmp_path, specs)
    write_tables(tmp_path, specs)
    (summary,) = summarise(tmp_path)
    assert summary.rows[0].cells == {}


def test_mean_over_sites_as_the_bootstrap_of_independent_sites_has_it() -> None:
    """MOVER against resampling every site by itself and taking the mean each time."""
    rng = np.random.default_rng(2)
    samples = [rng.normal(m, 0.1, 40) for m in (0.5, 0.7, 0.6)]
    boots = [rng.choice(s, (4000, 40)).mean(1) for s in samples]
    cells = [Cell(s.mean(), *np.quantile(b, [0.025, 0.975])) for s, b in zip(samples, boots, strict=True)]
    wanted = np.quantile(np.mean(boots, axis=0), [0.025, 0.975])
    mean = mean_of(cells)
    assert mean.value == pytest.approx(np.mean([s.mean() for s in samples]))
    assert [mean.lo, mean.hi] == pytest.approx(wanted, abs=0.002)


def test_calibration_bins_by_hand() -> None:
    probabilities = np.array([[0.9, 0.41, 0.95], [0.1, 0.59, 0.05]], dtype=np.float32)
    bins = calibration_bins(probabilities, np.array([True, False, True]))
    count = np.zeros(BINS, dtype=int)
    count[[13, 8, 14]] = 1  # 0.9 in (13/15, 14/15], 0.59 in (8/15, 9/15], 0.95 in (14/15, 1]
    assert bins["bin_count"] == count.tolist()
    assert bins["bin_right"] == (count * (np.arange(BINS) != 8)).tolist()
    assert sum(bins["bin_confidence"]) == pytest.approx(0.9 + 0.59 + 0.95)


def test_a_site_called_na(tmp_path: Path) -> None:
    specs = [work.spec(0, site="NA")]
    segmentation(tmp_path, specs[0], [0.2, 0.4, 0.6, 0.8])
    plan_file(tmp_path, specs)
    write_tables(tmp_path, specs)
    (summary,) = summarise(tmp_path)
    assert summary.rows[0].cells["NA"].value == pytest.approx(0.5)


def test_calibration_patients_do_not_count(tmp_path: Path) -> None:
    target = [0, 1, 0, 1]
    positive = [0.1, 0.9, 0.2, 0.8]
    rows = [
        who(work.spec(0), i, split) | {"probability:a": 1 - p, "probability:b": p, "target": y}
        for split, wrong in (("held-out", 0), ("calibration", 1))
        for i, (p, y) in enumerate(zip(positive, [abs(wrong - y) for y in target], strict=True))
    ]
    finish(tmp_path, work.spec(0), [], rows)
    table = write_tables(tmp_path, [work.spec(0)])
    assert set(table["split"]) == {"held-out"}
    accuracy = table[(table["metric"] == "accuracy") & (table["seed"] == "all")]
    assert (accuracy["value"].item(), accuracy["n_cases"].item()) == (1, 4)


def test_two_trainings_of_a_reference_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    """The first is always surer of class b than the second: each ranks its own cases without a mistake."""
    target = [0, 1, 0, 1, 0, 1]
    positive = [0.6, 0.9, 0.7, 0.8, 0.1, 0.2]
    parts = [0, 0, 0, 0, 1, 1]
    specs = [dataclasses.replace(work.spec(0, "reference"), fold=Fold(("A",), (k, 2)), identity=str(k)) for k in (0, 1)]
    for k, spec in enumerate(specs):
        rows = [
            who(spec, i) | {"probability:a": 1 - positive[i], "probability:b": positive[i], "target": target[i]}
            for i in range(6)
            if parts[i] == k
        ]
        finish(tmp_path, spec, [], rows)
    table = write_tables(tmp_path, specs)
    table = table[table["seed"] == "all"].set_index("metric")
    assert roc_auc_score(target, positive) < 0.8
    assert table.loc["auroc", "value"] == pytest.approx(1)
    assert table.loc["average_precision", "value"] == pytest.approx(1)
    assert table.loc["accuracy", "value"] == pytest.approx(3 / 6), "all else is of the whole set"
    assert table.loc["auroc", "n_cases"] == 6


def test_folds_that_share_patients_do_not_narrow_their_mean(tmp_path: Path) -> None:
    """The in-domain test of a fold is of the patients of all other sites: with three sites each is in two folds."""
    rng = np.random.default_rng(3)
    values = rng.normal(0.6, 0.1, (3, 20))
    specs = [work.spec(k, site=site) for k, site in enumerate("ABC")]
    for k, spec in enumerate(specs):
        cases = [
            who(spec, i, split) | {"case": f"{j}-{i}", "patient": f"{j}-{i}", "class": "all", "metric": "dice"}
            | {"value": values[j, i], "seed": 0}
            for j in range(3)
            for split in ["held-out" if j == k else "in-domain"]
            for i in range(20)
        ]  # fmt: skip
        finish(tmp_path, spec, cases, [who(spec, 0)])
    plan_file(tmp_path, specs)
    write_tables(tmp_path, specs)
    (row,) = summarise(tmp_path)[0].rows
    assert row.mean is not None
    assert row.home is not None
    assert row.home.value == pytest.approx(row.mean.value), "the same 60 scores"
    spread = np.quantile([rng.choice(values, 20, axis=1).mean() for _ in range(4000)], [0.025, 0.975])
    assert row.home.hi - row.home.lo > np.diff(spread)[0], "the same 60 patients: as unsure as their mean, at least"


class Sure(nn.Module):
    """Logits 0 and 1000 times the image's mean."""

    preprocessing = Preprocessing(dims=2, channels=("image",), intensity="none")
    task = tasks.create("classification", 2, ("no", "yes"))

    def forward(self, image: Tensor) -> Tensor:
        logit = 1000 * image.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(logit), logit], 1)


def test_very_sure_cases_are_still_ranked() -> None:
    """Logits 20 and 30 apart are both a probability of 1 in 32 bits."""
    geometry = Geometry((2, 2))

    def read(case: str) -> tuple[StoredCase, int]:
        image = np.full((1, 2, 2), float(case) / 1000, np.float32)
        row = Case(case, {"image": Path(case)}, "yes", "A", case)
        return StoredCase(row, image, 1, {}, geometry, geometry, (0.0,), (1.0,)), 1

    judge = Judge(Sure(), 0.5, torch.device("cpu"))  # type: ignore[arg-type]
    found = [judged.record["probability:yes"] for judged in judge.judge(["20", "30"], read)]
    assert found[0] < found[1]
    with pytest.raises(ModelError, match=r"case 'nan': the model answers with NaN or Inf; wanted finite numbers"):
        list(judge.judge(["20", "nan"], read))
