"""What N local patients change: thresholds and temperatures chosen anew, judged on others."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from elsewhere.benchmark.external_exam import Exam, GivenTable
from elsewhere.benchmark.local import Local, draws, summarise
from elsewhere.benchmark.local_material import VOXELS, Material
from elsewhere.benchmark.local_redone import (
    at_temperature,
    at_threshold,
    local_temperature,
    local_threshold,
    redone,
)
from elsewhere.benchmark.scoring import Extras, Judged, classified, segmented
from elsewhere.errors import SettingsError
from elsewhere.study.case import Case, Geometry, StoredCase


def stored(name: str, patient: str, shape: tuple[int, ...] = (8, 8)) -> StoredCase:
    case = Case(name, {}, None, "A", patient)
    geometry = Geometry(shape)
    return StoredCase(case, np.zeros((1, *shape)), None, {}, geometry, geometry, (0.0,), (1.0,))


def of_classes(n: int, sharpness: float = 1.0, shift: float = 0.0, per_patient: int = 2) -> Material:
    """Cases whose true log odds are z; the model says `sharpness * z + shift`."""
    rng = np.random.default_rng(0)
    material = Material("A", "classification", ("no", "yes"))
    for i in range(n):
        z = rng.normal(0, 1.5)
        target = int(rng.random() < 1 / (1 + np.exp(-z)))
        p = 1 / (1 + np.exp(-(sharpness * z + shift)))
        judged = classified(stored(f"c{i}", f"p{i // per_patient}"), target, np.array([1 - p, p]), ("no", "yes"))
        material.add(judged, np.array([1 - p, p]))
    return material


def of_discs(n: int = 12, cut: float = 0.8) -> Material:
    """Foreground where P >= `cut`, exactly; between 0.5 and `cut` is background that the model takes for foreground."""
    rng = np.random.default_rng(1)
    material = Material("A", "segmentation", ("background", "disc"))
    for i in range(n):
        p = rng.random((40, 40))
        truth = (p >= cut).astype(np.uint8)
        probabilities = np.stack([1 - p, p]).astype(np.float32)
        prediction = (p >= 0.5).astype(np.uint8)
        judged = segmented(
            stored(f"c{i}", f"p{i}", (40, 40)), truth, prediction, material.classes, probabilities=probabilities,
            extras=Extras(),
        )  # fmt: skip
        material.add(judged, probabilities)
    return material


def some(material: Material, *patients: str) -> np.ndarray:
    return np.isin(material.owners, patients)


def test_draws_are_patients_and_judge_on_the_same_others() -> None:
    material = of_classes(40)
    found = list(draws(material, [2, 5], resample=3))
    assert [n for n, _, _ in found] == [0, 2, 5]
    judged = found[0][2]
    assert found[0][1] is None
    for n, local, other in found[1:]:
        assert local is not None
        np.testing.assert_array_equal(other, judged)
        assert len(set(material.owners[local])) == n
        assert not set(material.owners[local]) & set(material.owners[judged])
    assert len(set(material.owners[judged])) == 20 - 5
    two, five = found[1][1], found[2][1]
    assert two is not None
    assert five is not None
    assert (five >= two).all()  # the two are among the five
    again = list(draws(material, [2, 5], resample=3))
    np.testing.assert_array_equal(again[2][2], found[2][2])
    assert any((x != y).any() for x, y in zip(next(draws(material, [5], 4))[2:], found[0][2:], strict=True))


def test_a_local_threshold_undoes_a_shift() -> None:
    """All log odds are 3 too high: at 0.5 nearly all is positive, at the local threshold it is balanced again."""
    material = of_classes(600, shift=3.0)
    local = some(material, *(f"p{i}" for i in range(100)))
    as_it_is = at_threshold(material, ~local, 0.5)
    chosen = local_threshold(material, local)
    assert chosen is not None
    assert chosen == pytest.approx(1 / (1 + np.exp(-3)), abs=0.06)
    assert at_threshold(material, ~local, chosen)["balanced_accuracy"] > as_it_is["balanced_accuracy"] + 0.1
    target, called = np.array(material.target)[~local], material.probabilities[~local, 1] >= chosen
    wanted = [called[target == 1].mean(), 1 - called[target == 0].mean()]
    found = at_threshold(material, ~local, chosen)
    np.testing.assert_allclose([found["sensitivity"], found["specificity"]], wanted)


def test_a_local_threshold_of_a_segmentation() -> None:
    material = of_discs()
    local = some(material, "p0", "p1", "p2")
    chosen = local_threshold(material, local)
    assert chosen == pytest.approx(0.8)
    assert at_threshold(material, ~local, 0.8) == {"dice": 1.0}
    as_it_is = at_threshold(material, ~local, 0.5)["dice"]
    np.testing.assert_allclose(as_it_is, np.array(material.dice)[~local].mean(), atol=1e-12)


def test_a_local_temperature_undoes_sharpness() -> None:
    material = of_classes(3000, sharpness=3.0)
    local = some(material, *(f"p{i}" for i in range(500)))
    temperature = local_temperature(material, local)
    assert temperature == pytest.approx(3.0, rel=0.1)
    before, after = at_temperature(material, ~local, 1.0), at_temperature(material, ~local, temperature)
    assert after["nll"] < before["nll"]
    assert after["ece"] < 0.5 * before["ece"]
    target, p = np.array(material.target)[~local], material.probabilities[~local]
    np.testing.assert_allclose(before["brier"], ((p[:, 1] - target) ** 2).mean())
    np.testing.assert_allclose(before["nll"], -np.log(p[np.arange(len(p)), target]).mean())


def test_patients_weigh_alike_in_a_temperature() -> None:
    """A patient with a hundred cases is one patient."""
    few = Material("A", "classification", ("no", "yes"))
    for name, patient, target, p in [("a", "1", 1, 0.9), ("b", "2", 0, 0.9)]:
        few.add(classified(stored(name, patient), target, np.array([1 - p, p]), ("no", "yes")), np.array([1 - p, p]))
    many = Material("A", "classification", ("no", "yes"))
    for i in range(100):
        many.add(classified(stored(f"a{i}", "1"), 1, np.array([0.1, 0.9]), ("no", "yes")), np.array([0.1, 0.9]))
    many.add(classified(stored("b", "2"), 0, np.array([0.1, 0.9]), ("no", "yes")), np.array([0.1, 0.9]))
    alike = [local_temperature(m, np.ones(len(m.cases), bool)) for m in (few, many)]
    assert alike[0] == pytest.approx(alike[1])


def test_where_patients_cannot_decide_all_stays() -> None:
    material = of_classes(40, shift=2.0)
    positive = [i for i, target in enumerate(material.target) if target == 1][:1]
    local = np.zeros(40, bool)
    local[positive] = True
    found = redone(material, local, ~local)
    assert found["threshold"] == (at_threshold(material, ~local, 0.5), False)
    # The one case is labelled rightly: every temperature gives its label, and none is the likeliest.
    assert material.probabilities[positive[0], 1] > 0.5
    assert found["temperature"] == (at_temperature(material, ~local, 1.0), False)
    several = np.arange(40) < 20
    for some_of_them in (several, None):
        assert all(decided for _, decided in redone(material, some_of_them, ~several).values())


def test_voxels_are_a_sample_and_cases_weigh_alike() -> None:
    material = of_discs(3)
    rows, target, weight = material.rows(np.array([True, False, True]))
    assert rows.shape == (2 * VOXELS, 2)
    assert target.shape == weight.shape == (2 * VOXELS,)
    np.testing.assert_allclose(weight.sum(), 2)
    np.testing.assert_array_equal(target, (rows[:, 1] >= 0.8).astype(int))


def exam(probabilities: bool = True) -> Exam:
    judging = GivenTable.__new__(GivenTable)
    return Exam(judging, (), (None, None, None), "auroc", (), {"probabilities": probabilities, "temperature": None})


def test_the_tables(tmp_path: Path) -> None:
    material, small = of_classes(80, sharpness=2.0), of_classes(12)
    small.site = "B"
    out = io.StringIO()
    asked = Local((5, 10), resamples=7)
    asked.run(tmp_path, [material, small], Console(file=out, width=200), None)
    table = pd.read_csv(tmp_path / "local.csv")
    assert list(table) == ["site", "what", "n", "resample", "metric", "value"]
    assert set(table["site"]) == {"A"}
    assert "site B has 6 patients: 5, 10 local ones would leave fewer than 5" in out.getvalue()
    counts = table.groupby(["what", "n", "metric"]).size()
    assert set(counts) == {7}
    assert set(table["n"]) == {0, 5, 10}
    assert set(table["metric"]) == {"balanced_accuracy", "sensitivity", "specificity", "nll", "brier", "ece"}
    summary = pd.read_csv(tmp_path / "local_summary.csv")
    one = summary[(summary["metric"] == "nll") & (summary["n"] == 10)].iloc[0]
    nll = table[table["metric"] == "nll"].pivot(index="resample", columns="n", values="value")
    change = nll[10] - nll[0]
    np.testing.assert_allclose(one["value"], nll[10].mean())
    np.testing.assert_allclose(one["change"], change.mean())
    np.testing.assert_allclose([one["change_lo"], one["change_hi"]], np.quantile(change, [0.025, 0.975]))
    assert one["resamples"] == 7
    at_0 = summary[summary["n"] == 0]
    assert (at_0["change"] == 0).all()
    assert "What N local patients change" in out.getvalue()


def test_what_makes_no_sense_is_said() -> None:
    with pytest.raises(SettingsError, match=r"--local: found \[0\], wanted numbers of patients from 1 on"):
        Local((0,)).check(exam())
    with pytest.raises(SettingsError, match="only labels or masks were given"):
        Local((5,)).check(exam(probabilities=False))
    with pytest.raises(SettingsError, match="--fine-tune: wanted a model's folder of elsewhere"):
        Local((5,), fine_tune=10).check(exam())


def test_undefined_values_are_left_out_of_a_summary() -> None:
    rows = [
        ("A", "threshold", n, r, "sensitivity", v) for r in range(3) for n, v in ((0, 0.5), (5, [0.6, np.nan, 0.8][r]))
    ]
    table = pd.DataFrame(rows, columns=["site", "what", "n", "resample", "metric", "value"])
    found = summarise(table, {("A", "threshold", 5): 2}).set_index("n")
    assert found.loc[5, "resamples"] == 2
    assert found.loc[5, "undecided"] == 2
    np.testing.assert_allclose(found.loc[5, ["value", "change"]].astype(float), [0.7, 0.2])


def test_judged_is_kept_small() -> None:
    material = of_discs(2)
    assert not any(isinstance(value, Judged) for value in vars(material).values())
    assert material.has_probabilities
