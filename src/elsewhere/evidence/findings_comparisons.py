"""Findings: each method against ERM, at each held-out site and over them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.claims import corrected
from elsewhere.evidence.estimands import NEW_SITE, THESE_MODELS, THIS_METHOD
from elsewhere.evidence.findings_material import BASELINE, HELD_OUT, LOWER_IS_BETTER, RANKING, REFERENCE, Judged
from elsewhere.evidence.findings_scores import Groups, Runs, Score, mean_of
from elsewhere.evidence.intervals import NO_VARIATION, Interval
from elsewhere.evidence.paired import Comparison, compare, compare_sets
from elsewhere.evidence.permutation import holm
from elsewhere.evidence.sites import mean_ranks, over_sites

NAN = float("nan")

LEVEL = 0.05
"""A difference is called one where its corrected p is not above this; one of the methods, where theirs is not."""


@dataclass(frozen=True)
class Contrast:
    """A method minus ERM at a held-out site, on the same patients.

    Attributes:
        method, held_out: which.
        training: the difference, with the interval for these methods (patients and training runs).
        models: the same difference, with the interval for these models.
        p: of the sign-flip permutation test over patients.
        p_holm: corrected for all methods and sites of the table.
        verdict: "better", "worse" where p_holm <= LEVEL and there is an interval for these models (without one there
            are too few patients of a class, whatever the test says; but for one difference that all patients share);
            otherwise "not told apart".
        better: probability of being better, as `evidence.paired` defines it.
        permutations, exact: of the test.
        reason: why there is no p, or None.
        p_method: for the methods (patients and training runs); not above 0.05 exactly where `training` excludes 0.
        p_method_holm: corrected for all methods and sites of the table (`evidence.claims`).
    """

    method: str
    held_out: str
    training: Interval
    models: Interval
    p: float
    p_holm: float
    verdict: str
    better: float
    permutations: int
    exact: bool
    reason: str | None
    p_method: float
    p_method_holm: float

    @property
    def of_methods(self) -> bool:
        """What is said of these models may be said of the methods, had they been trained again."""
        return self.p_method_holm <= LEVEL  # False for NaN


@dataclass(frozen=True)
class OverallContrast:
    """A method minus ERM over the held-out sites.

    Attributes:
        method: which.
        mean: of the differences over these sites, for this method where there are several seeds, else for these models.
            Not corrected for the number of methods: no verdict rests on it.
        new_site: prediction interval for the difference at a site like these; without limits below 5 sites.
        better_at, worse_at: sites where it is, by the corrected test.
        rank: mean over sites, 1 the best; of all methods but the reference.
    """

    method: str
    mean: Interval
    new_site: Interval
    better_at: tuple[str, ...]
    worse_at: tuple[str, ...]
    rank: float


@dataclass(frozen=True)
class Comparisons:
    """All contrasts of a table.

    Attributes:
        baseline: what is compared with.
        contrasts: method by method, site by site.
        over_sites: where a method has been judged at all of several sites.
        ranks: mean rank over sites of each method, 1 the best, ERM included.
        hypotheses: for how many tests p, and p for the methods, is corrected.
        reason: why there is nothing to compare, or None.
    """

    baseline: str
    contrasts: tuple[Contrast, ...]
    over_sites: tuple[OverallContrast, ...]
    ranks: Mapping[str, float]
    hypotheses: int
    reason: str | None = None


def comparisons(
    judged: Groups,
    scores: Sequence[Score],
    runs: Runs,
    sites: Sequence[str],
    metric: str,
) -> Comparisons:
    """Compare every method with ERM on the patients of each held-out site.

    Args:
        judged: cases by (method, held-out) and split.
        scores, runs: of the same.
        sites: the held-out sites of the question.
        metric: of the table.
    """
    methods = [m for m in dict.fromkeys(method for method, _ in judged) if m not in (BASELINE, REFERENCE)]
    if not any(method == BASELINE for method, _ in judged):
        return Comparisons(BASELINE, (), (), {}, 0, "ERM was not run: there is nothing to compare the methods with")
    if not methods:
        return Comparisons(BASELINE, (), (), {}, 0, "only ERM was run: there is no other method to compare")
    pairs = [
        (method, site)
        for method in methods
        for site in sites
        if HELD_OUT in judged.get((method, site), {}) and HELD_OUT in judged.get((BASELINE, site), {})
    ]
    raw = [
        contrast(judged[method, site][HELD_OUT], judged[BASELINE, site][HELD_OUT], metric, hypotheses=len(pairs))
        for method, site in pairs
    ]
    made = told_all(pairs, raw, metric)
    ranks = _ranks(scores, sites, metric)
    paired = {pair for pair in pairs if _alike(judged[pair][HELD_OUT], judged[BASELINE, pair[1]][HELD_OUT])}
    return Comparisons(BASELINE, made, _over_sites(made, runs, paired, sites, ranks), ranks, len(pairs))


def contrast(method: Judged, base: Judged, metric: str, *, hypotheses: int = 1) -> Comparison:
    """`method` minus `base`, on the cases and with the seeds that both have.

    Args:
        method, base: judged cases of one site.
        metric: where lower is better the difference is still method minus base, and `better` still means better.
        hypotheses: for how many tests p will be corrected.
    """
    method, base = common(method, base)
    one, other = method.values(metric), base.values(metric)
    better = metric not in LOWER_IS_BETTER
    if one is not None and other is not None:
        return compare(one, other, method.patients, hypotheses=hypotheses, higher_is_better=better)
    if method.probabilities is None or base.probabilities is None or method.target is None:
        nothing = np.full((1, len(method.cases)), np.nan)  # the metric of the cases was not written
        return compare(nothing, nothing, method.patients, hypotheses=hypotheses, higher_is_better=better)
    return compare_sets(
        method.probabilities,
        base.probabilities,
        method.target,
        method.patients,
        metric,
        hypotheses=hypotheses,
        groups=_one_network_each(method, base) if metric in RANKING else None,
    )


def _one_network_each(method: Judged, base: Judged) -> NDArray[np.int64] | None:
    """(S, N) groups of cases that one network judged on each side, where one is a reference; None where none is."""
    if not (method.parts.any() or base.parts.any()):
        return None
    return np.asarray(method.parts * (base.parts.max(initial=0) + 1) + base.parts)


def common(method: Judged, base: Judged) -> tuple[Judged, Judged]:
    """Both on the cases and the seeds that both have, in the same order; all seeds where they have none in common."""
    shared = [seed for seed in method.seeds if seed in base.seeds]
    if shared:
        method, base = method.of_seeds(shared), base.of_seeds(shared)
    elif len(method.seeds) != len(base.seeds):
        n = min(len(method.seeds), len(base.seeds))
        method, base = method.of_seeds(method.seeds[:n]), base.of_seeds(base.seeds[:n])
    place = {case: number for number, case in enumerate(base.cases)}
    keep = np.array([number for number, case in enumerate(method.cases) if case in place], dtype=np.int64)
    return method.only(keep), base.only(np.array([place[method.cases[i]] for i in keep], dtype=np.int64))


def _alike(method: Judged, base: Judged) -> bool:
    """The same seeds on the same cases: what differs is paired as it stands."""
    return method.seeds == base.seeds and set(method.cases) == set(base.cases)


def told_all(
    pairs: Sequence[tuple[str, str]], found: Sequence[Comparison], metric: str, rules: Sequence[str] = ()
) -> tuple[Contrast, ...]:
    """What may be said of each comparison of a table, corrected over all of them.

    Args:
        pairs: (M,) method and held-out site of each.
        found: (M,) the comparisons.
        metric: of the table.
        rules: (M,) selection rule of each, where they differ: run variance is borrowed within a rule.
    """
    rules = rules or [""] * len(pairs)
    table = [((method, rule), (site, rule)) for (method, site), rule in zip(pairs, rules, strict=True)]
    p = zip(holm([one.p for one in found]), corrected(table, found), strict=True)
    return tuple(
        _told(*pair, one, float(models), float(methods), metric)
        for pair, one, (models, methods) in zip(pairs, found, p, strict=True)
    )


def _told(method: str, site: str, one: Comparison, p_holm: float, p_method_holm: float, metric: str) -> Contrast:
    verdict = "not told apart"
    known = not math.isnan(one.models_lo) or one.reason == NO_VARIATION  # the same difference for every patient
    if p_holm <= LEVEL and known:  # the first is False for NaN
        up = one.difference > 0
        verdict = "better" if up != (metric in LOWER_IS_BETTER) else "worse"
    sizes = one.n_cases, one.n_patients
    return Contrast(
        method,
        site,
        Interval(one.difference, one.lo, one.hi, *sizes, one.reason, THIS_METHOD),
        Interval(one.difference, one.models_lo, one.models_hi, *sizes, one.reason, THESE_MODELS),
        one.p,
        p_holm,
        verdict,
        one.better,
        one.n_permutations,
        one.exact,
        one.reason,
        one.p_method,
        p_method_holm,
    )


def _over_sites(
    contrasts: Sequence[Contrast],
    runs: Runs,
    paired: Collection[tuple[str, str]],
    sites: Sequence[str],
    ranks: Mapping[str, float],
) -> tuple[OverallContrast, ...]:
    made = []
    for method in dict.fromkeys(one.method for one in contrasts):
        mine = {one.held_out: one for one in contrasts if one.method == method}
        if len(mine) < len(sites) or len(sites) < 2:
            continue
        pairs = {site: (runs.get((method, site, HELD_OUT)), runs.get((BASELINE, site, HELD_OUT))) for site in sites}
        differences = {
            site: one - other
            for site, (one, other) in pairs.items()
            if one is not None and other is not None and (method, site) in paired
        }
        mean = mean_of([mine[site].models for site in sites])
        new_site = Interval(NAN, NAN, NAN, 0, 0, "not the same seeds and cases at every site", NEW_SITE)
        if len(differences) == len(sites):
            found = over_sites(differences)
            mean, new_site = (mean if math.isnan(found.mean.lo) else found.mean), found.new_site
        made.append(
            OverallContrast(
                method,
                mean,
                new_site,
                tuple(site for site in sites if mine[site].verdict == "better"),
                tuple(site for site in sites if mine[site].verdict == "worse"),
                ranks.get(method, NAN),
            )
        )
    return tuple(made)


def _ranks(scores: Sequence[Score], sites: Sequence[str], metric: str) -> dict[str, float]:
    """Over the sites, of the methods that have a score at each; empty where fewer than two have."""
    values = {(one.method, one.held_out): one.models.value for one in scores if one.method != REFERENCE}
    names = [
        name
        for name in dict.fromkeys(method for method, _ in values)
        if not any(math.isnan(values.get((name, site), NAN)) for site in sites)
    ]
    if len(names) < 2:
        return {}
    table = np.array([[values[name, site] for site in sites] for name in names])
    _, found = mean_ranks(table, higher_is_better=metric not in LOWER_IS_BETTER)
    return dict(zip(names, map(float, found), strict=True))
