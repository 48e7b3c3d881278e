"""The losses of a pretraining, voxel by voxel, from the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


Together = Callable[[int, int], bool]
"""Whether two voxels are compared."""


def always(i: int, j: int) -> bool:
    return True


def structure(embedded: Array, labels: Sequence[int], temperature: float, together: Together = always) -> float:
    """Khosla et al. 2020, Eq. 2, for one anatomy (M, E): the mean over the anchors that have a positive."""
    values = []
    for i in range(len(labels)):
        others = [a for a in range(len(labels)) if a != i and together(i, a)]
        positives = [a for a in others if labels[a] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(embedded[i] @ embedded[a] / temperature) for a in others)
        values.append(
            -sum(math.log(math.exp(embedded[i] @ embedded[p] / temperature) / below) for p in positives)
            / len(positives)
        )
    return sum(values) / len(values)


def place(
    first: Array, second: Array, temperature: float, counts: Sequence[bool], together: Together = always
) -> float:
    """InfoNCE of one anatomy (N, E), from the first view to the second and back."""
    values = []
    for one, other in ((first, second), (second, first)):
        for i, wanted in enumerate(counts):
            if wanted:
                shares = np.exp(other @ one[i] / temperature) * [together(i, j) for j in range(len(counts))]
                values.append(-math.log(shares[i] / shares.sum()))
    return sum(values) / len(values)
