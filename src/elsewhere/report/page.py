"""The page: what stands on top, the sections below it, and the template that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from elsewhere.benchmark.glance import facts_of
from elsewhere.benchmark.loading import Loaded
from elsewhere.benchmark.spec import ORACLE
from elsewhere.evidence.at_a_glance import SHOWN, Glance, at_a_glance
from elsewhere.evidence.caveats import Caveat, standing
from elsewhere.evidence.facts import Facts
from elsewhere.evidence.findings import Findings
from elsewhere.report.blocks import Section
from elsewhere.report.sections import (
    ablation,
    calibration,
    cases,
    comparisons,
    decisions,
    doubt,
    examples,
    home,
    local,
    notes,
    rules,
    runs,
    scores,
    subgroups,
    training,
)
from elsewhere.report.sections.view import View
from elsewhere.wording import clip, parts

LONGEST_STUDY = 24
"""Letters of a study's name in the heading; the whole name is in the title of the window."""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title, heading: of the window, and on top.
        answer: the sentence that everything below is behind; "" where the card has it.
        lead: what was done, in a sentence.
        warnings: what must not be overlooked; none where the card has them.
        methods: names and the numbers of their colours.
        sections: in order.
        footer: at the end.
        glance: the card on top; None: there is none.
    """

    title: str
    heading: str
    answer: str
    lead: str
    warnings: Sequence[str]
    methods: Sequence[tuple[str, int]]
    sections: Sequence[Section]
    footer: str
    glance: Glance | None = None

    @property
    def links(self) -> list[tuple[str, str]]:
        """Anchor and title of each section; where two have the same title, with the rule of selection."""
        titles = [section.title for section in self.sections]
        return [
            (section.name, section.title + f", {section.selection}" * (titles.count(section.title) > 1))
            for section in self.sections
        ]

    @property
    def has_notes(self) -> bool:
        """The brackets of tables are explained on the page, once."""
        return any(section.name == notes.NAME for section in self.sections)


def render(page: Page) -> str:
    """The HTML: one file, without script, that loads nothing. Everything from the data is escaped."""
    environment = Environment(
        loader=PackageLoader("elsewhere.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["parts"] = parts
    return environment.get_template("report.html").render(page=page, shown=SHOWN)


def page_of(loaded: Loaded, found: Sequence[Findings], facts: Facts, prevalence: float | None = None) -> Page:
    """The page of a benchmark or an evaluation.

    Args:
        loaded: the folder.
        found: of each selection rule, in the order of the question; sections below the table are of the first.
        facts: of the folder.
        prevalence: that was asked for.
    """
    first = found[0]
    methods = list(dict.fromkeys(name for one in found for name in one.methods))
    colours = {name: number for number, name in enumerate(methods)}
    marks = standing(facts)
    sees = tuple(str(name) for name in loaded.question.get("sees_unlabelled_target", ()))
    views = [View(one, colours, _of_rule(one.selection, marks), loaded.evaluation, sees) for one in found]
    sections: list[Section] = []
    for number, view in enumerate(views):
        end = "" if number == 0 else f"-{view.findings.selection}"
        sections.append(scores.section(view, f"scores{end}"))
        if number == 0 and len(views) > 1:
            sections.append(rules.section(views))
        if not loaded.evaluation:
            sections.append(comparisons.section(view, f"comparisons{end}"))
    view, found_local, found_ablation = views[0], local.section(loaded), ablation.section(loaded, views[0])
    sections += [
        *([found_ablation] if found_ablation is not None else []),
        cases.section(view),
        home.section(view),
        calibration.section(view),
        decisions.section(view, prevalence),
        subgroups.section(view),
        doubt.section(view),
        *([found_local] if found_local is not None else []),
        training.section(loaded, colours),
        examples.section(loaded, first.selection, colours),
        runs.section(loaded),
        notes.section(),
    ]
    version = loaded.question.get("versions", {}).get("elsewhere", "")
    title = "judged site by site" if loaded.evaluation else "leave one site out"
    return Page(
        f"{first.study}: {title}",
        f"{clip(first.study, LONGEST_STUDY)}: {title}",
        "",
        _lead(loaded, first.task, sees),
        (),
        [(name, colours[name]) for name in methods],
        sections,
        f"Made by elsewhere {version}. The tables are in results.csv, cases.csv, comparisons.csv and evidence.json "
        "beside this file.",
        at_a_glance(first, facts),
    )


def _lead(loaded: Loaded, task: str, sees_target: Sequence[str]) -> str:
    """What was done."""
    kind = f"{task.capitalize()} in {loaded.question.get('dims', '?')}D."
    if loaded.evaluation:
        known = "" if loaded.question.get("seen") else "; whether the sites were new to their model is not known here"
        return f"{kind} The predictions were made elsewhere and are judged as they are, site by site{known}."
    but = f" Its images, without labels, were seen in training by: {', '.join(sees_target)}." if sees_target else ""
    sealed = "labels were" if sees_target else "images were"
    if any(run.spec.oracle for run in loaded.runs):
        return (
            f"{kind} Each column holds out one site, of {'whose labels' if sees_target else 'which'} no weight was "
            f"learnt. For the oracle's choice each validation scored a frozen copy of the model there.{but}"
        )
    return f"{kind} Each column holds out one site: its {sealed} sealed until the model was trained and frozen.{but}"


def warnings(loaded: Loaded) -> list[str]:
    """What must not be overlooked on any table: runs that failed or wait, selection by the held-out site, and such."""
    return [str(one) for one in standing(facts_of(loaded))]


def _of_rule(selection: str, marks: Sequence[Caveat]) -> list[str]:
    """Those that belong on a rule's tables."""
    return [mark.stamp or mark.head for mark in marks if mark.head != ORACLE.upper() or selection == ORACLE]
