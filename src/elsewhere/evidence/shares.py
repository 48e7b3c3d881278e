"""Intervals of a share, such as a sensitivity or a coverage: so many cases of so many, in patients.

Wilson's interval, with the number of cases that the patients are worth in place of the number of cases. For patients
with h_i hits among c_i cases, p = sum h / sum c, the variance of p over patients is (P / (P - 1)) sum r_i^2 with
r_i = (h_i - p c_i) / sum c (Taylor linearisation, as for cluster samples), and the effective number is

    n = 1 + p (1 - p) / variance,

the idea of Korn and Graubard (1998) for surveys, in Wilson's form as in Franco et al. (2019). With one case a patient n
is the number of patients, and the interval is Wilson's. Where all or none are hits, variance cannot be seen and n is
the number of patients: cases of one patient are then counted once, as if they always went together (our choice, and the
careful one). Where patients have several cases, lesions or voxels the variance is an estimate from P of them, so the
quantile is t's with P - 1 degrees of freedom in place of the normal one (our choice; docs/explanation/calibration.md
has how often the interval holds the truth).

Unlike a bootstrap it does not end in a point at 0 and 1, and costs nothing. The estimand is "these models at this
site": with several models p is the mean over models and r_i the mean of theirs, so models do not count as patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from elsewhere.evidence.checks import check
from elsewhere.evidence.effective import wilson
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.judged import Patients, owners


@dataclass(frozen=True)
class Share:
    """A share and how many independent cases it is worth.

    Attributes:
        value: hits / cases, mean over the models that have cases; NaN where none has.
        effective: independent cases with the same variance; NaN with fewer than two patients.
        n_cases: cases that count for some model.
        n_patients: their patients.
        plain: every patient is one case, hit or not.
    """

    value: float
    effective: float
    n_cases: int
    n_patients: int
    plain: bool

    def interval(self, level: float = 0.95) -> Interval:
        """Wilson's, with the effective number."""
        check(0 < level < 1, "level must be between 0 and 1", level)
        nan = float("nan")
        if np.isnan(self.value):
            return Interval(nan, nan, nan, self.n_cases, self.n_patients, "no case")
        if self.n_patients < 2:
            return Interval(self.value, nan, nan, self.n_cases, self.n_patients, "one patient: nothing to compare with")
        tail = (1 - level) / 2
        z = stats.norm.isf(tail) if self.plain else stats.t.isf(tail, self.n_patients - 1)
        lo, hi = wilson(self.value, self.effective, float(z))
        return Interval(self.value, lo, hi, self.n_cases, self.n_patients)

    def draws(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """(n,) values that the share might have, of Jeffreys' Beta(hits + 1/2, others + 1/2) by effective numbers."""
        hits = self.value * self.effective
        return generator.beta(hits + 0.5, self.effective - hits + 0.5, size=n)


def share(hits: NDArray[Any], counts: NDArray[Any], patients: Patients) -> Share:
    """The share of hits.

    Args:
        hits: (N,) or (S, N) of each case, S models; numbers of voxels or lesions as well as 0 and 1.
        counts: like `hits`, what could have been hit: 1, or 0 for a case that does not count.
        patients: (N,) who each case is of.

    Raises:
        SettingsError: the shapes do not fit.
    """
    table = np.atleast_2d(np.asarray(hits, dtype=np.float64))
    out_of = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    check(table.shape == out_of.shape and table.ndim == 2, f"counts must be of shape {table.shape}", out_of.shape)
    names, owner = owners(patients, table.shape[1])
    h, c = (sums_by_patient(part, owner, len(names)) for part in (table, out_of))
    return _share(h, c, int((out_of > 0).any(axis=0).sum()))


def sums_by_patient(values: NDArray[Any], owner: NDArray[np.int64], n_patients: int) -> NDArray[np.float64]:
    """(S, N) values of cases to (S, P) sums over each patient's."""
    return np.stack([np.asarray(np.bincount(owner, row, n_patients), dtype=np.float64) for row in values])


def _share(h: NDArray[np.float64], c: NDArray[np.float64], n_cases: int) -> Share:
    """From (S, P) sums of each patient."""
    nan = float("nan")
    n_patients = int((c > 0).any(axis=0).sum())
    there = c.sum(axis=1) > 0
    if not there.any():
        return Share(nan, nan, 0, 0, True)
    h, c = h[there], c[there]
    plain = bool(np.isin(h, (0, 1)).all() and np.isin(c, (0, 1)).all())
    p = h.sum(axis=1, keepdims=True) / c.sum(axis=1, keepdims=True)
    value = float(p.mean())
    if n_patients < 2:
        return Share(value, nan, n_cases, n_patients, plain)
    residual = ((h - p * c) / c.sum(axis=1, keepdims=True)).mean(axis=0)
    variance = n_patients / (n_patients - 1) * float(residual @ residual)
    spread = value * (1 - value)
    # Where every patient has the same share, no variance is seen: one case each is all that is known to be there.
    effective = 1 + spread / variance if variance > 1e-12 * max(spread, 1e-12) else float(n_patients)
    return Share(value, effective, n_cases, n_patients, plain)
