from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from elsewhere.errors import SettingsError
from elsewhere.evidence.selective import error_auroc, mean_curve, rank_correlation, risk_coverage


def test_worked_by_hand() -> None:
    curve = risk_coverage(np.array([0.9, 0.5, 0.7, 0.6]), np.array([0, 1, 1, 0]))
    assert curve.coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert curve.area_of_random == 0.5
    assert curve.area_of_perfect == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert curve.gain == pytest.approx((0.5 - curve.area) / (0.5 - curve.area_of_perfect))


def test_ties_are_what_a_random_order_gives_on_average() -> None:
    generator = np.random.default_rng(0)
    confidence, risk = generator.integers(0, 3, 12) / 2, generator.random(12)
    found = risk_coverage(confidence, risk)
    orders = [
        risk_coverage(confidence + 1e-6 * generator.permutation(12), risk).risk for _ in range(4000)
    ]  # every tie broken at random
    assert found.risk == pytest.approx(np.mean(orders, axis=0), abs=0.01)
    alike = risk_coverage(np.ones(12), risk)
    assert alike.risk == pytest.approx(np.full(12, risk.mean()))
    assert alike.gain == pytest.approx(0)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_no_order_beats_the_perfect_one(cases: list[tuple[int, float]]) -> None:
    confidence, risk = (np.array(column, float) for column in zip(*cases, strict=True))
    curve = risk_coverage(confidence, risk)
    assert curve.area >= curve.area_of_perfect - 1e-9
    assert curve.risk[-1] == pytest.approx(curve.area_of_random)
    perfect = risk_coverage(-risk, risk)
    assert perfect.area == pytest.approx(perfect.area_of_perfect)
    assert math.isnan(curve.gain) or curve.gain <= 1 + 1e-9


def test_cases_without_a_number_are_left_out() -> None:
    curve = risk_coverage(np.array([0.9, np.nan, 0.7, 0.6]), np.array([0, 1, np.nan, 1]))
    assert curve.risk == pytest.approx([0, 0.5])
    none = risk_coverage(np.array([np.nan]), np.array([1]))
    assert len(none.risk) == 0
    assert math.isnan(none.area)
    assert math.isnan(none.gain)
    all_right = risk_coverage(np.arange(4) / 4, np.zeros(4))
    assert (all_right.area, all_right.area_of_random) == (0, 0)
    assert math.isnan(all_right.gain)


def test_the_mean_over_models_is_on_one_grid() -> None:
    one = risk_coverage(np.array([0.9, 0.8]), np.array([0, 1]))
    other = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 0, 1]))
    found = mean_curve([one, other, risk_coverage(np.zeros(0), np.zeros(0))], points=4)
    assert found.coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert found.risk == pytest.approx([0, 0, 0.125, 0.375])
    assert found.area == pytest.approx((one.area + other.area) / 2)
    assert math.isnan(mean_curve([]).area)


@pytest.mark.parametrize("ties", [True, False])
def test_auroc_is_scikit_learns(ties: bool) -> None:
    generator = np.random.default_rng(0)
    score, wrong = generator.normal(size=(2, 60)), generator.random((2, 60)) < 0.3
    score = np.round(score) if ties else score
    found = error_auroc(score, wrong, n_boot=50)
    assert found.value == pytest.approx(np.mean([roc_auc_score(w, s) for s, w in zip(score, wrong, strict=True)]))
    assert found.lo < found.value < found.hi
    assert error_auroc(np.where(wrong, 1.0, 0.0), wrong, n_boot=50).value == 1


def test_spearman_is_scipys() -> None:
    generator = np.random.default_rng(0)
    score = np.round(generator.normal(size=50), 1)
    quality = np.round(score + generator.normal(size=50))
    found = rank_correlation(score, quality, n_boot=2000)
    assert found.value == pytest.approx(stats.spearmanr(score, quality).statistic)
    wanted = stats.bootstrap(
        (score, quality), lambda a, b: stats.spearmanr(a, b).statistic,
        n_resamples=1000, paired=True, vectorized=False, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    assert (found.lo, found.hi) == pytest.approx((wanted.low, wanted.high), abs=0.15 * (wanted.high - wanted.low))


def test_spearman_of_a_resample_is_that_of_the_repeated_cases() -> None:
    generator = np.random.default_rng(1)
    score, quality, owner = np.round(generator.normal(size=(2, 20)), 1)[0], generator.random(20), np.arange(20) // 2
    n_boot = 200
    weights = np.random.default_rng(5).multinomial(10, np.full(10, 0.1), size=n_boot)[:, owner]
    scores = [stats.spearmanr(np.repeat(score, w), np.repeat(quality, w)).statistic for w in weights]
    found = rank_correlation(score, quality, owner, n_boot=n_boot, seed=5)
    assert min(scores) <= found.lo <= np.quantile(scores, 0.03)  # expanded: a little further out
    assert np.quantile(scores, 0.97) <= found.hi <= max(scores)


def test_cases_of_one_patient_are_not_independent() -> None:
    generator = np.random.default_rng(0)
    score, wrong = generator.normal(size=20), generator.random(20) < 0.4
    many = [np.repeat(part, 10) for part in (score, wrong)]
    for measure in (error_auroc, rank_correlation):
        clustered, naive = measure(*many, np.repeat(np.arange(20), 10), n_boot=400), measure(*many, n_boot=400)
        assert clustered.value == pytest.approx(naive.value)
        assert clustered.hi - clustered.lo > 2 * (naive.hi - naive.lo)
        assert (clustered.n_patients, clustered.n_cases) == (20, 200)


def test_a_model_without_errors_has_no_say_and_without_any_there_is_no_answer() -> None:
    score = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    wrong = np.array([[True, True, False, False], [False] * 4])
    assert error_auroc(score, wrong, n_boot=50).value == 1
    none = error_auroc(score[1], wrong[1])
    assert math.isnan(none.value)
    assert none.reason == "undefined for these cases"
    assert math.isnan(rank_correlation(np.ones(4), np.arange(4)).value)
    nothing = error_auroc(np.full(3, np.nan), np.ones(3))
    assert (nothing.n_cases, nothing.reason) == (0, "no case")
    one = error_auroc(np.array([1.0, 0.0]), np.array([True, False]), ["a", "a"])
    assert (one.value, one.reason) == (1, "one patient: nothing to resample")
    rare = error_auroc(np.arange(12.0), np.arange(12) == 11, n_boot=200)  # a third of the resamples lack the error
    assert math.isnan(rare.lo)
    assert "of the resamples" in str(rare.reason)


def test_each_model_may_have_cases_of_its_own() -> None:
    score = np.array([[3.0, 2.0, np.nan, 0.0], [np.nan, 1.0, 2.0, 3.0], [np.nan] * 4])
    wrong = np.array([[1.0, 0.0, np.nan, 0.0], [np.nan, 1.0, 0.0, 0.0], [np.nan] * 4])
    found = error_auroc(score, wrong, n_boot=20)
    assert (found.value, found.n_cases) == (0.5, 4)


def test_shapes_must_fit() -> None:
    with pytest.raises(SettingsError, match="shape"):
        risk_coverage(np.ones(3), np.ones(4))
    with pytest.raises(SettingsError, match="shape"):
        error_auroc(np.ones((2, 3)), np.ones(3))
