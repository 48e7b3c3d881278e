"""Intervals for the method: decomposition against the analysis of variance, forms against SciPy, coverage."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import (
    THIS_METHOD,
    interval_of,
    interval_over,
    mean_scores,
    method_interval,
    method_set_interval,
    set_scores,
)
from elsewhere.evidence.intervals import NO_VARIATION, UNDEFINED_WITHOUT
from elsewhere.evidence.runs import ONE_PATIENT, ONE_RUN, decompose
from elsewhere.tasks.classification_metrics import score_classification
from reference.inference_reference import delong_variance, leave_one_out, mean_squares


def crossed(seeds: int, patients: int, seed: int = 0, runs: float = 0.5, noise: float = 0.7) -> np.ndarray:
    generator = np.random.default_rng(seed)
    of_run = runs * generator.normal(size=(seeds, 1))
    return generator.normal(size=patients) + of_run + noise * generator.normal(size=(seeds, patients))


def classified(n: int, runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = np.arange(n) % 2
    score = generator.normal(size=n) + 0.5 * generator.normal(size=(runs, n)) + target
    p = 1 / (1 + np.exp(-score))
    return np.stack([1 - p, p], -1), target


@pytest.mark.parametrize("patients", [5, 12])
def test_the_parts_are_those_of_the_analysis_of_variance(patients: int) -> None:
    values = crossed(4, patients)
    of_runs, of_patients, rest = mean_squares(values)
    parts, _ = decompose([mean_scores(values, range(patients))])
    size = values.size
    assert parts.own == pytest.approx(of_runs / size)
    assert parts.patients == pytest.approx(of_patients / size)
    assert parts.shared == pytest.approx((of_patients - rest) / size)
    assert (parts.own_df, parts.patients_df) == (3, patients - 1)
    found = method_interval(values, range(patients))
    t = stats.t.ppf(0.975, [3, patients - 1]) ** 2
    half = math.sqrt(t[0] * of_runs / size + t[1] * (of_patients - rest) / size)
    assert (found.lo, found.hi) == pytest.approx((values.mean() - half, values.mean() + half))
    assert found.error == pytest.approx(math.sqrt((of_runs + of_patients - rest) / size))
    assert found.estimand == THIS_METHOD == "this method at this site"


def test_runs_that_agree_leave_the_t_interval_of_the_patients() -> None:
    values = crossed(1, 15)
    wanted = stats.ttest_1samp(values[0], 0).confidence_interval()
    found = method_interval(np.repeat(values, 3, axis=0), range(15))
    assert (found.lo, found.hi) == pytest.approx((wanted.low, wanted.high))


def test_runs_of_different_patients_leave_the_t_interval_of_the_runs() -> None:
    """The in-domain test: each seed has its own patients, here none in two."""
    values = np.full((4, 40), np.nan)
    own = crossed(4, 10, runs=2)
    for run in range(4):
        values[run, 10 * run : 10 * run + 10] = own[run]
    wanted = stats.ttest_1samp(own.mean(1), 0).confidence_interval()
    found = method_interval(values, range(40))
    assert (found.lo, found.hi) == pytest.approx((wanted.low, wanted.high))
    assert (found.n_cases, found.n_patients) == (40, 40)


def test_it_is_never_narrower_than_for_patients_alone() -> None:
    """Two runs may have the same score by chance."""
    for seed in range(20):
        values = crossed(2, 10, seed, runs=0)
        values[1] += values[0].mean() - values[1].mean()
        found, together = method_interval(values, range(10)), stats.ttest_1samp(values.mean(0), 0)
        assert found.hi - found.lo >= together.confidence_interval().high - together.confidence_interval().low - 1e-12


def test_influence_is_that_of_leaving_a_patient_out() -> None:
    generator = np.random.default_rng(0)
    patients = generator.integers(0, 6, 20).tolist()
    values = generator.normal(size=(2, 20))
    values[1, [i for i, who in enumerate(patients) if who == patients[0]]] = np.nan  # none of the second run's
    scores = mean_scores(values, patients)
    for run, row in enumerate(values):
        own = [i for i in range(20) if not np.isnan(row[i])]
        who = [patients[i] for i in own]
        without = leave_one_out(lambda some, v=row[own]: v[some].mean(), who)
        n = len(without)
        wanted = dict(zip(dict.fromkeys(who), math.sqrt((n - 1) / n) * (row[own].mean() - without), strict=True))
        assert scores.influence[run] == pytest.approx([wanted.get(name, 0.0) for name in scores.names])


@pytest.mark.parametrize("metric", ["auroc", "f1", "average_precision", "brier"])
def test_influence_on_a_metric_of_a_set(metric: str) -> None:
    p, y = classified(24, 2)
    patients = (np.arange(24) // 3).tolist()
    scores = set_scores(p, y, patients, metric)
    for run in range(2):
        without = leave_one_out(lambda some, q=p[run]: score_classification(q[some], y[some])[metric], patients)
        whole = score_classification(p[run], y)[metric]
        assert scores.values[run] == pytest.approx(whole)
        assert scores.influence[run] == pytest.approx(math.sqrt(7 / 8) * (whole - without))


def test_the_variance_of_an_auroc_is_about_delongs() -> None:
    p, y = classified(200, 1)
    parts, _ = decompose([set_scores(p, y, range(200), "auroc")])
    assert parts.patients == pytest.approx(delong_variance(p[0, :, 1], y), rel=0.03)


def test_accuracy_as_a_mean_and_as_a_set_is_one_interval() -> None:
    p, y = classified(60, 3)
    p[1, 50:] = np.nan
    patients = np.arange(60) // 2
    right = np.where(np.isnan(p[..., 0]), np.nan, p.argmax(-1) == y)
    as_mean, as_set = (
        method_interval(right, patients, bounds=(0, 1)),
        method_set_interval(p, y, patients, "accuracy"),
    )
    assert (as_mean.lo, as_mean.hi, as_mean.error) == pytest.approx((as_set.lo, as_set.hi, as_set.error))
    assert (as_mean.n_cases, as_mean.n_patients) == (as_set.n_cases, as_set.n_patients) == (60, 30)


def test_cases_of_a_patient_that_agree_count_once() -> None:
    values = crossed(3, 9)
    once, twice = method_interval(values, range(9)), method_interval(np.repeat(values, 2, axis=1), np.arange(18) // 2)
    assert (twice.lo, twice.hi) == pytest.approx((once.lo, once.hi))
    assert (twice.n_cases, twice.n_patients) == (18, 9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-10, 10))
def test_scale_shift_and_order_do_not_matter(seed: int, scale: float, shift: float) -> None:
    values, order = crossed(3, 8, seed), np.random.default_rng(seed).permutation(8)
    one = method_interval(values, range(8))
    other = method_interval((scale * values + shift)[:, order], order)
    assert (other.lo, other.hi) == pytest.approx((scale * one.lo + shift, scale * one.hi + shift), abs=1e-6)


def test_between_bounds_the_interval_is_on_the_logit_scale() -> None:
    values = 0.9 + 0.03 * crossed(3, 10)
    scores, larger = (replace(mean_scores(scale * values, range(10)), of_cases=False) for scale in (1, 10))
    plain, bounded = interval_of(scores), interval_of(scores, bounds=(0, 1))
    assert plain.hi > bounded.hi
    assert bounded.hi < 1
    logit = [math.log(x / (1 - x)) for x in (bounded.lo, plain.value, bounded.hi)]
    assert logit[1] - logit[0] == pytest.approx(logit[2] - logit[1])
    # The slope of the logit at the value is 1 / (v (1 - v)).
    assert logit[2] - logit[1] == pytest.approx((plain.hi - plain.value) / (plain.value * (1 - plain.value)))
    wide = interval_of(larger, bounds=(0, 10))
    assert (wide.lo, wide.hi) == pytest.approx((10 * bounded.lo, 10 * bounded.hi))


def test_a_mean_between_bounds_allows_for_one_more_patient_at_each_site() -> None:
    values = 0.9 + 0.03 * crossed(3, 10)
    scores = mean_scores(values, range(10))
    found, without = interval_of(scores, bounds=(0, 1)), interval_of(replace(scores, of_cases=False), bounds=(0, 1))
    v = found.value
    assert found.lo == pytest.approx(v - math.hypot(v - without.lo, v / 11))
    assert found.hi == pytest.approx(v + math.hypot(without.hi - v, (1 - v) / 11))
    # Of two sites of other patients a patient at one moves the mean by half as much; two of them add up in quadrature.
    other = mean_scores(values, range(10, 20))
    both = {"A": scores, "B": other}
    apart = interval_over({site: replace(one, of_cases=False) for site, one in both.items()}, bounds=(0, 1))
    wanted = v - math.hypot(v - apart.lo, math.sqrt(2) * v / 11 / 2)
    assert interval_over(both, bounds=(0, 1)).lo == pytest.approx(wanted)
    same = interval_over({"A": scores, "B": replace(scores, of_cases=False)}, bounds=(0, 1))
    assert interval_over({"A": scores, "B": scores}, bounds=(0, 1)).lo == pytest.approx(
        v - math.hypot(v - same.lo, v / 11)
    )


def test_a_distance_is_not_below_0() -> None:
    values = np.array([[4.0, 5.0, 2.0, 9.0], [14.0, 12.0, 20.0, 11.0]])
    plain, cut = method_interval(values, range(4)), method_interval(values, range(4), bounds=(0, math.inf))
    assert plain.lo < 0
    assert (cut.value, cut.lo, cut.hi) == (plain.value, 0, plain.hi)


def test_a_brier_score_of_three_classes_may_be_above_1() -> None:
    """It is a sum over classes: at most 2."""
    generator = np.random.default_rng(0)
    target = np.arange(12) % 3
    p = generator.dirichlet(np.ones(3), size=(3, 12)) / 5 + 0.8 * np.eye(3)[(target + 1) % 3]  # surely wrong
    found = method_set_interval(p, target, range(12), "brier")
    squares = ((p - np.eye(3)[target]) ** 2).sum(-1)
    wanted = interval_of(replace(mean_scores(squares, range(12)), of_cases=False), bounds=(0, 2))
    assert found.value > 1.2
    assert (found.lo, found.hi) == pytest.approx((wanted.lo, wanted.hi))
    assert found.reason is None
    assert method_set_interval(p[..., :2] / p[..., :2].sum(-1, keepdims=True), target % 2, range(12), "brier").hi < 1


def held(draw: Any, truth: float, n: int = 500, bounds: tuple[float, float] | None = None) -> float:
    intervals = [interval_of(draw(np.random.default_rng([7, i])), bounds=bounds) for i in range(n)]
    return float(np.mean([one.lo <= truth <= one.hi for one in intervals]))


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("luck", [0.0, 0.3, 1.0, 3.0])
def test_it_holds_the_truth_with_few_seeds_and_ten_patients(seeds: int, luck: float) -> None:
    """Runs whose variance is `luck` times what patients give a mean; 500 simulations, standard error 1 point."""

    def draw(generator: np.random.Generator) -> Any:
        runs = generator.normal(size=(seeds, 1)) * math.sqrt(luck * 1.25 / 10)
        return mean_scores(generator.normal(size=10) + runs + 0.5 * generator.normal(size=(seeds, 10)), range(10))

    assert held(draw, 0.0) >= 0.93


def test_it_holds_the_truth_where_seeds_have_patients_of_their_own_and_patients_several_cases() -> None:
    def draw(generator: np.random.Generator) -> Any:
        n = 1 + generator.poisson(2, size=30)
        owner = np.repeat(np.arange(30), n)
        values = generator.normal(size=30)[owner] + 0.3 * generator.normal(size=(3, 1))
        values = values + generator.normal(size=(3, len(owner)))
        for row in values:
            row[np.isin(owner, generator.permutation(30)[:18])] = np.nan
        return mean_scores(values, owner)

    assert held(draw, 0.0) >= 0.93


def test_it_holds_the_truth_of_an_auroc_near_one() -> None:
    truth, runs = 0.95, 0.3

    def draw(generator: np.random.Generator) -> Any:
        target = np.arange(30) % 2
        far = stats.norm.ppf(truth) * math.sqrt(2 * 1.25 + runs**2) + runs * generator.normal(size=(3, 1))
        p = generator.normal(size=30) + 0.5 * generator.normal(size=(3, 30)) + target * far
        return set_scores(np.stack([-p, p], -1), target, range(30), "auroc")

    assert held(draw, truth, 300, (0, 1)) >= 0.93


def test_the_luck_that_two_scores_share_leaves_their_difference() -> None:
    """Held-out and in-domain scores of the same runs: the gap is known better than its two ends."""
    generator = np.random.default_rng(0)
    runs = generator.normal(size=(3, 1))
    away = mean_scores(runs + 0.1 * generator.normal(size=(3, 20)), [f"away {i}" for i in range(20)])
    home = mean_scores(runs + 0.1 * generator.normal(size=(3, 20)), [f"home {i}" for i in range(20)])
    gap = interval_of(away - home)
    assert gap.value == pytest.approx(away.value - home.value)
    assert (gap.n_patients, gap.n_cases) == (40, 40)
    assert gap.hi - gap.lo < 0.2 * (interval_of(away).hi - interval_of(away).lo)
    alone, _ = decompose([away])
    both, _ = decompose([away - home])
    assert both.patients == pytest.approx(alone.patients + decompose([home])[0].patients)  # nobody in both


def test_a_patient_who_is_in_both_counts_once() -> None:
    values = crossed(3, 10)
    one = mean_scores(values, range(10))
    nothing = one - mean_scores(values[:, ::-1], range(9, -1, -1))
    assert nothing.influence == pytest.approx(0)
    assert (nothing.n_patients, nothing.n_cases) == (10, 10)
    with pytest.raises(SettingsError, match="scores of 3 runs need as many beside them, found 2"):
        one - mean_scores(values[:2], range(10))


def test_over_sites_the_variances_add_up() -> None:
    some = {f"site {j}": mean_scores(crossed(3, 10, seed=j), [f"{j}-{i}" for i in range(10)]) for j in range(4)}
    found = interval_over(some)
    each = [decompose([one])[0] for one in some.values()]
    parts, _ = decompose(list(some.values()))
    assert found.value == pytest.approx(np.mean([one.value for one in some.values()]))
    for name in ("own", "patients"):
        assert getattr(parts, name) == pytest.approx(sum(getattr(one, name) for one in each) / 16)
    own = np.array([one.own for one in each])
    assert parts.own_df == pytest.approx(own.sum() ** 2 / (own**2 / 2).sum())
    assert (found.n_patients, found.n_cases) == (40, 40)
    same = {str(j): some["site 0"] for j in range(4)}  # the same patients in four folds are no more patients
    assert decompose(list(same.values()))[0].patients == pytest.approx(each[0].patients)
    assert interval_over(same).n_patients == 10


def test_where_there_is_no_interval_it_says_why() -> None:
    p, y = classified(8, 2)
    y[:] = 0
    y[3] = 1
    cases = [
        (method_interval(crossed(1, 5), range(5)), ONE_RUN),
        (method_interval(crossed(3, 4), ["a"] * 4), ONE_PATIENT),
        (method_interval(np.ones((3, 4)), range(4)), NO_VARIATION),
        (method_interval(np.full((3, 7), 0.8), range(7)), NO_VARIATION),  # sums of 0.8 round
        (method_interval(np.array([[0.81], [0.8], [0.79]]) * np.ones(11), range(11)), NO_VARIATION),
        (method_interval(np.full((2, 3), np.nan), range(3)), "no case"),
        (method_interval([[1, 2], [np.nan, np.nan]], range(2)), "undefined for these cases"),
        (method_set_interval(p, y, range(8), "auroc"), UNDEFINED_WITHOUT),
    ]
    for found, reason in cases:
        assert found.reason == reason
        assert math.isnan(found.lo)
        assert math.isnan(found.hi)
        assert found.estimand == THIS_METHOD
    assert cases[0][0].error == pytest.approx(stats.sem(crossed(1, 5)[0]))


def test_two_patients_of_a_class_do_not_tell_how_sure_an_auroc_is() -> None:
    """200 images of two of 42 patients: t of 41 degrees of freedom would be far too sure."""
    target, owner = np.repeat([1, 0], [200, 40]), np.r_[np.arange(200) % 2, np.arange(2, 42)]
    score = np.random.default_rng(0).normal(size=(3, 240)) + target
    found = method_set_interval(np.stack([-score, score], -1), target, owner, "auroc")
    assert not math.isnan(found.value)
    assert math.isnan(found.lo)
    assert found.reason == UNDEFINED_WITHOUT
    again = method_set_interval(
        np.stack([-score, score], -1), target, np.r_[np.arange(200) % 3 + 50, owner[200:]], "auroc"
    )
    assert again.reason is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingsError, match="level must be between 0 and 1"):
        method_interval(crossed(2, 4), range(4), level=1)
    with pytest.raises(SettingsError, match="one patient a case"):
        method_interval(crossed(2, 4), range(3))
    with pytest.raises(SettingsError, match="unknown metric 'auc'"):
        method_set_interval(*classified(4, 2), range(4), "auc")
