"""Findings: the answer in one sentence. It claims what the corrected tests allow and nothing of sites not seen.

Of the models a method is better or worse where their corrected p allows it, and of the method where its own corrected p
does, too. Otherwise the sentence says "for these models only". The mean over sites is no claim: "not corrected".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from elsewhere.evidence.estimands import THESE_MODELS, THIS_METHOD
from elsewhere.evidence.findings_comparisons import Comparisons, Contrast
from elsewhere.evidence.findings_material import BASELINE, REFERENCE
from elsewhere.evidence.findings_scores import OverallScore, Score
from elsewhere.evidence.intervals import Interval

CLAIMS = ("better", "worse")

NAMED = 3
"""Methods up to which the sentence says of each what it changes."""

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
    if total is not None and not math.isnan(total.models.value):
        text, about = _with_limits(total.training, total.models)
        worst = f" (worst: {total.worst:.2f} at {total.worst_site})" if total.worst_site else ""
        home = _at_home(total.home)
        sentence = f"Over these {len(sites)} held-out sites {method} reaches {name} {text}{worst}{home}{about}"
        if not math.isnan(total.new_site.lo):
            lo, hi = total.new_site.lo, total.new_site.hi
            sentence += f", and a site like these would be expected between {lo:.2f} and {hi:.2f}"
        return sentence
    if len(mine) > 1:
        each = ", ".join(f"{_number(score.models.value)} at {score.held_out}" for score in mine)
        return f"{method} has been judged at {len(mine)} of {len(sites)} held-out sites: {name} {each}"
    one = mine[0]
    text, about = _with_limits(one.training, one.models)
    where = f"At {one.held_out}, the one site held out," if len(sites) == 1 else f"At {one.held_out}"
    home = _at_home(one.home)
    return f"{where} {method} reaches {name} {text}{home}{about}"


def _at_home(home: Interval | None) -> str:
    return "" if home is None or math.isnan(home.value) else f", against {home.value:.2f} at home"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def _with_limits(training: Interval, models: Interval) -> tuple[str, str]:
    """Value and interval, and what the interval is about: the wider estimand where it can be had."""
    if math.isnan(models.value):
        return _number(models.value), ""
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
    by_method: dict[str, list[Contrast]] = {}
    for one in found.contrasts:
        by_method.setdefault(one.method, []).append(one)
    told = [method for method, mine in by_method.items() if any(one.verdict in CLAIMS for one in mine)]
    rest = [method for method in by_method if method not in told]
    tests = f"Holm-corrected over {found.hypotheses} tests" if found.hypotheses > 1 else "one test"
    if not told:
        where = "at any of them" if n_sites > 1 else "there"
        subject = f"{rest[0]} is not" if len(rest) == 1 else f"none of the {len(rest)} other methods is"
        return f"{subject} shown to be better or worse than {found.baseline.upper()} {where} ({tests})"
    if any(not math.isnan(one.p_method_holm) for one in found.contrasts):
        tests += ", of the models and of the methods" if found.hypotheses > 1 else " of the models, one of the method"
    against = f"against {found.baseline.upper()} ({tests}) "
    if len(told) > NAMED:
        return against + _in_short(by_method, n_sites)
    against += ", ".join(f"{method} is {_claims(by_method[method], n_sites)}{_by(found, method)}" for method in told)
    if rest:
        others = " and ".join(rest) if len(rest) <= 2 else f"the other {len(rest)}"
        against += f", and {others} {'is' if len(rest) == 1 else 'are'} not told apart from it"
    return against


def _claims(mine: Sequence[Contrast], n_sites: int) -> str:
    claims = []
    for verdict in CLAIMS:
        sure = [one.held_out for one in mine if one.verdict == verdict and one.of_methods]
        here = [one.held_out for one in mine if one.verdict == verdict and not one.of_methods]
        if sure:
            claims.append(f"{verdict} at {_places(sure, n_sites)}")
        if here:
            claims.append(f"{verdict} for these models only at {_places(here, n_sites)}")
    return " and ".join(claims)


def _in_short(by_method: Mapping[str, Sequence[Contrast]], n_sites: int) -> str:
    """Of many methods: which are better everywhere, and how many of the others are what somewhere."""
    everywhere = [
        method
        for method, mine in by_method.items()
        if len(mine) == n_sites and all(one.verdict == "better" and one.of_methods for one in mine)
    ]
    others = {method: {one.verdict for one in mine} for method, mine in by_method.items() if method not in everywhere}
    better, worse = (sum(verdict in verdicts for verdicts in others.values()) for verdict in CLAIMS)
    where = f"all {n_sites} sites" if n_sites > 1 else "it"
    parts = []
    if everywhere:
        names = " and ".join(everywhere) if len(everywhere) <= NAMED else f"{len(everywhere)} methods"
        parts.append(f"{names} {'is' if len(everywhere) == 1 else 'are'} better at {where}")
    else:
        parts.append(f"no method is better at {where}, had it been trained again" if n_sites > 1 else "")
    if others:
        parts.append(f"of {'the other ' if everywhere else ''}{len(others)}, {better} are better and {worse} worse "
                     "somewhere, for these models at least")  # fmt: skip
    return "; ".join(part for part in parts if part)


def _places(where: Sequence[str], n_sites: int) -> str:
    if len(where) == n_sites and n_sites > 1:
        return f"all {n_sites} sites"
    return " and ".join(where) if len(where) <= 2 else f"{len(where)} of {n_sites} sites"


def _by(found: Comparisons, method: str) -> str:
    mean = next((one.mean for one in found.over_sites if one.method == method), None)
    if mean is None or math.isnan(mean.value):
        return ""
    interval = "" if math.isnan(mean.lo) else f" [{mean.lo:+.2f}, {mean.hi:+.2f}], not corrected"
    return f" (mean difference {mean.value:+.2f}{interval})".replace("-", "−")
