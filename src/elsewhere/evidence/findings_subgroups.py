"""Findings: scores by subgroup, for every covariate that makes groups within a held-out site."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elsewhere.errors import SettingsError
from elsewhere.evidence.bounded import bounds_of_case
from elsewhere.evidence.findings_material import HELD_OUT, LOWER_IS_BETTER, REFERENCE, Judged
from elsewhere.evidence.findings_scores import Groups as Cases
from elsewhere.evidence.groups import Groups, groups
from elsewhere.evidence.subgroups import Row, Subgroups, subgroups, subgroups_of_set

RESAMPLES = 300

MOST = 8
"""Covariates that are looked at where none is named: of more, the first."""

ALL_SITES = "all held-out sites"

NOT_COVARIATES = ("label",)


@dataclass(frozen=True)
class Wanted:
    """A covariate, and the edges of its groups where it is a number; None for quartiles."""

    covariate: str
    edges: tuple[float, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """From `COLUMN` or `COLUMN:EDGE,EDGE`.

        Raises:
            SettingsError: an edge is no number.
        """
        name, colon, given = text.rpartition(":")
        if not colon:
            return cls(text)
        try:
            return cls(name, tuple(float(edge) for edge in given.split(",")))
        except ValueError:
            if name.startswith("manifest") or name == "":  # a covariate called as one of our own columns
                return cls(text)
            raise SettingsError(
                f"--subgroup {text}: found edges {given!r}, wanted numbers with commas between them, as in age:40,65"
            ) from None


@dataclass(frozen=True)
class SubgroupsAt:
    """A method at a held-out site (or over all), by one covariate.

    Attributes:
        method, held_out, covariate: which.
        rows: of the groups that have cases.
        gap: best minus worst group of at least 20 patients; NaN where there are fewer than two.
        worst, best: these groups; None where there is no gap.
        reason: why there is no gap, or None.
    """

    method: str
    held_out: str
    covariate: str
    rows: tuple[Row, ...]
    gap: float
    worst: str | None
    best: str | None
    reason: str | None


def subgroups_of(
    judged: Cases, covariates: pd.DataFrame, wanted: Sequence[Wanted], sites: Sequence[str], metric: str
) -> list[SubgroupsAt]:
    """Scores by every covariate that makes at least two groups at a held-out site.

    Groups are the same at every site: numbers are cut at the edges that were given, or at the quartiles of all held-out
    patients.

    Args:
        judged: the cases by method and site.
        covariates: index `case`, a column a covariate as text.
        wanted: the covariates; empty for all that make groups.
        sites: held-out.
        metric: of the table.

    Raises:
        SettingsError: no such covariate, its groups cannot be made as asked, or all cases are in one.
    """
    made: list[SubgroupsAt] = []
    methods = [name for name in dict.fromkeys(method for method, _ in judged) if name != REFERENCE]
    people = {
        case: patient
        for (method, _), splits in judged.items()
        for case, patient in zip(splits[HELD_OUT].cases, splits[HELD_OUT].patients, strict=True)
        if method in methods
    }
    for one in wanted or _all(covariates):
        if one.covariate not in covariates:
            names = ", ".join(one.covariate for one in _all(covariates))
            raise SettingsError(
                f"--subgroup: found {one.covariate!r}, wanted a covariate of the study: {names or 'it has none'}"
            )
        values = covariates[one.covariate].reindex(list(people)).to_numpy()
        made_of_all = groups(values, list(people.values()), one.edges)
        if wanted:
            _require_groups(one.covariate, made_of_all)
        if len(made_of_all.names) < 2:
            continue
        by = _By(one.covariate, made_of_all, dict(zip(people, made_of_all.index, strict=True)))
        found = []
        for method in methods:
            here = [(site, judged[method, site][HELD_OUT]) for site in sites if (method, site) in judged]
            found += [_at(method, site, cases, by, metric) for site, cases in here]
            found += _over_all(method, [cases for _, cases in here], by, metric)
        some = [at for at in found if at is not None and len(at.rows) > 1]
        # Where a group is a class (a diagnosis beside the label) no AUROC is defined, and there is nothing to look at.
        if wanted or not all(math.isnan(row.found.value) for at in some for row in at.rows):
            made += some
        if not wanted and len({at.covariate for at in made}) == MOST:
            break
    return made


@dataclass(frozen=True)
class _By:
    """A covariate, its groups over all held-out cases, and the group of each case."""

    covariate: str
    groups: Groups
    of_case: Mapping[Any, np.int64]

    def of(self, cases: NDArray[Any]) -> Groups:
        return replace(self.groups, index=np.array([self.of_case[case] for case in cases], dtype=np.int64))


def _require_groups(covariate: str, found: Groups) -> None:
    if found.reason is not None:
        raise SettingsError(f"--subgroup {covariate}: {found.reason}")
    if len(found.names) == 1:
        raise SettingsError(f"--subgroup {covariate}: found all cases in one group, {found.names[0]!r}, wanted several")


def _all(covariates: pd.DataFrame) -> list[Wanted]:
    return [Wanted(str(name)) for name in covariates if name not in NOT_COVARIATES]


def _together(some: Sequence[Judged]) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    if not some:
        return np.zeros(0, dtype=object), np.zeros(0, dtype=object)
    return np.concatenate([one.cases for one in some]), np.concatenate([one.patients for one in some])


def _at(method: str, site: str, judged: Judged, by: _By, metric: str) -> SubgroupsAt | None:
    groups_ = by.of(judged.cases)
    values = judged.values(metric)
    if values is not None:
        found = _subgroups(values, groups_, judged.patients, by, metric)
    elif judged.probabilities is not None and judged.target is not None:
        found = subgroups_of_set(
            judged.probabilities, judged.target, metric, groups_, judged.patients, name=by.covariate, n_boot=RESAMPLES
        )
    else:
        return None
    return _made(method, site, found)


def _over_all(method: str, some: Sequence[Judged], by: _By, metric: str) -> list[SubgroupsAt | None]:
    """All sites' cases together, each judged by the model that had not seen its site; only for means over cases."""
    values = [one.values(metric) for one in some]
    if len(some) < 2 or any(one is None for one in values) or len({len(one.seeds) for one in some}) > 1:
        return []
    cases, patients = _together(some)
    table = np.concatenate([one for one in values if one is not None], axis=1)
    return [_made(method, ALL_SITES, _subgroups(table, by.of(cases), patients, by, metric))]


def _subgroups(values: NDArray[Any], of: Groups, patients: NDArray[Any], by: _By, metric: str) -> Subgroups:
    better, bounds = metric not in LOWER_IS_BETTER, bounds_of_case(metric)
    return subgroups(values, of, patients, name=by.covariate, higher_is_better=better, n_boot=RESAMPLES, bounds=bounds)


def _made(method: str, site: str, found: Subgroups) -> SubgroupsAt:
    rows = tuple(row for row in found.rows if row.n_cases)
    gap = found.gap if not math.isnan(found.gap) else float("nan")
    return SubgroupsAt(method, site, found.covariate, rows, gap, found.worst, found.best, found.reason)
