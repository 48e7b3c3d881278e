"""A method over held-out sites: these ones, and one more like them.

**These sites.** The plain mean over k fixed sites, for the method (`runs.interval_over`): patients and training runs
vary, the sites do not. The worst site is the one with the worst value, and being chosen for that it looks worse than it
is where sites have few patients.

**A site like these** (`NEW_SITE`). A site's score theta_j is drawn from a normal distribution of variance tau^2 about
mu, and seen with an error of known size e_j. Prediction interval for the theta of one more site: with

    Q(tau^2) = sum w_j (x_j - mean_w)^2,  w_j = 1 / (tau^2 + e_j^2),

which is chi-square of k - 1 degrees of freedom at the true tau^2 (the pivot of Paule and Mandel's estimate; Viechtbauer
2007, Statistics in Medicine 26:37), each u of that distribution gives a tau^2 that solves Q = u (0 where none does),
and with it theta ~ N(mean_w, tau^2 + 1 / sum w). The limits are quantiles of the mixture over u: a confidence
distribution as in Nagashima, Noma and Furukawa (2019, Statistical Methods in Medical Research 28:1689), by this pivot
in place of theirs. Without errors it is x +- t(k - 1) s sqrt(1 + 1 / k). A plug-in of an estimated tau^2, which is
often 0 with few sites, holds less than its level.

Given from `FEWEST` sites on. Folds share most of their training data; that the sites' scores are independent all the
same is an assumption. That further sites are like these is another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from elsewhere.evidence.checks import check
from elsewhere.evidence.estimands import NEW_SITE, over_these
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.run_scores import RunScores
from elsewhere.evidence.runs import decompose, interval_over

FEWEST = 5
"""Sites below which nothing is said about another."""

ALIKE = "the held-out sites score alike, and no patient changes their scores: how sites differ cannot be seen"

ROUNDING = 1e-12
"""Of the scores."""

GRID = 500
"""Values of u, at the midpoints of equal probabilities."""


@dataclass(frozen=True)
class OverSites:
    """A method over sites.

    Attributes:
        mean: over these sites, for this method.
        new_site: prediction interval; its value is the mean that weighs sites by how exactly they are known.
        worst: the site with the worst value; "" where a value is undefined.
        values: of each site, mean over runs.
        spread: of each site, standard deviation over runs; NaN with one.
        where: `over these 6 held-out sites`, for captions.
    """

    mean: Interval
    new_site: Interval
    worst: str
    values: Mapping[str, float]
    spread: Mapping[str, float]
    where: str


def over_sites(
    scores: Mapping[str, RunScores],
    level: float = 0.95,
    *,
    higher_is_better: bool = True,
    bounds: tuple[float, float] | None = None,
) -> OverSites:
    """Sum up a method's scores, its differences from a base, or its gaps to home (`held_out - home`), over sites.

    Args:
        scores: of each site, from `run_scores`.
        level: of the intervals.
        higher_is_better: of the score.
        bounds: the least and largest possible score; limits beyond are cut.
    """
    values = {site: one.value for site, one in scores.items()}
    mean = interval_over(scores, level, bounds=bounds)
    errors = [math.sqrt(decompose([one])[0].variance) for one in scores.values()]
    new = new_site_interval(np.array(list(values.values())), np.array(errors), level, bounds=bounds)
    worst = "" if any(map(math.isnan, values.values())) else (min if higher_is_better else max)(values, key=values.get)  # type: ignore[arg-type]
    return OverSites(
        mean,
        Interval(new.value, new.lo, new.hi, mean.n_cases, mean.n_patients, new.reason, NEW_SITE, new.error),
        worst,
        values,
        {site: one.spread for site, one in scores.items()},
        over_these(len(scores)),
    )


def new_site_interval(
    values: NDArray[Any],
    errors: NDArray[Any],
    level: float = 0.95,
    *,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Prediction interval for the score at one more site.

    Args:
        values: (k,) score at each held-out site.
        errors: (k,) its standard error (`Interval.error`), 0 or more.
        level: in (0, 1).
        bounds: the least and largest possible score; limits beyond are cut.

    Returns:
        the interval about the precision-weighted mean (the plain mean where there is none); `error` is the standard
        error of that mean. Counts of cases and patients are 0: they are not known here.

    Raises:
        SettingsError: shapes, errors or level make no sense.
    """
    x, e = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    check(0 < level < 1, "level must be between 0 and 1", level)
    check(x.ndim == 1 and x.shape == e.shape, "values and errors must be (sites,)", f"{x.shape} and {e.shape}")
    check(not (e < 0).any(), "errors must not be negative", e.min(initial=0))
    k, nan = len(x), float("nan")
    unknown = int((np.isnan(x) | np.isnan(e)).sum())
    plain = float(x.mean()) if k else nan
    reason = None
    if k < FEWEST:
        reason = f"{over_these(k)}: nothing is said about another below {FEWEST}"
    elif unknown:
        reason = f"score or its error unknown at {unknown} of {k} held-out sites"
    if reason is not None:
        return Interval(plain, nan, nan, 0, 0, reason, NEW_SITE)
    u = stats.chi2.ppf((np.arange(GRID) + 0.5) / GRID, k - 1)
    tau2 = _solve(x, e**2, u)
    centre, of_mean = _weighted(x, e**2, tau2)
    spread = np.sqrt(tau2 + of_mean)
    if spread.max() <= ROUNDING * np.abs(x).max():
        return Interval(plain, nan, nan, 0, 0, ALIKE, NEW_SITE)
    tail = (1 - level) / 2
    lo, hi = (_mixture_quantile(centre, spread, q) for q in (tail, 1 - tail))
    if bounds is not None:
        lo, hi = (float(np.clip(limit, *bounds)) for limit in (lo, hi))
    # The estimate itself is Paule and Mandel's: Q at its expectation.
    best = _solve(x, e**2, np.array([k - 1.0]))
    mean, variance = _weighted(x, e**2, best)
    return Interval(float(mean[0]), lo, hi, 0, 0, None, NEW_SITE, float(np.sqrt(variance[0])))


def mean_ranks(
    table: NDArray[Any], *, higher_is_better: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranks of methods at each site, and their mean over sites. Not a test: few sites cannot give significance.

    Args:
        table: (M, k) score of each method at each site; a site where one is NaN is not ranked.
        higher_is_better: of the score.

    Returns:
        (M, k) ranks, 1 the best, ties their mean, NaN where not ranked; (M,) mean over the ranked sites, NaN without.
    """
    scores = np.asarray(table, dtype=np.float64)
    check(scores.ndim == 2, "table must be (methods, sites)", scores.shape)
    ranks = np.full(scores.shape, np.nan)
    whole = ~np.isnan(scores).any(axis=0)
    ranks[:, whole] = stats.rankdata(-scores[:, whole] if higher_is_better else scores[:, whole], axis=0)
    mean = ranks[:, whole].mean(axis=1) if whole.any() else np.full(len(scores), np.nan)
    return ranks, mean


def _weighted(
    x: NDArray[np.float64], errors2: NDArray[np.float64], tau2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(T,) weighted mean, and its variance, at each of T values of tau^2."""
    variance = tau2[:, None] + errors2
    # Where a site is known without error and sites do not differ, it is the mean.
    weights = 1 / np.maximum(variance, 1e-300)
    total = weights.sum(1)
    return (weights * x).sum(1) / total, np.where(total >= 1e299, 0.0, 1 / total)


def _solve(x: NDArray[np.float64], errors2: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) the tau^2 at which Q is each of T values; 0 where Q(0) is below.

    Q falls with tau^2 and is convex (each term is a square over a linear function, the mean minimises), so Newton's
    steps from the left of the root stay there. Q >= sum (x - mean)^2 / (tau^2 + largest e^2) gives where to start.
    """
    tau2 = np.maximum(((x - x.mean()) ** 2).sum() / u - errors2.max(), 0.0)
    for _ in range(100):
        weights = 1 / np.maximum(tau2[:, None] + errors2, 1e-300)
        mean, _ = _weighted(x, errors2, tau2)
        squares = weights * (x - mean[:, None]) ** 2
        above = np.maximum(squares.sum(1) - u, 0.0)
        step = np.divide(above, (weights * squares).sum(1), out=np.zeros(len(u)), where=above > 1e-12 * u)
        tau2 = tau2 + step
        if not (step > 1e-12 * tau2).any():
            break
    return np.asarray(tau2)


def _mixture_quantile(centre: NDArray[np.float64], spread: NDArray[np.float64], q: float) -> float:
    """Of the equal mixture of normal distributions, by bisection."""
    z = stats.norm.ppf(min(q, 1 - q) / len(centre))  # not one of them has more than this beyond
    lo, hi = float((centre + z * spread).min()), float((centre - z * spread).max())
    scale = np.where(spread > 0, spread, 1e-300)
    for _ in range(60):
        middle = (lo + hi) / 2
        below = special.ndtr((middle - centre) / scale).mean() < q
        lo, hi = (middle, hi) if below else (lo, middle)
    return (lo + hi) / 2
