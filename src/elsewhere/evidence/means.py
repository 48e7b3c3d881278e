"""Several models' scores of the cases of a site, and their mean under any weighting of its patients.

A mean needs no weight a case: sums and counts a patient are enough.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check
from elsewhere.evidence.judged import Patients, owners


@dataclass(frozen=True)
class PatientSums:
    """Sums over the cases of each patient.

    Attributes:
        sums: (S, P) of the scores that are defined.
        counts: (S, P) how many they are.
        names: (P,) patients with a case that is defined for at least one model, in the order in which they are met.
        cases: (P,) such cases of each.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    names: tuple[Hashable, ...]
    cases: NDArray[np.int64]

    @property
    def n_patients(self) -> int:
        """Patients with a case that is defined for at least one model."""
        return len(self.names)

    @property
    def n_cases(self) -> int:
        """Cases that are defined for at least one model."""
        return int(self.cases.sum())

    @classmethod
    def of(cls, values: NDArray[Any], patients: Patients) -> PatientSums:
        """Sums of (N,) or (S, N) scores, NaN where undefined, of cases of (N,) patients.

        Raises:
            SettingsError: the shapes do not fit.
        """
        table = np.atleast_2d(np.asarray(values, dtype=np.float64))
        check(table.ndim == 2, "values must be (cases,) or (models, cases)", table.shape)
        everybody, owner = owners(patients, table.shape[1])
        defined = ~np.isnan(table)
        seen = defined.any(0)
        present, of_seen = np.unique(owner[seen], return_inverse=True)
        n = len(present)
        filled = np.where(defined, table, 0.0)[:, seen]
        sums = [np.bincount(of_seen, row, n) for row in filled]
        counts = [np.bincount(of_seen, row, n) for row in defined[:, seen]]
        return cls(
            np.reshape(sums, (len(table), n)),
            np.reshape(counts, (len(table), n)).astype(np.float64),
            tuple(everybody[i] for i in present),
            np.bincount(of_seen, minlength=n),
        )

    def scores(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, R) mean of each model when patient i counts `weights[r, i]` times; NaN where nothing counts."""
        return _ratio(self.sums @ weights.T, self.counts @ weights.T)

    def without_each_patient(self) -> NDArray[np.float64]:
        """(S, P) mean of each model when one patient is left out."""
        total, size = self.sums.sum(1, keepdims=True), self.counts.sum(1, keepdims=True)
        return _ratio(total - self.sums, size - self.counts)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))
