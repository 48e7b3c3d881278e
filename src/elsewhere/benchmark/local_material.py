"""What is kept of a site's cases so that threshold and temperature can be chosen anew, without a model and images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # it brings torch, and a report, which shows the table, does without
    from elsewhere.benchmark.scoring import Judged


VOXELS = 512
"""Evenly drawn voxels of each case by which its temperature is fitted and judged (our choice)."""


@dataclass
class Material:
    """The cases of a site, as they were judged.

    Attributes:
        site, task, classes: of the study.
        cases, patients: (N) who.
        target: (N) class indices; classification.
        dice: (N) over all foreground classes; segmentation.
    """

    site: str
    task: str
    classes: tuple[str, ...]
    cases: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    _rows: list[NDArray[Any]] = field(default_factory=list)
    _row_targets: list[NDArray[Any]] = field(default_factory=list)
    _levels: list[tuple[Any, Any]] = field(default_factory=list)

    def add(self, judged: Judged, probabilities: NDArray[Any] | None) -> None:
        """Keep what is needed of a case: a row of probabilities, or a sample of voxels and the foreground's histogram.

        Args:
            judged: the case.
            probabilities: (K,) or (K, *spatial); None where there are none.
        """
        case = judged.stored.case
        self.cases.append(case.id)
        self.patients.append(case.patient)
        if isinstance(judged.truth, int):
            self.target.append(judged.truth)
        else:
            self.dice.append(judged.scores["all", "dice"])
        if probabilities is None:
            return
        if isinstance(judged.truth, int):
            self._rows.append(np.asarray(probabilities, np.float64)[None])
            self._row_targets.append(np.array([judged.truth]))
            return
        flat = np.asarray(probabilities).reshape(len(probabilities), -1)
        chosen = np.random.default_rng(0).integers(flat.shape[1], size=min(VOXELS, flat.shape[1]))
        self._rows.append(flat[:, chosen].T.astype(np.float32))
        self._row_targets.append(judged.truth.reshape(-1)[chosen])
        self._levels.append((judged.record.get("foreground_true"), judged.record.get("foreground_false")))

    @property
    def has_probabilities(self) -> bool:
        """Every case has them."""
        return bool(self.cases) and len(self._rows) == len(self.cases)

    @cached_property
    def owners(self) -> NDArray[Any]:
        """(N,) patient of each case."""
        return np.array(self.patients, dtype=object)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, K); classification."""
        return np.concatenate(self._rows)

    @cached_property
    def levels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """(N, LEVELS) voxels that are foreground and background; None where a case has none."""
        if not self._levels or any(true is None or false is None for true, false in self._levels):
            return None
        true, false = (np.array(part, dtype=np.float64) for part in zip(*self._levels, strict=True))
        return true, false

    def rows(
        self, cases: NDArray[np.bool_], shares: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float64]]:
        """Probabilities (n, K), targets (n,) and weights (n,) of the rows of some cases.

        Args:
            cases: (N,) which.
            shares: (N,) what the rows of each case weigh together; None for 1 each.
        """
        chosen = np.flatnonzero(cases)
        rows = [self._rows[i] for i in chosen]
        whole = np.ones(len(cases)) if shares is None else shares
        weights = [np.full(len(row), whole[i] / len(row)) for i, row in zip(chosen, rows, strict=True)]
        targets = np.concatenate([self._row_targets[i] for i in chosen]).astype(np.int64)
        return np.concatenate(rows), targets, np.concatenate(weights)
