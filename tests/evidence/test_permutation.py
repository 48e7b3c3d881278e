"""Swap tests against SciPy and by enumeration; their level; Holm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import compare, compare_sets, holm
from elsewhere.evidence.permutation import BEYOND, sign_flip, swap, swaps_for
from elsewhere.tasks.classification_metrics import METRICS, score_classification
from reference.inference_reference import closed_testing, swapped_differences


@pytest.mark.parametrize(
    "differences",
    [
        np.random.default_rng(0).normal(0.5, 1, 9),
        np.array([1, 1, 0, 0, -1, 1, 1, 0.0]),  # ties and zeros
        np.array([0.1, 0.2, 0.3, -0.6, 0.1]),  # sums that only rounding tells apart
        np.array([3.0]),
        np.zeros(4),
    ],
)
def test_few_patients_are_exact_as_scipy_counts_them(differences: np.ndarray) -> None:
    wanted = stats.permutation_test(
        (differences, np.zeros_like(differences)), lambda a, b: np.round((a - b).sum(), 9),
        permutation_type="samples", n_resamples=np.inf, vectorized=False,
    ).pvalue if len(differences) > 1 else 1.0  # fmt: skip
    found = sign_flip(differences, 99)
    assert found.p == pytest.approx(wanted)
    assert (found.n, found.exact) == (2 ** len(differences), True)


def test_many_patients_are_drawn() -> None:
    parts = np.random.default_rng(1).normal(0.25, 1, 20)
    every = np.array([0.0])
    for part in parts:
        every = np.concatenate([every + part, every - part])
    exact = float((np.abs(every) >= abs(parts.sum()) - 1e-9).mean())
    found = sign_flip(parts, 40_000, seed=3)
    assert not found.exact
    assert found.n == 40_000
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))
    assert found == sign_flip(parts, 40_000, seed=3)
    assert sign_flip(np.r_[parts, np.zeros(3)], 40_000).p == pytest.approx(exact, rel=0.15)


def test_a_small_p_counts_the_swap_that_was_found() -> None:
    assert sign_flip(np.ones(40), 999).p == pytest.approx(1 / 1000)


def rejections(draw: Callable[[np.random.Generator], np.ndarray], n: int, swaps: int) -> float:
    return float(np.mean([sign_flip(draw(np.random.default_rng([5, i])), swaps, i).p <= 0.05 for i in range(n)]))


@pytest.mark.parametrize("patients", [6, 10, 30])
@pytest.mark.parametrize(
    "draw",
    [
        lambda g, p: g.normal(size=p),
        lambda g, p: g.lognormal(size=p) - g.lognormal(size=p),
        lambda g, p: g.integers(-1, 2, p) * 1.0,
    ],
    ids=["normal", "skewed scores", "ties and zeros"],
)
def test_it_holds_its_level(draw: Callable[[np.random.Generator, int], np.ndarray], patients: int) -> None:
    """1500 simulations: standard error 0.6 points; 199 swaps are as valid as many."""
    assert rejections(lambda g: draw(g, patients), 1500, 199) <= 0.05 + 3 * 0.0056


def test_differences_that_are_skewed_themselves_need_patients() -> None:
    """Mean 0, but no swap of two methods: about right at 50 patients, as a t-test is."""
    found = rejections(lambda g: g.exponential(size=50) - 1, 1500, 499)
    assert 0.03 <= found <= 0.075


@pytest.mark.parametrize(
    "metric", ["auroc", "accuracy", "balanced_accuracy", "brier", "f1", "ece", "average_precision"]
)
@pytest.mark.parametrize("k", [2, 3])
def test_metrics_of_a_set_are_swapped_patient_by_patient(metric: str, k: int) -> None:
    generator = np.random.default_rng(k)
    n, patients = 15, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0]
    target = np.r_[np.arange(9) % k, generator.integers(0, k, 6)]
    p = np.round(generator.dirichlet(np.ones(k), size=(2, 2, n)) + 0.3 * np.eye(k)[target], 1)  # with ties
    method, base = p
    found = compare_sets(method, base, target, patients, metric, n_boot=2)
    ranking = metric in ("auroc", "average_precision")
    as_used = [stats.rankdata(q, axis=1) if ranking else q for q in (method, base)]
    # Straight through the metric: `score_classification` would want probabilities.
    every = swapped_differences(
        lambda q: float(METRICS[metric](q, target, np.ones((1, n)))[0]), as_used[0], as_used[1], patients
    )
    assert found.difference == pytest.approx(every[0])
    assert found.difference == pytest.approx(
        np.mean([score_classification(a, target)[metric] - score_classification(b, target)[metric]
                 for a, b in zip(method, base, strict=True)])
    )  # fmt: skip
    assert found.exact
    assert found.n_permutations == 2**7
    assert found.p == pytest.approx((np.abs(every) >= abs(every[0]) - 1e-10).mean())


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_cases_of_two_networks_are_not_ranked_against_each_other(metric: str) -> None:
    """A cross-validation: each network's metric on its own cases, by their number, and swaps within each."""
    generator = np.random.default_rng(4)
    sizes, target = (8, 6, 3), np.r_[np.arange(8) % 2, np.arange(6) % 2, [1, 1, 1]]  # the third is of one class
    groups = np.repeat([5, 2, 9], sizes)
    score = generator.normal(size=(2, 1, 17)) + target + 3 * groups  # no common scale
    p = 1 / (1 + np.exp(-score))
    method, base = np.stack([1 - p, p], -1)
    patients = np.arange(17) % 9
    found = compare_sets(method, base, target, patients, metric, groups=groups, n_boot=2)

    def by_hand(ranks: np.ndarray) -> float:
        each = [
            (METRICS[metric](ranks[own], target[own], np.ones((1, own.sum())))[0], own.sum())
            for own in (groups == 5, groups == 2)
        ]
        return float(sum(value * n for value, n in each) / sum(n for _, n in each))

    ranks = [np.zeros((1, 17, 2)), np.zeros((1, 17, 2))]
    for of, q in zip(ranks, (method, base), strict=True):
        for g in (5, 2, 9):
            of[:, groups == g] = stats.rankdata(q[:, groups == g], axis=1)
    every = swapped_differences(by_hand, ranks[0], ranks[1], patients)
    assert found.difference == pytest.approx(every[0])
    assert found.p == pytest.approx((np.abs(every) >= abs(every[0]) - 1e-10).mean())
    together = compare_sets(method, base, target, patients, metric, n_boot=2)
    assert abs(together.difference - found.difference) > 0.01


def test_a_model_with_another_scale_is_no_other_model() -> None:
    """Ranks within a model: any increasing function of the scores leaves p where it was."""
    generator = np.random.default_rng(0)
    target = np.arange(40) % 2
    one, two = generator.normal(size=(2, 3, 40)) + target

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return np.stack([1 - 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-x))], -1)

    for metric in ("auroc", "average_precision"):
        found, moved = (
            compare_sets(sigmoid(one), sigmoid(q), target, range(40), metric, n_boot=2) for q in (two, two**3 / 9 - 2)
        )
        assert moved.p == found.p
        assert moved.difference == pytest.approx(found.difference)


def test_a_slow_drawing_ends_once_p_is_known_well() -> None:
    parts = np.random.default_rng(0).normal(size=30)
    found = swap(lambda stays: (2 * stays - 1) @ parts, 30, 100_000, block=64)
    assert found.n < 2000
    assert found.p == BEYOND / found.n
    assert found.p == pytest.approx(sign_flip(parts, 100_000).p, rel=0.35)
    assert found == swap(lambda stays: (2 * stays - 1) @ parts, 30, 100_000, block=1000)
    sure = swap(lambda stays: (2 * stays - 1) @ np.ones(30), 30, 500)
    assert (sure.p, sure.n) == (1 / 501, 500)


def test_patients_are_swapped_with_all_their_cases_and_seeds() -> None:
    generator = np.random.default_rng(2)
    patients = np.repeat(np.arange(7), 5)
    method, base = (
        generator.normal(size=(2, 4, 35)) + generator.normal(size=7)[patients] * np.array([1, 0])[:, None, None]
    )
    found = compare(method, base, patients)
    of_patient = (method - base).mean(0).reshape(7, 5).mean(1)
    assert found.p == sign_flip(of_patient, 1).p
    assert (found.n_permutations, found.exact) == (128, True)


def test_enough_swaps_for_holm() -> None:
    assert swaps_for(1, 0.95) == 9_999
    assert swaps_for(50, 0.95) == 99_999  # the smallest threshold, 0.001, has 100 swaps beyond
    many = compare(np.random.default_rng(0).normal(size=(1, 30)) + 3, np.zeros((1, 30)), range(30), hypotheses=200)
    assert many.p <= 0.05 / 200 / 50
    with pytest.raises(SettingsError, match="hypotheses must be at least 1"):
        swaps_for(0, 0.95)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_closed_testing(p: list[float]) -> None:
    assert holm(p) == pytest.approx(closed_testing(p))


def test_holm_does_not_count_what_was_not_tested() -> None:
    found = holm([0.02, np.nan, 0.01])
    assert found[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(found[1])
    assert len(holm([])) == 0


def test_holm_holds_the_family_wise_error() -> None:
    """400 families of 6 tests that share their base; standard error 1.1 points."""
    found = 0
    for i in range(400):
        generator = np.random.default_rng([9, i])
        base = generator.normal(size=8)
        found += bool((holm([sign_flip(generator.normal(size=8) - base, 1).p for _ in range(6)]) <= 0.05).any())
    assert found / 400 <= 0.05 + 3 * 0.011
