"""Lesions found, missed and invented: connected components of one class in one case.

A lesion is a connected component of the class in the true mask; voxels that touch at a corner are connected (8
neighbours in 2D, 26 in 3D). It is found if the predicted mask of that class shares at least one voxel with it; a
predicted component that shares no voxel with any true one is false (our choice: the most lenient rule, the one of
which no threshold has to be chosen; a large predicted component may find several lesions, and a wholly predicted image
finds all of them, so read it beside Dice).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


class Lesions(NamedTuple):
    """Components of one class in one case.

    Attributes:
        true: in the true mask.
        found: of these, with any predicted voxel.
        false: in the predicted mask, without any true voxel.
    """

    true: int
    found: int
    false: int

    @property
    def missed(self) -> int:
        """True and not found."""
        return self.true - self.found


def lesions(prediction: NDArray[Any], truth: NDArray[Any], class_index: int) -> Lesions:
    """Count the lesions of one class.

    Args:
        prediction: (*spatial) class indices, 2D or 3D.
        truth: (*spatial) class indices, in the same geometry.
        class_index: of the lesion.

    Returns:
        all zero where both masks are empty.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    predicted, true = prediction == class_index, truth == class_index
    box = _box(predicted | true)
    if box is None:
        return Lesions(0, 0, 0)
    predicted, true = predicted[box], true[box]
    n_true, found = _touched(true, predicted)
    n_predicted, right = _touched(predicted, true)
    return Lesions(n_true, found, n_predicted - right)


def _touched(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int]:
    """Components of a mask, and how many of them share a voxel with the other."""
    labels, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    met = np.unique(labels[mask & other])
    return int(count), len(met)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Bounding box; None of an empty mask. Labelling costs by the voxel, and lesions are small."""
    found = ndimage.find_objects(mask.view(np.uint8), max_label=1)
    box: tuple[slice, ...] | None = found[0] if found else None
    return box
