"""A frozen model on cases: probabilities in the geometry of the original label, and the scores of each case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elsewhere.study.case import Picture, StoredCase
from elsewhere.study.resample import to_original
from elsewhere.tasks import predict
from elsewhere.tasks.metrics import score_segmentation
from elsewhere.training.model_io import Deployed

PROBABILITY = "probability:"
"""Start of the column of a class in `predictions.parquet`."""

BINS = 15
"""Calibration bins of equal width over the confidence, from 0 to 1."""

BATCH = 32
"""Images of one size that a classifier takes at once."""

Read = Callable[[str], tuple[StoredCase, Picture | int]]
"""A case as the cache holds it, and its label as the file has it."""


class Source(Protocol):
    """Whatever reads cases: `Development`, or the reader of the opened held-out cases."""

    def load(self, case_id: str) -> StoredCase:
        """The case on the grid of the network."""
        ...

    def original_label(self, case_id: str) -> Picture:
        """Its mask on the grid of the file."""
        ...


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


@dataclass(frozen=True)
class Judge:
    """A deployed model and what is needed to run it.

    Attributes:
        model: normalised image (B, C, *spatial) to logits, frozen; brings its preprocessing.
        overlap: of the sliding window.
        device: of the model.
        distances: also HD95 and ASSD, which cost most.
    """

    model: Deployed
    overlap: float
    device: torch.device
    distances: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the outputs."""
        return self.model.task.classes

    def judge(self, cases: Iterable[str], read: Read) -> Iterator[Judged]:
        """Predict and score each case, in order."""
        judge = self._classifications if self.model.task.kind == "classification" else self._segmentations
        with torch.inference_mode():
            yield from judge(cases, read)

    def _image(self, stored: StoredCase) -> Tensor:
        """(C, *spatial) float32, normalised by what the development cases said."""
        return self.model.preprocessing.normalise(torch.from_numpy(np.array(stored.image)), stored)

    def _classifications(self, cases: Iterable[str], read: Read) -> Iterator[Judged]:
        waiting = iter(cases)
        while some := list(islice(waiting, BATCH)):
            opened = [read(case) for case in some]
            images = [self._image(stored) for stored, _ in opened]
            alike = len({image.shape for image in images}) == 1
            groups = [torch.stack(images)] if alike else [image[None] for image in images]
            logits = torch.cat([self.model(group.to(self.device)) for group in groups])
            # In 64 bits: in 32, all logits 17 apart or more are a probability of 1, and their cases tied in a ranking.
            for (stored, label), row in zip(opened, logits.cpu().double().softmax(dim=1).numpy(), strict=True):
                yield self._classified(stored, label, row)

    def _classified(self, stored: StoredCase, label: Any, probabilities: NDArray[Any]) -> Judged:
        target = int(label)
        predicted = int(probabilities.argmax())
        record: dict[str, Any] = {
            PROBABILITY + name: float(p) for name, p in zip(self.classes, probabilities, strict=True)
        }
        record["target"] = target
        error = (probabilities - np.eye(len(self.classes))[target]) ** 2
        scores = {
            ("all", "accuracy"): float(predicted == target),
            ("all", "brier"): float(error[1] if len(error) == 2 else error.sum()),
        }
        return Judged(stored, scores, predicted, target, record)

    def _segmentations(self, cases: Iterable[str], read: Read) -> Iterator[Judged]:
        for case in cases:
            stored, label = read(case)
            image = self._image(stored)[None].to(self.device)
            probabilities = predict(
                self.model,
                image,
                self.model.patch_size,
                len(self.classes),
                overlap=self.overlap,
                multiple_of=self.model.multiple_of,
            )[0]
            restored = to_original(probabilities.float().cpu().numpy(), stored)
            yield self._segmented(stored, label, restored)

    def _segmented(self, stored: StoredCase, label: Any, probabilities: NDArray[np.float32]) -> Judged:
        predicted = probabilities.argmax(axis=0)
        truth = np.asarray(label.array)
        spacing = stored.original.spacing
        found = score_segmentation(predicted, truth, len(self.classes), spacing, distances=self.distances)
        scores = {(self._name(index), metric): float(value) for (index, metric), value in found.items()}
        return Judged(stored, scores, predicted, truth, calibration_bins(probabilities, predicted == truth))

    def _name(self, index: int | str) -> str:
        return index if isinstance(index, str) else self.classes[index]


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


def case_rows(judged: Judged, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of `cases.csv` of one case."""
    case = judged.stored.case
    who = {**common, "case": case.id, "patient": case.patient, "site": case.site}
    return [{**who, "class": name, "metric": metric, "value": value} for (name, metric), value in judged.scores.items()]


def prediction_row(judged: Judged, common: dict[str, Any]) -> dict[str, Any]:
    """The row of `predictions.parquet` of one case; segmentation adds its scores over all foreground classes."""
    case = judged.stored.case
    who = {**common, "case": case.id, "patient": case.patient, "site": case.site}
    own = {metric: value for (name, metric), value in judged.scores.items() if name == "all"}
    return {**who, **judged.record, **({} if "target" in judged.record else own)}


def labelled(source: Source, case: str) -> tuple[StoredCase, Picture | int]:
    """A case of `Development` or of the opened held-out cases, with its label in the geometry of the file.

    Every case of a split has a label (`study.splits`).
    """
    stored = source.load(case)
    if isinstance(stored.label, int):
        return stored, stored.label
    return stored, source.original_label(case)
