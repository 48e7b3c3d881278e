"""Cutting patches from arrays that may be memory-mapped: where a patch lies, and the padded copy of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def foreground_index(
    label: NDArray[Any], generator: np.random.Generator, max_points: int = 10_000
) -> dict[int, NDArray[np.int32]]:
    """Where each foreground class is, to be made once a case: class -> (n, D) voxels, at most `max_points` of them.

    Class 0 is background. A class with more voxels is thinned at random, in the array's order.
    """
    places = np.flatnonzero(label)
    values = np.asarray(label).reshape(-1)[places]
    index = {}
    for value in np.unique(values):
        of_class = places[values == value]
        if len(of_class) > max_points:
            of_class = of_class[np.sort(generator.choice(len(of_class), max_points, replace=False))]
        index[int(value)] = np.stack(np.unravel_index(of_class, label.shape), axis=1).astype(np.int32)
    return index


def patch_origin(
    shape: Sequence[int],
    patch: Sequence[int],
    generator: np.random.Generator,
    foreground: Mapping[int, NDArray[np.int32]] | None = None,
    probability: float = 0.0,
) -> tuple[int, ...]:
    """First voxel of a patch of an array of spatial `shape`; negative where the array is smaller (even padding).

    With `probability`, the patch is centred on a random voxel of a random foreground class that is there (pushed back
    inside of the image at its borders, so that the voxel stays in the patch); else every place is as likely.

    Args:
        shape: spatial shape of the array.
        patch: spatial shape of the patch.
        generator: the only source of randomness.
        foreground: from `foreground_index`.
        probability: of a foreground-centred patch, where there is foreground.
    """
    balanced = generator.random() < probability
    centre: NDArray[np.int32] | None = None
    if balanced and foreground:
        classes = sorted(foreground)
        voxels = foreground[classes[int(generator.integers(len(classes)))]]
        centre = voxels[int(generator.integers(len(voxels)))]
    origin = []
    for axis, (length, wanted) in enumerate(zip(shape, patch, strict=True)):
        room = int(length) - int(wanted)
        if room <= 0:
            origin.append(room // 2)
        elif centre is None:
            origin.append(int(generator.integers(room + 1)))
        else:
            origin.append(int(np.clip(int(centre[axis]) - int(wanted) // 2, 0, room)))
    return tuple(origin)


def cut(array: NDArray[Any], origin: Sequence[int], patch: Sequence[int], fill: float = 0) -> NDArray[Any]:
    """A copy of `patch` voxels of the last axes of `array` (..., *spatial); what lies outside is `fill`."""
    lead, spatial = array.shape[: array.ndim - len(patch)], array.shape[array.ndim - len(patch) :]
    source: list[slice] = []
    place: list[slice] = []
    whole = [slice(None)] * len(lead)
    for start, wanted, length in zip(origin, patch, spatial, strict=True):
        low, high = min(max(start, 0), length), max(min(start + wanted, length), 0)
        source.append(slice(low, high))
        place.append(slice(low - start, high - start))
    inside = array[(*whole, *source)]
    if inside.shape[len(lead) :] == tuple(patch):
        return np.array(inside)
    out = np.full((*lead, *patch), fill, dtype=array.dtype)
    if inside.size:
        out[(*whole, *place)] = inside
    return out
