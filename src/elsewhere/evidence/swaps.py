"""What a patient adds to the difference of two methods in a metric of a set, when the two may be swapped.

Accuracy, balanced accuracy and Brier score are sums over cases. AUROC is not, but its difference is: it is a mean over
pairs of a positive and a negative case, and among the four ways to swap a pair only the parts that turn with one of the
two signs are left when both methods' AUROCs are subtracted. A positive case i adds

    [F(a_i) - F(b_i)] / 2 / (positives x negatives),

F(x) the negatives below x, those of both methods together, ties half; a negative case likewise. So a sum of signs
times parts is exact, and as quick as for a mean.

Metrics that rank compare cases by ranks within each model: the scores of two models have no common scale, and a set of
some cases of one and some of the other could not be ranked (Venkatraman and Begg 1996, Biometrika 83:835; for the area
Bandos et al. 2005, Statistics in Medicine 24:2873). A model's own metric is the same of ranks and scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from elsewhere.evidence.judged import JudgedSets, Part

Array = NDArray[np.float64]

RANKING = ("auroc", "average_precision")
"""Metrics that see only the order of the scores."""

PartsOfCases = Callable[[Array, Array, NDArray[np.int64]], Array]
"""Maps both methods' probabilities (n, K) and the target to (n,) parts of the difference of the metric."""


def contributions(method: JudgedSets, base: JudgedSets, part: PartsOfCases) -> Array:
    """(P,) what each patient adds to the difference, mean over models; both methods judged the same cases.

    Of a model that is several networks each is taken by itself, its cases as weight, as the metric is.
    """
    total = np.zeros(method.n_patients)
    for mine, theirs in zip(method.models, base.models, strict=True):
        each = [(part(a, b, y), own) for (a, y, own), (b, _, _) in zip(mine, theirs, strict=True)]
        defined = [(found, own) for found, own in each if not np.isnan(found).any()]
        n = sum(len(own) for _, own in defined)
        if not n:
            return np.full(len(total), np.nan)
        for found, own in defined:
            total += np.bincount(own, found * len(own) / n, len(total))
    return total / len(method.models)


def accuracy(a: Array, b: Array, y: NDArray[np.int64]) -> Array:
    """Of the share of right labels."""
    return _rights(a, b, y) / max(len(y), 1)


def balanced_accuracy(a: Array, b: Array, y: NDArray[np.int64]) -> Array:
    """Of the mean recall over the classes that have cases."""
    counts = np.bincount(y, minlength=a.shape[1])
    return _rights(a, b, y) / np.maximum(counts[y], 1) / max(int((counts > 0).sum()), 1)


def brier(a: Array, b: Array, y: NDArray[np.int64]) -> Array:
    """Of the mean squared error of the probabilities."""
    truth = np.eye(a.shape[1])[y]
    error = (a - truth) ** 2 - (b - truth) ** 2
    return (error[:, 1] if a.shape[1] == 2 else error.sum(1)) / max(len(y), 1)


def auroc(a: Array, b: Array, y: NDArray[np.int64]) -> Array:
    """Of the area under the ROC curve; NaN where a class has no case, or all."""
    classes = [1] if a.shape[1] == 2 else range(a.shape[1])
    each = [_auroc_one(stats.rankdata(a[:, k]), stats.rankdata(b[:, k]), y == k) for k in classes]
    return np.asarray(np.mean(each, axis=0))


SUMS: dict[str, PartsOfCases] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "brier": brier,
    "auroc": auroc,
}
"""Metrics whose difference is a sum over cases."""


def ranked(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """A model's cases with ranks in place of probabilities."""
    return tuple((stats.rankdata(p, axis=0), y, own) for p, y, own in parts)


def side_by_side(method: JudgedSets, base: JudgedSets, *, by_rank: bool) -> Callable[[Array], Array]:
    """The difference of any metric, mean over models, as a function of who stays and who is swapped.

    Args:
        method, base: of the same cases.
        by_rank: compare ranks within a model in place of probabilities.

    Returns:
        a function that maps (R, P), 1 where a patient stays and 0 where the two are swapped, to (R,).
    """
    n = method.n_patients
    joined = []
    for mine, theirs in zip(method.models, base.models, strict=True):
        pair = (ranked(mine), ranked(theirs)) if by_rank else (mine, theirs)
        joined.append(
            tuple(
                (np.concatenate([a, b]), np.concatenate([y, y]), np.concatenate([own, own + n]))
                for (a, y, own), (b, _, _) in zip(*pair, strict=True)
            )
        )
    both = JudgedSets(tuple(joined), (*method.names, *base.names), np.tile(method.classes, (2, 1)), method.metric)

    def difference(stays: Array) -> Array:
        weights = np.concatenate([stays, 1 - stays], axis=1)
        return np.asarray((both.scores(weights) - both.scores(1 - weights)).mean(axis=0))

    return difference


def _rights(a: Array, b: Array, y: NDArray[np.int64]) -> Array:
    return np.asarray((a.argmax(1) == y).astype(np.float64) - (b.argmax(1) == y))


def _auroc_one(a: Array, b: Array, positive: NDArray[np.bool_]) -> Array:
    n = int(positive.sum()) * int((~positive).sum())
    if n == 0:
        return np.full(len(a), np.nan)

    def below(x: Array, others: NDArray[np.bool_]) -> Array:
        pooled = np.sort(np.concatenate([a[others], b[others]]))
        return (np.searchsorted(pooled, x, "left") + np.searchsorted(pooled, x, "right")) / 2

    parts = np.where(positive, below(a, ~positive) - below(b, ~positive), below(b, positive) - below(a, positive))
    return np.asarray(parts / 2 / n)
