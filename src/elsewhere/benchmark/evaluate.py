"""A frozen model on cases: predicted by `deploy.Predictor`, scored case by case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from elsewhere.benchmark.scoring import Extras, Judged, classified, segmented
from elsewhere.deploy.outliers import DevelopmentStatistics, Outlier
from elsewhere.deploy.predictor import Answer, Predictor
from elsewhere.errors import ModelError
from elsewhere.study.case import Picture, StoredCase
from elsewhere.training.model_io import Deployed

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


@dataclass(frozen=True)
class Judge:
    """A deployed model and what is needed to run it.

    Attributes:
        model: normalised image (B, C, *spatial) to logits, frozen; brings its preprocessing.
        overlap: of the sliding window.
        device: of the model.
        distances: also HD95 and ASSD, which cost most.
        extras: what a run records beyond scores and probabilities goes on, and keeps its failures here; None: nothing.
        statistics: of the development data, for outlier scores; None: there are none.
        temperature: of the run, for a segmentation's scaled bins; None: there is none.
    """

    model: Deployed
    overlap: float
    device: torch.device
    distances: bool = True
    extras: Extras | None = None
    statistics: DevelopmentStatistics | None = None
    temperature: float | None = None

    @property
    def predictor(self) -> Predictor:
        """What runs the model."""
        return Predictor(self.model, self.overlap, self.device)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the outputs."""
        return self.model.task.classes

    def judge(self, cases: Iterable[str], read: Read) -> Iterator[Judged]:
        """Predict and score each case, in order; memory as `Predictor.answers` has it."""
        for answer, label in self.predictor.labelled(cases, read):
            yield self.score(answer, label)

    def score(self, answer: Answer, label: Picture | int) -> Judged:
        """Score one answer by the label that the file has.

        Raises:
            ModelError: the answer is no numbers. Left out, or counted as a class, it would make the model look better.
        """
        if not np.isfinite(answer.probabilities).all():
            raise ModelError(
                f"case '{answer.stored.case.id}': the model answers with NaN or Inf; wanted finite numbers"
            )
        if isinstance(label, Picture):
            judged = segmented(
                answer.stored,
                np.asarray(label.array),
                answer.probabilities.argmax(axis=0),
                self.classes,
                probabilities=answer.probabilities,
                temperature=self.temperature,
                distances=self.distances,
                extras=self.extras,
            )
        else:
            judged = classified(answer.stored, int(label), answer.probabilities, self.classes, extras=self.extras)
        if self.extras is not None:
            judged.record |= outlier_columns(self._outlier(answer, self.extras))
        return judged

    def _outlier(self, answer: Answer, extras: Extras) -> Outlier | None:
        statistics = self.statistics
        if statistics is None:
            return None
        return extras.attempt("outlier scores", lambda: statistics.score(answer.features, answer.inputs), None)


def outlier_columns(found: Outlier | None) -> dict[str, Any]:
    """The columns of an outlier score; None in each where there is none."""
    values = {} if found is None else asdict(found)
    own = {f"outlier:{name}": values.get(name) for name in ("mahalanobis", "knn", "input")}
    return {"outlier": values.get("outlier"), **own, "unlike": values.get("unlike")}


def labelled(source: Source, case: str) -> tuple[StoredCase, Picture | int]:
    """A case of `Development` or of the opened held-out cases, with its label in the geometry of the file.

    Every case of a split has a label (`study.splits`).
    """
    stored = source.load(case)
    if isinstance(stored.label, int):
        return stored, stored.label
    return stored, source.original_label(case)
