"""Stability re-derived slowly in NumPy and SciPy, from the definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Array = NDArray[Any]


def alikeness(one: Array, other: Array, inside: Array) -> float:
    """Mean correlation over channels of (F, *spatial) features over the voxels of the body; no channel is constant."""
    pairs = zip(one, other, strict=True)
    return float(np.mean([np.corrcoef(a[inside], b[inside])[0, 1] for a, b in pairs]))


def correspondence(one: Array, other: Array, places: Array, spacing: tuple[float, ...], tolerance: float) -> float:
    """Voxel by voxel; (F, M) features of voxels at (M, D) places."""
    hits = 0
    for i, here in enumerate(places):
        likeness = []
        for j in range(len(places)):
            a, b = one[:, i], other[:, j]
            cosine = a @ b / np.sqrt((a @ a) * (b @ b))
            likeness.append(cosine if len(a) > 1 else -abs(a[0] - b[0]))
        apart = (places[int(np.argmax(likeness))] - here) * np.array(spacing)
        hits += int(np.sqrt(np.sum(apart**2)) <= tolerance)
    return hits / len(places)


def windows(
    one: Array,
    other: Array,
    first: tuple[int, ...],
    second: tuple[int, ...],
    inside: Array,
    spacing: tuple[float, ...],
    tolerance: float,
) -> tuple[float, float]:
    """Alikeness and correspondence over all voxels of the body that two windows of a case share, voxel by voxel.

    (F, *size) features of windows that begin at the voxels `first` and `second` of the case. For correspondence each
    channel has mean 0 and variance 1 over its whole window.
    """
    axes = tuple(range(1, one.ndim))
    views = [(view - view.mean(axes, keepdims=True)) / view.std(axes, keepdims=True) for view in (one, other)]
    places = []
    seen: tuple[list[Array], list[Array]] = ([], [])
    for place in np.ndindex(*inside.shape):
        at = [tuple(int(p - s) for p, s in zip(place, start, strict=True)) for start in (first, second)]
        shown = [0 <= i < n for index in at for i, n in zip(index, one.shape[1:], strict=True)]
        if inside[place] and all(shown):
            places.append(place)
            for values, view, index in zip(seen, views, at, strict=True):
                values.append(view[(slice(None), *index)])
    a, b = (np.array(values).T for values in seen)
    alike = float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]))
    return alike, correspondence(a, b, np.array(places), spacing, tolerance)


def logistic_scores(features: Array, target: Array, new: Array) -> Array:
    """(N, K) logits of `new` after a multinomial logistic regression whose classes weigh the same.

    Minimises the sum over voxels of n / (K n_class) times the loss, plus half the squared norm of the weights.
    """
    n, width = features.shape
    classes, index, counts = np.unique(target, return_inverse=True, return_counts=True)
    k = len(classes)
    weight = (n / (k * counts))[index]

    def objective(flat: Array) -> float:
        w, b = flat[: width * k].reshape(width, k), flat[width * k :]
        logs = log_softmax(features @ w + b, axis=1)
        return float(-(weight * logs[np.arange(n), index]).sum() + 0.5 * (w**2).sum())

    found = minimize(objective, np.zeros(width * k + k), method="BFGS", options={"gtol": 1e-6, "maxiter": 2000}).x
    return np.asarray(new @ found[: width * k].reshape(width, k) + found[width * k :])
