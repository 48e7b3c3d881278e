"""Groups of cases by a covariate: sex, age, grade, scanner, or whatever column the study has.

- All values numbers, more than `FEW` of them distinct: intervals between given edges, or between the quartiles of the
  patients' values (one patient, one vote for each value that it has). An edge belongs to the group above it.
- Numbers with few distinct values (a grade, a 0/1) or text: each value is a group. Text with more than `MOST` distinct
  values (an identifier, a date) makes no groups.
- Missing values (blank, None, NaN; among numbers also NA and N/A) are a group of their own: patients of whom something
  is unknown are often not like the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check
from elsewhere.evidence.judged import Patients

FEW = 5
"""Distinct numbers up to which each is a group of its own."""

MOST = 20
"""Distinct texts up to which a column makes groups."""

MISSING = "(missing)"

NOT_A_NUMBER = ("na", "n/a")
"""What stands for a missing number in many tables; among texts it may be a value."""

Covariate = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Groups:
    """Who belongs where.

    Attributes:
        names: in the order to show them, the missing ones last.
        index: (N,) group of each case.
        edges: between numbers; None where each value is a group.
        reason: None, or why there are no groups (then `names` is empty).
    """

    names: tuple[str, ...]
    index: NDArray[np.int64]
    edges: tuple[float, ...] | None = None
    reason: str | None = None


def groups(covariate: Covariate, patients: Patients, edges: Sequence[float] | None = None) -> Groups:
    """Make groups of a covariate.

    Args:
        covariate: (N,) text or numbers.
        patients: (N,) who each case is of.
        edges: between numbers, rising; None for quartiles.

    Raises:
        SettingsError: edges do not rise, or the covariate is not all numbers although edges are given.
    """
    values = [_text(value) for value in covariate]
    check(len(values) == len(patients), "there must be one covariate value a case", len(values))
    there = sorted({value for value in values if value})
    numbers = {value: _number(value) for value in there}
    text = [value for value in there if numbers[value] is None and value.lower() not in NOT_A_NUMBER]
    numeric = not text and any(number is not None for number in numbers.values())
    if edges is not None:
        check(not text, "edges need a covariate of numbers", repr(text[0]) if text else None)
        rising = len(edges) > 0 and all(a < b for a, b in pairwise(edges))
        check(rising and all(math.isfinite(edge) for edge in edges), "edges must be rising numbers", list(edges))
    if numeric:
        return _of_numbers([numbers.get(value) for value in values], patients, edges)
    if len(there) > MOST:
        reason = f"{len(there)} different texts in {len(values)} cases make no groups"
        return Groups((), np.zeros(len(values), np.int64), None, reason)
    return _named([value or None for value in values], there, None)


def _of_numbers(values: list[float | None], patients: Patients, edges: Sequence[float] | None) -> Groups:
    distinct = sorted({value for value in values if value is not None})
    if edges is None and len(distinct) <= FEW:
        names = list(dict.fromkeys(f"{value:.10g}" for value in distinct))
        return _named([None if value is None else f"{value:.10g}" for value in values], names, None)
    if edges is None:
        votes = {(who, value) for who, value in zip(list(patients), values, strict=True) if value is not None}
        quartiles = np.quantile([value for _, value in votes], [0.25, 0.5, 0.75])
        # Many equal values make quartiles equal; one at the least value would leave the group below it empty.
        edges = [float(edge) for edge in np.unique(quartiles) if edge > distinct[0]] or [distinct[1]]
    low, high = f"< {edges[0]:.10g}", f">= {edges[-1]:.10g}"
    between = [f"{a:.10g} to < {b:.10g}" for a, b in pairwise(edges)]
    names = [low, *between, high]
    placed = [None if value is None else names[int(np.searchsorted(edges, value, "right"))] for value in values]
    return _named(placed, [name for name in names if name in set(placed)], tuple(float(edge) for edge in edges))


def _named(placed: list[str | None], names: list[str], edges: tuple[float, ...] | None) -> Groups:
    known = {name: index for index, name in enumerate(names)}
    index = np.array([known[name] if name is not None else len(names) for name in placed], dtype=np.int64)
    missing = (MISSING,) if None in placed else ()
    return Groups((*names, *missing), index, edges)


def _text(value: Any) -> str:
    """Blank where missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return "" if text.lower() in ("nan", "<na>", "nat") else text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
