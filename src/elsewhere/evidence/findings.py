"""What a benchmark's or an evaluation's tables support: everything that a report shows, as plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from elsewhere.errors import SettingsError
from elsewhere.evidence.findings_calibration import CalibrationAt, ConformalAt, calibration_at, conformal_at
from elsewhere.evidence.findings_comparisons import Comparisons, comparisons
from elsewhere.evidence.findings_decisions import DecisionAt, DetectionAt, decisions_at, detection_at
from elsewhere.evidence.findings_doubt import DoubtAt, doubt_at, wrong_below
from elsewhere.evidence.findings_material import (
    BASELINE,
    HELD_OUT,
    HOME,
    PROBABILISTIC,
    REFERENCE,
    Judged,
    Material,
    metric_of,
)
from elsewhere.evidence.findings_scores import Groups, OverallScore, Score, overall, people_of, runs_of, scores
from elsewhere.evidence.findings_sites import SiteAt, site_at
from elsewhere.evidence.findings_subgroups import SubgroupsAt, Wanted, subgroups_of


@dataclass(frozen=True)
class Question:
    """What a person asks beyond the table.

    Attributes:
        metric: of the table; None for the one that models are selected by.
        prevalence: at which predictive values are given besides that of the site; None for the site's only.
        subgroups: covariates, with edges for numbers; empty for all that make sense.
    """

    metric: str | None = None
    prevalence: float | None = None
    subgroups: Sequence[Wanted] = ()


@dataclass(frozen=True)
class Findings:
    """Everything under one selection rule.

    Attributes:
        study, task, metric, selection: what was asked.
        sites, methods: held-out sites and methods of the question, the reference last.
        n_seeds: most of any method at any site.
        at: who is at each held-out site that was judged, and what a trivial answer gets there.
        scores, overall: site by site, and over the sites.
        comparisons: with ERM.
        cases: score of each held-out case, mean over seeds, by method and site (probability of the true class, for
            classification; empty where only labels were given).
        calibration, conformal, decisions, detection, doubt, subgroups: by method and site; empty where `missing` says
            why.
        wrong_below: Dice below which a case counts as wrong; NaN for classification.
        missing: why a section has nothing to show, by its name.
    """

    study: str
    task: str
    metric: str
    selection: str
    sites: tuple[str, ...]
    methods: tuple[str, ...]
    n_seeds: int
    at: tuple[SiteAt, ...]
    scores: tuple[Score, ...]
    overall: tuple[OverallScore, ...]
    comparisons: Comparisons
    cases: Mapping[str, Mapping[str, tuple[float, ...]]]
    calibration: tuple[CalibrationAt, ...] = ()
    conformal: tuple[ConformalAt, ...] = ()
    decisions: tuple[DecisionAt, ...] = ()
    detection: tuple[DetectionAt, ...] = ()
    doubt: tuple[DoubtAt, ...] = ()
    subgroups: tuple[SubgroupsAt, ...] = ()
    wrong_below: float = math.nan
    missing: Mapping[str, str] = field(default_factory=dict)


def find(material: Material, selection: str, question: Question | None = None, *, whole: bool = True) -> Findings:
    """Everything that the tables support under one selection rule.

    Args:
        material: the tables.
        selection: rule.
        question: what a person asks beyond the table.
        whole: all sections; False: scores and comparisons only, for the rules after the first.

    Raises:
        SettingsError: no such metric for the task, or it cannot be computed; a prevalence that is none; a covariate
            that makes no groups.
    """
    question = question or Question()
    if question.prevalence is not None and not 0 < question.prevalence < 1:
        raise SettingsError(f"--prevalence: found {question.prevalence:g}, wanted a share between 0 and 1")
    metric = metric_of(material.task, question.metric, material.metrics_missing)
    sites, methods = material.held_out(selection), material.methods(selection)
    judged: dict[tuple[str, str], Mapping[str, Judged]] = {}
    at: dict[str, SiteAt] = {}
    sections = _Sections(material, selection, question, metric)
    for method in sorted(methods, key=lambda name: name != BASELINE):  # its home says what a bad case is
        for site in sites:
            splits = material.judged(selection, method, site)
            if HELD_OUT not in splits:
                continue
            if whole and method != REFERENCE:
                sections.add(method, site, splits)
            if site not in at and method != REFERENCE:  # which judges a site in parts
                at[site] = site_at(material, site, splits, metric)
            judged[method, site] = {name: _light(cases) for name, cases in splits.items() if name in (HELD_OUT, HOME)}
    judged = {key: judged[key] for key in ((m, s) for m in methods for s in sites) if key in judged}
    if whole:
        sections.add_subgroups(judged)
    runs = runs_of(judged, metric)
    found = scores(material.results, runs, metric, selection)
    found.sort(key=lambda one: (methods.index(one.method), sites.index(one.held_out)))
    over = overall(found, runs, people_of(judged), sites, metric)
    compared = comparisons(judged, found, runs, sites, metric)
    of_cases: dict[str, dict[str, tuple[float, ...]]] = {}
    if not labels_only(material):
        for (method, site), splits in judged.items():
            of_cases.setdefault(method, {})[site] = _values_of_cases(splits[HELD_OUT], metric)
    order = {name: number for number, name in enumerate(methods)}
    return Findings(
        study=material.study,
        task=material.task,
        metric=metric,
        selection=selection,
        sites=sites,
        methods=methods,
        n_seeds=max((len(splits[HELD_OUT].seeds) for splits in judged.values()), default=0),
        at=tuple(at[site] for site in sites if site in at),
        scores=tuple(found),
        overall=tuple(over),
        comparisons=compared,
        cases=of_cases,
        **(sections.found(order) if whole else {}),
    )


class _Sections:
    """Gathers what is found of each method at each site, and why something is not there."""

    def __init__(self, material: Material, selection: str, question: Question, metric: str) -> None:
        self.material, self.selection, self.question, self.metric = material, selection, question, metric
        self.lists: dict[str, list[Any]] = {}
        self.bound = math.nan

    def add(self, method: str, site: str, splits: Mapping[str, Judged]) -> None:
        """All sections of a method at a site; labels alone have none of these."""
        if labels_only(self.material):
            return
        if self.material.task == "segmentation" and math.isnan(self.bound):
            self.bound = self._bound()
        fitted = self.material.fitted(self.selection, method, site)
        found: dict[str, Any] = {
            "calibration": calibration_at(method, site, splits, fitted),
            "conformal": conformal_at(method, site, splits),
            "decisions": decisions_at(method, site, splits, self.material.classes, self.question.prevalence),
            "detection": detection_at(method, site, splits),
            "doubt": doubt_at(method, site, splits, self.bound),
        }
        for name, one in found.items():
            if one is not None:
                self.lists.setdefault(name, []).extend(one if isinstance(one, list) else [one])

    def add_subgroups(self, judged: Groups) -> None:
        """By every covariate, where there are any."""
        covariates, wanted = self.material.covariates, self.question.subgroups
        if covariates is not None:
            sites = self.material.held_out(self.selection)
            self.lists["subgroups"] = list(subgroups_of(judged, covariates, wanted, sites, self.metric))
        elif wanted:
            raise SettingsError(f"--subgroup {wanted[0].covariate}: {no_covariates(self.material)}")

    def _bound(self) -> float:
        methods, sites = self.material.methods(self.selection), self.material.held_out(self.selection)
        method = BASELINE if BASELINE in methods else methods[0]
        homes = (self.material.judged(self.selection, method, site).get(HOME) for site in sites)
        return wrong_below([home for home in homes if home is not None])

    def found(self, order: Mapping[str, int]) -> dict[str, Any]:
        """Arguments of `Findings`, methods in the order of the question."""
        why = {**WHY_MISSING, **(OF_EVALUATIONS if self.material.evaluation else {})}
        if labels_only(self.material):
            why |= dict.fromkeys(NEED_PROBABILITIES, LABELS_ONLY)
        if self.material.covariates is None:
            why["subgroups"] = no_covariates(self.material)
        if self.material.task == "classification":
            del why["detection"]
        missing = {name: reason for name, reason in why.items() if not self.lists.get(name)}
        made = {name: tuple(sorted(some, key=lambda one: order[one.method])) for name, some in self.lists.items()}
        return {**made, "wrong_below": self.bound, "missing": missing}


def labels_only(material: Material) -> bool:
    """Labels were given and no probabilities: those in the tables are 0 and 1, and say nothing of confidence."""
    return PROBABILISTIC in material.metrics_missing


def no_covariates(material: Material) -> str:
    """Why there can be no subgroups, and what to do."""
    again = "evaluate' command writes it" if material.evaluation else "benchmark' command writes it, and trains nothing"
    return f"the folder has no covariates.csv; the same 'elsewhere {again}"


WHY_MISSING = {
    "calibration": "no probabilities were written, so calibration cannot be told",
    "conformal": "not every run has calibration patients (small sites have none to spare, and before evaluation 2 they "
    "were not written), so there is nothing to fit prediction sets on",
    "decisions": "not every run has the calibration patients that a threshold needs, of a classification with and "
    "without the finding (small sites have none to spare, and before evaluation 2 they were not written), and a "
    "threshold is never chosen on the held-out site",
    "detection": "lesions were not counted: they come with evaluation 2",
    "doubt": "neither confidence nor outlier scores were written: they come with evaluation 2",
    "subgroups": "the manifest has no covariate with at least two groups at a held-out site",
}
"""Sentences for sections with nothing in them."""

OF_EVALUATIONS = {
    "calibration": "no probabilities were given, so calibration cannot be told",
    "conformal": "predictions made elsewhere come without calibration patients, so there is nothing to fit prediction "
    "sets on",
    "decisions": "predictions made elsewhere come without calibration patients, and a threshold is never chosen on the "
    "patients that it is judged by",
    "detection": "lesions could not be counted",
    "doubt": "no probabilities were given, so there is no confidence to look at",
}
"""Instead of these, where predictions were made elsewhere."""

NEED_PROBABILITIES = ("cases", "calibration", "conformal", "decisions", "doubt")

LABELS_ONLY = "labels were given and no probabilities, so nothing that weighs confidence can be told"


def plain(value: Any) -> Any:
    """Findings as JSON holds them: NaN and infinity are null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else bool(value) if isinstance(value, np.bool_) else value


def _light(judged: Judged) -> Judged:
    """Without the histograms, which are most of it, and have been looked at."""
    return dataclasses.replace(judged, histograms={})


def _values_of_cases(judged: Judged, metric: str) -> tuple[float, ...]:
    if judged.probabilities is not None and judged.target is not None:
        values = judged.probabilities[:, np.arange(len(judged.cases)), judged.target]
    else:
        found = judged.values(metric)
        if found is None:
            return ()
        values = np.asarray(found)
    some = values[:, ~np.isnan(values).all(axis=0)]
    rounded: list[float] = np.asarray(np.round(np.nanmean(some, axis=0), 4)).tolist()
    return tuple(rounded)
