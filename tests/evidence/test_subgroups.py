from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elsewhere.errors import SettingsError
from elsewhere.evidence import patient_interval, set_interval
from elsewhere.evidence.groups import MISSING, groups
from elsewhere.evidence.subgroups import metric_frame, subgroups, subgroups_of_set


def named(covariate: list[Any], edges: list[float] | None = None) -> list[str]:
    found = groups(covariate, range(len(covariate)), edges)
    return [found.names[i] for i in found.index]


def test_text_is_a_group_a_value_and_missing_ones_are_their_own() -> None:
    found = groups(["m", "f", "", None, "f ", float("nan"), "nan"], range(7))
    assert found.names == ("f", "m", MISSING)
    assert found.index.tolist() == [1, 0, 2, 2, 0, 2, 2]
    assert (found.edges, found.reason) == (None, None)


def test_few_different_numbers_are_a_group_each_in_their_order() -> None:
    found = groups(["10", "2", "2.0", "", "10"], range(5))
    assert found.names == ("2", "10", MISSING)
    assert found.index.tolist() == [1, 0, 0, 2, 1]


def test_none_is_an_answer_and_na_among_numbers_is_not() -> None:
    assert named(["none", "partial", None, "None"]) == ["none", "partial", MISSING, "None"]
    assert named(["NA", "30", "n/a", "60", "NaN"], [45]) == [MISSING, "< 45", MISSING, ">= 45", MISSING]
    assert named(["NA", "2", "3"]) == [MISSING, "2", "3"]
    assert named(["NA", "SZ"]) == ["NA", "SZ"]  # Namibia
    assert named(["NA", "NA"]) == ["NA", "NA"]


def test_numbers_are_cut_at_given_edges() -> None:
    ages = ["30", "45", "44.9", "", "60", "71", "90", "12"]
    assert named(ages, [45, 60]) == [
        "< 45", "45 to < 60", "< 45", MISSING, ">= 60", ">= 60", ">= 60", "< 45",
    ]  # fmt: skip
    assert groups(ages, range(8), [45, 60]).edges == (45, 60)
    assert set(named(["1", "2", "3"], [0.5])) == {">= 0.5"}  # no empty group
    assert named(["1", "2", ""], [1.5]) == ["< 1.5", ">= 1.5", MISSING]


def test_and_else_at_the_quartiles_of_the_patients() -> None:
    values = np.random.default_rng(0).normal(60, 12, 101)
    found = groups([str(v) for v in values], range(101))
    assert found.edges == pytest.approx(tuple(np.quantile(values, [0.25, 0.5, 0.75])))
    assert np.bincount(found.index).tolist() == [25, 25, 25, 26]
    # A patient with a thousand images of one age has one vote.
    many = groups([*values, *[20.0] * 1000], [*range(101), *[500] * 1000])
    assert many.edges == pytest.approx(tuple(np.quantile([*values, 20.0], [0.25, 0.5, 0.75])))


def test_equal_quartiles_are_one_edge() -> None:
    found = groups([0.0] * 30 + list(range(1, 31)), range(60))
    assert found.edges == (0.5, 15.25)
    assert np.bincount(found.index).tolist() == [30, 15, 15]
    most = groups([0.0] * 60 + [1, 2, 3, 4, 5, 6, 7], range(67))  # all three quartiles are the least value
    assert (most.names, np.bincount(most.index).tolist()) == (("< 1", ">= 1"), [60, 7])


def test_an_identifier_makes_no_groups() -> None:
    found = groups([f"scan {i}" for i in range(40)], range(40))
    assert found.names == ()
    assert found.reason == "40 different texts in 40 cases make no groups"
    nothing = subgroups(np.ones(40), [f"scan {i}" for i in range(40)], range(40))
    assert (nothing.rows, nothing.reason) == ((), found.reason)


def test_edges_must_fit() -> None:
    for edges in ([], [2, 1], [1, 1], [float("nan")], [1, float("inf")]):
        with pytest.raises(SettingsError, match="rising"):
            groups(["1", "2"], range(2), edges)
    with pytest.raises(SettingsError, match="numbers, found 'f'"):
        groups(["1", "f"], range(2), [1])
    with pytest.raises(SettingsError, match="one covariate value a case"):
        groups(["1"], range(2))


def site(n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Two models' probabilities, target, patients and sex of n cases."""
    generator = np.random.default_rng(0)
    owner, target = np.arange(n) // 2, generator.integers(0, 2, n)
    sex = np.where(np.arange(n) % 60 < 10, "", np.where(owner % 2 == 0, "f", "m"))
    score = 1 / (1 + np.exp(-generator.normal(size=(2, n)) - (target * 2 - 1) * np.where(sex == "f", 2, 0.5)))
    return np.stack([1 - score, score], axis=-1), target, owner, sex.tolist()


def test_a_row_is_the_interval_of_its_group() -> None:
    p, y, owner, sex = site()
    right = (p.argmax(2) == y).astype(float)
    found = subgroups(right, sex, owner, name="sex", n_boot=200, seed=3)
    assert [row.group for row in found.rows] == ["f", "m", MISSING]
    for row in found.rows:
        where = np.array(["" if row.group == MISSING else row.group]) == np.array(sex)
        assert row.found == patient_interval(right[:, where], owner[where], n_boot=200, seed=3)
        assert (row.n_cases, row.n_patients) == (where.sum(), len(set(owner[where])))
        assert row.small == (row.n_patients < 20)
    assert [row.small for row in found.rows] == [False, False, True]
    values = [row.found.value for row in found.rows]
    assert found.gap == pytest.approx(values[0] - values[1])  # the small group is shown, and decides nothing
    assert (found.worst, found.best, found.covariate) == ("m", "f", "sex")


@pytest.mark.parametrize("metric", ["auroc", "brier", "f1"])
def test_a_metric_of_a_set_too(metric: str) -> None:
    p, y, owner, sex = site()
    found = subgroups_of_set(p, y, metric, sex, owner, n_boot=100)
    where = np.array(sex) == "m"
    assert found.rows[1].found == set_interval(p[:, where], y[where], owner[where], metric, n_boot=100)
    assert (found.worst, found.best) == ("m", "f")  # of the Brier score the larger one is worse
    assert found.gap > 0


def test_lower_may_be_better() -> None:
    values, half = np.r_[np.zeros(30), np.ones(30)], ["a"] * 30 + ["b"] * 30
    assert subgroups(values, half, range(60), n_boot=10).worst == "a"
    assert subgroups(values, half, range(60), n_boot=10, higher_is_better=False).worst == "b"


def test_a_group_whose_patients_have_no_score_is_small() -> None:
    values = np.r_[np.full(30, 2.0), 9.0, np.full(29, np.nan), np.full(30, 3.0)]  # HD95 of empty masks
    found = subgroups(values, ["a"] * 30 + ["b"] * 30 + ["c"] * 30, range(90), higher_is_better=False, n_boot=10)
    assert [(row.n_patients, row.small) for row in found.rows] == [(30, False), (30, True), (30, False)]
    assert (found.gap, found.worst) == (1, "c")


def test_groups_may_be_made_of_more_cases_than_these() -> None:
    whole = groups([str(i) for i in range(40)], range(40))
    some = subgroups(np.ones(10), replace(whole, index=whole.index[:10]), range(10), n_boot=10)
    assert [row.group for row in some.rows] == ["< 9.75"]
    with pytest.raises(SettingsError, match="one group a case"):
        subgroups(np.ones(10), whole, range(10))


def test_where_there_is_no_gap() -> None:
    few = subgroups(np.ones(30), ["a"] * 15 + ["b"] * 15, range(30), n_boot=10)
    assert math.isnan(few.gap)
    assert (few.worst, few.reason) == (None, "fewer than two groups of 20 patients to compare")
    missing = subgroups(np.ones(30), [None] * 30, range(30), n_boot=10)
    assert [row.group for row in missing.rows] == [MISSING]
    undefined = subgroups(np.r_[np.ones(30), np.full(30, np.nan)], ["a"] * 30 + ["b"] * 30, range(60), n_boot=10)
    assert math.isnan(undefined.rows[1].found.value)
    assert undefined.rows[1].n_cases == 30
    assert math.isnan(undefined.gap)
    assert subgroups(np.zeros(0), [], []).rows == ()


def test_fairlearns_frame_has_the_same_groups_and_values() -> None:
    pytest.importorskip("fairlearn", reason="fairlearn is an extra: pip install 'elsewhere[fairness]'")
    from sklearn.metrics import accuracy_score, recall_score

    p, y, owner, sex = site(240)
    age = np.random.default_rng(1).normal(60, 10, 240)
    label = p[0].argmax(1)
    for covariate, edges in ((sex, None), (age, None), (age, [50, 70])):
        frame = metric_frame({"accuracy": accuracy_score, "recall": recall_score}, y, label, covariate, owner, edges)
        found = subgroups((label == y).astype(float), covariate, owner, edges=edges, n_boot=10)
        wanted = frame.by_group["accuracy"]
        assert set(wanted.index) == {row.group for row in found.rows}
        for row in found.rows:
            assert row.found.value == pytest.approx(wanted[row.group])
        if not any(row.small for row in found.rows):
            assert found.gap == pytest.approx(frame.difference()["accuracy"])
            assert wanted[found.worst] == frame.group_min()["accuracy"]


def test_without_fairlearn_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fairlearn.metrics", None)
    with pytest.raises(SettingsError, match=r"pip install 'elsewhere\[fairness\]'"):
        metric_frame(len, np.zeros(2), np.zeros(2), ["a", "b"], range(2))
