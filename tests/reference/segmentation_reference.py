"""Plain re-derivations, for loops and all, of the segmentation loss and metrics."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dice_cross_entropy(logits: NDArray[Any], target: NDArray[Any], smooth: float = 1e-5) -> NDArray[Any]:
    """(B,) from (B, K, *spatial) and (B, *spatial), pixel by pixel."""
    losses = []
    for case, truth in zip(logits, target, strict=True):
        k = len(case)
        overlap, predicted, true, entropy = np.zeros(k), np.zeros(k), np.zeros(k), 0.0
        for position in np.ndindex(truth.shape):
            z = np.array([case[(c, *position)] for c in range(k)])
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            c = int(truth[position])
            overlap[c] += p[c]
            predicted += p
            true[c] += 1
            entropy -= math.log(p[c])
        dice = (2 * overlap + smooth) / (predicted + true + smooth)
        losses.append(1 - dice[1:].mean() + entropy / truth.size)
    return np.array(losses)


def surface(mask: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Pixels of a mask with a face neighbour outside it, or outside the array."""
    found = []
    for position in map(tuple, np.argwhere(mask)):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(position)
            other[axis] += step
            inside = 0 <= other[axis] < mask.shape[axis]
            if not inside or not mask[tuple(other)]:
                found.append(position)
                break
    return found


def surface_metrics(a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: list[float]) -> tuple[float, float]:
    """hd95 and assd from all pairs of surface pixels."""
    pa = np.array(surface(a)) * np.array(spacing)
    pb = np.array(surface(b)) * np.array(spacing)
    pairs = np.sqrt(((pa[:, None] - pb[None]) ** 2).sum(-1))
    ab, ba = pairs.min(1), pairs.min(0)
    return max(np.percentile(ab, 95), np.percentile(ba, 95)), float((ab.sum() + ba.sum()) / (len(ab) + len(ba)))
