"""How intensities are brought to what a network was trained on, each image for itself."""

from __future__ import annotations

import torch
from torch import Tensor

SCALINGS = ("minmax", "zscore", "none")


def scale(image: Tensor, rule: str) -> Tensor:
    """Scale each image by its own intensities; a constant one becomes 0.

    What is given counts: a patch in training, and a window of the same size where the model is used.

    Args:
        image: (N, 1, *spatial) float.
        rule: "minmax" to [0, 1], "zscore" to mean 0 and standard deviation 1, "none".
    """
    if rule == "none":
        return image
    axes = tuple(range(1, image.ndim))
    if rule == "minmax":
        low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
        return (image - low) / _or_one(high - low)
    variance, mean = torch.var_mean(image, axes, correction=0, keepdim=True)
    return (image - mean) / _or_one(variance.sqrt())


def _or_one(span: Tensor) -> Tensor:
    return torch.where(span > 0, span, torch.ones_like(span))
