"""The training cases of a model as a cloud, and how far from it a case lies, in three ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEIGHBOURS = 5
"""The distance to the k-th nearest training case counts (Sun et al. 2022; this k is our choice)."""

FOLDS = 5
"""Groups of patients, each of which is measured from the others."""

LEAST_SHRINKAGE = 1e-3
"""Keeps the covariance of very few cases invertible (our choice)."""

LEAST_SCALE = 0.1
"""Of the median standard deviation of all features: a feature that hardly varies does not speak louder than that."""

LEAST_CHANGE = 0.01
"""Of the size of an input statistic: a change that is none."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Training cases, standardised feature by feature.

    The covariance of the features is that of Ledoit and Wolf (2004), S = (1 - a) Z'Z / N + a m I with the cases Z and
    the mean variance m, so that there may be more features than cases. It is never formed: by Woodbury's identity its
    inverse is (I - Z' inner Z) / ridge, with ridge = a m and inner = (ridge N / (1 - a) I + Z Z')^-1.

    Attributes:
        centre, scale: (D,) of the features.
        cases: (N, D) float32, standardised.
        inner: (N, N), see above.
        ridge: (), see above.
        input_centre, input_scale: (P,); NaN where no case knows it.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    cases: NDArray[np.float32]
    inner: NDArray[np.float64]
    ridge: NDArray[np.float64]
    input_centre: NDArray[np.float64]
    input_scale: NDArray[np.float64]

    @classmethod
    def fit(cls, features: NDArray[np.float64], inputs: NDArray[np.float64], tolerance: ArrayLike = 0.0) -> Cloud:
        """Of (N, D) features and (N, P) inputs; features that are not finite are left out, inputs that are NaN too."""
        features = features[np.isfinite(features).all(axis=1)]
        centre = features.mean(axis=0) if len(features) else np.zeros(features.shape[1])
        spread = features.std(axis=0) if len(features) else np.zeros(features.shape[1])
        varies = spread > 1e-7 * np.abs(centre)  # what is left by rounding is no variation
        least = LEAST_SCALE * float(np.median(spread[varies])) if varies.any() else 1.0
        scale = np.maximum(np.where(varies, spread, 0.0), least)
        cases = ((features - centre) / scale).astype(np.float32)
        inner, ridge = _precision(cases.astype(np.float64))
        return cls(centre, scale, cases, inner, ridge, *_input_scale(inputs, tolerance))

    def distances(self, features: NDArray[np.float64], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 3): Mahalanobis, k nearest neighbours, input; NaN where the training cases know nothing to measure by.

        Args:
            features: (M, D); of a case with a number that is not finite, the first two are infinite.
            inputs: (M, P); NaN is left out, so the third is NaN where nothing is known.
        """
        found = np.full((len(features), 3), np.nan)
        if self.cases.size:
            for row, feature in zip(found, features, strict=True):
                finite = bool(np.isfinite(feature).all())
                row[:2] = self._from_cases((feature - self.centre) / self.scale) if finite else np.inf
        off = np.abs(inputs - self.input_centre) / self.input_scale
        known = ~np.isnan(off)
        found[:, 2] = np.where(known.any(axis=1), np.where(known, off, 0.0).max(axis=1, initial=0.0), np.nan)
        return found

    def _from_cases(self, z: NDArray[np.float64]) -> tuple[float, float]:
        cases = self.cases.astype(np.float64)
        along = cases @ z
        squared = (z @ z - along @ self.inner @ along) / float(self.ridge)
        away = np.sort(np.linalg.norm(cases - z, axis=1))
        return math.sqrt(max(float(squared), 0.0)), float(away[min(NEIGHBOURS, len(away)) - 1])


def grouped_distances(
    features: NDArray[np.float64], inputs: NDArray[np.float64], patients: Sequence[str], tolerance: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """(N, 3) distances of each case from the cases of other patients, in `FOLDS` groups; NaN with a single patient."""
    names = {name: number for number, name in enumerate(sorted(set(patients)))}
    group = np.array([names[name] % FOLDS for name in patients], int)
    found = np.full((len(features), 3), np.nan)
    for number in range(min(FOLDS, len(names)) if len(names) > 1 else 0):
        out = group == number
        found[out] = Cloud.fit(features[~out], inputs[~out], tolerance).distances(features[out], inputs[out])
    return found


def shrinkage(z: NDArray[np.float64]) -> float:
    """Ledoit and Wolf's intensity (2004, Lemma 3.2 with its estimates) of (N, D) cases whose mean is 0.

    Computed from the (N, N) products of the cases, which is cheap where there are more features than cases.
    """
    n, d = z.shape
    gram = z @ z.T
    mean_variance = np.trace(gram) / (n * d)
    squared_norm = (gram**2).sum() / n**2  # of Z'Z / N
    error = ((np.diag(gram) ** 2).sum() / n - squared_norm) / (n * d)
    away = squared_norm / d - mean_variance**2
    return float(min(error, away) / away) if away > 1e-12 * mean_variance**2 else 0.0


def _precision(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n, d = z.shape
    gram = z @ z.T
    mean_variance = np.trace(gram) / (n * d) if n and d else 0.0
    if mean_variance == 0:  # one case, or all alike: plain distances
        return np.zeros((n, n)), np.array(1.0)
    a = max(shrinkage(z), LEAST_SHRINKAGE)
    ridge = a * mean_variance
    if a >= 1:
        return np.zeros((n, n)), np.array(ridge)
    inner = np.linalg.inv(ridge * n / (1 - a) * np.eye(n) + gram)
    return (inner + inner.T) / 2, np.array(ridge)


def _input_scale(inputs: NDArray[np.float64], tolerance: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(inputs)
    count = known.sum(axis=0)
    some = np.where(known, inputs, 0.0)
    mean = np.divide(some.sum(axis=0), count, out=np.full(inputs.shape[1], np.nan), where=count > 0)
    square = np.divide((some**2).sum(axis=0), count, out=np.full(inputs.shape[1], np.nan), where=count > 0)
    variance = np.divide(
        (np.where(known, inputs - mean, 0.0) ** 2).sum(axis=0), count,
        out=np.full(inputs.shape[1], np.nan), where=count > 0,
    )  # fmt: skip
    least = np.maximum(LEAST_CHANGE * np.sqrt(square), np.asarray(tolerance, np.float64))
    return mean, np.sqrt(variance + np.maximum(least, 1e-12) ** 2)
