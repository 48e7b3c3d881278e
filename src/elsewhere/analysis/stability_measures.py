"""How alike two views of a case look to an extractor, and how well it still tells structures apart: the numbers.

Which voxels are compared, and over which of them features are standardised, is decided in `stability_windows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

CHANCE = "chance"
"""In the place of an extractor: what a representation that knows nothing would reach."""

TOLERANCE = 3.0
"""Millimetres (pixels, where the spacing is unknown) that still count as the same place."""

CONSTANT = 1e-5
"""A channel whose deviation is below this part of its mean does not change: what it does is rounding."""


def standardised(features: Tensor, inside: Tensor) -> Tensor:
    """Features of some voxels, each channel with mean 0 and variance 1 over them; a constant channel becomes 0.

    Args:
        features: (F, *spatial).
        inside: (*spatial) bool.

    Returns:
        (F, n), the n voxels in the order of `inside.nonzero()`.
    """
    values = features.flatten(1)[:, inside.flatten()].float()
    variance, mean = torch.var_mean(values, 1, correction=0, keepdim=True)
    deviation = variance.sqrt()
    moves = deviation > CONSTANT * mean.abs() + torch.finfo(torch.float32).tiny
    return (values - mean) * torch.where(moves, 1 / deviation, torch.zeros_like(deviation))


def alikeness(one: Tensor, other: Tensor) -> float:
    """Mean over channels of Pearson's correlation over voxels between two views of a case.

    Args:
        one, other: (F, n), as `standardised` gives them, of the same voxels.

    Returns:
        from -1 to 1. A channel that is constant in both views has nothing to be alike and is left out, one that is
        constant in one of them counts 0; NaN where all are constant.
    """
    alive = (one != 0).any(1) | (other != 0).any(1)
    return float((one * other).mean(1)[alive].double().mean())


def correspondence(one: Tensor, other: Tensor, near: Tensor) -> float:
    """Share of voxels whose nearest neighbour in the other view lies at the same place.

    Nearest is by the cosine of the features; of a single channel, which has no direction, by its value.

    Args:
        one, other: (F, M), features of the same M voxels in two views.
        near: (M, M) bool, which voxels count as the same place; see `neighbours`.
    """
    if len(one) == 1:
        likeness = -(one.T - other).abs()
    else:
        likeness = functional.normalize(one, dim=0).T @ functional.normalize(other, dim=0)
    found = likeness.argmax(1)
    return float(near[torch.arange(len(near)), found.to(near.device)].double().mean())


def neighbours(places: Tensor, spacing: tuple[float, ...] | None, tolerance: float) -> Tensor:
    """(M, M) bool: which of M voxels lie within `tolerance` mm of each other; its mean is the level of chance.

    Args:
        places: (M, D) voxel indices.
        spacing: mm per axis; None: `tolerance` is in voxels.
        tolerance: mm.
    """
    scale = torch.ones(places.shape[1]) if spacing is None else torch.tensor(spacing)
    at = places.double() * scale.double()
    return torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist") <= tolerance + 1e-9


class LinearProbe:
    """Multinomial logistic regression from features to classes, all classes weighing the same.

    With an L2 penalty of 1/2 |w|^2 beside the sum of losses, not on the intercept (scikit-learn's C = 1).
    """

    def __init__(self, features: NDArray[Any], target: NDArray[Any]) -> None:
        """Fit on (N, F) features and (N,) class indices, at least two classes."""
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000).fit(features, target)
        self.classes: NDArray[np.int64] = self._model.classes_

    def balanced_accuracy(self, features: NDArray[Any], target: NDArray[Any]) -> float:
        """Mean over the classes of the share of their voxels that is found, see `balanced_accuracy`.

        A voxel is called one of the classes that are in `target`. Were it called any class that the probe knows, a
        structure that few patients have, and which weighs as much as the others, would cost all those who lack it,
        and the number would depend on whether one of the few is among those who are looked at.
        """
        asked = np.isin(self.classes, target)
        if asked.sum() < 2:
            return float("nan")
        scores = self._model.predict_log_proba(features)  # of two classes, too, one column each
        return balanced_accuracy(self.classes[asked][scores[:, asked].argmax(1)], target, self.classes)


def balanced_accuracy(predicted: NDArray[Any], target: NDArray[Any], known: NDArray[Any]) -> float:
    """Mean recall over the classes of `target` that are among the `known` ones; NaN where fewer than two are."""
    classes = np.intersect1d(target, known)
    if len(classes) < 2:
        return float("nan")
    return float(np.mean([(predicted[target == index] == index).mean() for index in classes]))
