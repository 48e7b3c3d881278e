"""Findings: scores by subgroup, for every covariate that makes groups within a held-out site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elsewhere.errors import SettingsError
from elsewhere.evidence.findings_material import HELD_OUT, LOWER_IS_BETTER, REFERENCE, Judged
from elsewhere.evidence.findings_scores import Groups as Cases
from elsewhere.evidence.groups import groups
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

    Numbers are cut at the same edges at every site: those that were given, or the quartiles of all held-out patients.

    Args:
        judged: the cases by method and site.
        covariates: index `case`, a column a covariate as text.
        wanted: the covariates; empty for all that make groups.
        sites: held-out.
        metric: of the table.

    Raises:
        SettingsError: no such covariate, or its groups cannot be made as asked.
    """
    made: list[SubgroupsAt] = []
    methods = [name for name in dict.fromkeys(method for method, _ in judged) if name != REFERENCE]
    everybody = _together([splits[HELD_OUT] for (method, _), splits in judged.items() if method in methods[:1]])
    for one in wanted or _all(covariates):
        if one.covariate not in covariates:
            names = ", ".join(one.covariate for one in _all(covariates))
            raise SettingsError(
                f"--subgroup: found {one.covariate!r}, wanted a covariate of the study: {names or 'it has none'}"
            )
        cases, patients = everybody
        column = covariates[one.covariate]
        of_all = groups(column.reindex(cases).to_numpy(), patients, one.edges)
        if of_all.reason is not None and wanted:
            raise SettingsError(f"--subgroup {one.covariate}: {of_all.reason}")
        if len(of_all.names) < 2:
            continue
        edges = of_all.edges
        found = []
        for method in methods:
            here = [(site, judged[method, site][HELD_OUT]) for site in sites if (method, site) in judged]
            found += [_at(method, site, cases_, column, one.covariate, edges, metric) for site, cases_ in here]
            found += _over_all(method, [cases_ for _, cases_ in here], column, one.covariate, edges, metric)
        some = [at for at in found if at is not None and len(at.rows) > 1]
        made += some
        if not wanted and len({at.covariate for at in made}) == MOST:
            break
    return made


def _all(covariates: pd.DataFrame) -> list[Wanted]:
    return [Wanted(str(name)) for name in covariates if name not in NOT_COVARIATES]


def _together(some: Sequence[Judged]) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    if not some:
        return np.zeros(0, dtype=object), np.zeros(0, dtype=object)
    return np.concatenate([one.cases for one in some]), np.concatenate([one.patients for one in some])


def _at(
    method: str,
    site: str,
    judged: Judged,
    column: pd.Series[str],
    name: str,
    edges: tuple[float, ...] | None,
    metric: str,
) -> SubgroupsAt | None:
    covariate = column.reindex(judged.cases).to_numpy()
    values = judged.values(metric)
    if values is not None:
        better = metric not in LOWER_IS_BETTER
        found = subgroups(
            values, covariate, judged.patients, edges=edges, name=name, higher_is_better=better, n_boot=RESAMPLES
        )
    elif judged.probabilities is not None and judged.target is not None:
        found = subgroups_of_set(
            judged.probabilities, judged.target, metric, covariate, judged.patients, edges=edges, name=name,
            n_boot=RESAMPLES,
        )  # fmt: skip
    else:
        return None
    return _made(method, site, found)


def _over_all(
    method: str,
    some: Sequence[Judged],
    column: pd.Series[str],
    name: str,
    edges: tuple[float, ...] | None,
    metric: str,
) -> list[SubgroupsAt | None]:
    """All sites' cases together, each judged by the model that had not seen its site; only for means over cases."""
    values = [one.values(metric) for one in some]
    if len(some) < 2 or any(one is None for one in values) or len({len(one.seeds) for one in some}) > 1:
        return []
    cases, patients = _together(some)
    table = np.concatenate([one for one in values if one is not None], axis=1)
    better = metric not in LOWER_IS_BETTER
    found = subgroups(
        table, column.reindex(cases).to_numpy(), patients, edges=edges, name=name, higher_is_better=better,
        n_boot=RESAMPLES,
    )  # fmt: skip
    return [_made(method, ALL_SITES, found)]


def _made(method: str, site: str, found: Subgroups) -> SubgroupsAt:
    rows = tuple(row for row in found.rows if row.n_cases)
    gap = found.gap if not math.isnan(found.gap) else float("nan")
    return SubgroupsAt(method, site, found.covariate, rows, gap, found.worst, found.best, found.reason)
