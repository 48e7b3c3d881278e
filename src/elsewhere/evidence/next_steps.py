"""What to do next, by rules: the first that apply, in this order. `docs/how-to/read-the-report.md` states them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elsewhere.evidence.caveats import collapsed, useless_at
from elsewhere.evidence.facts import Facts
from elsewhere.evidence.findings import Findings
from elsewhere.evidence.findings_comparisons import Contrast
from elsewhere.evidence.findings_material import BASELINE, LOWER_IS_BETTER, REFERENCE
from elsewhere.evidence.findings_scores import Score
from elsewhere.evidence.sites import FEWEST
from elsewhere.wording import are, clip, places, plural

WANTED = 0.05
"""Half width of an interval that a site's score should have (our choice)."""

MOST_PATIENTS = 2000
"""A site is not asked to label more."""

LOST = 0.05
"""Score lost from home to elsewhere from which on local patients are advised, where the interval excludes 0."""

SEEDS = 3
"""Trainings that a claim for a method needs at least."""


def next_steps(found: Findings, facts: Facts, about: Sequence[str]) -> list[str]:
    """Sentences in the imperative, the most urgent first.

    Args:
        found: of a selection rule.
        facts: of the folder.
        about: methods that are looked at.
    """
    methods = [name for name in about if name != REFERENCE]
    rules = (
        _finish(facts),
        _remove(facts),
        _repair(facts, methods),
        _avoid(found, methods),
        _lengthen(facts),
        _local(found, methods),
        _seeds(found, facts),
        _use(found, facts, methods),
        _label(found, methods),
        _sites(found, facts),
    )
    return [one for one in rules if one]


def _finish(facts: Facts) -> str:
    missing = facts.failed + facts.waiting
    return f"Run the same command again: {plural(missing, 'run')} of {facts.planned} {are(missing)} missing." * bool(
        missing
    )


def _remove(facts: Facts) -> str:
    if not facts.at_two_sites + facts.of_two_patients:
        return ""
    return "Remove the images that are there twice (`elsewhere study check` names them), and run again."


def _repair(facts: Facts, methods: Sequence[str]) -> str:
    broken = [name for name in methods if collapsed(facts, name)]
    if not broken:
        return ""
    if BASELINE in broken:
        return "Find out why ERM does not learn (labels, learning rate, length) before anything else."
    name = clip(broken[0]) if len(broken) == 1 else f"{len(broken)} methods"
    return f"Change the options of {name}, or leave {'it' if len(broken) == 1 else 'them'} out: training collapsed."


def _lengthen(facts: Facts) -> str:
    if facts.evaluation or not facts.steps:
        return ""
    n = facts.steps
    if facts.longer.verdict == "pays":
        return f"Train longer (`--steps {facts.longer.steps}`): length still pays."
    if facts.longer.verdict == "":
        return f"Ask whether longer training pays: `elsewhere benchmark --steps {n},{2 * n}`."
    return ""


def _avoid(found: Findings, methods: Sequence[str]) -> str:
    """Where no method is better than a trivial answer."""
    bad = _useless(found, methods)
    if not bad:
        return ""
    where = places([site for site in found.sites if site in bad], len(found.sites))
    return f"Do not use these models at {where}; label patients there and train on them."


def _useless(found: Findings, methods: Sequence[str]) -> set[str]:
    return set.intersection(*(set(useless_at(found, name)) for name in methods)) if methods else set()


def _local(found: Findings, methods: Sequence[str]) -> str:
    """Where much is lost from home to elsewhere."""
    name = BASELINE if BASELINE in methods else next(iter(methods), "")
    mine = [one for one in found.scores if one.method == name]
    over = next((one for one in found.overall if one.method == name), mine[0] if len(mine) == 1 else None)
    gap = over.gap if over is not None and len(mine) == len(found.sites) else None
    if gap is None or math.isnan(gap.lo) or _useless(found, methods):
        return ""
    lost = (gap.value, gap.lo) if found.metric in LOWER_IS_BETTER else (-gap.value, -gap.hi)
    if lost[0] < LOST or lost[1] <= 0:
        return ""
    return "Label some patients of a new site first: `elsewhere evaluate --local 5 10 20` says what they change."


def _seeds(found: Findings, facts: Facts) -> str:
    if facts.evaluation or not 0 < found.n_seeds < SEEDS:
        return ""
    return f"Run {SEEDS} seeds or more (`--seeds {SEEDS}`) before anything is claimed for a method."


def _use(found: Findings, facts: Facts, methods: Sequence[str]) -> str:
    """A method that is better for the method somewhere and worse nowhere; else ERM, where all was compared."""
    contrasts = [one for one in found.comparisons.contrasts if one.method in methods]
    unsure = facts.failed + facts.waiting or found.n_seeds < SEEDS or facts.longer.verdict == "pays" or not contrasts
    if unsure or _useless(found, methods) == set(found.sites):
        return ""
    sure: dict[str, int] = {}
    for name in dict.fromkeys(one.method for one in contrasts):
        mine = [one for one in contrasts if one.method == name]
        if not any(one.verdict == "worse" for one in mine):
            sure[name] = sum(_better(one) for one in mine)
    best = max(sure, key=lambda name: sure[name], default="")
    if best and sure[best]:
        return f"Use {clip(best)}: better for the method at {sure[best]} of {len(found.sites)} sites, worse at none."
    return "Use ERM: no other method is shown to be better without being worse elsewhere."


def _better(one: Contrast) -> bool:
    return one.verdict == "better" and one.of_methods


def _label(found: Findings, methods: Sequence[str]) -> str:
    """So many patients that the widest interval of a site becomes as narrow as wanted: widths go as 1 / sqrt(n)."""
    name = BASELINE if BASELINE in methods else next(iter(methods), "")
    widths = [(half, one) for one in found.scores if one.method == name and (half := _half(one)) > WANTED]
    if not widths or found.metric in ("hd95", "assd"):
        return ""
    half, widest = max(widths, key=lambda pair: pair[0])
    more = math.ceil(round(widest.models.n_patients * ((half / WANTED) ** 2 - 1), 6))
    if more > MOST_PATIENTS:
        return ""
    where = clip(widest.held_out)
    return f"Label about {more} more patients of {where} to know its score to ±{WANTED:g} (now ±{half:.2f})."


def _half(one: Score) -> float:
    half = (one.models.hi - one.models.lo) / 2
    return -1.0 if math.isnan(half) else half


def _sites(found: Findings, facts: Facts) -> str:
    n = len(found.sites)
    if facts.evaluation or n >= FEWEST:
        return ""
    return f"Add sites: from {FEWEST} on the report says what to expect at one more (now {n})."
