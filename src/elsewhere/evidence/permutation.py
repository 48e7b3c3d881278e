"""Is a method different from another on these patients? Tests by swapping the two, patient by patient.

If it makes no difference which of two methods judged a patient, their answers can be swapped for any patients (with all
cases of a patient, in all seeds at once), and the difference that was found is one of many that were as likely. p is
the share of those that are at least as far from 0. Nothing is assumed of distributions; patients are the units. For a
mean over cases, swapping a patient flips the sign of its part of the difference.

- Up to `EXACT_PATIENTS` patients all swaps are counted: p is exact, ties included. With n patients whom the two methods
  judge differently it cannot be below 2 / 2^n.
- Beyond, swaps are drawn, and the one that was found counts among them: p = (1 + as far) / (1 + drawn), which holds its
  level whatever the number drawn (Phipson and Smyth 2010, Statistical Applications in Genetics 9:39).
- Enough are drawn for Holm's correction: at the smallest threshold that it uses, (1 - level) / hypotheses, 100 of the
  drawn lie beyond, so that p there is known to 10 %; and never fewer than `AT_LEAST`.

What is tested is the models as trained, on patients like these: another training run is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check

EXACT_PATIENTS = 16
"""2^15 swaps, for the other half is their mirror image."""

AT_LEAST = 9_999

BEYOND = 100
"""Swaps beyond the smallest threshold of Holm's; a drawing that is slow may end after so many."""

BEYOND_SLOW = 20
"""The same for a difference that has to be computed anew for each swap: p at the threshold is known to 22 %."""

ROUNDING = 1e-10
"""Of the largest possible difference: sums of the same numbers in another order are ties."""


@dataclass(frozen=True)
class Permutation:
    """Outcome of a test.

    Attributes:
        p: two-sided; NaN where there is nothing to test.
        n: swaps looked at.
        exact: whether these are all.
        differ: patients whose swap changes anything; None where that is not known.
    """

    p: float
    n: int
    exact: bool
    differ: int | None = None

    @property
    def least(self) -> float:
        """No p below this could have come out."""
        if self.n == 0:
            return float("nan")
        drawn = 2 / self.n if self.exact else 1 / (1 + self.n)
        return drawn if self.differ is None else max(drawn, min(1.0, 2.0 ** (1 - self.differ)))


def swaps_for(hypotheses: int, level: float, beyond: int = BEYOND) -> int:
    """How many swaps to draw, see above.

    Args:
        hypotheses: tests that Holm's correction is over.
        level: 1 - the family-wise error.
        beyond: how many of the drawn shall lie beyond the smallest threshold.
    """
    check(hypotheses >= 1, "hypotheses must be at least 1", hypotheses)
    check(0 < level < 1, "level must be between 0 and 1", level)
    return max(AT_LEAST, math.ceil(beyond * hypotheses / (1 - level) - 1e-6) - 1)


def sign_flip(contributions: NDArray[Any], n: int, seed: int = 0) -> Permutation:
    """Test whether a sum over patients is 0, by flipping their signs.

    Args:
        contributions: (P,) what each patient adds to the difference.
        n: flips to draw where there are too many to count.
        seed: of the draws.
    """
    parts = np.asarray(contributions, dtype=np.float64)
    if not len(parts) or np.isnan(parts).any():
        return Permutation(float("nan"), 0, False)
    bound = abs(parts.sum()) - ROUNDING * np.abs(parts).sum()
    differ = int(np.count_nonzero(parts))
    if len(parts) <= EXACT_PATIENTS:
        sums = parts[:1]
        for part in parts[1:]:
            sums = np.concatenate([sums + part, sums - part])
        return Permutation(float((np.abs(sums) >= bound).mean()), 2 * len(sums), True, differ)
    # Eight patients a random byte: 256 partial sums each are looked up, which is many times quicker than n x P signs.
    parts = np.concatenate([parts, np.zeros(-len(parts) % 8)]).reshape(-1, 8)
    table = parts @ _signs(8).T
    generator, far, block = np.random.default_rng(seed), 0, 2**14
    for first in range(0, n, block):
        rows = generator.integers(0, 256, (len(parts), min(block, n - first)), dtype=np.uint8)
        drawn = table[0].take(rows[0])
        for sums, row in zip(table[1:], rows[1:], strict=True):
            drawn += sums.take(row)
        far += int((np.abs(drawn) >= bound).sum())
    return Permutation((1 + far) / (1 + n), n, False, differ)


def swap(difference: Callable[[NDArray[np.float64]], NDArray[np.float64]], patients: int, n: int, seed: int = 0,
         block: int = 1024) -> Permutation:  # fmt: skip
    """Test a difference that is not a sum over patients.

    The drawing ends early once `BEYOND` swaps were as far: p = as far / drawn is then as valid, and known to 10 %
    (Besag and Clifford 1991, Biometrika 78:301).

    Args:
        difference: maps (R, P), 1 where a patient stays and 0 where the two are swapped, to (R,) differences; swapping
            everybody must turn the sign.
        patients: how many.
        n: swaps to draw where there are too many to count.
        seed: of the draws.
        block: swaps at a time, at most; the result does not depend on it.
    """
    found = float(difference(np.ones((1, patients)))[0])
    if np.isnan(found):
        return Permutation(float("nan"), 0, False)
    bound = abs(found) - ROUNDING
    exact = patients <= EXACT_PATIENTS
    n = 2 ** (patients - 1) if exact else n
    generator, far, done = np.random.default_rng(seed), 0, 0
    while done < n:
        rows = min(block, max(64, done), n - done)  # most drawings end early: begin with few
        if exact:
            # The bits of a count; the first patient always stays, for the others' mirror images are as far.
            bits = np.arange(done, done + rows)[:, None] >> np.arange(patients - 1) & 1
            stays = np.concatenate([np.ones((rows, 1)), bits], axis=1)
        else:
            stays = generator.integers(0, 2, (rows, patients)).astype(np.float64)
        # Where a swap leaves the metric undefined it counts as far: the careful side.
        as_far = ~(np.abs(difference(stays)) < bound)
        hits = np.flatnonzero(as_far)
        if not exact and far + len(hits) >= BEYOND:
            drawn = done + int(hits[BEYOND - far - 1]) + 1
            return Permutation(BEYOND / drawn, drawn, False)
        far, done = far + len(hits), done + rows
    return Permutation(far / n, 2 * n, True) if exact else Permutation((1 + far) / (1 + n), n, False)


def holm(p: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """Holm's (1979) adjusted p-values: those not above alpha are found with a family-wise error of at most alpha.

    Holds whatever the dependence of the tests.

    Args:
        p: (M,) p-values; NaN where there was no test, which then does not count as one.

    Returns:
        (M,) in the order given, NaN where p is.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def _signs(n: int) -> NDArray[np.float64]:
    """(2^n, n) all rows of +-1."""
    return np.asarray(1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1), dtype=np.float64)
