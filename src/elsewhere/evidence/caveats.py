"""Warnings that a person needs before any number: each has a rule, and says what was found. The gravest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elsewhere.evidence.facts import Facts
from elsewhere.evidence.findings import Findings
from elsewhere.evidence.findings_material import BASELINE, NAMES, REFERENCE
from elsewhere.evidence.trivial import no_better
from elsewhere.wording import are, clip, places, plural


@dataclass(frozen=True)
class Caveat:
    """A warning: what it is in a few words, and what was found in a sentence; `stamp` is for tables, "" the head."""

    head: str
    text: str
    stamp: str = ""

    def __str__(self) -> str:
        return f"{self.head}: {self.text}"


def standing(facts: Facts) -> list[Caveat]:
    """What belongs on every table too: runs that are missing, selection by the held-out site, sites of the training."""
    found = []
    if facts.failed or facts.waiting:
        states = [f"{facts.failed} of {facts.planned} runs failed"] * bool(facts.failed)
        states += [f"{facts.waiting} of {facts.planned} runs are not finished"] * bool(facts.waiting)
        found.append(Caveat("Not complete", f"{' and '.join(states)}; the same command goes on with them."))
    if facts.oracle:
        text = "some models were selected by the held-out site itself, which nobody who deploys a model can do."
        found.append(Caveat("ORACLE", text))
    for site, words in facts.seen.items():
        found.append(
            Caveat(
                "NOT ELSEWHERE",
                f"{clip(site)}: {words}. Its score is not that of a site never seen.",
                f"NOT ELSEWHERE: {site}",
            )
        )
    return found


def caveats(found: Findings, facts: Facts, about: Sequence[str]) -> list[Caveat]:
    """All of them, the gravest first.

    Args:
        found: of a selection rule.
        facts: of the folder.
        about: methods that are looked at.
    """
    rules = (_trivial(found, about), _collapsed(facts, about), _repeated(facts), _short(found, facts),
             _one_seed(found, facts), _one_class(found), _one_patient(found), _in_doubt(found, about),
             _files(found))  # fmt: skip
    return [*standing(facts), *(one for one in rules if one is not None)]


def useless_at(found: Findings, method: str) -> list[str]:
    """Held-out sites at which a method is not shown to be better than the trivial answer."""
    trivial = {one.held_out: one.trivial for one in found.at}
    return [
        one.held_out
        for one in found.scores
        if one.method == method
        and one.held_out in trivial
        and no_better(one.models, trivial[one.held_out], found.metric)
    ]


def _trivial(found: Findings, about: Sequence[str]) -> Caveat | None:
    bad = {method: sites for method in about if method != REFERENCE and (sites := useless_at(found, method))}
    if not bad:
        return None
    at = [one for one in found.at if any(one.held_out in sites for sites in bad.values())]
    low, high = (f"{pick(one.trivial.value for one in at):.2f}" for pick in (min, max))
    answers = " or ".join(dict.fromkeys(one.trivial.answer for one in at))
    what = f"{NAMES[found.metric]} {low if low == high else f'{low} to {high}'}, the score of {answers}"
    n = len(found.sites)
    common = [site for site in found.sites if all(site in bad.get(method, ()) for method in about)]
    named = [f"{called(method)} (at {places(sites, n)})" for method, sites in bad.items()]
    if len(about) > 1 and common and (len(named) > 2 or all(set(sites) == set(common) for sites in bad.values())):
        who = f"at {places(common, n)} no method is shown to beat"
    elif len(named) > 2:
        who = f"at {places([one.held_out for one in at], n)} {len(named)} of {len(about)} methods are not shown to beat"
    else:
        who = f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} not shown to beat"
    return Caveat("No better than a trivial answer", f"{who} {what}.")


def called(method: str) -> str:
    """A method in a sentence."""
    return "ERM" if method == BASELINE else clip(method)


def _collapsed(facts: Facts, about: Sequence[str]) -> Caveat | None:
    told = []
    for method in about:
        mine = [one for one in facts.curves if one.method == method]
        runs = sum(one.runs for one in mine)
        for count, what in (
            (sum(one.fell for one in mine), "ended below its start"),
            (sum(one.learnt_nothing for one in mine), "never rose above a trivial answer's"),
        ):
            if count:
                told.append(f"{called(method)}'s validation score {what} in {count} of {runs} runs")
    if not told:
        return None
    head = "Training collapsed" if any(collapsed(facts, name) for name in about) else "Validation fell in some runs"
    text = told[0] if len(told) == 1 else f"{told[0]}, {told[1]}" + (f", and {len(told) - 2} more" * (len(told) > 2))
    return Caveat(head, f"{text}.")


def collapsed(facts: Facts, method: str) -> bool:
    """In half of a method's runs or more the validation fell, or never rose."""
    mine = [one for one in facts.curves if one.method == method]
    runs = sum(one.runs for one in mine)
    return bool(runs) and 2 * sum(one.fell + one.learnt_nothing for one in mine) >= runs


def _repeated(facts: Facts) -> Caveat | None:
    sites, patients = facts.at_two_sites, facts.of_two_patients
    told = [f"{plural(sites, 'image')} {are(sites)} at two sites, so what is held out was trained on"] * bool(sites)
    told += [f"{plural(patients, 'image')} {are(patients)} of two patients of a site"] * bool(patients)
    return Caveat("The same image twice", f"{'; '.join(told)}.") if told else None


def _short(found: Findings, facts: Facts) -> Caveat | None:
    if facts.longer.verdict != "pays":
        return None
    text = f"{facts.longer.steps} steps in the place of {facts.steps} gained {facts.longer.gain} on validation."
    return Caveat("Too few steps", text)


def _one_seed(found: Findings, facts: Facts) -> Caveat | None:
    if facts.evaluation or found.n_seeds != 1:
        return None
    return Caveat("One seed", "another training may give another result; nothing is claimed for a method.")


def _one_class(found: Findings) -> Caveat | None:
    alone = [one for one in found.at if one.one_class]
    if not alone:
        return None
    names = places([one.held_out for one in alone], len(found.sites))
    what = f"all cases are {clip(alone[0].one_class)}" if len(alone) == 1 else "all cases of each are of one class"
    return Caveat("One class", f"{what} at {names}; AUROC is undefined there.")


def _one_patient(found: Findings) -> Caveat | None:
    alone = [one.held_out for one in found.at if one.n_patients == 1]
    if not alone:
        return None
    return Caveat(
        "One patient", f"{places(alone, len(found.sites))} has one; nothing is known of other patients there."
    )


def _in_doubt(found: Findings, about: Sequence[str]) -> Caveat | None:
    """Scores whose interval rests on failures that the patients do not show (`bounded.doubt`)."""
    rough = [
        site
        for site in found.sites
        if any(one.held_out == site and one.method in about and one.models.doubt is not None for one in found.scores)
    ]
    if not rough:
        return None
    where = places(rough, len(found.sites))
    return Caveat("Intervals in doubt", f"too few patients at {where} to see how often cases fail outright.")


def _files(found: Findings) -> Caveat | None:
    taken = [one.held_out for one in found.at if one.files_as_patients]
    if not taken:
        return None
    where = places(taken, len(found.sites))
    text = f"at {where} every file counts as a patient; if a person has several, intervals are too narrow."
    return Caveat("Files taken for patients", text)
