"""A score by subgroup of the patients, its gap and its worst group.

How a covariate makes groups: `evidence.groups`.

Gap and worst group are over the groups of at least `SMALL` patients; smaller ones are shown and marked. The gap is the
largest of several differences and is above 0 by chance alone, the more so the more groups there are and the smaller:
read it beside the intervals. A difference between groups within a site is not said to be caused by the covariate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import SettingsError
from elsewhere.evidence.checks import check
from elsewhere.evidence.groups import Covariate, Groups, groups
from elsewhere.evidence.intervals import Interval, patient_interval, set_interval
from elsewhere.evidence.judged import Patients
from elsewhere.tasks.classification_metrics import HIGHER_IS_BETTER, Metric

SMALL = 20
"""Patients below which a group is marked."""


@dataclass(frozen=True)
class Row:
    """One subgroup.

    Attributes:
        group: its name.
        found: value and interval, for the models at hand.
        n_cases, n_patients: of the group, with or without a score.
        small: fewer than `SMALL` patients with a score.
    """

    group: str
    found: Interval
    n_cases: int
    n_patients: int
    small: bool


@dataclass(frozen=True)
class Subgroups:
    """All subgroups of a covariate.

    Attributes:
        covariate: its name.
        rows: of every group.
        gap: best minus worst value, never negative; NaN with fewer than two groups that are not small.
        worst, best: names of those groups; None where there is no gap.
        edges: between numbers; None where each value is a group.
        reason: None, or why there is no gap, or no group.
    """

    covariate: str
    rows: tuple[Row, ...]
    gap: float
    worst: str | None
    best: str | None
    edges: tuple[float, ...] | None = None
    reason: str | None = None


def subgroups(
    values: NDArray[Any],
    covariate: Covariate | Groups,
    patients: Patients,
    *,
    edges: Sequence[float] | None = None,
    name: str = "",
    higher_is_better: bool = True,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] | None = None,
) -> Subgroups:
    """A mean over cases (Dice, HD95, right or wrong) by subgroup.

    Args:
        values: (N,) or (S, N), S models; NaN where undefined.
        covariate: (N,) text or numbers; or groups that have been made of more cases than these.
        patients: (N,) who each case is of.
        edges: between numbers, rising; None for quartiles.
        name: of the covariate.
        higher_is_better: of the values.
        n_boot, level, seed, bounds: as `patient_interval`.

    Raises:
        SettingsError: as `groups` and `patient_interval`.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    owner = np.asarray(patients, dtype=object)
    check(table.shape[1] == len(owner), f"there must be one patient a case ({table.shape[1]})", len(owner))

    def interval(where: NDArray[np.bool_]) -> Interval:
        some, whose = table[:, where], owner[where].tolist()
        return patient_interval(some, whose, n_boot=n_boot, level=level, seed=seed, bounds=bounds)

    return _table(interval, _groups(covariate, patients, edges), patients, name, higher_is_better)


def subgroups_of_set(
    probabilities: NDArray[Any],
    target: NDArray[Any],
    metric: str | Metric,
    covariate: Covariate | Groups,
    patients: Patients,
    *,
    edges: Sequence[float] | None = None,
    name: str = "",
    higher_is_better: bool | None = None,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Subgroups:
    """A metric of a set of cases (AUROC, F1, Brier, ...) by subgroup.

    Args:
        probabilities: (N, K) or (S, N, K), S models; a row with a NaN is none of its model's own.
        target: (N,) class indices.
        metric: as `set_interval`.
        covariate: (N,) text or numbers; or groups that have been made of more cases than these.
        patients: (N,) who each case is of.
        edges: between numbers, rising; None for quartiles.
        name: of the covariate.
        higher_is_better: of the metric; None for what is known of a named one.
        n_boot, level, seed: as `set_interval`.

    Raises:
        SettingsError: as `groups` and `set_interval`.
    """
    stack = np.asarray(probabilities, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    truth, owner = np.asarray(target), np.asarray(patients, dtype=object)
    check(stack.ndim == 3 and stack.shape[1] == len(owner) == len(truth), "one patient and target a case", stack.shape)

    def interval(where: NDArray[np.bool_]) -> Interval:
        some = owner[where].tolist()
        return set_interval(stack[:, where], truth[where], some, metric, n_boot=n_boot, level=level, seed=seed)

    better = HIGHER_IS_BETTER.get(str(metric), True) if higher_is_better is None else higher_is_better
    return _table(interval, _groups(covariate, patients, edges), patients, name, better)


def metric_frame(
    metrics: Any,
    target: NDArray[Any],
    label: NDArray[Any],
    covariate: Covariate,
    patients: Patients,
    edges: Sequence[float] | None = None,
) -> Any:
    """The same groups as a `fairlearn.metrics.MetricFrame`, for whoever works with that; its numbers know no patients.

    Args:
        metrics: a function (target, label) -> number, or several by name, as fairlearn takes them.
        target: (N,) truth.
        label: (N,) what the model said.
        covariate: (N,) text or numbers.
        patients: (N,) who each case is of, for the quartiles.
        edges: between numbers, rising; None for quartiles.

    Raises:
        SettingsError: fairlearn is not installed, or as `groups`.
    """
    try:
        from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise SettingsError("fairlearn is not installed: pip install 'elsewhere[fairness]'") from error
    found = groups(covariate, patients, edges)
    check(found.reason is None, "the covariate must make groups", found.reason)
    of = np.array(found.names, dtype=object)[found.index]
    return MetricFrame(metrics=metrics, y_true=target, y_pred=label, sensitive_features=of)


def _groups(covariate: Covariate | Groups, patients: Patients, edges: Sequence[float] | None) -> Groups:
    if not isinstance(covariate, Groups):
        return groups(covariate, patients, edges)
    check(len(covariate.index) == len(patients), "there must be one group a case", len(covariate.index))
    return covariate


def _table(
    interval: Callable[[NDArray[np.bool_]], Interval],
    of: Groups,
    patients: Patients,
    name: str,
    higher_is_better: bool,
) -> Subgroups:
    owner = np.asarray(patients, dtype=object)
    rows = []
    for index, group in enumerate(of.names):
        where = of.index == index
        if not where.any():
            continue
        n_patients = len(set(owner[where].tolist()))
        found = interval(where)
        rows.append(Row(group, found, int(where.sum()), n_patients, found.n_patients < SMALL))
    nan = float("nan")
    large = [row for row in rows if not row.small and not math.isnan(row.found.value)]
    if len(large) < 2:
        reason = of.reason or f"fewer than two groups of {SMALL} patients to compare"
        return Subgroups(name, tuple(rows), nan, None, None, of.edges, reason)
    rising = sorted(large, key=lambda row: row.found.value if higher_is_better else -row.found.value)
    gap = abs(rising[-1].found.value - rising[0].found.value)
    return Subgroups(name, tuple(rows), gap, rising[0].group, rising[-1].group, of.edges)
