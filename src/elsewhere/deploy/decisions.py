"""What calibration patients decide of a model in use: thresholds and prediction sets, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.deploy.calibration_row import CalibrationRow
from elsewhere.evidence.conformal import fit_label_sets, fit_outer_mask
from elsewhere.evidence.operating import choose_dice_threshold, choose_threshold


def decide(
    rows: Sequence[CalibrationRow], classes: Sequence[str], level: float
) -> tuple[dict[str, float], dict[str, Any]]:
    """Thresholds and prediction sets by the probabilities of calibration cases, see `Calibrated`.

    Args:
        rows: of the calibration cases; those without probabilities are left out.
        classes: names in the order of the outputs.
        level: share of patients that a prediction set shall serve.
    """
    if any(row.probabilities is not None for row in rows):
        return _of_classes([row for row in rows if row.probabilities is not None], classes, level)
    if any(row.foreground_true is not None for row in rows):
        return _of_voxels([row for row in rows if row.foreground_true is not None], level)
    return {}, {}


def _of_classes(
    rows: list[CalibrationRow], classes: Sequence[str], level: float
) -> tuple[dict[str, float], dict[str, Any]]:
    """Of two classes the second is asked for; of several, each against all others."""
    probabilities = np.stack([np.asarray(row.probabilities) for row in rows])
    target, patients = np.array([row.target for row in rows]), [row.patient for row in rows]
    asked = [(index, name) for index, name in enumerate(classes) if index == 1 or len(classes) > 2]
    thresholds = {name: choose_threshold(probabilities[:, index], target == index, patients) for index, name in asked}
    fitted = fit_label_sets(probabilities, target, patients, level)
    sentence = _not_possible(fitted.reason) or (
        f"the classes with a probability of at least {1 - fitted.threshold:.3g}, and always the most probable one: for "
        f"{100 * level:g} % of patients like the {fitted.n_patients} calibration patients, the true class is in the "
        "set of every image"
    )
    return _numbers(thresholds), {"kind": "label sets", "sentence": sentence, **asdict(fitted)}


def _of_voxels(rows: list[CalibrationRow], level: float) -> tuple[dict[str, float], dict[str, Any]]:
    true, false = _stacked([row.foreground_true for row in rows]), _stacked([row.foreground_false for row in rows])
    patients = [row.patient for row in rows]
    fitted = fit_outer_mask(true, patients, level)
    sentence = _not_possible(fitted.reason) or (
        f"the outer mask, where the probability of background is at most {1 - fitted.threshold:.3g}: for "
        f"{100 * level:g} % of patients like the {fitted.n_patients} calibration patients with any foreground, it "
        f"holds all but {100 * fitted.missed:g} % of the foreground"
    )
    thresholds = {"foreground": choose_dice_threshold(true, false, patients)}
    return _numbers(thresholds), {"kind": "outer mask", "sentence": sentence, **asdict(fitted)}


def _not_possible(reason: str | None) -> str:
    return "" if reason is None else f"none that would say anything ({reason})"


def _numbers(thresholds: dict[str, float]) -> dict[str, float]:
    """Without those that cannot be chosen, for want of a positive or a negative case."""
    return {name: value for name, value in thresholds.items() if math.isfinite(value)}


def _stacked(histograms: list[NDArray[np.int64] | None]) -> NDArray[np.int64]:
    return np.stack([np.asarray(histogram) for histogram in histograms])
