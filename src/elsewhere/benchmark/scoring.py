"""How right a prediction of a case is, and what of it goes into the tables; no model is needed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.attempt import say
from elsewhere.benchmark.given_names import listed
from elsewhere.benchmark.sheets import BINS, PROBABILITY, TARGET
from elsewhere.deploy.calibration import foreground_levels
from elsewhere.errors import RunError, SealError
from elsewhere.evidence.confidence import case_confidence
from elsewhere.evidence.temperature import scaled
from elsewhere.study.case import StoredCase
from elsewhere.tasks.lesions import lesions
from elsewhere.tasks.metrics import score_segmentation

Made = TypeVar("Made")


class Extras:
    """What is good to have of a run and must never lose it: it is tried, and where it fails a sentence is kept instead.

    A disk that is full, and a broken seal, are not failures of an extra: they end the run.

    Attributes:
        reasons: of the first failure of each extra, by what it is.
        remarks: on single cases: a sentence -> the cases that it is about, in order.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.remarks: dict[str, dict[str, None]] = {}

    def attempt(self, what: str, make: Callable[[], Made], otherwise: Made) -> Made:
        """What `make` makes, or `otherwise`."""
        try:
            return make()
        except (RunError, SealError):
            raise
        except Exception as error:  # whatever it is, the run goes on
            self.reasons.setdefault(what, say(error))
            return otherwise

    def remark(self, sentence: str, case: str) -> None:
        """Keep that a sentence is about a case, once however often it is judged."""
        self.remarks.setdefault(sentence, {})[case] = None

    @property
    def notes(self) -> list[str]:
        """A sentence for each extra that failed, and for each remark."""
        failed = [f"{what} could not be made: {reason}" for what, reason in self.reasons.items()]
        return failed + [f"{sentence}: {listed(list(cases))}" for sentence, cases in self.remarks.items()]


@dataclass
class Judged:
    """What a model said of one case, and how right it was.

    Attributes:
        stored: the case.
        scores: (class name or "all", metric) -> value.
        prediction: class indices (*spatial of the file), or a class index.
        truth: likewise.
        record: its row of `predictions.parquet`, but for who and where.
    """

    stored: StoredCase
    scores: dict[tuple[str, str], float]
    prediction: NDArray[Any] | int
    truth: NDArray[Any] | int
    record: dict[str, Any] = field(default_factory=dict)


def classified(
    stored: StoredCase,
    target: int,
    probabilities: NDArray[Any],
    classes: Sequence[str],
    *,
    extras: Extras | None = None,
) -> Judged:
    """Score a classification.

    Args:
        stored: the case.
        target: index of its class.
        probabilities: (K,).
        classes: K names.
        extras: where to keep what could not be made; None leaves the extras out.
    """
    predicted = int(probabilities.argmax())
    record: dict[str, Any] = {PROBABILITY + name: float(p) for name, p in zip(classes, probabilities, strict=True)}
    record[TARGET] = target
    if extras is not None:
        record["confidence"] = extras.attempt("confidence", lambda: case_confidence(probabilities), None)
    error = (probabilities - np.eye(len(classes))[target]) ** 2
    scores = {
        ("all", "accuracy"): float(predicted == target),
        ("all", "brier"): float(error[1] if len(error) == 2 else error.sum()),
    }
    return Judged(stored, scores, predicted, target, record)


def segmented(
    stored: StoredCase,
    truth: NDArray[Any],
    prediction: NDArray[Any],
    classes: Sequence[str],
    *,
    probabilities: NDArray[np.float32] | None = None,
    temperature: float | None = None,
    distances: bool = True,
    extras: Extras | None = None,
) -> Judged:
    """Score a segmentation, in the geometry of the file.

    Args:
        stored: the case.
        truth, prediction: (*spatial) class indices.
        classes: K names, background first.
        probabilities: (K, *spatial); None where only a mask is known.
        temperature: of the run, for the scaled bins; None where there is none.
        distances: also HD95 and ASSD, which cost most.
        extras: where to keep what could not be made; None leaves the extras out.
    """
    found = score_segmentation(prediction, truth, len(classes), stored.original.spacing, distances=distances)
    names = {index: index if isinstance(index, str) else classes[index] for index, _ in found}
    scores = {(names[index], metric): float(value) for (index, metric), value in found.items()}
    record: dict[str, Any] = {}
    if extras is not None:
        if probabilities is not None:
            record |= _voxels(probabilities, truth, prediction, temperature, extras)
        for index, name in list(enumerate(classes))[1:]:
            counts = extras.attempt("lesion counts", lambda index=index: lesions(prediction, truth, index), None)  # type: ignore[misc]
            for key in ("true", "found", "false"):
                record[f"lesions_{key}:{name}"] = None if counts is None else getattr(counts, key)
    return Judged(stored, scores, prediction, truth, record)


def _voxels(
    probabilities: NDArray[np.float32],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    temperature: float | None,
    extras: Extras,
) -> dict[str, Any]:
    right = prediction == truth
    record: dict[str, Any] = dict.fromkeys(("scaled_count", "scaled_confidence", "scaled_right"))
    bins = extras.attempt("calibration bins", lambda: calibration_bins(probabilities, right), None)
    record |= bins or {}
    if temperature is not None:
        after = extras.attempt(
            "calibration bins after the temperature",
            lambda: calibration_bins(scaled(probabilities, temperature, axis=0), right),
            None,
        )
        record |= {name.replace("bin_", "scaled_"): values for name, values in (after or {}).items()}
    levels = extras.attempt("foreground levels", lambda: foreground_levels(probabilities, truth), None)
    if levels is not None:
        record |= {"foreground_true": levels[0].tolist(), "foreground_false": levels[1].tolist()}
    record["confidence"] = extras.attempt("confidence", lambda: case_confidence(probabilities), None)
    return record


def calibration_bins(probabilities: NDArray[np.float32], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Voxels of one case by confidence (the largest probability): how many, how confident, how many of them right.

    Args:
        probabilities: (K, *spatial).
        right: (*spatial), the most probable class is the true one.

    Returns:
        `bin_count`, `bin_confidence` (sum) and `bin_right`, BINS numbers each; bin i holds (i, i + 1] / BINS.
    """
    confidence = probabilities.max(axis=0).ravel().astype(np.float64)
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return {
        "bin_count": np.bincount(index, minlength=BINS).tolist(),
        "bin_confidence": np.bincount(index, weights=confidence, minlength=BINS).tolist(),
        "bin_right": np.bincount(index, weights=right.ravel(), minlength=BINS).astype(int).tolist(),
    }


def case_rows(judged: Judged, common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of `cases.csv` of one case."""
    case = judged.stored.case
    who = {**common, "case": case.id, "patient": case.patient, "site": case.site}
    return [{**who, "class": name, "metric": metric, "value": value} for (name, metric), value in judged.scores.items()]


def prediction_row(judged: Judged, common: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `predictions.parquet` of one case; segmentation adds its scores over all foreground classes."""
    case = judged.stored.case
    who = {**common, "case": case.id, "patient": case.patient, "site": case.site}
    own = {metric: value for (name, metric), value in judged.scores.items() if name == "all"}
    return {**who, **judged.record, **({} if TARGET in judged.record else own)}
