"""Metrics of a segmentation: one case, all classes, empty masks defined.

Per foreground class, of a case:

| metric | is | truth and prediction empty | one of them empty |
|---|---|---|---|
| `dice` | 2 overlap / (size + size) | 1 | 0 |
| `iou` | overlap / union | 1 | 0 |
| `accuracy` | share of pixels on which "is this class" agrees | 1 | as it falls |
| `hd95` | 95 % Hausdorff distance | 0 | the image's diagonal |
| `assd` | average symmetric surface distance | 0 | the image's diagonal |

An empty mask rightly predicted is a right answer, a missed or invented structure the worst one: this is the convention
of BraTS. No value is ever NaN, so no model can improve its mean by dropping out of hard cases, and two methods are
always compared on the same cases. (nnU-Net has NaN where both are empty; then a lesion-free case counts when a lesion
is invented, and vanishes when none is.) The diagonal is that of the image from edge to edge, the length of the vector
shape x spacing. It is longer than any distance between two pixel centres, of which (shape - 1) x spacing is the
largest: no mask that holds a pixel scores as badly as an empty one.

Class `all`, of a case, is the mean over the foreground classes that are in its truth or in its prediction; where there
are none, the value for "both empty". So absent structures rightly left out do not inflate a mean over many classes,
while with one foreground class `all` is that class: one rule for both. `all` of `accuracy` is the share of pixels
whose class is right.

Worked out for truth {1}, prediction {1, 2} of classes 0-3, Dice 0.8 for class 1: class 1 0.8, class 2 0, class 3 1;
all = (0.8 + 0) / 2 = 0.4.

Note that the mean of a class over cases grows with the share of cases that lack it: a model that never predicts a
lesion has Dice 0.8 where 80 % of the patients have none. Compare methods within a site, and across sites look at
prevalence too.

Distances are in mm, in pixels where there is no spacing. The surface of a mask is its pixels with a neighbour
(4 in 2D, 6 in 3D) outside it or outside the image; distances are between pixel centres. `hd95` is the larger of the
two directed 95th percentiles (linear interpolation), `assd` the mean over the pixels of both surfaces; both as in
MONAI's `HausdorffDistanceMetric(percentile=95)` and `SurfaceDistanceMetric(symmetric=True)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

METRICS = ("dice", "iou", "accuracy", "hd95", "assd")
HIGHER_IS_BETTER = {"dice": True, "iou": True, "accuracy": True, "hd95": False, "assd": False}
_BOTH_EMPTY = {"dice": 1.0, "iou": 1.0, "accuracy": 1.0, "hd95": 0.0, "assd": 0.0}

Slices = tuple[slice, ...]


def score_segmentation(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    n_classes: int,
    spacing: Sequence[float] | None = None,
    *,
    distances: bool = True,
) -> dict[tuple[int | str, str], float]:
    """Score one case.

    Args:
        prediction: (*spatial) class indices in [0, n_classes).
        truth: (*spatial) class indices, in the same geometry.
        n_classes: background included.
        spacing: mm of each axis; None for pixels.
        distances: False leaves out `hd95` and `assd`, which cost most (for validation during training).

    Returns:
        value of (class, metric), for each foreground class index and for "all"; see the table above.

    Raises:
        ValueError: the shapes differ, a class is out of range, or the spacing does not fit.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    step = np.ones(truth.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if step.shape != (truth.ndim,) or not (step > 0).all():
        raise ValueError(f"spacing must be {truth.ndim} positive numbers, found {spacing}")
    for name, array in (("prediction", prediction), ("truth", truth)):
        if array.size and not (int(array.min()) >= 0 and int(array.max()) < n_classes):
            raise ValueError(f"{name} has values {array.min()} to {array.max()}, classes are 0 to {n_classes - 1}")
    boxes = [_boxes(array, n_classes) for array in (prediction, truth)]
    counts = _confusion(prediction, truth, n_classes, boxes)
    metrics = METRICS if distances else METRICS[:3]
    diagonal = float(np.linalg.norm(np.asarray(truth.shape) * step))
    scores: dict[tuple[int | str, str], float] = {}
    for index in range(1, n_classes):
        overlap = int(counts[index, index])
        predicted, true = int(counts[index].sum()), int(counts[:, index].sum())
        if predicted + true == 0:
            values = dict(_BOTH_EMPTY)
        else:
            union = predicted + true - overlap
            values = {
                "dice": 2 * overlap / (predicted + true),
                "iou": overlap / union,
                "accuracy": (truth.size - union + overlap) / truth.size,
            }
            if distances and min(predicted, true) == 0:
                values |= {"hd95": diagonal, "assd": diagonal}
            elif distances:
                box = _union([boxes[0][index - 1], boxes[1][index - 1]])
                values |= _surface_metrics(prediction[box] == index, truth[box] == index, step)
        scores |= {(index, metric): values[metric] for metric in metrics}
    present = [index for index in range(1, n_classes) if counts[index].sum() + counts[:, index].sum() > 0]
    for metric in metrics:
        of_present = [scores[index, metric] for index in present]
        scores["all", metric] = float(np.mean(of_present)) if of_present else _BOTH_EMPTY[metric]
    scores["all", "accuracy"] = float(np.trace(counts) / max(truth.size, 1))
    return scores


def surface_distances(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each surface pixel of one mask to the surface of the other.

    Args:
        prediction, truth: (*spatial) masks, neither empty; nothing outside the array belongs to them.
        spacing: mm of each axis.

    Returns:
        (n,) from prediction to truth, (m,) from truth to prediction.
    """
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, truth)]
    to_truth = ndimage.distance_transform_edt(~edges[1], sampling=spacing)[edges[0]]
    to_prediction = ndimage.distance_transform_edt(~edges[0], sampling=spacing)[edges[1]]
    return to_truth, to_prediction


def _surface_metrics(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> dict[str, float]:
    directed = surface_distances(prediction, truth, spacing)
    return {
        "hd95": float(max(np.percentile(d, 95) for d in directed)),
        "assd": float(np.concatenate(directed).mean()),
    }


def _confusion(
    prediction: NDArray[Any], truth: NDArray[Any], n_classes: int, boxes: list[list[Slices | None]]
) -> NDArray[np.int64]:
    """(n_classes, n_classes) pixels by predicted (rows) and true class; counted where there is any foreground."""
    box = _union([*boxes[0], *boxes[1]])
    joint = prediction[box].astype(np.int64) * n_classes + truth[box]
    counts = np.bincount(joint.ravel(), minlength=n_classes**2).reshape(n_classes, n_classes)
    counts[0, 0] += truth.size - joint.size
    return counts


def _boxes(labels: NDArray[Any], n_classes: int) -> list[Slices | None]:
    """Bounding box of each foreground class."""
    whole = labels if labels.dtype.kind in "iu" else labels.astype(np.int64)
    return list(ndimage.find_objects(whole, max_label=n_classes - 1))


def _union(boxes: list[Slices | None]) -> Slices:
    """The smallest box around some; surfaces lie in it, so distances are what they are in the whole image."""
    there = [box for box in boxes if box is not None]
    if not there:
        return (slice(0, 0),)
    return tuple(slice(min(a.start for a in axis), max(a.stop for a in axis)) for axis in zip(*there, strict=True))
