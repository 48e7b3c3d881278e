"""Metrics of a classification, over a set of cases, each weighted so that a bootstrap is one matrix of weights.

K classes, probabilities p (N, K), the label is the most probable class (the first on a tie). Every metric takes
weights (R, N), one row a resample (how often each case is in it), and returns R values; the metric itself is the row
of ones.

| metric | two classes | more | NaN where |
|---|---|---|---|
| `accuracy` | share of right labels | the same | no case |
| `balanced_accuracy` | mean recall over the classes that have cases | the same | no case |
| `auroc` | of class 1 | mean over classes, one against the rest | a class has no case, or all |
| `average_precision` | of class 1 | mean over classes, one against the rest | a class has no case, or all |
| `f1` | of class 1 | mean over the classes that occur in truth or labels | no case; two classes: class 1 in neither |
| `brier` | mean (p1 - y)^2 | mean over cases of the sum over classes of (p - y)^2 | no case |
| `ece` | 15 equal bins of the label's probability (Guo et al. 2017) | the same | no case |

These are scikit-learn's definitions (`roc_auc_score`, `average_precision_score`, `f1_score`, `brier_score_loss`) where
it has one and they are defined; ties in the score count half in `auroc` and share a threshold in `average_precision`.
With one class only, `average_precision` would be 1 for any model: NaN (our choice). `balanced_accuracy` of a site with
one class only is the recall of that class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Metric = Callable[[Array, NDArray[np.int64], Array], Array]

ECE_BINS = 15


def score_classification(probabilities: NDArray[Any], target: NDArray[Any]) -> dict[str, float]:
    """All metrics of a set of cases.

    Args:
        probabilities: (N, K), K >= 2; rows add up to 1.
        target: (N,) class indices in [0, K).

    Returns:
        value of each metric, see the table above; NaN where undefined.

    Raises:
        ValueError: the shapes do not fit, or a class is out of range.
    """
    p, y = checked(probabilities, target)
    ones = np.ones((1, len(y)))
    return {name: float(metric(p, y, ones)[0]) for name, metric in METRICS.items()}


def score_classes(probabilities: NDArray[Any], target: NDArray[Any]) -> dict[tuple[int, str], float]:
    """`auroc`, `average_precision`, `f1` and `accuracy` (here: recall) of each class against the rest.

    Args:
        probabilities: (N, K).
        target: (N,) class indices in [0, K).

    Returns:
        value of (class, metric); NaN where the class has no case, or all cases.
    """
    p, y = checked(probabilities, target)
    ones = np.ones((1, len(y)))
    counts = _confusion(p, y, ones)[0]
    scores: dict[tuple[int, str], float] = {}
    for index in range(p.shape[1]):
        scores[index, "auroc"] = float(_auroc_one(p[:, index], y == index, ones)[0])
        scores[index, "average_precision"] = float(_precision_one(p[:, index], y == index, ones)[0])
        scores[index, "f1"] = float(_f1_each(counts[None])[0, index])
        scores[index, "accuracy"] = float(_ratio(counts[index, index], counts[index].sum()))
    return scores


def checked(probabilities: NDArray[Any], target: NDArray[Any]) -> tuple[Array, NDArray[np.int64]]:
    """(N, K) float64 and (N,) int64, or a ValueError."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(target).astype(np.int64)
    if p.ndim != 2 or p.shape[1] < 2 or y.shape != p.shape[:1]:
        raise ValueError(f"probabilities must be (N, K), K >= 2, and target (N,); found {p.shape} and {y.shape}")
    if y.size and not (y.min() >= 0 and y.max() < p.shape[1]):
        raise ValueError(f"target has values {y.min()} to {y.max()}, classes are 0 to {p.shape[1] - 1}")
    return p, y


def calibration_bins(
    confidence: NDArray[Any], correct: NDArray[Any], weights: NDArray[Any] | None = None, n_bins: int = ECE_BINS
) -> NDArray[np.float64]:
    """Sums by bin of confidence, bins ((i - 1) / n, i / n]; from these follow ECE and a reliability diagram.

    Args:
        confidence: (N,) probability of the label.
        correct: (N,) whether the label is right.
        weights: (R, N); None for a row of ones.
        n_bins: of equal width.

    Returns:
        (R, 3, n_bins): cases, sum of confidence, right labels.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    rows = np.ones((1, len(confidence))) if weights is None else np.asarray(weights, dtype=np.float64)
    index = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    member = np.zeros((len(confidence), n_bins))
    member[np.arange(len(confidence)), index] = 1
    parts = [member, member * confidence[:, None], member * np.asarray(correct, dtype=np.float64)[:, None]]
    return np.stack([rows @ part for part in parts], axis=1)


def accuracy(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Share of right labels."""
    return _ratio(weights @ (p.argmax(1) == y), weights.sum(1))


def balanced_accuracy(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Mean recall over the classes that have cases."""
    counts = _confusion(p, y, weights)
    recalls = _ratio(np.diagonal(counts, axis1=1, axis2=2), counts.sum(2))
    return _mean_defined(recalls)


def auroc(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Area under the ROC curve: of class 1, or the mean over classes against the rest."""
    return _one_against_rest(_auroc_one, p, y, weights)


def average_precision(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Sum over thresholds of the step in recall x precision: of class 1, or the mean over classes."""
    return _one_against_rest(_precision_one, p, y, weights)


def f1(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """F1 of class 1, or the mean over the classes that occur."""
    each = _f1_each(_confusion(p, y, weights))
    return each[:, 1] if p.shape[1] == 2 else _mean_defined(each)


def brier(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Mean squared error of the probabilities."""
    error = (p - np.eye(p.shape[1])[y]) ** 2
    return _ratio(weights @ (error[:, 1] if p.shape[1] == 2 else error.sum(1)), weights.sum(1))


def ece(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """Expected calibration error of the label's probability."""
    sums = calibration_bins(p.max(1), p.argmax(1) == y, weights)
    return _ratio(np.abs(sums[:, 1] - sums[:, 2]).sum(1), sums[:, 0].sum(1))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auroc": auroc,
    "average_precision": average_precision,
    "f1": f1,
    "brier": brier,
    "ece": ece,
}
HIGHER_IS_BETTER = {name: name not in ("brier", "ece") for name in METRICS}


def _ratio(a: Any, b: Any) -> Array:
    """a / b, NaN where b is 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    out: Array = np.full(np.broadcast_shapes(a.shape, b.shape), np.nan)
    np.divide(a, b, out=out, where=b != 0)
    return out


def _mean_defined(values: Array) -> Array:
    """(R, K) to (R,), the mean of what is not NaN."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(1), defined.sum(1))


def _confusion(p: Array, y: NDArray[np.int64], weights: Array) -> Array:
    """(R, K, K) cases by true class (rows) and label."""
    k = p.shape[1]
    joint = np.eye(k * k)[y * k + p.argmax(1)]
    counts: Array = (weights @ joint).reshape(len(weights), k, k)
    return counts


def _f1_each(counts: Array) -> Array:
    """(R, K) F1 of each class; NaN for a class in neither truth nor labels."""
    return _ratio(2 * np.diagonal(counts, axis1=1, axis2=2), counts.sum(1) + counts.sum(2))


def _one_against_rest(
    one: Callable[[Array, NDArray[np.bool_], Array], Array], p: Array, y: NDArray[np.int64], weights: Array
) -> Array:
    if p.shape[1] == 2:
        return one(p[:, 1], y == 1, weights)
    each = [one(p[:, index], y == index, weights) for index in range(p.shape[1])]
    return np.asarray(np.mean(each, axis=0))


def _thresholds(score: Array, positive: NDArray[np.bool_], weights: Array) -> tuple[Array, Array]:
    """(R, T) positive and negative cases at each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    if not len(order):
        return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    sorted_weights = weights.take(order, axis=1)
    hits = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
    return hits, np.add.reduceat(sorted_weights, starts, axis=1) - hits


def _auroc_one(score: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """P(score of a positive > of a negative) + half of P(equal)."""
    hits, misses = _thresholds(score, positive, weights)
    above = hits.cumsum(1) - hits / 2
    return _ratio((misses * above).sum(1), hits.sum(1) * misses.sum(1))


def _precision_one(score: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    hits, misses = _thresholds(score, positive, weights)
    found, false = hits.cumsum(1), misses.cumsum(1)
    precision = np.divide(found, found + false, out=np.zeros_like(found), where=found + false > 0)
    value = _ratio((hits * precision).sum(1), hits.sum(1))
    return np.where(misses.sum(1) > 0, value, np.nan)
