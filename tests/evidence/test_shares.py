from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence.shares import share


@pytest.mark.parametrize(("hits", "n"), [(7, 10), (0, 12), (12, 12), (1, 90)])
def test_with_one_case_a_patient_it_is_wilsons(hits: int, n: int) -> None:
    wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = share(np.arange(n) < hits, np.ones(n), range(n)).interval()
    assert (found.value, found.lo, found.hi) == pytest.approx((hits / n, wanted.low, wanted.high))
    assert (found.n_cases, found.n_patients, found.reason) == (n, n, None)


def test_cases_that_go_together_count_once() -> None:
    hit = np.random.default_rng(0).random(30) < 0.8
    one = share(hit, np.ones(30), range(30))
    many = share(np.repeat(hit, 7), np.ones(210), np.repeat(np.arange(30), 7))
    assert many.effective == pytest.approx(one.effective) == pytest.approx(30)
    assert many.interval().lo <= one.interval().lo  # t for Wilson's normal quantile: variance is now an estimate
    independent = share(np.random.default_rng(0).random(210) < 0.8, np.ones(210), np.repeat(np.arange(30), 7))
    assert independent.effective > 100


def test_the_order_of_patients_and_cases_that_do_not_count_change_nothing() -> None:
    generator = np.random.default_rng(1)
    hits, owner = generator.integers(0, 3, 40), generator.integers(0, 9, 40)
    counts = hits + generator.integers(0, 3, 40)
    mixed = generator.permutation(40)
    found = share(hits, counts, owner)
    other = share(np.r_[hits[mixed], 0], np.r_[counts[mixed], 0], [*owner[mixed], 99])
    assert found.interval() == other.interval()
    assert found.value == pytest.approx(hits.sum() / counts.sum())


def test_more_models_do_not_narrow_it_as_patients_would() -> None:
    hit = np.random.default_rng(0).random(25) < 0.7
    one, three = (share(np.stack([hit] * n), np.ones((n, 25)), range(25)).interval() for n in (1, 3))
    assert (three.value, three.lo, three.hi) == pytest.approx((one.value, one.lo, one.hi))


def test_the_value_is_the_mean_over_the_models_that_have_cases() -> None:
    hits = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    counts = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert share(hits, counts, range(4)).value == 0.5


@pytest.mark.parametrize("p", [0.7, 0.95])
@pytest.mark.parametrize("together", [True, False])
def test_it_holds_the_truth_about_as_often_as_it_says(p: float, together: bool) -> None:
    """500 sites of 15 patients with 1 to 7 cases each; standard error 1 point; nominal 95 %."""
    generator, held = np.random.default_rng(3), 0
    for _ in range(500):
        skill = generator.beta(2 * p, 2 * (1 - p), 15) if together else np.full(15, p)
        cases = generator.integers(1, 8, 15)
        found = share(generator.binomial(cases, skill), cases, range(15)).interval()
        held += found.lo <= p <= found.hi
    assert 0.92 <= held / 500 <= 0.995


def test_where_nothing_can_be_said() -> None:
    one = share(np.ones(4), np.ones(4), ["a"] * 4).interval()
    assert (one.value, one.n_patients, one.n_cases) == (1, 1, 4)
    assert math.isnan(one.lo)
    assert one.reason == "one patient: nothing to compare with"
    for n in (3, 0):
        none = share(np.zeros(n), np.zeros(n), range(n)).interval()
        assert math.isnan(none.value)
        assert none.reason == "no case"


def test_draws_lie_as_the_interval_does() -> None:
    found = share(np.arange(50) < 40, np.ones(50), range(50))
    drawn = found.draws(20000, np.random.default_rng(0))
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([found.interval().lo, found.interval().hi], abs=0.02)


def test_shapes_must_fit() -> None:
    with pytest.raises(SettingsError, match="counts"):
        share(np.ones(3), np.ones(4), range(3))
    with pytest.raises(SettingsError, match="one patient a case"):
        share(np.ones(3), np.ones(3), range(4))
    with pytest.raises(SettingsError, match="level"):
        share(np.ones(3), np.ones(3), range(3)).interval(95)
