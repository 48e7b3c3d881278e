"""Limits of a share of a set (AUROC, accuracy, F1, ...): Wilson's, with as many cases as the set is worth.

Where a few patients happen to be judged all right, they are in every resample, and a bootstrap ends in a point: with 10
patients of an AUROC of 0.85 its "95 %" interval holds the truth in 80 %. A share v that is seen on n independent cases
has the variance v (1 - v) / n; so with V, the variance of v by patients, the set is worth n = v (1 - v) / V cases, and
Wilson's limits are the theta at which

    (v - theta)^2 = t^2 theta (1 - theta) / n.

The number is what `evidence.shares` uses, after Korn and Graubard (1998) and Franco et al. (2019). Two things are our
choice, and docs/explanation/intervals.md has what they hold:

- V is itself an estimate, and near 0 and 1 too small more often than not. So n is not above `most`: what the cases are
  worth where they are independent and the value is near 1 (for an AUROC by Hanley and McNeil's variance, classes
  averaged as in Newcombe 2006, Statistics in Medicine 25:559), and as many times that as the mean over models is worth
  in models: one where patients bear on all alike.
- Where no patient changes the value V cannot be seen, and n is `most` with patients in place of cases.

The degrees of freedom of t are Satterthwaite's for V as a sum over the classes of patients: two patients with hundreds
of cases between them are two, however many there are of the other class. P - 1 for accuracy, and where V is not seen.

Two of them make the limits of a difference (`difference_limits`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from elsewhere.evidence.judged import JudgedSets

Counts = NDArray[np.int64]
"""(K,) cases, or patients, of each class."""


def _all(counts: Counts) -> float:
    return float(counts.sum())


def _independent_recalls(counts: Counts) -> float:
    # The mean of K shares of v has the variance v (1 - v) sum(1 / n_k) / K^2.
    some = counts[counts > 0]
    return float(len(some) ** 2 / (1 / some).sum())


def _pairs(counts: Counts) -> float:
    # Of each class against the rest; where a class has no case there is no AUROC.
    one = counts[1:] if len(counts) == 2 else counts
    rest = counts.sum() - one
    return float(1 / np.mean((one + rest) / (4 * one * rest)))


def _positives(counts: Counts) -> float:
    # Of class 1, or of a mean over the classes that have cases; the variance of a mean is not above their mean.
    some = counts[1:] if len(counts) == 2 else counts[counts > 0]
    return float(1 / np.mean(1 / np.maximum(some, 1)))


MOST: dict[str, Callable[[Counts], float]] = {
    "accuracy": _all,
    "balanced_accuracy": _independent_recalls,
    "auroc": _pairs,
    "average_precision": _positives,
    "f1": lambda counts: 2 * _positives(counts),
}
"""Metrics that are shares, and the most independent cases that (K,) counts of the classes are worth."""


def wilson(value: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's limits of a share of n cases.

    Args:
        value: in [0, 1].
        n: independent cases, not necessarily whole.
        quantile: of the normal or t distribution, above 0.
    """
    square = quantile**2 / n
    centre = (value + square / 2) / (1 + square)
    half = np.sqrt(max(0.0, value * (1 - value)) * square + square**2 / 4) / (1 + square)
    # At 0 and 1 the bound is the value, but for rounding.
    lo = 0.0 if value == 0 else max(0.0, float(centre - half))
    hi = 1.0 if value == 1 else min(1.0, float(centre + half))
    return lo, hi


def degrees(sets: JudgedSets, name: str, influence: NDArray[np.float64] | None) -> float:
    """Degrees of freedom of the variance of a metric of `MOST` over patients.

    Args:
        sets: cases of P patients, at least two.
        name: of the metric.
        influence: (P,) of each patient, see `run_scores`; None where it is not known: that of the class with the
            fewest patients then stands for all.
    """
    if name == "accuracy":
        return sets.n_patients - 1.0
    if influence is None:
        patients = (sets.classes > 0).sum(0)
        return float(max(1, patients[patients > 0].min() - 1))
    mostly = sets.classes.argmax(1)
    parts, n = np.bincount(mostly, influence**2), np.bincount(mostly)
    return float(parts.sum() ** 2 / (parts**2 / np.maximum(n - 1, 1)).sum()) if parts.any() else sets.n_patients - 1.0


def worth_in_models(influence: NDArray[np.float64]) -> float:
    """The mean variance of the S models' scores over the variance of their mean, by patients: from 1 to S.

    Args:
        influence: (S, P), see `run_scores`.
    """
    together = influence.mean(0)
    variance = float(together @ together)
    return float((influence**2).sum()) / len(influence) / variance if variance > 0 else 1.0


def share_limits(
    sets: JudgedSets, name: str, value: float, variance: float, df: float, level: float, models: float = 1.0
) -> tuple[float, float]:
    """Limits of a metric of `MOST`.

    Args:
        sets: cases of at least two patients.
        name: of the metric.
        value: mean over models.
        variance: of that by patients, 0 where no patient changes it.
        df: of the variance.
        level: in (0, 1).
        models: of `worth_in_models`.
    """
    spread = value * (1 - value)
    seen = variance > 1e-12 * spread and spread > 0
    counts = sets.classes.sum(0) if seen else (sets.classes > 0).sum(0)
    most = MOST[name](counts)
    n = min(most * min(models, len(sets.models)), spread / variance) if seen else most
    return wilson(value, n, float(-special.stdtrit(df if seen else sets.n_patients - 1, (1 - level) / 2)))


def difference_limits(
    values: tuple[float, float],
    limits: tuple[tuple[float, float], tuple[float, float]],
    influence: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[float, float]:
    """Limits of the first share minus the second, of the same patients.

    The distances of the limits from the values stand for two standard errors that are correlated as the values are
    (MOVER; Zou and Donner 2008, Statistics in Medicine 27:1693; for proportions Newcombe 1998, Statistics in Medicine
    17:2635).

    Args:
        values: of the two.
        limits: of each by itself.
        influence: (P,) of each patient on each, `run_scores`; nobody's is no correlation.
    """
    one, two = influence
    both = float(np.sqrt((one @ one) * (two @ two)))
    r = float(np.clip(one @ two / both, -1, 1)) if both > 0 else 0.0
    (a, b), ((a_lo, a_hi), (b_lo, b_hi)) = values, limits

    def together(x: float, y: float) -> float:
        return float(np.sqrt(max(0.0, x * x - 2 * r * x * y + y * y)))

    return a - b - together(a - a_lo, b_hi - b), a - b + together(a_hi - a, b - b_lo)
