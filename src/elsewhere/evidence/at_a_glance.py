"""The report at a glance: one sentence, four figures, the methods against ERM, what to do next, and warnings.

A pure function of the findings and of a few facts. Page, terminal and model card show the same words. Nothing is said
here that the findings do not hold, and a method is called better only where `findings_comparisons` calls it so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from elsewhere.evidence.caveats import Caveat, called, caveats
from elsewhere.evidence.estimands import THESE_MODELS, THIS_METHOD
from elsewhere.evidence.facts import Facts
from elsewhere.evidence.findings import Findings
from elsewhere.evidence.findings_comparisons import Contrast
from elsewhere.evidence.findings_material import BASELINE, LOWER_IS_BETTER, NAMES, REFERENCE
from elsewhere.evidence.findings_scores import OverallScore, Score
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.next_steps import next_steps
from elsewhere.wording import clip, places, plural

DISTANCES = ("hd95", "assd")

SHOWN = 3
"""Methods, steps and warnings that stand on the card; the others are counted, and a click away."""

NOT_TOLD = "not told apart from ERM"


@dataclass(frozen=True)
class Figure:
    """A number on the card: what it is, the value, and what stands small below it."""

    label: str
    value: str
    small: str


@dataclass(frozen=True)
class Against:
    """A method against ERM in plain words; `verdict` is "better", "worse", "both" or "none"."""

    method: str
    words: str
    verdict: str

    @property
    def short(self) -> str:
        """Its name in a line."""
        return clip(self.method)


@dataclass(frozen=True)
class Glance:
    """The card.

    Attributes:
        study, selection, metric, method: what it is about; the figures are of this method.
        sentence: the answer with its estimand, in about 30 words.
        figures: four: elsewhere, at home, the worst site, patients and sites.
        against: the methods against ERM, the best first.
        compared: in the place of `against` where there is nothing to compare: why; else "".
        steps: what to do next, the most urgent first (`next_steps`).
        caveats: warnings, the gravest first.
    """

    study: str
    selection: str
    metric: str
    method: str
    sentence: str
    figures: tuple[Figure, ...]
    against: tuple[Against, ...]
    compared: str
    steps: tuple[str, ...]
    caveats: tuple[Caveat, ...]

    @property
    def others(self) -> str:
        """The methods that are not named, by their verdicts: `9 more: 2 better somewhere, 7 not told apart`."""
        rest = self.against[SHOWN:]
        if not rest:
            return ""
        words = {"better": "better somewhere", "worse": "worse somewhere", "both": "better here and worse there",
                 "none": "not told apart"}  # fmt: skip
        counts = {word: sum(one.verdict == verdict for one in rest) for verdict, word in words.items()}
        return f"{len(rest)} more: " + ", ".join(f"{n} {word}" for word, n in counts.items() if n)


def at_a_glance(found: Findings, facts: Facts, method: str | None = None) -> Glance:
    """What a person should know first.

    Args:
        found: of a selection rule.
        facts: of the folder.
        method: that the figures are of, as on a model's card: then only this method is compared and warned of; None:
            ERM, or the first method where ERM was not run, and all methods are compared.
    """
    judged = [name for name in dict.fromkeys(one.method for one in found.scores) if name != REFERENCE]
    told = method or (BASELINE if BASELINE in judged or not judged else judged[0])
    about = [method] if method else judged
    against = _against(found, about)
    metric = NAMES.get(found.metric, found.metric)
    return Glance(
        found.study,
        found.selection,
        found.metric,
        told,
        _sentence(found, facts, told),
        _figures(found, facts, told, metric),
        against,
        "" if against else _why_not(found, facts, told),
        tuple(next_steps(found, facts, about)),
        tuple(caveats(found, facts, about)),
    )


def _scores(found: Findings, method: str) -> tuple[list[Score], OverallScore | None]:
    mine = [one for one in found.scores if one.method == method]
    return mine, next((one for one in found.overall if one.method == method), None)


def _sentence(found: Findings, facts: Facts, method: str) -> str:
    mine, total = _scores(found, method)
    metric, name, n = NAMES.get(found.metric, found.metric), called(method), len(found.sites)
    if not mine:
        if found.at:
            return f"{metric} was computed of no case, so there is no answer."
        return "Nothing is finished yet, so there is no answer."
    if total is None and n > 1:
        return f"{name} was judged at {len(mine)} of {n} {_held_out(facts)}; there is no mean over all of them yet."
    models, training, home = (total or mine[0]).models, (total or mine[0]).training, (total or mine[0]).home
    shown = _widest(training, models)
    where = f"{n} {_held_out(facts)}" if n > 1 else f"{clip(mine[0].held_out)}, {_alone(facts)},"
    what = f"a mean {metric} of" if n > 1 else metric
    if math.isnan(models.value):
        return f"At {where} {name}'s {metric} is undefined."
    at_home = "" if home is None or math.isnan(home.value) else f", against {_number(found, home.value)} at home"
    value, limits = _number(found, shown.value), _limits(found, shown)
    about = f"; 95 % interval for {_estimand(shown, facts)}" if limits else f"; {_without(shown)}"
    return f"At {where} {name} reaches {what} {value}{' ' * bool(limits)}{limits}{at_home}{about}."


def _figures(found: Findings, facts: Facts, method: str, metric: str) -> tuple[Figure, ...]:
    mine, total = _scores(found, method)
    over = total or (mine[0] if len(mine) == len(found.sites) == 1 else None)
    away = f"{metric} {'by site' if facts.evaluation and not facts.elsewhere else 'elsewhere'}"
    if over is None or math.isnan(over.models.value):
        first = Figure(away, "–", "not at every site yet" if mine and total is None else "undefined")
        home = Figure(f"{metric} at home", "–", "")
    else:
        shown = _widest(over.training, over.models)
        limits = _limits(found, shown)
        small = f"{limits}, {_estimand(shown, facts)}" if limits else _without(shown)
        first = Figure(away, _number(found, over.models.value), small)
        home = _home(found, facts, over, metric)
    return (first, home, _worst(found, mine), _behind(found))


def _home(found: Findings, facts: Facts, over: Score | OverallScore, metric: str) -> Figure:
    label = f"{metric} at home"
    if over.home is None or math.isnan(over.home.value):
        return Figure(label, "–", "not known: made elsewhere" if facts.evaluation else "no patients to spare")
    gap = over.gap
    small = "unseen patients, same sites"
    if gap is not None and not math.isnan(gap.value):
        small = f"elsewhere minus home {_signed(found, gap.value)} {_limits(found, gap, sign=True)}".rstrip()
    return Figure(label, _number(found, over.home.value), small)


def _worst(found: Findings, mine: Sequence[Score]) -> Figure:
    known = [one for one in mine if not math.isnan(one.models.value)]
    if not known:
        return Figure("worst site", "–", "undefined")
    choose = max if found.metric in LOWER_IS_BETTER else min
    worst = choose(known, key=lambda one: one.models.value)
    small = f"{clip(worst.held_out, 18)} {_limits(found, worst.models)}".rstrip()
    return Figure("worst site" if len(found.sites) > 1 else "the one site", _number(found, worst.models.value), small)


def _behind(found: Findings) -> Figure:
    patients, cases = sum(one.n_patients for one in found.at), sum(one.n_cases for one in found.at)
    small = f"at {plural(len(found.at), 'site')}" + (f", {cases} cases" if cases > patients else "")
    label = "patients (or files)" if any(one.files_as_patients for one in found.at) else "patients"
    return Figure(label, str(patients), small)


def _against(found: Findings, about: Sequence[str]) -> tuple[Against, ...]:
    """The best first: by sites where it is better for the method, then for these models, then by the mean."""
    by_method: dict[str, list[Contrast]] = {}
    for one in found.comparisons.contrasts:
        if one.method in about:
            by_method.setdefault(one.method, []).append(one)
    means = {one.method: one.mean.value for one in found.comparisons.over_sites}
    sign = -1 if found.metric in LOWER_IS_BETTER else 1

    def rank(method: str) -> tuple[float, ...]:
        mine = by_method[method]
        sure, some, bad = (_at(mine, "better", sure=True), _at(mine, "better"), _at(mine, "worse"))
        mean = means.get(method, math.nan)
        return -len(sure), -(len(some) - len(bad)), math.inf if math.isnan(mean) else -sign * mean

    return tuple(_one_against(method, by_method[method], len(found.sites)) for method in sorted(by_method, key=rank))


def _at(some: Sequence[Contrast], verdict: str, *, sure: bool = False) -> list[str]:
    return [one.held_out for one in some if one.verdict == verdict and (one.of_methods or not sure)]


def _one_against(method: str, mine: Sequence[Contrast], n_sites: int) -> Against:
    parts = []
    for verdict in ("better", "worse"):
        sure, every = _at(mine, verdict, sure=True), _at(mine, verdict)
        here = len(every) - len(sure)
        if sure:
            parts.append(f"{verdict} at {_count(sure, n_sites)}, for the method")
            parts += [f"at {here} more, for these models only"] * bool(here)
        elif here:
            parts.append(f"{verdict} at {_count(every, n_sites)}, for these models only")
    better, worse = bool(_at(mine, "better")), bool(_at(mine, "worse"))
    verdict = "both" if better and worse else "better" if better else "worse" if worse else "none"
    return Against(method, "; ".join(parts) or NOT_TOLD, verdict)


def _count(sites: Sequence[str], n_sites: int) -> str:
    """`2 of 4 sites`; the one site by its name."""
    return places(sites, n_sites) if len(sites) == n_sites else f"{len(sites)} of {n_sites} sites"


def _why_not(found: Findings, facts: Facts, method: str) -> str:
    if facts.evaluation:
        return "One set of predictions: there is no ERM to compare it with."
    if found.comparisons.reason:
        return found.comparisons.reason[0].upper() + found.comparisons.reason[1:] + "."
    if method == BASELINE and found.comparisons.contrasts:
        return "ERM is what the other methods are compared with."
    return "No site has both ERM and another method yet."


def _held_out(facts: Facts) -> str:
    if facts.evaluation:
        return "sites new to the model" if facts.elsewhere else "sites"
    return "sites held out from training"


def _alone(facts: Facts) -> str:
    if facts.evaluation:
        return "new to the model" if facts.elsewhere else "the one site judged"
    return "held out from training"


def _estimand(one: Interval, facts: Facts) -> str:
    if facts.evaluation:
        return "these predictions"
    return {THIS_METHOD: "the method", THESE_MODELS: "these models"}.get(one.estimand, one.estimand)


def _widest(training: Interval, models: Interval) -> Interval:
    """The interval that holds most: other patients and trainings where it can be had, else other patients."""
    return models if math.isnan(training.lo) else training


def _digits(found: Findings) -> int:
    return 1 if found.metric in DISTANCES else 2


def _without(one: Interval) -> str:
    """Why there is no interval, where that is short."""
    return f"no interval ({one.reason})" if one.reason and len(one.reason) < 50 else "no interval"


def _number(found: Findings, value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.{_digits(found)}f}".replace("-", "−")


def _signed(found: Findings, value: float) -> str:
    return f"{value:+.{_digits(found)}f}".replace("-", "−")


def _limits(found: Findings, one: Interval, *, sign: bool = False) -> str:
    if math.isnan(one.lo) or math.isnan(one.hi):
        return ""
    show = _signed if sign else _number
    return f"[{show(found, one.lo)}, {show(found, one.hi)}]"
