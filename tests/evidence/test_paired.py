"""A method beside its base: what `Comparison` says, and that its probability of being better means what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up_material import segmentation
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import (
    RunScores,
    compare,
    compare_sets,
    mean_scores,
    method_interval,
    patient_interval,
    probability_of_being_better,
    set_scores,
)
from elsewhere.evidence.findings_comparisons import Comparisons, comparisons
from elsewhere.evidence.findings_material import HELD_OUT
from elsewhere.evidence.findings_scores import runs_of
from elsewhere.evidence.intervals import NO_VARIATION
from elsewhere.evidence.permutation import sign_flip
from elsewhere.evidence.runs import ONE_RUN


def two_methods(seeds: int, n: int, gain: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    patient = generator.normal(size=n)
    base = patient + 0.3 * generator.normal(size=(seeds, n))
    return patient + gain + 0.3 * generator.normal(size=(seeds, n)) + 0.1 * generator.normal(size=(seeds, 1)), base


def test_it_is_about_the_differences_within_seed_and_case() -> None:
    method, base = two_methods(3, 20, gain=0.1)
    method[0, 3] = base[2, 7] = np.nan
    found = compare(method, base, range(20), seed=4)
    both, models = (
        method_interval(method - base, range(20)),
        patient_interval(method - base, range(20), n_boot=1000, seed=4),
    )
    assert (found.difference, found.lo, found.hi) == pytest.approx((both.value, both.lo, both.hi))
    assert (found.models_lo, found.models_hi) == pytest.approx((models.lo, models.hi))
    assert (found.n_patients, found.n_cases, found.n_seeds, found.reason) == (20, 20, 3, None)
    swapped = compare(base, method, range(20), seed=4)
    assert swapped.p == found.p
    assert (swapped.lo, swapped.better) == pytest.approx((-found.hi, 1 - found.better))


def test_metrics_of_a_set() -> None:
    generator = np.random.default_rng(0)
    target = np.arange(50) % 2
    score = generator.normal(size=(2, 3, 50)) + target * np.array([1.5, 0.7])[:, None, None]
    p = 1 / (1 + np.exp(-score))
    method, base = np.stack([1 - p, p], -1)
    method[0, :4], base[1, 10] = np.nan, np.nan
    found = compare_sets(method, base, target, range(50), "auroc")
    out = np.isnan(method[..., :1]) | np.isnan(base[..., :1])
    alike = [set_scores(np.where(out, np.nan, q), target, range(50), "auroc") for q in (method, base)]
    assert found.difference == pytest.approx(alike[0].value - alike[1].value)
    assert found.lo < found.models_lo < found.difference < found.models_hi < found.hi
    assert found.p < 0.01
    brier = compare_sets(method, base, target, range(50), "brier")
    assert brier.difference < 0
    assert brier.better > 0.5  # lower is better
    assert compare_sets(method, base, target, range(50), "brier", higher_is_better=True).better == pytest.approx(
        1 - brier.better
    )
    squares = [np.where(out[..., 0], np.nan, (q[..., 1] - target) ** 2) for q in (method, base)]
    as_mean = compare(*squares, range(50), higher_is_better=False)
    assert (brier.p, brier.lo, brier.better) == pytest.approx((as_mean.p, as_mean.lo, as_mean.better))


def test_a_method_beside_itself() -> None:
    method, _ = two_methods(3, 6)
    found = compare(method, method, range(6))
    assert (found.difference, found.p, found.better, found.reason) == (0, 1, 0.5, NO_VARIATION)
    assert math.isnan(found.lo)


def test_what_cannot_be_said_is_not_said() -> None:
    one = compare(*two_methods(1, 8, gain=1), range(8))
    assert one.reason == ONE_RUN
    assert math.isnan(one.lo)
    assert math.isnan(one.better)
    assert not math.isnan(one.models_lo)
    assert one.p < 0.05
    few = compare(*two_methods(3, 4, gain=5), range(4))
    assert few.p == 0.125
    assert few.reason == "4 patients: no p below 0.125 is possible"
    none = compare(np.full((2, 3), np.nan), np.ones((2, 3)), range(3))
    assert math.isnan(none.p)
    assert none.reason == "no case"
    p = np.full((2, 6, 2), 0.5)
    undefined = compare_sets(p, p, np.zeros(6), range(6), "auroc")
    assert math.isnan(undefined.p)
    assert undefined.reason == "undefined for these cases"


def test_it_says_where_no_p_could_be_small_enough() -> None:
    """Too few patients, too few who differ, or too many tests for Holm's first step."""
    method, base = two_methods(3, 8, gain=1)
    assert compare(method, base, range(8), hypotheses=6).reason is None  # 2 / 2^8 < 0.05 / 6
    few = compare(method, base, range(8), hypotheses=10)
    assert few.reason == (
        "8 patients: no p below 0.00781 is possible, where Holm's correction of 10 tests begins at 0.005"
    )
    right = np.zeros((1, 40))
    right[0, :3] = 1
    alike = compare(np.repeat(right, 2, axis=0), np.zeros((2, 40)), range(40))
    assert alike.p == pytest.approx(0.25, abs=0.02)
    assert alike.reason == "3 of 40 patients differ: no p below 0.25 is possible"
    assert compare(*two_methods(2, 40), range(40), hypotheses=500).reason is None


def test_a_difference_that_all_patients_share_has_no_interval() -> None:
    found = compare(np.full((2, 9), 0.9), np.full((2, 9), 0.7), range(9))
    assert found.reason == NO_VARIATION
    assert math.isnan(found.models_lo)
    assert found.p == 2 / 2**9


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"base must be like method, \(2, 4\), found \(3, 4\)"):
        compare(np.zeros((2, 4)), np.zeros((3, 4)), range(4))
    with pytest.raises(SettingsError, match="unknown metric 'auc'"):
        compare_sets(np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), np.zeros(4), range(4), "auc")


def test_a_further_pair_of_runs_of_which_only_the_luck_varies() -> None:
    """The textbook's one-sided prediction of one more draw from a normal sample."""
    values = np.array([0.5, 0.2, 0.9, 0.4])[:, None] + 1e-9 * np.random.default_rng(0).normal(size=(4, 10))
    runs = values.mean(1)
    t = runs.mean() / (runs.std(ddof=1) * math.sqrt(1 + 1 / 4))
    assert probability_of_being_better(mean_scores(values, range(10))) == pytest.approx(stats.t.cdf(t, 3), abs=1e-6)


def test_a_further_sample_of_patients_where_runs_agree() -> None:
    """As many patients again: twice the variance of the mean."""
    values = np.random.default_rng(1).normal(0.3, 1, 20)
    t = values.mean() / (stats.sem(values) * math.sqrt(2))
    found = probability_of_being_better(mean_scores(np.stack([values] * 3), range(20)))
    assert found == pytest.approx(stats.t.cdf(t, 19), abs=1e-9)
    assert probability_of_being_better(mean_scores(np.stack([values] * 3), range(20)), higher_is_better=False) == (
        pytest.approx(1 - found)
    )


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_better_is_as_often_right_as_it_says(seeds: int) -> None:
    """A further pair lies above the limit it is told to pass with 90 % (97.5 %) in at least about so many of 600."""
    told = []
    for i in range(600):
        generator = np.random.default_rng([3, seeds, i])

        def draw(runs: int, g: np.random.Generator = generator) -> np.ndarray:
            return g.normal(size=12) + 0.3 * g.normal(size=(runs, 1)) + 0.5 * g.normal(size=(runs, 12))

        scores, further = mean_scores(draw(seeds), range(12)), float(draw(1).mean())
        told.append(
            probability_of_being_better(
                RunScores(scores.values - further, scores.influence, scores.names, scores.cases)
            )
        )
    # `told` is the probability of passing what was then reached.
    for limit, error in ((0.9, 0.0122), (0.975, 0.0064)):
        assert np.mean(np.array(told) <= limit) >= limit - 2.5 * error


def test_p_is_of_the_models_as_they_are() -> None:
    """Runs that differ by luck do not make patients disagree: p is small, and the interval for the method wide."""
    method, base = two_methods(2, 40, gain=0.0)
    method = base + np.array([0.4, 0.01])[:, None] + 0.05 * np.random.default_rng(5).normal(size=(2, 40))
    found = compare(method, base, range(40))
    assert found.p == sign_flip((method - base).mean(0), 9_999, 0).p < 0.001
    assert found.lo < 0 < found.hi
    assert found.models_lo > 0
    assert found.better < 0.9


def over_two_sites(method: np.ndarray, base: np.ndarray, seeds: tuple[int, ...]) -> Comparisons:
    """(sites, seeds, cases) Dice; `seeds` of the method, 0, 1, ... of the base."""
    judged = {}
    for site, one, two in zip("AB", method, base, strict=True):
        judged["erm", site] = {HELD_OUT: segmentation(two, site)}
        judged["m", site] = {HELD_OUT: replace(segmentation(one, site), seeds=seeds)}
    return comparisons(judged, [], runs_of(judged, "dice"), "AB", "dice")


def test_over_sites_only_the_same_seeds_are_paired() -> None:
    """Some runs are not finished: seeds 1 and 2 of the method, 0 and 1 of ERM."""
    method, base = np.random.default_rng(0).uniform(0.5, 1, size=(2, 2, 2, 9))
    (found,) = over_two_sites(method, base, (1, 2)).over_sites
    assert found.mean.value == pytest.approx((method[:, 0] - base[:, 1]).mean())
    assert found.new_site.reason == "not the same seeds and cases at every site"
    (whole,) = over_two_sites(method, base, (0, 1)).over_sites
    assert whole.mean.value == pytest.approx((method - base).mean())


def test_a_difference_that_all_patients_share_is_told() -> None:
    """There is nothing to resample, but the test has no doubt."""
    told = over_two_sites(np.full((2, 2, 12), 0.9), np.full((2, 2, 12), 0.7), (0, 1)).contrasts
    assert [one.verdict for one in told] == ["better", "better"]
