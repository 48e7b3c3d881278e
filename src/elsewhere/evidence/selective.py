"""Selective prediction: is a model better on the cases of which it is surest, and does a score find its errors?

- Risk against coverage (El-Yaniv and Wiener 2010): the mean risk (1 - Dice, or 0 and 1 for right and wrong) of the
  share of cases with the highest confidence. The area under it (AURC, Geifman et al. 2019) is a mean risk too: that of
  a model that leaves the rest to a person, averaged over how much it leaves. It stands between the area of a perfect
  order and that of a random one, which is the mean risk; `gain` says where.
- AUROC of errors: the probability that a score ("unlike the development data", or minus confidence) is higher for a
  case that the model gets wrong than for one it gets right. For segmentation wrong is a Dice below a bound that the
  caller states; the rank correlation with Dice needs no bound.

Cases with equal confidence come in no order: each gets the mean risk of those it is tied with, which is what a random
order among them gives on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check
from elsewhere.evidence.intervals import Interval, resampled
from elsewhere.evidence.judged import Patients, owners
from elsewhere.tasks.classification_metrics import METRICS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Risk against coverage.

    Attributes:
        coverage: (N,) k / N, rising to 1.
        risk: (N,) mean risk of the k surest cases.
        area: mean of `risk`; NaN without a case, like the others.
        area_of_random: the mean risk of all cases.
        area_of_perfect: of cases ordered by their risk.
    """

    coverage: Array
    risk: Array
    area: float
    area_of_random: float
    area_of_perfect: float

    @property
    def gain(self) -> float:
        """1 for a perfect order, 0 for a random one, below 0 for a misleading one; NaN where all risks are equal."""
        room = self.area_of_random - self.area_of_perfect
        return (self.area_of_random - self.area) / room if room > 1e-12 else float("nan")


def risk_coverage(confidence: NDArray[Any], risk: NDArray[Any]) -> Curve:
    """The curve of one model.

    Args:
        confidence: (N,) higher is surer; a case with NaN in either is left out.
        risk: (N,) of each case, higher is worse.

    Raises:
        SettingsError: the shapes differ.
    """
    sure, cost = np.asarray(confidence, dtype=np.float64), np.asarray(risk, dtype=np.float64)
    check(sure.ndim == 1 and sure.shape == cost.shape, f"risk must be of shape {sure.shape}", cost.shape)
    known = ~(np.isnan(sure) | np.isnan(cost))
    sure, cost = sure[known], cost[known]
    n = len(cost)
    if not n:
        nan = float("nan")
        return Curve(np.zeros(0), np.zeros(0), nan, nan, nan)
    _, block = np.unique(-sure, return_inverse=True)
    of_block = np.bincount(block, cost) / np.bincount(block)
    coverage, kept = np.arange(1, n + 1) / n, np.arange(1, n + 1)
    selected = np.sort(block)
    curve = np.cumsum(of_block[selected]) / kept
    perfect = np.cumsum(np.sort(cost)) / kept
    return Curve(coverage, curve, float(curve.mean()), float(cost.mean()), float(perfect.mean()))


def mean_curve(curves: Sequence[Curve], points: int = 100) -> Curve:
    """The mean over models, at `points` equal steps of coverage; models without cases are left out.

    Args:
        curves: of each model.
        points: of the result.
    """
    some = [curve for curve in curves if len(curve.risk)]
    if not some:
        return risk_coverage(np.zeros(0), np.zeros(0))
    grid = np.arange(1, points + 1) / points
    risk = np.mean([np.interp(grid, curve.coverage, curve.risk) for curve in some], axis=0)
    areas = [float(np.mean([getattr(c, a) for c in some])) for a in ("area", "area_of_random", "area_of_perfect")]
    return Curve(grid, risk, *areas)


def error_auroc(
    score: NDArray[Any],
    wrong: NDArray[Any],
    patients: Patients | None = None,
    *,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How well a score tells the cases that a model gets wrong from those it gets right.

    Args:
        score: (N,) or (S, N), S models; higher should mean wrong. NaN for a case that is none of a model's own.
        wrong: likewise, bool.
        patients: (N,) who each case is of; None for a patient a case.
        n_boot: resamples.
        level: in (0, 1).
        seed: of the resamples.

    Returns:
        the mean over the models that have both wrong and right cases, ties counting half; without an interval where
        that is rare among the resamples.

    Raises:
        SettingsError: shapes, level or number of resamples make no sense.
    """

    def one(values: Array, target: NDArray[Any], weights: Array) -> Array:
        p = np.stack([-values, values], axis=1)
        return np.asarray(METRICS["auroc"](p, np.asarray(target, dtype=bool).astype(np.int64), weights))

    return _over_models(one, score, wrong, patients, n_boot, level, seed)


def rank_correlation(
    score: NDArray[Any],
    quality: NDArray[Any],
    patients: Patients | None = None,
    *,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Spearman's correlation of a score with a quality such as Dice.

    Args:
        score: (N,) or (S, N), S models; NaN for a case that is none of a model's own.
        quality: likewise.
        patients: (N,) who each case is of; None for a patient a case.
        n_boot: resamples.
        level: in (0, 1).
        seed: of the resamples.

    Returns:
        the mean over the models for which it is defined: neither score nor quality all equal.

    Raises:
        SettingsError: shapes, level or number of resamples make no sense.
    """

    def one(values: Array, target: Array, weights: Array) -> Array:
        a, b = _ranks(values, weights), _ranks(target, weights)
        size = weights.sum(axis=1, keepdims=True)
        a = a - np.divide((weights * a).sum(1, keepdims=True), size, out=np.zeros_like(size), where=size > 0)
        b = b - np.divide((weights * b).sum(1, keepdims=True), size, out=np.zeros_like(size), where=size > 0)
        spread = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
        # Ranks are whole or half numbers: what is below this is rounding.
        there = spread > 1e-9
        found = np.divide((weights * a * b).sum(1), spread, out=np.full(len(weights), np.nan), where=there)
        return np.asarray(found)

    return _over_models(one, score, quality, patients, n_boot, level, seed)


def _over_models(
    one: Any,
    score: NDArray[Any],
    other: NDArray[Any],
    patients: Patients | None,
    n_boot: int,
    level: float,
    seed: int,
) -> Interval:
    """`one` maps (N,), (N,) and weights (R, N) to (R,); its mean over the models for which it is defined."""
    values = np.atleast_2d(np.asarray(score, dtype=np.float64))
    others = np.atleast_2d(np.asarray(other, dtype=np.float64))
    check(values.shape == others.shape and values.ndim == 2, f"both must be of shape {values.shape}", others.shape)
    known = ~(np.isnan(values) | np.isnan(others))
    seen = known.any(axis=0)
    _, everybody = owners(range(values.shape[1]) if patients is None else patients, values.shape[1])
    names, owner = owners(everybody[seen], int(seen.sum()))
    table = zip(values[:, seen], others[:, seen], known[:, seen], strict=True)
    models = [(v[own], o[own], owner[own]) for v, o, own in table if own.any()]

    def mean(weights: Array) -> Array:
        each = np.stack([one(v, o, weights.take(who, axis=1)) for v, o, who in models])
        defined = ~np.isnan(each)
        total = np.where(defined, each, 0).sum(axis=0)
        return np.asarray(np.divide(total, defined.sum(0), out=np.full(len(weights), np.nan), where=defined.any(0)))

    return resampled(mean, len(owner), len(names), len(owner), n_boot, level, seed, "expanded")


def _ranks(values: Array, weights: Array) -> Array:
    """(R, N) mean rank of each case in each resample, in which a case occurs `weights` times."""
    _, block = np.unique(values, return_inverse=True)
    order = np.argsort(block, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(block[order]) != 0])
    size = np.add.reduceat(weights.take(order, axis=1), starts, axis=1)
    middle = np.cumsum(size, axis=1) - size / 2
    return np.asarray(middle.take(block, axis=1))
