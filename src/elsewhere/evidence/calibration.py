"""Calibration: of the cases that a model calls 80 % sure, are 80 % right?

Everything starts from sums by bin of confidence, (N, 3, B): for each case how many of its answers fall into each of B
bins, the sum of their confidence, and how many are right. A case of a classification is one answer; a case of a
segmentation is all its voxels, which by default weigh 1 together, as the case does in a mean over cases (our choice).
A leading axis (S, N, 3, B) holds S models on the same cases; a case that is none of a model's own is all zero there.

With d_b the mean confidence minus the share of right answers in bin b, and w_b the bin's share of the answers,

- plain ECE is sum w_b |d_b| (Guo et al. 2017). It is never 0: chance alone makes |d_b| positive, the more the fewer
  patients, so that a small site looks worse calibrated than a large one.
- The squared error without that bias is sum w_b (d_b^2 - v_b), v_b the variance of d_b (Kumar et al. 2019, Sec. 5,
  where answers are independent and v_b = accuracy (1 - accuracy) / (n - 1)). Here v_b is that of a ratio of sums over
  patients, since the voxels or cases of one patient are not independent; with one case a patient, and one value of
  confidence in a bin, it is theirs. A bin of one patient shows nothing but itself: v_b = d_b^2.
- Debiased ECE takes from each |d_b| what chance adds to a miscalibration of the size that the site shows. |d_b| is
  folded normal; were its true value m, its mean would be too large by folded(m, sqrt v_b) - m. For m stands the root
  mean square miscalibration over the bins, the root of the squared error above, or 0 where that is negative (our form;
  Kumar et al. put |d_b| itself for m, which removes about 40 % of the bias of a calibrated model; this removes two
  thirds to three quarters). It may fall below 0: read that as 0. No estimate of an absolute value is unbiased at 0;
  docs/explanation/calibration.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from elsewhere.evidence.checks import check
from elsewhere.evidence.intervals import Interval, drawn_weights, percentile_levels
from elsewhere.evidence.judged import Patients, owners
from elsewhere.evidence.run_scores import UNDEFINED_AT_MOST
from elsewhere.evidence.shares import share
from elsewhere.tasks.classification_metrics import ECE_BINS, checked

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """A reliability curve, all (B,) but the edges.

    Attributes:
        edges: (B + 1,) of the bins, from 0 to 1.
        weight: share of the answers.
        confidence: mean; NaN in an empty bin, as all below.
        right: share of right answers.
        lo, hi: of `right`, patients resampled in effect (`evidence.shares`); NaN with fewer than two patients.
        n_patients: with any answer in the bin.
    """

    edges: Array
    weight: Array
    confidence: Array
    right: Array
    lo: Array
    hi: Array
    n_patients: NDArray[np.int64]


def label_bins(probabilities: NDArray[Any], target: NDArray[Any], n_bins: int = ECE_BINS) -> Array:
    """Sums by bin of the label's probability, of a classification.

    Args:
        probabilities: (N, K) or (S, N, K); a row with a NaN is none of its model's own.
        target: (N,) class indices.
        n_bins: of equal width; bin i holds (i, i + 1] / n_bins.

    Returns:
        (N, 3, n_bins) or (S, N, 3, n_bins).

    Raises:
        ValueError: probabilities and target do not fit.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim == 3:
        return np.stack([label_bins(model, target, n_bins) for model in p])
    p, y = checked(p, target)
    return score_bins(p.max(axis=1), p.argmax(axis=1) == y, n_bins)


def score_bins(score: NDArray[Any], happened: NDArray[Any], n_bins: int = ECE_BINS) -> Array:
    """Sums by bin of any probability, such as that of one class, and whether what it is of happened.

    Args:
        score: (N,) in [0, 1]; NaN for a case that does not count.
        happened: (N,) bool.
        n_bins: of equal width; bin i holds (i, i + 1] / n_bins, the first also 0.

    Returns:
        (N, 3, n_bins).
    """
    values = np.asarray(score, dtype=np.float64)
    known = ~np.isnan(values)
    values = np.where(known, values, 0.0)
    index = np.clip(np.ceil(values * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    sums = np.zeros((len(values), 3, n_bins))
    rows = np.arange(len(values))
    for part, what in enumerate((np.ones(len(values)), values, np.asarray(happened, dtype=np.float64))):
        sums[rows, part, index] = np.where(known, what, 0.0)
    return sums


def voxel_bins(
    count: Sequence[Any] | NDArray[Any],
    confidence: Sequence[Any] | NDArray[Any],
    right: Sequence[Any] | NDArray[Any],
    *,
    alike: bool = True,
) -> Array:
    """Sums by bin of a segmentation, from the columns `bin_*` or `scaled_*` of `predictions.parquet`.

    Args:
        count: N rows of B numbers, voxels.
        confidence: likewise, sum of confidence.
        right: likewise, voxels whose label is right.
        alike: every case weighs 1; False: as many as it has voxels.

    Returns:
        (N, 3, B).
    """
    parts = [np.stack([np.asarray(row, dtype=np.float64) for row in part]) for part in (count, confidence, right)]
    return _weighed(np.stack(parts, axis=1), alike)


def foreground_bins(foreground_true: NDArray[Any], foreground_false: NDArray[Any], *, alike: bool = True) -> Array:
    """Sums by bin of P(not background) of a segmentation, from the columns of that name.

    Args:
        foreground_true: (N, B) voxels that are foreground, by P(not background) in B equal bins.
        foreground_false: (N, B) voxels that are background.
        alike: every case weighs 1; False: as many as it has voxels.

    Returns:
        (N, 3, B); a voxel's probability is taken for the middle of its bin (B = 100: wrong by 0.005 at most).
    """
    true, false = (np.asarray(part, dtype=np.float64) for part in (foreground_true, foreground_false))
    count = true + false
    return _weighed(np.stack([count, count * middles(true.shape[-1]), true], axis=1), alike)


def foreground_brier(foreground_true: NDArray[Any], foreground_false: NDArray[Any]) -> Array:
    """Brier score of P(not background) over the voxels of each case; its interval is `patient_interval`'s.

    Args:
        foreground_true: (N, B) voxels that are foreground, by P(not background) in B equal bins.
        foreground_false: (N, B) voxels that are background.

    Returns:
        (N,); NaN for a case without voxels. Of bin middles: with 100 bins wrong by 0.005 at most.
    """
    true, false = (np.asarray(part, dtype=np.float64) for part in (foreground_true, foreground_false))
    p = middles(true.shape[-1])
    size = (true + false).sum(axis=-1)
    error = true @ (1 - p) ** 2 + false @ p**2
    return np.asarray(np.divide(error, size, out=np.full(size.shape, np.nan), where=size > 0))


def middles(n_bins: int) -> Array:
    """(n_bins,) middles of equal bins over 0 to 1."""
    return (np.arange(n_bins) + 0.5) / n_bins


def reliability(bins: Array, patients: Patients, level: float = 0.95) -> Reliability:
    """The curve of right answers against confidence; several models' answers are pooled.

    Args:
        bins: (N, 3, B) or (S, N, 3, B).
        patients: (N,) who each case is of.
        level: of the intervals of `right`.
    """
    pooled = _models(bins).sum(axis=0)
    n_bins = pooled.shape[-1]
    count, confidence, right = pooled.sum(axis=0)
    found = [share(pooled[:, 2, b], pooled[:, 0, b], patients) for b in range(n_bins)]
    intervals = [one.interval(level) for one in found]
    return Reliability(
        edges=np.linspace(0, 1, n_bins + 1),
        weight=_ratio(count, count.sum()),
        confidence=_ratio(confidence, count),
        right=_ratio(right, count),
        lo=np.array([one.lo for one in intervals]),
        hi=np.array([one.hi for one in intervals]),
        n_patients=np.array([one.n_patients for one in found]),
    )


@dataclass(frozen=True)
class CalibrationError:
    """Errors of R resamples, each (R,).

    Attributes:
        plain: sum w |d|.
        debiased: the same without what chance adds.
        squared: sum w (d^2 - v), without it too.
    """

    plain: Array
    debiased: Array
    squared: Array


def calibration_error(by_patient: Array, weights: Array | None = None) -> CalibrationError:
    """The three errors above, of sums by patient.

    Args:
        by_patient: (P, 3, B) sums over each patient's cases.
        weights: (R, P), how often each patient is in each resample; None for a row of ones.
    """
    w = np.ones((1, len(by_patient))) if weights is None else weights
    n, error = by_patient[:, 0], by_patient[:, 1] - by_patient[:, 2]
    size, total = w @ n, w @ error
    d = _ratio(total, size)
    d[size == 0] = 0
    there = w @ (n > 0)  # draws of a patient twice are two patients, as in every bootstrap
    squares = w @ error**2 - 2 * d * (w @ (error * n)) + d**2 * (w @ n**2)
    of_ratio = _ratio(np.maximum(squares, 0), size**2) * _ratio(there, there - 1)
    v = np.where(there > 1, of_ratio, d**2)
    share_of = _ratio(size, size.sum(axis=1, keepdims=True))
    plain = (share_of * np.abs(d)).sum(axis=1)
    squared = (share_of * (d**2 - np.where(size > 0, v, 0))).sum(axis=1)
    typical = np.sqrt(np.maximum(squared, 0))[:, None]
    by_chance = np.where(size > 0, folded_normal_mean(typical, np.sqrt(v)) - typical, 0)
    return CalibrationError(plain, plain - (share_of * by_chance).sum(axis=1), squared)


def folded_normal_mean(mean: Any, deviation: Any) -> Array:
    """E|X| of a normal X."""
    m, s = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(deviation, dtype=np.float64))
    z = np.divide(m, s, out=np.full(m.shape, np.inf), where=s > 0)
    spread = s * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2)
    return np.asarray(np.where(s > 0, spread + m * (1 - 2 * ndtr(-z)), np.abs(m)))


def debiased_ece(
    bins: Array,
    patients: Patients,
    *,
    norm: Literal[1, 2] = 1,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Expected calibration error without what chance adds, and its interval; the mean over models.

    Resampling adds its own chance to the sample's, so that resamples look worse calibrated than the site. From the
    expanded percentiles of their debiased errors (`evidence.intervals`) the lower bound is moved down by twice the
    distance of their mean from the value, once for what resampling adds and once for what the value itself may have
    kept; the upper one stays. Neither falls below 0. So it is wide rather than short (our choice; see the table in
    docs/explanation/calibration.md). It is about the error of the bins, which is at most that of the exact confidences
    (Kumar et al. 2019, Sec. 3).

    Args:
        bins: (N, 3, B) or (S, N, 3, B).
        patients: (N,) who each case is of.
        norm: 1 for ECE; 2 for the root of the squared error, 0 where that is negative.
        n_boot: resamples.
        level: in (0, 1).
        seed: of the resamples.

    Raises:
        SettingsError: shapes, norm, level or number of resamples make no sense.
    """
    check(norm in (1, 2), "norm must be 1 or 2", norm)
    check(0 < level < 1, "level must be between 0 and 1", level)
    check(n_boot >= 1, "n_boot must be at least 1", n_boot)
    models = _models(bins)
    nan = float("nan")
    seen = (models[:, :, 0] > 0).any(axis=(0, 2))
    _, everybody = owners(patients, models.shape[1])
    names, owner = owners(everybody[seen], int(seen.sum()))
    n_patients = len(names)
    by_patient = np.zeros((len(models), n_patients, *models.shape[2:]))
    for model, sums in zip(by_patient, models[:, seen], strict=True):
        np.add.at(model, owner, sums)
    by_patient = by_patient[by_patient[:, :, 0].sum(axis=(1, 2)) > 0]
    if not len(by_patient):
        return Interval(nan, nan, nan, 0, 0, "no case")

    def score(weights: Array | None) -> Array:
        errors = [calibration_error(model, weights) for model in by_patient]
        each = [one.debiased if norm == 1 else np.sqrt(np.maximum(one.squared, 0)) for one in errors]
        return np.asarray(np.mean(each, axis=0))

    value, n_cases = float(score(None)[0]), len(owner)
    if n_patients < 2:
        return Interval(value, nan, nan, n_cases, n_patients, "one patient: nothing to resample")
    (weights,) = drawn_weights(n_patients, n_boot, seed, n_boot)
    scores = score(weights)
    undefined = np.isnan(scores)  # a model that judged nobody who was drawn: home patients differ from seed to seed
    if undefined.mean() > UNDEFINED_AT_MOST:
        reason = f"undefined in {100 * undefined.mean():.0f} % of the resamples"
        return Interval(value, nan, nan, n_cases, n_patients, reason)
    scores = scores[~undefined]
    lo, hi = np.quantile(scores, percentile_levels(level, n_patients, "expanded"))
    lo -= 2 * max(float(scores.mean()) - value, 0)
    return Interval(value, max(float(lo), 0.0), max(float(hi), 0.0), n_cases, n_patients)


def _models(bins: Array) -> Array:
    """(S, N, 3, B)."""
    table = np.asarray(bins, dtype=np.float64)
    table = table[None] if table.ndim == 3 else table
    check(table.ndim == 4 and table.shape[2] == 3, "bins must be (cases, 3, B) or (models, cases, 3, B)", table.shape)
    return table


def _weighed(sums: Array, alike: bool) -> Array:
    if not alike:
        return sums
    size = sums[:, :1].sum(axis=2, keepdims=True)
    return _ratio(sums, np.where(size > 0, size, 1))


def _ratio(a: Any, b: Any) -> Array:
    """a / b, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0))
