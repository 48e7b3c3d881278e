"""Findings: how good each method is at each held-out site, over the sites, and how far that is from home."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elsewhere.evidence import bounded
from elsewhere.evidence.estimands import NEW_SITE, THESE_MODELS, THIS_METHOD
from elsewhere.evidence.findings_material import (
    CALIBRATION,
    HELD_OUT,
    HOME,
    LOWER_IS_BETTER,
    RANKING,
    Judged,
)
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.run_scores import RunScores, mean_scores, set_scores
from elsewhere.evidence.runs import interval_over
from elsewhere.evidence.sites import over_sites

NAN = float("nan")

Groups = Mapping[tuple[str, str], Mapping[str, Judged]]
"""Cases by (method, held-out site), and by split."""

People = Mapping[tuple[str, str], set[str]]
"""Patients by (held-out site, split)."""

Runs = Mapping[tuple[str, str, str], RunScores]
"""Scores of the training runs by method, held-out site and split."""


@dataclass(frozen=True)
class Score:
    """A method at a held-out site.

    Attributes:
        method, held_out: which.
        models: the score, with the interval for these models.
        training: the same score, with the interval for this method (patients and training runs).
        seeds: the score of each seed's model.
        home: in-domain test of the same models; None for references and where there is none.
        gap: held-out minus home: for this method where there are several seeds, else for these models.
    """

    method: str
    held_out: str
    models: Interval
    training: Interval
    seeds: Mapping[int, float]
    home: Interval | None
    gap: Interval | None

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for one."""
        return float(np.std(list(self.seeds.values()), ddof=1)) if len(self.seeds) > 1 else NAN


@dataclass(frozen=True)
class OverallScore:
    """A method over the held-out sites; only where it has been judged at all of several.

    Attributes:
        method: which.
        models: mean over these sites, for these models.
        training: the same, for this method.
        new_site: prediction interval for the score at a site like these; without limits below 5 sites.
        home: mean over folds of the in-domain tests, for these models.
        gap: mean over sites minus home, as `Score.gap`.
        worst_site, worst: where the score is worst.
    """

    method: str
    models: Interval
    training: Interval
    new_site: Interval
    home: Interval | None
    gap: Interval | None
    worst_site: str
    worst: float


def runs_of(judged: Groups, metric: str) -> dict[tuple[str, str, str], RunScores]:
    """The training runs' scores, where the metric of the cases was written."""
    return {
        (method, held_out, split): found
        for (method, held_out), splits in judged.items()
        for split, cases in splits.items()
        if split in (HELD_OUT, HOME) and (found := _runs(cases, metric)) is not None
    }


def scores(results: pd.DataFrame, runs: Runs, metric: str, selection: str) -> list[Score]:
    """A score for each (method, held-out site) that has been judged.

    Args:
        results: `results.csv`.
        runs: of `runs_of`.
        metric: of the table.
        selection: rule.
    """
    wanted = (results["selection"] == selection) & (results["metric"] == metric) & (results["class"] == "all")
    rows: dict[tuple[str, str, str, str], Any] = {
        (row["method"], row["held_out"], row["split"], str(row["seed"])): row
        for row in results[wanted].to_dict("records")
    }

    def found(method: str, held_out: str, split: str) -> Interval | None:
        row = rows.get((method, held_out, split, "all"))
        if row is None:
            return None
        value, lo, hi, patients = float(row["value"]), float(row["lo"]), float(row["hi"]), int(row["n_patients"])
        reason = None if not math.isnan(lo) else "one patient, too few of a class, or all patients score alike"
        doubt = bounded.doubt_of_row(metric, value, (lo, hi), patients)
        return Interval(value, lo, hi, int(row["n_cases"]), patients, reason, THESE_MODELS, doubt=doubt)

    made = []
    for method, held_out in dict.fromkeys((m, h) for m, h, split, seed in rows if split == HELD_OUT):
        models = found(method, held_out, HELD_OUT)
        if models is None:
            continue
        home = found(method, held_out, HOME)
        seeds = {
            int(seed): float(row["value"])
            for (m, h, split, seed), row in rows.items()
            if (m, h, split) == (method, held_out, HELD_OUT) and seed != "all"
        }
        training, gap = _over(runs, method, [held_out], metric)
        if home is not None and (gap is None or math.isnan(gap.lo)):
            gap = difference(models, home)
        made.append(Score(method, held_out, models, training, dict(sorted(seeds.items())), home, gap))
    return made


def _runs(judged: Judged, metric: str) -> RunScores | None:
    values = judged.values(metric)
    if values is not None:
        return mean_scores(values, judged.patients)
    if judged.probabilities is None or judged.target is None:
        return None
    groups = judged.parts if metric in RANKING and judged.parts.any() else None
    return set_scores(judged.probabilities, judged.target, judged.patients, metric, groups=groups)


def overall(
    found: Sequence[Score], runs: Runs, people: People, sites: Sequence[str], metric: str
) -> list[OverallScore]:
    """For each method that has a score at every site, where there are several.

    Args:
        found: of `scores`.
        runs: of `runs_of`.
        people: of `people_of`.
        sites: the held-out sites of the question.
        metric: of the scores.
    """
    made = []
    for method in dict.fromkeys(score.method for score in found):
        mine = {score.held_out: score for score in found if score.method == method}
        if len(mine) < len(sites) or len(sites) < 2:
            continue
        models = _mean_here([mine[site].models for site in sites], people, sites, HELD_OUT)
        homes = [home for site in sites if (home := mine[site].home) is not None]
        home = _mean_here(homes, people, sites, HOME) if len(homes) == len(sites) else None
        training, gap = _over(runs, method, sites, metric)
        if home is not None and (gap is None or math.isnan(gap.lo)):
            gap = difference(models, home)
        away = {site: runs[method, site, HELD_OUT] for site in sites if (method, site, HELD_OUT) in runs}
        new_site = Interval(NAN, NAN, NAN, 0, 0, training.reason, NEW_SITE)
        if len(away) == len(sites):
            new_site = over_sites(away, bounds=bounds_of(metric)).new_site
        values = {site: mine[site].models.value for site in sites}
        whole = not any(map(math.isnan, values.values()))
        worst = (max if metric in LOWER_IS_BETTER else min)(sites, key=lambda site: values[site]) if whole else ""
        made.append(
            OverallScore(
                method,
                models,
                training,
                new_site,
                home,
                gap if home is not None else None,
                worst,
                values.get(worst, NAN),
            )
        )
    return made


def _mean_here(intervals: Sequence[Interval], people: People, sites: Sequence[str], split: str) -> Interval:
    return mean_of(intervals, apart=disjoint([people.get((site, split), set()) for site in sites]))


def _over(runs: Runs, method: str, sites: Sequence[str], metric: str) -> tuple[Interval, Interval | None]:
    """Mean over these sites (or the one), and its gap to home, for this method."""
    away = {site: runs[method, site, HELD_OUT] for site in sites if (method, site, HELD_OUT) in runs}
    if len(away) < len(sites):
        return Interval(NAN, NAN, NAN, 0, 0, f"{metric} of the cases was not written", THIS_METHOD), None
    home = {site: runs[method, site, HOME] for site in sites if (method, site, HOME) in runs}
    gaps = {site: away[site] - home[site] for site in home if away[site].n_runs == home[site].n_runs}
    gap = interval_over(gaps) if len(gaps) == len(sites) else None
    return interval_over(away, bounds=bounds_of(metric)), gap


def bounds_of(metric: str) -> tuple[float, float] | None:
    """Least and largest possible score: a distance has no largest, a Brier score is a sum over classes."""
    return 0.0, {"hd95": math.inf, "assd": math.inf, "brier": 2.0}.get(metric, 1.0)


def mean_of(intervals: Sequence[Interval], *, apart: bool = True) -> Interval:
    """Mean of scores at fixed sites, or of fixed folds.

    Where no patient is in two of them, the distances of each score's limits from its value are put together in
    quadrature (MOVER; Zou and Donner 2008, Statistics in Medicine 27:1693). Where patients are shared (the in-domain
    tests of two folds are largely of the same people) the scores rise and fall together, and the distances add up:
    that is right for full dependence and too wide for less, never too narrow. The interval says how sure the mean over
    THESE sites is, nothing about other sites.

    Args:
        intervals: the scores.
        apart: no patient is in two of them.
    """
    value, lo, hi = (np.array([getattr(one, name) for one in intervals]) for name in ("value", "lo", "hi"))
    mean, n = float(value.mean()), len(intervals)
    together = np.linalg.norm if apart else np.sum
    below, above = (float(together(np.abs(value - limit))) / n for limit in (lo, hi))
    return Interval(
        mean,
        mean - below,
        mean + above,
        sum(one.n_cases for one in intervals),
        sum(one.n_patients for one in intervals),
        "a site has no interval of its own" if math.isnan(below) else None,
        intervals[0].estimand,
        doubt=bounded.doubts([one.doubt for one in intervals]),
    )


def difference(one: Interval, other: Interval) -> Interval:
    """`one` minus `other` of different patients, distances of the limits in quadrature (MOVER)."""
    value = one.value - other.value
    below = math.hypot(one.value - one.lo, other.hi - other.value)
    above = math.hypot(one.hi - one.value, other.value - other.lo)
    reason = one.reason or other.reason if math.isnan(below) else None
    limits, doubt = (value - below, value + above), one.doubt or other.doubt
    return Interval(value, *limits, one.n_cases, one.n_patients, reason, one.estimand, doubt=doubt)


def disjoint(groups: Sequence[set[str]]) -> bool:
    """Nobody is in two groups."""
    return sum(map(len, groups)) == len(set().union(*groups))


def people_of(judged: Groups) -> dict[tuple[str, str], set[str]]:
    """Patients by (held-out site, split)."""
    found: dict[tuple[str, str], set[str]] = {}
    for (_, held_out), splits in judged.items():
        for split, cases in splits.items():
            if split != CALIBRATION:
                found.setdefault((held_out, split), set()).update(map(str, cases.patients))
    return found
