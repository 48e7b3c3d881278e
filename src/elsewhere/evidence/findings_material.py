"""What findings are made of: the cases of one split, as all the models of a method judged them at one held-out site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elsewhere.errors import SettingsError

HELD_OUT, HOME, CALIBRATION = "held-out", "in-domain", "calibration"

REFERENCE, BASELINE = "reference", "erm"

PRIMARY = {"segmentation": "dice", "classification": "auroc"}

METRICS: dict[str, tuple[str, ...]] = {
    "segmentation": ("dice", "iou", "accuracy", "hd95", "assd"),
    "classification": ("auroc", "balanced_accuracy", "accuracy", "average_precision", "f1", "brier", "ece"),
}

NAMES = {
    "dice": "Dice", "iou": "IoU", "accuracy": "accuracy", "hd95": "HD95", "assd": "ASSD", "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy", "average_precision": "average precision", "f1": "F1",
    "brier": "Brier score", "ece": "ECE",
}  # fmt: skip
"""Metrics as people write them."""

PROBABILISTIC = "ece"
"""Where this cannot be computed no probabilities were given, and nothing that weighs confidence can be told."""

LOWER_IS_BETTER = ("hd95", "assd", "brier", "ece")

RANKING = ("auroc", "average_precision")
"""Metrics that compare cases with each other: never over cases of several networks."""

OF_SETS = ("auroc", "balanced_accuracy", "average_precision", "f1", "ece")
"""Metrics of a set of cases; the others are means over cases."""


def metric_of(task: str, asked: str | None, missing: Sequence[str] = ()) -> str:
    """The metric of a table.

    Args:
        task: `segmentation` or `classification`.
        asked: by a person; None for the one that models are selected by, or the first that can be computed.
        missing: metrics that cannot be computed.

    Raises:
        SettingsError: no such metric for the task, or it cannot be computed.
    """
    known = [name for name in METRICS[task] if name not in missing]
    if asked is not None and asked not in known:
        what = f"{task} without probabilities" if asked in missing else task
        raise SettingsError(f"--metric: found {asked!r}, wanted for {what} one of: {', '.join(known)}")
    return asked or (PRIMARY[task] if PRIMARY[task] in known else known[0])


@dataclass(frozen=True)
class Judged:
    """N cases and what S models said of them.

    Attributes:
        cases, patients, sites: (N,) names.
        seeds: of the S models.
        seen: (S, N), the model judged the case: in-domain and calibration patients differ from seed to seed.
        parts: (S, N) which training of a reference judged the case; 0 elsewhere.
        numbers: (S, N) each, by the column's name (`dice`, `confidence`, `outlier`, `lesions_true:tumour`, ...); NaN
            where not known.
        histograms: (S, N, L) each (`bin_count`, `foreground_true`, ...); 0 where the model did not judge the case.
        classes: of `probabilities`.
        probabilities: (S, N, K), NaN where the model did not judge the case; None for segmentation.
        target: (N,) class indices; None for segmentation.
    """

    cases: NDArray[Any]
    patients: NDArray[Any]
    sites: NDArray[Any]
    seeds: tuple[int, ...]
    seen: NDArray[np.bool_]
    parts: NDArray[np.int64]
    numbers: Mapping[str, NDArray[np.float64]]
    histograms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    target: NDArray[np.int64] | None = None

    @property
    def n_patients(self) -> int:
        """How many people the cases are of."""
        return len(set(self.patients))

    def values(self, metric: str) -> NDArray[np.float64] | None:
        """(S, N) of a metric that is a mean over cases; None where it is not one, or was not written."""
        if self.probabilities is None or self.target is None:
            return self.numbers.get(metric)
        if metric == "accuracy":
            right = (self.probabilities.argmax(axis=2) == self.target).astype(float)
            return np.where(self.seen, right, np.nan)
        if metric == "brier":
            error = (self.probabilities - np.eye(self.probabilities.shape[2])[self.target]) ** 2
            return np.asarray(error[..., 1] if error.shape[2] == 2 else error.sum(axis=2))
        return None

    def only(self, keep: NDArray[Any]) -> Judged:
        """Some of the cases: a (N,) mask, or indices."""
        some: dict[str, Any] = {name: getattr(self, name)[keep] for name in ("cases", "patients", "sites")}
        return Judged(
            **some,
            seeds=self.seeds,
            seen=self.seen[:, keep],
            parts=self.parts[:, keep],
            numbers={name: values[:, keep] for name, values in self.numbers.items()},
            histograms={name: values[:, keep] for name, values in self.histograms.items()},
            classes=self.classes,
            probabilities=None if self.probabilities is None else self.probabilities[:, keep],
            target=None if self.target is None else self.target[keep],
        )

    def of_seeds(self, seeds: Sequence[int]) -> Judged:
        """Some of the models, in the order given."""
        keep = [self.seeds.index(seed) for seed in seeds]
        return Judged(
            self.cases,
            self.patients,
            self.sites,
            tuple(seeds),
            self.seen[keep],
            self.parts[keep],
            {name: values[keep] for name, values in self.numbers.items()},
            {name: values[keep] for name, values in self.histograms.items()},
            self.classes,
            None if self.probabilities is None else self.probabilities[keep],
            self.target,
        )


class Material(Protocol):
    """Where findings come from: a benchmark's folder, an evaluation's, or something made up in a test."""

    @property
    def study(self) -> str:
        """Its name."""
        ...

    @property
    def task(self) -> str:
        """`segmentation` or `classification`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the outputs."""
        ...

    @property
    def evaluation(self) -> bool:
        """Predictions made elsewhere: no training, no home and no calibration patients."""
        ...

    @property
    def metrics_missing(self) -> tuple[str, ...]:
        """Metrics that cannot be computed: those of probabilities, where only labels were given."""
        ...

    @property
    def results(self) -> pd.DataFrame:
        """`results.csv`."""
        ...

    @property
    def covariates(self) -> pd.DataFrame | None:
        """Index `case`; a column a covariate, as text, empty where missing. None where none were written."""
        ...

    def methods(self, selection: str) -> tuple[str, ...]:
        """In the order of the question, the reference last."""
        ...

    def class_counts(self, held_out: str) -> tuple[int, ...] | None:
        """Labelled cases of each class at the sites that a fold trains on; None where they were not written."""
        ...

    def held_out(self, selection: str) -> tuple[str, ...]:
        """The folds, in the order of the question."""
        ...

    def judged(self, selection: str, method: str, held_out: str) -> Mapping[str, Judged]:
        """By split; empty where nothing is finished."""
        ...

    def fitted(self, selection: str, method: str, held_out: str) -> Mapping[int, Mapping[str, Any]]:
        """By seed: temperature, thresholds and how many calibration patients they rest on; empty where not written."""
        ...
