"""The probabilities of a volume, worked on slab by slab: nothing as large as they are is made beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.temperature import scaled

VALUES = 2**22
"""Numbers of a slab, about."""


def temper(probabilities: NDArray[Any], temperature: float) -> None:
    """Apply a temperature to (K, *spatial) in place, see `evidence.temperature.scaled`."""
    for slab in _slabs(probabilities):
        probabilities[slab] = scaled(probabilities[slab], temperature, axis=0)


def most_probable(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Class index of each voxel of (K, *spatial): (*spatial) uint8, int16 beyond 256 classes; the first of equals."""
    labels = np.empty(probabilities.shape[1:], np.uint8 if len(probabilities) <= 256 else np.int16)
    for slab in _slabs(probabilities):
        labels[slab[1:]] = probabilities[slab].argmax(axis=0)
    return labels


def _slabs(array: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Cut (K, *spatial) along its first axis of space."""
    planes = max(1, VALUES // max(1, array[:, :1].size))
    for first in range(0, array.shape[1], planes):
        yield slice(None), slice(first, first + planes)
