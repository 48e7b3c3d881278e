"""Simulated sites whose true score is known: patients and training runs are drawn, the truth is over both.

A world of means draws many sites at once, as sums and counts of (sites, runs, patients): the form in which
`elsewhere.evidence.means` holds them, so that thousands of intervals take a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from elsewhere.evidence import Interval, RunScores, interval_of

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Means:
    """Sums and numbers (sites, runs, patients) of the scores of each patient's cases; number 0: none of the run's."""

    sums: Array
    counts: Array


@dataclass(frozen=True)
class World:
    """`draw(generator, sites, runs, patients)`, the expected score, and its bounds."""

    draw: Callable[[np.random.Generator, int, int, int], Means]
    truth: float
    bounds: tuple[float, float] | None = None


def crossed(luck: float, noise: float = 1.0) -> World:
    """Normal. Patients of variance 1, what a run does to a patient of variance noise^2, and runs whose variance is
    `luck` times that which patients give to the mean of one run's scores."""

    def draw(generator: np.random.Generator, sites: int, runs: int, patients: int) -> Means:
        of_run = generator.normal(size=(sites, runs, 1)) * np.sqrt(luck * (1 + noise**2) / patients)
        values = generator.normal(size=(sites, 1, patients)) + of_run
        values = values + noise * generator.normal(size=(sites, runs, patients))
        return Means(values, np.ones_like(values))

    return World(draw, 0.0)


def dice(luck: float = 0.02) -> World:
    """Like Dice: patients skewed, Beta(8, 2); runs of standard deviation `luck`; worse patients vary more by run."""

    def draw(generator: np.random.Generator, sites: int, runs: int, patients: int) -> Means:
        skill = generator.beta(8, 2, size=(sites, 1, patients))
        noise = generator.normal(size=(sites, runs, patients)) * 0.3 * (1 - skill)
        values = skill + luck * generator.normal(size=(sites, runs, 1)) + noise
        return Means(values, np.ones_like(values))

    return World(draw, 0.8, (0.0, 1.0))


def several_cases(luck: float = 0.3) -> World:
    """1 + Poisson(2) cases a patient, alike within a patient; patients with more cases score higher."""

    def draw(generator: np.random.Generator, sites: int, runs: int, patients: int) -> Means:
        n = 1.0 + generator.poisson(2, size=(sites, 1, patients))
        of_patient = generator.normal(size=n.shape) + 0.3 * (n - 3)
        of_run = luck * generator.normal(size=(sites, runs, 1))
        # Sums over n cases of what is a case's own, and of what a run does to a case.
        of_cases = np.sqrt(n) * 0.5 * generator.normal(size=n.shape)
        of_cases = of_cases + np.sqrt(n) * 0.7 * generator.normal(size=(sites, runs, patients))
        return Means(n * (of_patient + of_run) + of_cases, np.broadcast_to(n, of_cases.shape))

    # The mean over cases: E[n 0.3 (n - 3)] / E[n], with var(n) = 2.
    return World(draw, 0.3 * 2 / 3)


def own_patients(luck: float = 0.3, share: float = 0.4) -> World:
    """The in-domain test: each run has its own share of the patients, drawn anew."""

    def draw(generator: np.random.Generator, sites: int, runs: int, patients: int) -> Means:
        values = generator.normal(size=(sites, 1, patients)) + luck * generator.normal(size=(sites, runs, 1))
        values = values + 0.5 * generator.normal(size=(sites, runs, patients))
        order = generator.random(size=values.shape).argsort(axis=2).argsort(axis=2)
        mine = (order < round(share * patients)).astype(float)
        return Means(values * mine, mine)

    return World(draw, 0.0)


HARD, PRIVATE = 1.0, 0.5
"""Standard deviations, on the logit scale: of a case's difficulty, which all methods share, and of what is private to a
case and a run."""

ALIKE, FEWER = (0.75, 0.75), (0.72, 0.78)
"""Expected Dice of ERM and of the methods: no difference, and 0.06."""

Uneven = Callable[[np.random.Generator, int, int], Array]


def beside_erm(
    generator: np.random.Generator, n: int, methods: int, sites: int, seeds: int, patients: int, luck: float,
    expected: tuple[float, float] = ALIKE, uneven: Uneven | None = None, fails: float = 0.0,
) -> Array:  # fmt: skip
    """(n, methods, sites, seeds, patients), Dice of each method minus that of ERM.

    Args:
        luck: standard deviation of the luck of a run, on the logit scale, of each (method, site, seed) its own.
        expected: Dice of ERM and of the methods, over patients and runs; kept whatever the luck.
        uneven: (1 + methods, sites), 1 where the luck is 3 times as large.
        fails: one run in seven scores so much lower, on the logit scale.
    """
    lucks = np.full((n, 1 + methods, sites), luck)
    if uneven is not None:
        lucks *= 1 + 2 * np.stack([uneven(generator, methods, sites) for _ in range(n)])
    of = np.array(expected)[np.minimum(np.arange(1 + methods), 1)]
    # The level at which the mean of the Dice is as expected.
    kinds = np.unique(lucks)
    levels = np.array([[_level(mean, float(one)) for one in kinds] for mean in of])
    level = levels[np.arange(1 + methods)[:, None], np.searchsorted(kinds, lucks)]
    of_run = level[..., None] + lucks[..., None] * generator.normal(size=(n, 1 + methods, sites, seeds))
    of_run -= fails * (generator.random(of_run.shape) < 1 / 7)
    of_case = PRIVATE * generator.normal(size=(*of_run.shape, patients))
    of_case += HARD * generator.normal(size=(n, 1, sites, 1, patients)) + of_run[..., None]
    scores = special.expit(of_case)
    return np.asarray(scores[:, 1:] - scores[:, :1])


@lru_cache(maxsize=64)
def _level(mean: float, luck: float) -> float:
    """Mean of a normal variable on the logit scale whose Dice has this mean (Gauss and Hermite's quadrature)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread, weights = np.sqrt(HARD**2 + PRIVATE**2 + luck**2), weights / weights.sum()
    return float(optimize.brentq(lambda at: weights @ special.expit(at + spread * nodes) - mean, -10, 10))


def classified(
    generator: np.random.Generator, truth: float, runs: int, patients: int, luck: float = 0.3, positives: float = 0.4
) -> tuple[Array, Array]:
    """Probabilities (runs, patients, 2) and target of two normal classes whose expected AUROC is `truth`.

    Runs differ in how far they set the classes apart.
    """
    target = (np.arange(patients) < round(positives * patients)).astype(int)
    apart = stats.norm.ppf(truth) * np.sqrt(2 * (1 + NOISE**2) + luck**2)
    far = apart + luck * generator.normal(size=(runs, 1))
    score = generator.normal(size=patients) + NOISE * generator.normal(size=(runs, patients)) + (target - 0.5) * far
    p = special.expit(score)
    return np.stack([1 - p, p], -1), target


NOISE = 0.5
"""Standard deviation of what a run adds to a patient's score of standard deviation 1."""


def true_share(metric: str, truth: float, positives: float = 0.4) -> float:
    """What a metric of `classified` without luck is of all patients, where the AUROC is `truth`."""
    apart = stats.norm.ppf(truth) * np.sqrt(2)  # in standard deviations of a class
    if metric == "auroc":
        return truth
    if metric == "average_precision":
        recall = (np.arange(100_000) + 0.5) / 100_000
        false = stats.norm.sf(stats.norm.isf(recall) + apart)  # share of the negatives above the same threshold
        return float(np.mean(positives * recall / (positives * recall + (1 - positives) * false)))
    right = float(stats.norm.cdf(apart / 2))  # of either class: the threshold is half way
    if metric == "balanced_accuracy":
        return right
    assert metric == "f1", metric
    return 2 * positives * right / (2 * positives * right + 1 - right)


def two_models(
    generator: np.random.Generator, truths: tuple[float, float], patients: int, shared: float, positives: float = 0.4
) -> tuple[Array, Array]:
    """Probabilities (2, patients, 2) and target of two models of such AUROCs, whose scores are correlated."""
    target = (np.arange(patients) < round(positives * patients)).astype(int)
    own = np.sqrt(1 - shared) * generator.normal(size=(2, patients))
    score = np.sqrt(shared) * generator.normal(size=patients) + own
    p = special.expit(score + stats.norm.ppf(truths)[:, None] * np.sqrt(2) * target)
    return np.stack([1 - p, p], -1), target


def run_scores(means: Means, site: int) -> RunScores:
    """One of the sites, as `elsewhere.evidence.mean_scores` would make it of cases."""
    sums, counts = means.sums[site], means.counts[site]
    patients = sums.shape[1]
    n = counts.sum(1, keepdims=True)
    values = sums.sum(1) / n[:, 0]
    without = (sums.sum(1, keepdims=True) - sums) / (n - counts)
    some = (counts > 0).sum(1, keepdims=True)
    influence = np.where(counts > 0, np.sqrt((some - 1) / some) * (values[:, None] - without), 0)
    return RunScores(values, influence, tuple(range(patients)), counts.max(0).astype(np.int64), of_cases=True)


@dataclass(frozen=True)
class Halves:
    """Of many sites of as many patients: mean over runs, and half widths of three intervals for it."""

    n_patients: int
    value: Array
    ours: Array
    satterthwaite: Array
    patients: Array


def halves(means: Means, level: float) -> Halves:
    """The form of `elsewhere.evidence.runs` for all sites at once, held against the library at some of them."""
    sums, counts = means.sums, means.counts
    runs, patients = sums.shape[1:]
    n = counts.sum(2, keepdims=True)
    m = sums.sum(2, keepdims=True) / n
    some = (counts > 0).sum(2, keepdims=True)
    without = (sums.sum(2, keepdims=True) - sums) / (n - counts)
    influence = np.where(counts > 0, np.sqrt((some - 1) / some) * (m - without), 0)
    together = influence.mean(1, keepdims=True)
    of_patients = (together**2).sum((1, 2))
    private = ((influence - together) ** 2).sum((1, 2)) / (runs - 1) / runs
    own, shared = m[..., 0].var(1, ddof=1) / runs, np.maximum(of_patients - private, 0)
    tail = (1 - level) / 2
    t_runs, t_patients = (stats.t.isf(tail, df) for df in (runs - 1, patients - 1))
    ours = np.sqrt(np.maximum(t_runs**2 * own + t_patients**2 * shared, t_patients**2 * of_patients))
    for site in range(0, len(sums), max(1, len(sums) // 10)):
        found: Interval = interval_of(run_scores(means, site), level)
        assert np.allclose(found.hi - found.value, ours[site]), "not what the library gives"
    variance = np.maximum(own + shared, of_patients)
    rest = (runs - 1) * (patients - 1)
    df = variance**2 / (own**2 / (runs - 1) + of_patients**2 / (patients - 1) + private**2 / rest)
    usual = stats.t.isf(tail, np.maximum(df, 1)) * np.sqrt(variance)
    return Halves(patients, m[..., 0].mean(1), ours, usual, t_patients * np.sqrt(of_patients))


def held(found: Halves, half: Array, world: World) -> Array:
    """(sites,) whether the interval of this half width holds the truth; between bounds as `evidence.bounded` has it."""
    value = found.value
    below = above = half
    if world.bounds == (0.0, 1.0):
        far = half / (value * (1 - value))
        below = np.hypot(value - special.expit(special.logit(value) - far), value / (found.n_patients + 1))
        above = np.hypot(special.expit(special.logit(value) + far) - value, (1 - value) / (found.n_patients + 1))
    return np.asarray((value - below <= world.truth) & (world.truth <= value + above))
