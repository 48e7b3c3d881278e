"""Answers that need no model: what a score is worth is seen beside what they get on the same cases.

| task | trivial answer | score |
|---|---|---|
| segmentation | background everywhere | Dice and IoU 0, and 1 where the truth is empty too (`tasks.metrics`) |
| segmentation, one class | foreground everywhere | Dice f(F) = 2F / (F + V), IoU F / V (F true of V voxels) |
| segmentation, K classes | one of them everywhere | at least f(F) / K^2, see below |
| classification | the class shares of the development sites, for every case | that of the metric |

The class shares as probabilities make the majority class the label of every case (accuracy, balanced accuracy, F1), tie
all cases (AUROC 0.5, average precision the prevalence), and have the Brier score of the prevalence. Of several trivial
masks the better one counts.

Runs write the foreground voxels of all K classes together, and that is enough for a lower limit. The mask of class k
everywhere has f(F_k) for that class and 0 for the others that occur, so at least f(F_k) / K in their mean. f is concave
with f(0) = 0: the f(F_k) add up to f(F) at least, and the best of K masks has f(F) / K^2 at least.

Distances (HD95, ASSD) and ECE have no trivial answer that means anything: a distance to an empty mask is a convention,
and a constant may be perfectly calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.findings_material import LOWER_IS_BETTER, Judged
from elsewhere.evidence.intervals import Interval
from elsewhere.tasks import classification_metrics

BACKGROUND, FOREGROUND = "background everywhere", "foreground everywhere"

ONE_CLASS = "one class everywhere"

SAME = "one answer for every case"
"""The class shares of the development sites."""

OWN = "the site's own class shares for every case"
"""Where nobody knows what the model was trained on: harder to beat, for it knows the site."""

OF_MASKS = ("dice", "iou", "accuracy")


@dataclass(frozen=True)
class Trivial:
    """The best trivial answer's score on the cases of a site; NaN where there is none that means anything."""

    value: float = math.nan
    answer: str = ""


def trivial_masks(foreground: NDArray[np.float64], voxels: NDArray[np.float64], metric: str, n_classes: int) -> Trivial:
    """The better of the trivial masks.

    Args:
        foreground: (N,) true foreground voxels of each case.
        voxels: (N,) all voxels of each.
        metric: of the table.
        n_classes: background included.
    """
    if metric not in OF_MASKS or not len(foreground):
        return Trivial()
    share = foreground / voxels
    found = [Trivial(float(np.mean(1 - share if metric == "accuracy" else foreground == 0)), BACKGROUND)]
    k = n_classes - 1
    everywhere = 2 * foreground / (foreground + voxels) if metric == "dice" else share
    least = float(np.mean(everywhere)) / (k if metric == "accuracy" else k**2)
    found.append(Trivial(least, FOREGROUND if k == 1 else ONE_CLASS))
    return max(found, key=lambda one: one.value)


def trivial_classes(target: NDArray[np.int64], counts: Sequence[int], metric: str, answer: str = SAME) -> Trivial:
    """The class shares of the development sites as the probabilities of every case.

    Args:
        target: (N,) true classes of the site.
        counts: (K,) development cases of each class.
        metric: of the table.
        answer: what it is called.
    """
    total = float(np.sum(counts))
    if metric == "ece" or metric not in classification_metrics.METRICS or not len(target) or not total:
        return Trivial()
    p = np.tile(np.asarray(counts, dtype=np.float64) / total, (len(target), 1))
    value = float(classification_metrics.METRICS[metric](p, target, np.ones((1, len(target))))[0])
    return Trivial(value, answer)


def trivial_at(
    held_out: Judged, metric: str, classes: Sequence[str], counts: Sequence[int] | None, home: Judged | None = None
) -> Trivial:
    """The best trivial answer at a site.

    Args:
        held_out: its cases, with the histograms of a segmentation.
        metric: of the table.
        classes: of the task.
        counts: development cases of each class; None: those of `home`, or of the site itself where there is no home.
        home: the in-domain cases of the fold.
    """
    if held_out.target is None:
        return _masks_at(held_out, metric, len(classes))
    if counts is not None and any(counts):
        return trivial_classes(held_out.target, counts, metric)
    target, answer = held_out.target, OWN
    if home is not None and home.target is not None and len(home.target):
        target, answer = home.target, SAME
    own = [int(n) for n in np.bincount(target, minlength=len(classes))]
    return trivial_classes(held_out.target, own, metric, answer)


def _masks_at(held_out: Judged, metric: str, n_classes: int) -> Trivial:
    sums = [held_out.histograms.get(name) for name in ("foreground_true", "foreground_false")]
    if sums[0] is not None and sums[1] is not None:
        # A model that did not judge a case has nothing there: the truth is that of the others.
        true, false = (np.asarray(one, dtype=np.float64).sum(axis=2).max(axis=0) for one in sums if one is not None)
        known = true + false > 0
        return trivial_masks(true[known], (true + false)[known], metric, n_classes)
    if metric not in ("dice", "iou"):
        return Trivial()
    lesions = [values for name, values in held_out.numbers.items() if name.startswith("lesions_true:")]
    if not lesions:
        return Trivial(0.0, BACKGROUND)  # at least: an empty truth would make it more
    empty = np.nanmax(np.concatenate(lesions), axis=0) == 0
    return Trivial(float(np.mean(empty)), BACKGROUND)


def no_better(score: Interval, trivial: Trivial, metric: str) -> bool:
    """The interval of a score reaches the trivial answer's, or, without an interval, the score itself does."""
    if math.isnan(score.value) or math.isnan(trivial.value):
        return False
    if metric in LOWER_IS_BETTER:
        return (score.value if math.isnan(score.hi) else score.hi) >= trivial.value
    return (score.value if math.isnan(score.lo) else score.lo) <= trivial.value
