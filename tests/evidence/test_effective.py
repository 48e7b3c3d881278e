"""Limits of shares of a set: against Wilson's and Newcombe's own numbers, at the bounds, and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import compare_sets, set_interval, set_scores
from elsewhere.evidence import intervals as module
from elsewhere.evidence.effective import MOST, difference_limits, wilson
from elsewhere.evidence.intervals import NO_VARIATION, UNDEFINED_WITHOUT
from elsewhere.tasks.classification_metrics import METRICS
from reference.inference_reference import delong_variance


def binormal(
    generator: np.random.Generator, patients: int, truths: tuple[float, ...], share: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """(models, patients, 2) probabilities of expected AUROCs `truths`; `share` of a score is all models'."""
    target = (np.arange(patients) < round(0.4 * patients)).astype(int)
    own = generator.normal(size=(len(truths), patients))
    score = np.sqrt(share) * generator.normal(size=patients) + np.sqrt(1 - share) * own
    score = score + np.sqrt(2) * stats.norm.ppf(truths)[:, None] * target
    p = stats.norm.cdf(score)
    return np.stack([1 - p, p], -1), target


def test_it_is_wilsons() -> None:
    for hits, n in ((7, 10), (0, 12), (12, 12), (1, 90)):
        wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits / n, n, stats.norm.isf(0.025)) == pytest.approx((wanted.low, wanted.high))


def test_limits_are_where_the_share_would_be_as_far_off_as_t_allows() -> None:
    """An AUROC that is worth v (1 - v) / variance cases, the variance that of DeLong."""
    p, target = binormal(np.random.default_rng(4), 60, (0.75,))
    found = set_interval(p, target, range(60), "auroc")
    n = found.value * (1 - found.value) / delong_variance(p[0, :, 1], target)
    assert n < 4 * 24 * 36 / 60  # not cut
    for limit in (found.lo, found.hi):
        t = abs(found.value - limit) / math.sqrt(limit * (1 - limit) / n)
        assert stats.t.isf(0.025, 58) * 0.99 <= t <= stats.t.isf(0.025, 23) * 1.01  # both classes, or the smaller one


@pytest.mark.parametrize(
    ("metric", "worth"),
    [
        ("auroc", 4 * 4 * 6 / 10),
        ("balanced_accuracy", 4 / (1 / 4 + 1 / 6)),
        ("accuracy", 10),
        ("average_precision", 4),
        ("f1", 8),
    ],
)
def test_a_set_that_is_all_right_is_worth_its_patients(metric: str, worth: float) -> None:
    target = np.repeat([1, 0], [4, 6])
    right = np.stack([1 - target, target], -1) * 0.8 + 0.1
    once = set_interval(right, target, range(10), metric)
    assert (once.value, once.hi, once.reason) == (1, 1, None)
    t = stats.t.isf(0.025, 9)
    assert once.lo == pytest.approx(worth / (worth + t**2))
    three_cases = set_interval(np.repeat(right, 3, axis=0), np.repeat(target, 3), np.repeat(range(10), 3), metric)
    assert three_cases.lo == once.lo
    wrong = set_interval(1 - right, target, range(10), metric, level=0.9)
    assert (wrong.value == 0) == (metric != "average_precision")  # that of the worst order is not 0
    assert wrong.hi > wrong.value


def test_a_model_that_says_the_same_of_everybody() -> None:
    """No patient changes its AUROC of 1/2: a resampled interval would be a point."""
    target = np.arange(20) % 2
    found = set_interval(np.full((20, 2), 0.5), target, range(20), "auroc")
    assert found.lo < 0.35
    assert found.hi > 0.65
    same = set_interval(np.full((20, 2), 0.5), target, range(20), "auroc", method="expanded")
    assert math.isnan(same.lo)
    assert same.reason == NO_VARIATION


@pytest.mark.parametrize("metric", list(MOST))
@pytest.mark.parametrize("k", [2, 3])
def test_it_holds_its_value_and_stays_a_share(metric: str, k: int) -> None:
    generator = np.random.default_rng(k)
    for n in (5, 8, 30):
        target = np.r_[np.arange(k), np.arange(k), generator.integers(0, k, n)]
        owner = np.r_[np.arange(2 * k), generator.integers(0, 2 * k, n)]
        p = generator.dirichlet(np.ones(k), size=(2, len(target))) + 0.8 * generator.random() * np.eye(k)[target]
        found = set_interval(p / p.sum(-1, keepdims=True), target, owner, metric)
        assert 0 <= found.lo < found.value <= found.hi <= 1
        assert found == set_interval(p / p.sum(-1, keepdims=True), target, owner, METRICS[metric])


def test_models_that_err_on_different_patients_are_worth_more_cases_together() -> None:
    """The limit to what a set is worth is of one model; alike, four are worth one."""
    p, target = binormal(np.random.default_rng(2), 150, (0.95,) * 4)
    four, alike = (set_interval(q, target, range(150), "auroc") for q in (p, np.stack([p[0]] * 4)))
    assert alike == set_interval(p[:1], target, range(150), "auroc")
    assert four.hi - four.lo < 0.7 * (alike.hi - alike.lo)
    resampled = set_interval(p, target, range(150), "auroc", method="expanded")
    assert four.hi - four.lo == pytest.approx(resampled.hi - resampled.lo, rel=0.15)


def test_more_patients_than_are_left_out_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    p, target = binormal(np.random.default_rng(1), 200, (0.8,))
    one_by_one = set_interval(p, target, range(200), "auroc")
    monkeypatch.setattr(module, "MANY", 199)
    resampled = set_interval(p, target, range(200), "auroc")
    assert (resampled.lo, resampled.hi) == pytest.approx((one_by_one.lo, one_by_one.hi), abs=0.01)
    assert resampled != one_by_one


def test_the_only_patient_of_a_class() -> None:
    p, target = binormal(np.random.default_rng(0), 10, (0.8,))
    target = (np.arange(10) == 3).astype(int)
    found = set_interval(p, target, range(10), "auroc")
    assert math.isnan(found.lo)
    assert found.reason == UNDEFINED_WITHOUT


def test_two_patients_of_a_class_are_two_however_many_cases_they_have() -> None:
    """As at a hospital of which all abnormal images carry one of two names."""
    generator = np.random.default_rng(0)
    target = np.repeat([1, 0], 200)
    owner = np.r_[np.repeat([0, 1], 100), np.arange(2, 202)]
    score = generator.normal(size=400) + target * np.where(owner == 0, 1.5, 0.5)
    p = np.stack([stats.norm.sf(score), stats.norm.cdf(score)], -1)
    found = set_interval(p, target, owner, "auroc")
    assert math.isnan(found.lo)
    assert found.reason == UNDEFINED_WITHOUT  # in 13 % of the resamples neither is drawn
    assert set_interval(p, target, owner, "auroc", method="expanded").reason == "undefined in 13 % of the resamples"
    both = compare_sets(p[None], p[None, ::-1], target, owner, "auroc")
    assert math.isnan(both.models_lo)
    for metric in ("balanced_accuracy", "f1"):  # are defined, and nearly unknown
        wide = set_interval(p, target, owner, metric)
        assert wide.hi - wide.lo > 0.5
    narrow = set_interval(p, target, owner, "accuracy")
    assert narrow.hi - narrow.lo < 0.5
    three = np.r_[np.repeat([0, 1, 202], [70, 70, 60]), np.arange(2, 202)]
    assert set_interval(p, target, three, "auroc").reason is None


@pytest.mark.parametrize(
    ("patients", "truth", "models"), [(5, 0.85, 1), (10, 0.85, 1), (10, 0.95, 1), (20, 0.95, 1), (20, 0.95, 3)]
)
def test_it_holds_the_truth_with_few_patients(patients: int, truth: float, models: int) -> None:
    """400 simulations, standard error 1.1 points; by percentiles of resamples 43 to 92 %."""
    held = 0
    for i in range(400):
        p, target = binormal(np.random.default_rng([1, patients, i]), patients, (truth,) * models, 0.3)
        found = set_interval(p, target, range(patients), "auroc")
        held += found.lo <= truth <= found.hi
    assert held / 400 >= 0.95 - 2 * 0.011


def test_a_difference_is_newcombes() -> None:
    """Without correlation, Newcombe 1998, Statistics in Medicine 17:873; and all that is shared cancels."""
    a, b = 56 / 70, 48 / 80
    limits = wilson(a, 70, 1.96), wilson(b, 80, 1.96)
    none = np.zeros(3)
    found = difference_limits((a, b), limits, (none, none))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)  # his Table II, example a, method 10
    influence = np.array([0.1, -0.3, 0.2])
    shared = difference_limits((a, b), limits, (influence, 2 * influence))
    assert shared == pytest.approx((a - b - abs((a - limits[0][0]) - (limits[1][1] - b)),
                                    a - b + abs((limits[0][1] - a) - (b - limits[1][0]))))  # fmt: skip


@pytest.mark.parametrize(("truths", "patients"), [((0.9, 0.8), 5), ((0.9, 0.8), 10), ((0.99, 0.95), 10)])
def test_a_difference_of_two_models_holds_the_truth(truths: tuple[float, float], patients: int) -> None:
    """200 simulations, standard error 1.5 points; by percentiles of resamples 50 and 83 %."""
    held = 0
    for i in range(200):
        p, target = binormal(np.random.default_rng([2, patients, i]), patients, truths, 0.5)
        found = compare_sets(p[:1], p[1:], target, range(patients), "auroc")
        held += found.models_lo <= truths[0] - truths[1] <= found.models_hi
    assert held / 200 >= 0.95 - 2 * 0.015


def test_a_perfect_model_beside_one_that_says_nothing() -> None:
    """Every resample finds the same difference; the interval is none the less no point."""
    target = np.arange(12) % 2
    perfect = np.stack([1 - target, target], -1) * 0.8 + 0.1
    found = compare_sets(perfect[None], np.full((1, 12, 2), 0.5), target, range(12), "auroc")
    assert found.difference == 0.5
    assert 0 < found.models_lo < 0.4
    assert found.models_hi > 0.6
    assert found.p < 0.01


def test_a_model_beside_itself_has_no_interval() -> None:
    p, target = binormal(np.random.default_rng(3), 20, (0.8,))
    found = compare_sets(p, p, target, range(20), "auroc")
    assert (found.difference, found.p, found.reason) == (0, 1, NO_VARIATION)
    assert math.isnan(found.models_lo)


def test_the_scores_are_those_of_the_table() -> None:
    p, target = binormal(np.random.default_rng(5), 30, (0.8, 0.9))
    assert set_interval(p, target, range(30), "f1").value == set_scores(p, target, range(30), "f1").value


def test_what_makes_no_sense_is_refused() -> None:
    p, target = binormal(np.random.default_rng(0), 10, (0.8,))
    with pytest.raises(SettingsError, match=r"method wilson is for accuracy, .*, found brier"):
        set_interval(p, target, range(10), "brier", method="wilson")
    with pytest.raises(SettingsError, match="level must be between 0 and 1"):
        set_interval(p, target, range(10), "auroc", level=95)
    with pytest.raises(SettingsError, match="n_boot must be at least 2"):
        set_interval(p, target, range(10), "auroc", n_boot=0)
