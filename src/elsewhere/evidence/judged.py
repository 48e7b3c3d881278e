"""Several models' probabilities for the cases of a site, and a metric of any weighting of its patients.

Bootstrap, jackknife and permutation all ask the same thing: the metric when patient i counts w_i times.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import SettingsError
from elsewhere.evidence.checks import check
from elsewhere.tasks.classification_metrics import METRICS, Metric, checked

Patients = Sequence[Hashable] | NDArray[Any]

Part = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
"""Probabilities (n, K), target (n,) and patient (n,) of the cases that one network judged."""


@dataclass(frozen=True)
class JudgedSets:
    """What each of S models said of the site's cases.

    Attributes:
        models: (S) of each model the cases of its own, in parts that one network judged (nearly always one).
        names: (P) patients, in the order in which they are met.
        classes: (P, K) cases of each patient that at least one model judged, by their true class.
        metric: maps (n, K), (n,) and weights (R, n) to (R,).
    """

    models: tuple[tuple[Part, ...], ...]
    names: tuple[Hashable, ...]
    classes: NDArray[np.int64]
    metric: Metric

    @property
    def n_patients(self) -> int:
        """Patients with a case that at least one model judged."""
        return len(self.names)

    @property
    def cases(self) -> NDArray[np.int64]:
        """(P,) cases of each patient that at least one model judged."""
        return np.asarray(self.classes.sum(1))

    @property
    def n_cases(self) -> int:
        """Cases that at least one model judged."""
        return int(self.cases.sum())

    @classmethod
    def of(
        cls,
        probabilities: NDArray[Any],
        target: NDArray[Any],
        patients: Patients,
        metric: str | Metric,
        groups: NDArray[Any] | None = None,
    ) -> JudgedSets:
        """Arguments and errors are those of `intervals.set_interval`."""
        function = metric_of(metric)
        stack = np.asarray(probabilities, dtype=np.float64)
        stack = stack[None] if stack.ndim == 2 else stack
        check(stack.ndim == 3 and len(stack) > 0, "probabilities must be (cases, K) or (models, cases, K)", stack.shape)
        known = ~np.asarray(np.isnan(stack).any(axis=2))
        n = stack.shape[1]
        _, everybody = owners(patients, n)
        check(np.shape(target) == (n,), f"there must be one target a case ({n})", np.shape(target))
        seen = known.any(0)
        names, owner = owners([everybody[i] for i in np.flatnonzero(seen)], int(seen.sum()))
        truth = np.asarray(target)[seen]
        group = np.broadcast_to(np.zeros(1, np.int64) if groups is None else np.asarray(groups), known.shape)[:, seen]
        models = tuple(
            tuple(
                (*checked(p[seen][part], truth[part]), owner[part])
                for part in (own & (of == g) for g in np.unique(of[own]))
            )
            for p, own, of in zip(stack, known[:, seen], group, strict=True)
        )
        classes = np.zeros((len(names), stack.shape[2]), dtype=np.int64)
        np.add.at(classes, (owner, checked(stack[0][seen], truth)[1]), 1)
        return cls(models, names, classes, function)

    def scores(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, R) score of each model.

        Args:
            weights: (R, P), how often each patient counts.
        """
        return np.stack([self._of_model(parts, weights) for parts in self.models])

    def without_each_patient(self, block: int = 2**20) -> NDArray[np.float64]:
        """(S, P) score of each model when one patient is left out.

        Args:
            block: weights in memory at a time; the result does not depend on it.
        """
        n = self.n_patients
        rows = max(1, block // max(self.n_cases, 1))
        found = [
            self.scores((np.arange(n) != np.arange(first, min(first + rows, n))[:, None]).astype(np.float64))
            for first in range(0, n, rows)
        ]
        return np.concatenate(found, axis=1) if found else np.zeros((len(self.models), 0))

    def _of_model(self, parts: Sequence[Part], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(parts) == 1:
            ((p, y, own),) = parts
            return np.asarray(self.metric(p, y, weights.take(own, axis=1)))
        total, size = np.zeros(len(weights)), np.zeros(len(weights))
        for p, y, own in parts:
            rows = weights.take(own, axis=1)
            found, cases = np.asarray(self.metric(p, y, rows)), rows.sum(1)
            total += np.where(np.isnan(found), 0, found * cases)
            size += np.where(np.isnan(found), 0, cases)
        return np.asarray(np.divide(total, size, out=np.full(len(weights), np.nan), where=size > 0))


def metric_of(metric: str | Metric) -> Metric:
    """The function behind a name, or the function itself."""
    if isinstance(metric, str) and metric not in METRICS:
        raise SettingsError(f"unknown metric {metric!r}; there are: {', '.join(METRICS)}")
    return METRICS[metric] if isinstance(metric, str) else metric


def name_of(metric: str | Metric) -> str:
    """The name of a metric, or of its function; "" for a function that is none of ours."""
    return metric if isinstance(metric, str) else next((name for name, one in METRICS.items() if one is metric), "")


def owners(patients: Patients, n_cases: int) -> tuple[tuple[Hashable, ...], NDArray[np.int64]]:
    """Names of the patients in the order in which they are met, and (N,) each case's number among them."""
    numbers: dict[Hashable, int] = {}
    listed = patients.tolist() if isinstance(patients, np.ndarray) else list(patients)
    check(len(listed) == n_cases, f"there must be one patient a case ({n_cases})", len(listed))
    owner = np.array([numbers.setdefault(patient, len(numbers)) for patient in listed], dtype=np.int64)
    return tuple(numbers), owner
