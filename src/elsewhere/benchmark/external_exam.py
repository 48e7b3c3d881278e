"""What is judged in an evaluation: masks, a table, or a model; each gives its answers case by case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.evaluate import Judge, Read
from elsewhere.benchmark.given_masks import Masks, read_masks
from elsewhere.benchmark.given_names import listed
from elsewhere.benchmark.given_table import NEED_PROBABILITIES, Table, read_table
from elsewhere.benchmark.scoring import Extras, Judged, classified, segmented
from elsewhere.errors import StudyError
from elsewhere.evidence.temperature import scaled
from elsewhere.study.case import Case, Picture, StoredCase
from elsewhere.study.study import Study

PRIMARY = {"segmentation": "dice", "classification": "auroc"}
OF_LABELS = "balanced_accuracy"
"""What is looked at first where only labels were given."""

MASKS_ONLY = (
    "masks were given and no probabilities: calibration, conformal prediction, thresholds and risk against coverage "
    "cannot be computed"
)

OTHER_CLASSES = (
    "the most probable class of the .npz is not the mask's in more than a tenth of the foreground (the masks were "
    "changed afterwards, or these probabilities lie elsewhere); scores are of the masks, calibration and thresholds of "
    "the .npz"
)
DIFFERS = 0.1
"""Share of the voxels that are foreground in either (our choice)."""

Look = Callable[[Judged, NDArray[Any] | None], None]
"""Called with each case, and its probabilities (K, *spatial) or (K,), None where there are none."""


class Judging(Protocol):
    """Whatever answers for cases and scores the answers."""

    def judge(self, cases: Iterable[str], read: Read, look: Look | None = None) -> Iterator[Judged]:
        """Score each case, in order."""
        ...


@dataclass(frozen=True)
class Exam:
    """Who is examined, on what.

    Attributes:
        judging: answers and scores.
        cases: that there is an answer for, in the order of the study.
        grid: (number of channels, size, spacing) that `Store` shall give; None each: as in the files.
        primary: metric looked at first.
        notes: sentences for the report.
        about: plain values for `plan.json`.
        metrics_missing: metrics that cannot be computed.
        seen: site -> what is known of its part in the training.
        tunable: the model, where it is ours and can be trained on; None for anything else.
    """

    judging: Judging
    cases: tuple[Case, ...]
    grid: tuple[int | None, Sequence[int] | None, Sequence[float] | None]
    primary: str
    notes: tuple[str, ...]
    about: Mapping[str, Any]
    metrics_missing: tuple[str, ...] = ()
    seen: Mapping[str, str] = field(default_factory=dict)
    tunable: RunModel | None = None


@dataclass(frozen=True)
class GivenMasks:
    """Masks of a folder."""

    masks: Masks
    classes: tuple[str, ...]
    extras: Extras

    def judge(self, cases: Iterable[str], read: Read, look: Look | None = None) -> Iterator[Judged]:
        """Read and score each mask, in order."""
        for case in cases:
            stored, label = read(case)
            assert isinstance(label, Picture)
            prediction = self.masks.mask(case, stored.original)
            probabilities = self.masks.probabilities(case, stored.original)
            if probabilities is not None and _differs(prediction, probabilities):
                self.extras.remark(OTHER_CLASSES, case)
            truth = np.asarray(label.array)
            judged = segmented(stored, truth, prediction, self.classes, probabilities=probabilities, extras=self.extras)
            if look is not None:
                look(judged, probabilities)
            yield judged


def _differs(mask: NDArray[Any], probabilities: NDArray[np.float32]) -> bool:
    """A mask is not that of its probabilities."""
    likeliest = probabilities.argmax(axis=0)
    foreground = np.count_nonzero((mask > 0) | (likeliest > 0))
    return bool(np.count_nonzero(mask != likeliest) > DIFFERS * foreground)


@dataclass(frozen=True)
class GivenTable:
    """Probabilities, or labels, of a table."""

    table: Table
    classes: tuple[str, ...]
    extras: Extras

    def judge(self, cases: Iterable[str], read: Read, look: Look | None = None) -> Iterator[Judged]:
        """Score each row, in order."""
        for case in cases:
            stored, label = read(case)
            assert isinstance(label, int)
            given = self.table.probabilities[case]
            judged = classified(
                stored, label, given, self.classes, extras=None if self.table.labels_only else self.extras
            )
            if self.table.labels_only:
                judged.scores.pop(("all", "brier"), None)
            if look is not None:
                look(judged, None if self.table.labels_only else given)
            yield judged


@dataclass(frozen=True)
class RunModel:
    """A model that is run here, as it would be in use.

    Attributes:
        judged_by: predicts and scores.
        temperature: of the model, applied to all its probabilities; None: there is none.
    """

    judged_by: Judge
    temperature: float | None = None

    def judge(self, cases: Iterable[str], read: Read, look: Look | None = None) -> Iterator[Judged]:
        """Predict and score each case, in order."""
        labels: list[Picture | int] = []

        def opened() -> Iterator[StoredCase]:
            for case in cases:
                stored, label = read(case)
                labels.append(label)
                yield stored

        for raw in self.judged_by.predictor.answers(opened()):
            answer = raw
            if self.temperature is not None:
                answer = replace(raw, probabilities=scaled(raw.probabilities, self.temperature, axis=0))
            judged = self.judged_by.score(answer, labels.pop(0))
            if look is not None:
                look(judged, answer.probabilities)
            yield judged


def exam_of_predictions(path: Path, study: Study, cases: Sequence[Case], extras: Extras) -> Exam:
    """Predictions that were made elsewhere: a folder of masks, or a table.

    Raises:
        StudyError: not what the study's task needs, or it fits none of the cases.
    """
    if not path.exists():
        raise StudyError(
            f"{path}: there is no such file or folder; wanted a folder of masks, or a CSV of probabilities"
        )
    if study.task == "segmentation":
        if not path.is_dir():
            raise StudyError(f"{path}: is a file, and study {study.name} is a segmentation; wanted a folder of masks")
        masks = read_masks(path, study, cases)
        matched = masks.matched
        found = tuple(case for case in cases if case.id in matched.files)
        saved = () if masks.saved else (MASKS_ONLY,)
        return Exam(
            GivenMasks(masks, study.classes, extras),
            found,
            (None, None, None),
            PRIMARY[study.task],
            (*_who_is_there(path, matched.missing, matched.surplus, len(cases)), *masks.notes, *saved),
            {"source": "masks", "path": str(path), "probabilities": masks.saved, **_counts(matched)},
        )
    if path.is_dir():
        raise StudyError(f"{path}: is a folder, and study {study.name} is a classification; wanted a CSV")
    table = read_table(path, study, cases)
    return Exam(
        GivenTable(table, study.classes, extras),
        tuple(case for case in cases if case.id in table.probabilities),
        (None, None, None),
        OF_LABELS if table.labels_only else PRIMARY[study.task],
        (*_who_is_there(path, table.missing, table.surplus, len(cases)), *table.notes),
        {"source": "table", "path": str(path), "probabilities": not table.labels_only, **_counts(table)},
        NEED_PROBABILITIES if table.labels_only else (),
    )


def _who_is_there(path: Path, missing: Sequence[str], surplus: Sequence[str], n: int) -> list[str]:
    notes = []
    if missing:
        notes.append(
            f"{len(missing)} of {n} cases have no prediction in {path.name} and are in no number: {listed(missing)}; "
            "a model that gave no answer on hard cases looks better than it is"
        )
    if surplus:
        notes.append(f"{len(surplus)} predictions in {path.name} fit no case of these sites: {listed(surplus)}")
    return notes


def _counts(found: Any) -> dict[str, int]:
    return {"cases_missing": len(found.missing), "predictions_left_over": len(found.surplus)}
