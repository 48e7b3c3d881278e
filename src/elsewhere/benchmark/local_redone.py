"""Threshold and temperature chosen anew on some patients of a site, and judged on others of the same site.

| what | is chosen, on the local patients, by | as it is | judged by |
|---|---|---|---|
| threshold, two classes | Youden's index on them | 0.5 | `balanced_accuracy`, `sensitivity`, `specificity` |
| threshold, segmentation | mean Dice on them, of P(not background) | 0.5 | `dice` of any foreground |
| temperature | negative log likelihood on them | 1 | `nll`, `brier`, `ece` |

The model's own temperature, where it has one, is applied before all this. With more than two classes, 0.5 only comes
near a segmentation as it is, the most probable class. Voxels stand for a segmentation's temperature: a sample of each
case. Choosing, every local patient weighs 1; judging, every case. Where the local patients cannot decide (one class
only; no wrong label, by which no temperature is likeliest) everything stays as it is, which is what one would do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.local_material import Material
from elsewhere.evidence.operating import choose_dice_threshold, choose_threshold, dice_at
from elsewhere.evidence.temperature import LEAST, fit_temperature, scaled
from elsewhere.tasks.classification_metrics import brier, ece

AS_IT_IS = 0.5
"""The threshold of a label that is the most probable of two."""

Which = NDArray[np.bool_]


def threshold_fits(material: Material) -> bool:
    """There is a threshold to choose: two classes, or any foreground."""
    if material.task == "segmentation":
        return material.levels is not None
    return len(material.classes) == 2


def local_threshold(material: Material, local: Which) -> float | None:
    """The threshold that some patients choose; None where they cannot.

    Args:
        material: of the site.
        local: (N,) the cases of the local patients.
    """
    owners = material.owners[local]
    if material.task == "segmentation":
        assert material.levels is not None
        true, false = material.levels
        found = choose_dice_threshold(true[local], false[local], owners)
    else:
        positive = np.array(material.target)[local] == 1
        found = choose_threshold(material.probabilities[local, 1], positive, owners)
    return None if np.isnan(found) else found


def at_threshold(material: Material, judged: Which, threshold: float) -> dict[str, float]:
    """What a threshold does to some cases; NaN where a class is missing among them."""
    if material.task == "segmentation":
        assert material.levels is not None
        true, false = material.levels
        return {"dice": float(dice_at(true[judged], false[judged], threshold).mean())}
    positive = np.array(material.target)[judged] == 1
    called = material.probabilities[judged, 1] >= threshold
    sensitivity, specificity = _mean(called[positive]), _mean(~called[~positive])
    balanced = (sensitivity + specificity) / 2
    return {"balanced_accuracy": balanced, "sensitivity": sensitivity, "specificity": specificity}


def local_temperature(material: Material, local: Which) -> float:
    """The temperature that some patients choose; each patient weighs 1."""
    owners, number = np.unique(material.owners, return_inverse=True)
    shares = 1 / np.maximum(np.bincount(number[local], minlength=len(owners)), 1)[number]
    rows, target, weight = material.rows(local, shares)
    return fit_temperature(np.log(np.maximum(rows, LEAST)), target, weight)


def at_temperature(material: Material, judged: Which, temperature: float) -> dict[str, float]:
    """Negative log likelihood (nats), Brier score and ECE of some cases at a temperature; every case weighs 1."""
    rows, target, weight = material.rows(judged)
    p = scaled(rows.astype(np.float64), temperature)
    of_target = np.take_along_axis(p, target[:, None], axis=1)[:, 0]
    ones = weight[None]
    return {
        "nll": float((weight * -np.log(np.maximum(of_target, LEAST))).sum() / weight.sum()),
        "brier": float(brier(p, target, ones)[0]),
        "ece": float(ece(p, target, ones)[0]),
    }


def redone(material: Material, local: Which | None, judged: Which) -> Mapping[str, tuple[dict[str, float], bool]]:
    """Both, chosen by the local patients (None: as it is) and judged on others.

    Returns:
        what -> (metric -> value, whether the local patients could decide).
    """
    found: dict[str, tuple[dict[str, float], bool]] = {}
    if threshold_fits(material):
        chosen = AS_IT_IS if local is None else local_threshold(material, local)
        value = at_threshold(material, judged, AS_IT_IS if chosen is None else chosen)
        found["threshold"] = value, chosen is not None
    fitted = 1.0 if local is None else local_temperature(material, local)
    found["temperature"] = at_temperature(material, judged, fitted), local is None or fitted != 1.0
    return found


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")
