"""What a trained model is given before it is used: statistics of its development data, and a calibration.

One pass over some training cases, one over the calibration cases; nothing is kept per voxel but a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.deploy.calibration_row import CalibrationRow
from elsewhere.deploy.decisions import decide
from elsewhere.deploy.features import input_tolerance
from elsewhere.deploy.outliers import LEVEL, DevelopmentStatistics
from elsewhere.deploy.predictor import Answer, Predictor
from elsewhere.evidence.temperature import LEAST, fit_temperature, scaled
from elsewhere.study.case import Picture, StoredCase

MOST = 256
"""Training cases that are looked at; of more, evenly chosen ones (our choice)."""

VOXELS = 2048
"""Voxels of a calibration case by which the temperature is fitted, evenly drawn."""

MOST_VOXELS = 2**22
"""Of all calibration cases together; many cases have fewer each."""

LEVELS = 100
"""Bins of equal width over P(not background)."""

Load = Callable[[str], tuple[StoredCase, Picture | int]]
"""A case on the grid of the network, and its label as the file has it."""


@dataclass
class Calibrated:
    """What a model is given before it is used.

    Attributes:
        statistics: of the development data, with its threshold where there is one.
        temperature: None where it could not be fitted.
        thresholds: operating points of the probabilities after temperature, by the name of a class or "foreground":
            the largest sensitivity + specificity, for segmentation the largest mean Dice.
        conformal: prediction sets by the probabilities after temperature, plain values: `kind` ("label sets" or
            "outer mask"), a `sentence`, and the fields of `evidence.conformal.LabelSets` or `OuterMask`; or empty.
        n_patients, n_cases: that calibrate.
        reason: one sentence on what there is not, or None.
        rows: the calibration cases, in order.
    """

    statistics: DevelopmentStatistics
    temperature: float | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    conformal: dict[str, Any] = field(default_factory=dict)
    n_patients: int = 0
    n_cases: int = 0
    reason: str | None = None
    rows: list[CalibrationRow] = field(default_factory=list)


def calibrate(
    predictor: Predictor,
    load: Load,
    train_ids: Sequence[str],
    calibration_ids: Sequence[str],
    *,
    level: float = LEVEL,
    conformal_level: float = 0.9,
    look: Callable[[Answer, Picture | int], Any] | None = None,
    operating: bool = True,
) -> Calibrated:
    """Look at training and calibration cases, and fit all that is fitted after training.

    Args:
        predictor: the final model; it stays as it is.
        load: reads a case of development.
        train_ids: of the training cases.
        calibration_ids: cases that neither trained nor selected the model; may be empty.
        level: share of patients like the calibration patients that may be flagged as unlike.
        conformal_level: coverage asked of conformal sets.
        look: called with the answer and the label of each calibration case as it passes; what it returns is kept in
            the case's row, so let it be small.
        operating: also thresholds and prediction sets; a segmentation needs a second pass over the calibration cases
            for them, once the temperature is known.

    Returns:
        Everything; a part that cannot be fitted is None or empty, and `reason` says why.
    """
    statistics = _development(predictor, load, train_ids)
    rows: list[CalibrationRow] = []
    features, inputs, sample, targets = [], [], [], []
    per_case = max(1, min(VOXELS, MOST_VOXELS // max(1, len(calibration_ids))))
    for answer, label in predictor.labelled(calibration_ids, load):
        case = answer.stored.case
        row = CalibrationRow(case.id, case.patient, case.site)
        chosen: NDArray[Any]
        target: NDArray[Any]
        if not np.isfinite(answer.probabilities).all():
            chosen, target = np.zeros((0, len(predictor.classes))), np.zeros(0, int)
        elif isinstance(label, Picture):
            chosen, target = _voxels(answer.probabilities, label.array, per_case)
            row.foreground_true, row.foreground_false = foreground_levels(answer.probabilities, label.array)
        else:
            chosen, target = answer.probabilities[None], np.array([label])
            row.probabilities, row.target = answer.probabilities, label
        row.looked = None if look is None else look(answer, label)
        rows.append(row)
        features.append(answer.features)
        inputs.append(answer.inputs)
        sample.append(chosen)
        targets.append(target)
    if not rows:
        return Calibrated(statistics, reason="there are no calibration patients")
    patients = [row.patient for row in rows]
    statistics = statistics.calibrate(np.stack(features), np.stack(inputs), patients, level)
    for row, feature, given in zip(rows, features, inputs, strict=True):
        row.outlier = statistics.score(feature, given)
    found = Calibrated(
        statistics, n_patients=len(set(patients)), n_cases=len(rows), reason=statistics.reason, rows=rows
    )
    if not sum(map(len, sample)):
        return replace(found, reason="the model gives no calibration case probabilities that are finite numbers")
    found = replace(found, temperature=_temperature(sample, targets, patients))
    if operating:
        rows = _at_temperature(rows, predictor, load, found.temperature)
        thresholds, conformal = decide(rows, predictor.classes, conformal_level)
        found = replace(found, thresholds=thresholds, conformal=conformal)
    return found


def foreground_levels(
    probabilities: NDArray[np.float32], truth: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels of one case by P(not background): those that truly are any foreground, and those that are not.

    Args:
        probabilities: (K, *spatial), background first.
        truth: (*spatial) class indices.

    Returns:
        (LEVELS,) each; bin i holds [i, i + 1) / LEVELS, the last one 1 too.
    """
    level = ((1 - probabilities[0].astype(np.float64)) * LEVELS).astype(np.int64)
    np.clip(level, 0, LEVELS - 1, out=level)
    level += LEVELS * (np.asarray(truth) > 0)
    counts = np.bincount(level.ravel(), minlength=2 * LEVELS)
    return counts[LEVELS:], counts[:LEVELS]


def evenly(ids: Sequence[str], most: int) -> list[str]:
    """At most `most` of `ids`, evenly chosen in their order, so that every site keeps its share."""
    return list(ids) if len(ids) <= most else [ids[i * len(ids) // most] for i in range(most)]


def _development(predictor: Predictor, load: Load, train_ids: Sequence[str]) -> DevelopmentStatistics:
    patients: list[str] = []

    def cases() -> Iterator[StoredCase]:
        for case_id in evenly(train_ids, MOST):
            stored, _ = load(case_id)
            patients.append(stored.case.patient)
            yield stored

    found = list(predictor.features(cases()))
    preprocessing = predictor.model.preprocessing
    tolerance = input_tolerance(len(preprocessing.channels), preprocessing.dims)
    features, inputs = np.stack([f for f, _ in found]), np.stack([i for _, i in found])
    return DevelopmentStatistics.fit(features, inputs, patients, tolerance)


def _voxels(
    probabilities: NDArray[np.float32], truth: NDArray[Any], n: int
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """(n, K) and (n,) of voxels drawn evenly, or all; the same ones of an image of given size every time."""
    flat = probabilities.reshape(len(probabilities), -1)
    size = flat.shape[1]
    chosen = np.arange(size) if size <= n else np.random.default_rng(0).integers(size, size=n)
    return np.ascontiguousarray(flat[:, chosen].T), truth.reshape(-1)[chosen]


def _temperature(sample: list[NDArray[Any]], targets: list[NDArray[Any]], patients: list[str]) -> float:
    """Each patient counts alike, whatever the number of his or her cases."""
    count = Counter(patient for rows, patient in zip(sample, patients, strict=True) if len(rows))
    weights = [
        np.full(len(rows), 1 / (max(1, count[patient]) * max(1, len(rows))))
        for rows, patient in zip(sample, patients, strict=True)
    ]
    rows, target, weight = (np.concatenate(parts) for parts in (sample, targets, weights))
    return fit_temperature(np.log(np.maximum(rows, LEAST, dtype=np.float64)), target, weight)


def _at_temperature(
    rows: list[CalibrationRow], predictor: Predictor, load: Load, temperature: float | None
) -> list[CalibrationRow]:
    """The rows as they are by probabilities at the temperature."""
    if temperature is None or temperature == 1:
        return rows
    if not predictor.segments:
        known = [row for row in rows if row.probabilities is not None]
        return [replace(row, probabilities=scaled(row.probabilities, temperature)) for row in known]  # type: ignore[arg-type]
    known = [row for row in rows if row.foreground_true is not None]
    found = []
    for row, (answer, label) in zip(known, predictor.labelled([row.case for row in known], load), strict=True):
        assert isinstance(label, Picture)
        true, false = foreground_levels(scaled(answer.probabilities, temperature, axis=0), label.array)
        found.append(replace(row, foreground_true=true, foreground_false=false))
    return found


def plain(found: Any) -> Any:
    """Dataclasses, arrays and NumPy's numbers as JSON and YAML know them."""
    if is_dataclass(found) and not isinstance(found, type):
        return plain(asdict(found))
    if isinstance(found, dict):
        return {str(key): plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return found.tolist() if isinstance(found, np.ndarray | np.generic) else found
