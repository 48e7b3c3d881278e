"""Findings: the answer in one sentence. It claims what the corrected tests allow and nothing of sites not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elsewhere.evidence.estimands import THESE_MODELS, THIS_METHOD
from elsewhere.evidence.findings_comparisons import Comparisons
from elsewhere.evidence.findings_material import BASELINE, REFERENCE
from elsewhere.evidence.findings_scores import OverallScore, Score
from elsewhere.evidence.intervals import Interval

NAMES = {
    "dice": "Dice", "iou": "IoU", "accuracy": "accuracy", "hd95": "HD95", "assd": "ASSD", "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy", "average_precision": "average precision", "f1": "F1",
    "brier": "Brier score", "ece": "ECE",
}  # fmt: skip
"""Metrics as people write them."""


def answer(
    metric: str, sites: Sequence[str], scores: Sequence[Score], over: Sequence[OverallScore], found: Comparisons
) -> str:
    """One sentence: the score away from home against the score at home, and what the methods change of it.

    Args:
        metric: of the table.
        sites: held-out sites of the question.
        scores: method by method and site by site.
        over: the same over sites.
        found: the comparisons with ERM.
    """
    methods = [name for name in dict.fromkeys(score.method for score in scores) if name != REFERENCE]
    if not methods:
        return "Nothing is finished yet, so there is no answer."
    told = BASELINE if BASELINE in methods else methods[0]
    parts = [_level(metric, sites, told, scores, over)]
    if found.contrasts:
        parts.append(_methods(found, len(sites)))
    return "; ".join(part for part in parts if part) + "."


def _level(
    metric: str, sites: Sequence[str], method: str, scores: Sequence[Score], over: Sequence[OverallScore]
) -> str:
    name = NAMES.get(metric, metric)
    mine = [score for score in scores if score.method == method]
    total = next((one for one in over if one.method == method), None)
    if total is not None:
        text, about = _with_limits(total.training, total.models)
        worst = f" (worst: {total.worst:.2f} at {total.worst_site})" if total.worst_site else ""
        home = f", against {total.home.value:.2f} at home" if total.home is not None else ""
        sentence = f"Over these {len(sites)} held-out sites {method} reaches {name} {text}{worst}{home}{about}"
        if not math.isnan(total.new_site.lo):
            lo, hi = total.new_site.lo, total.new_site.hi
            sentence += f", and at a site like these it would be expected between {lo:.2f} and {hi:.2f}"
        return sentence
    if len(mine) > 1:
        each = ", ".join(f"{score.models.value:.2f} at {score.held_out}" for score in mine)
        return f"{method} has been judged at {len(mine)} of {len(sites)} held-out sites: {name} {each}"
    one = mine[0]
    text, about = _with_limits(one.training, one.models)
    where = f"At {one.held_out}, the one site held out," if len(sites) == 1 else f"At {one.held_out}"
    home = f", against {one.home.value:.2f} at home" if one.home is not None else ""
    return f"{where} {method} reaches {name} {text}{home}{about}"


def _with_limits(training: Interval, models: Interval) -> tuple[str, str]:
    """Value and interval, and what the interval is about: the wider estimand where it can be had."""
    if math.isnan(models.value):
        return "undefined", ""
    for one in (training, models):
        if not math.isnan(one.lo):
            return f"{models.value:.2f} [{one.lo:.2f}, {one.hi:.2f}]", f" (95 % interval for {ABOUT[one.estimand]})"
    return f"{models.value:.2f} [no interval]", ""


ABOUT = {
    THIS_METHOD: "the method, over patients and training runs",
    THESE_MODELS: "these models, over patients",
}


def _methods(found: Comparisons, n_sites: int) -> str:
    """What the methods change: nothing is claimed that the corrected test does not show, nor hidden that it does."""
    told, rest = [], []
    for method in dict.fromkeys(one.method for one in found.contrasts):
        mine = [one for one in found.contrasts if one.method == method]
        claims = []
        for verdict in ("better", "worse"):
            sure = [one.held_out for one in mine if one.verdict == verdict and one.of_methods]
            here = [one.held_out for one in mine if one.verdict == verdict and not one.of_methods]
            if sure:
                claims.append(f"{verdict} at {_places(sure, n_sites)}")
            if here:
                claims.append(f"{verdict} for these models only at {_places(here, n_sites)}")
        if claims:
            told.append(f"{method} is {' and '.join(claims)}{_by(found, method)}")
        else:
            rest.append(method)
    tests = f"Holm-corrected over {found.hypotheses} tests" if found.hypotheses > 1 else "one test"
    if not told:
        where = "at any of them" if n_sites > 1 else "there"
        subject = f"{rest[0]} is not" if len(rest) == 1 else f"none of the {len(rest)} other methods is"
        return f"{subject} shown to be better or worse than {found.baseline.upper()} {where} ({tests})"
    against = f"against {found.baseline.upper()} ({tests}) " + ", ".join(told)
    if rest:
        others = " and ".join(rest) if len(rest) <= 2 else f"the other {len(rest)}"
        against += f", and {others} {'is' if len(rest) == 1 else 'are'} not told apart from it"
    return against


def _places(where: Sequence[str], n_sites: int) -> str:
    if len(where) == n_sites and n_sites > 1:
        return f"all {n_sites} sites"
    return " and ".join(where) if len(where) <= 2 else f"{len(where)} of {n_sites} sites"


def _by(found: Comparisons, method: str) -> str:
    mean = next((one.mean for one in found.over_sites if one.method == method), None)
    if mean is None or math.isnan(mean.value):
        return ""
    interval = "" if math.isnan(mean.lo) else f" [{mean.lo:+.2f}, {mean.hi:+.2f}]"
    return f" (mean difference {mean.value:+.2f}{interval})".replace("-", "−")
