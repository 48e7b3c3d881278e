"""The page: what stands on top, the sections below it, and the template that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from elsewhere.benchmark.loading import Loaded
from elsewhere.benchmark.spec import ORACLE
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
    rules,
    runs,
    scores,
    subgroups,
    training,
)
from elsewhere.report.sections.view import View

NEW = "the model was not trained at a site of this name"
"""What `elsewhere evaluate` writes of a site that is new to the model: the words of `benchmark.external_model`, which
brings torch."""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title, heading: of the window, and on top.
        answer: the sentence that everything below is behind.
        lead: what was done, in a sentence.
        warnings: what must not be overlooked.
        methods: names and the numbers of their colours.
        sections: in order.
        footer: at the end.
    """

    title: str
    heading: str
    answer: str
    lead: str
    warnings: Sequence[str]
    methods: Sequence[tuple[str, int]]
    sections: Sequence[Section]
    footer: str

    @property
    def links(self) -> list[tuple[str, str]]:
        """Anchor and title of each section; where two have the same title, with the rule of selection."""
        titles = [section.title for section in self.sections]
        return [
            (section.name, section.title + f", {section.selection}" * (titles.count(section.title) > 1))
            for section in self.sections
        ]


def render(page: Page) -> str:
    """The HTML: one file, without script, that loads nothing. Everything from the data is escaped."""
    environment = Environment(
        loader=PackageLoader("elsewhere.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(page=page)


def page_of(loaded: Loaded, found: Sequence[Findings], prevalence: float | None = None) -> Page:
    """The page of a benchmark or an evaluation.

    Args:
        loaded: the folder.
        found: of each selection rule, in the order of the question; sections below the table are of the first.
        prevalence: that was asked for.
    """
    first = found[0]
    methods = list(dict.fromkeys(name for one in found for name in one.methods))
    colours = {name: number for number, name in enumerate(methods)}
    marks = warnings(loaded)
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
    ]
    version = loaded.question.get("versions", {}).get("elsewhere", "")
    title, heading = "leave one site out", "how do models do at a site that they have never seen?"
    if loaded.evaluation:
        title, heading = "judged site by site", "how good are these predictions, site by site?"
    return Page(
        f"{first.study}: {title}",
        f"{first.study}: {heading}",
        first.answer,
        _lead(loaded, first.task, sees),
        marks,
        [(name, colours[name]) for name in methods],
        sections,
        f"Made by elsewhere {version}. The tables are in results.csv, cases.csv, comparisons.csv and evidence.json "
        "beside this file.",
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
    """What must not be overlooked: runs that failed or wait, selection by the held-out site, sites of the training."""
    runs_ = loaded.runs
    failed = sum(run.error is not None for run in runs_)
    waiting = sum(run.error is None and run.done is None for run in runs_)
    found = []
    if failed or waiting:
        states = [f"{failed} of {len(runs_)} runs failed"] * bool(failed)
        states += [f"{waiting} of {len(runs_)} runs are not finished"] * bool(waiting)
        found.append(f"Not complete: {' and '.join(states)}; the same command goes on with them.")
    if any(ORACLE in run.spec.selection for run in runs_):
        found.append(
            "ORACLE: some models were selected by the held-out site itself, which nobody who deploys a model can do."
        )
    for site, words in loaded.question.get("seen", {}).items():
        if words != NEW:
            found.append(f"NOT ELSEWHERE: {site}: {words}. Its score is not that of a site never seen.")
    return found


def _of_rule(selection: str, marks: Sequence[str]) -> list[str]:
    """Those that belong on a rule's tables."""
    return [mark for mark in marks if not mark.startswith("ORACLE") or selection == ORACLE]
