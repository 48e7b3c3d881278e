"""The selection rules side by side: what each method scores when its models are chosen by one rule or by another."""

from __future__ import annotations

from collections.abc import Sequence

from elsewhere.benchmark.spec import ORACLE
from elsewhere.report.blocks import Block, Cell, Row, Section, Table
from elsewhere.report.sections.scores import CHOSEN
from elsewhere.report.sections.view import View

TITLE = "The selection rules side by side"


def section(views: Sequence[View], anchor: str = "rules") -> Section:
    """A row for each method and rule.

    Args:
        views: of each rule, two or more, of the same metric.
        anchor: of the section.
    """
    blocks: list[Block] = [_table(views)]
    lead = (
        "Compare methods by one rule. The rows of a method are of the same trainings, and differ in which of their "
        "models was kept."
    )
    return Section(anchor, TITLE, blocks, lead)


def _table(views: Sequence[View]) -> Table:
    first = views[0]
    sites = tuple(dict.fromkeys(site for view in views for site in view.findings.sites))
    methods = list(dict.fromkeys(method for view in views for method in view.findings.methods))
    at_home = any(one.home is not None for view in views for one in view.findings.scores)
    head = ["method", "selection", *sites, *(["mean over these sites"] if len(sites) > 1 else [])]
    head += ["home"] * at_home
    rows = []
    for method in methods:
        for view in views:
            if method in view.findings.methods:
                cells = [_rule(view.findings.selection), *_cells(view, method, sites, at_home)]
                rows.append(Row(method, cells, view.colours.get(method), view.stamps(method)))
    captions = [f"{first.metric}; {first.direction}."]
    for rule in (view.findings.selection for view in views):
        captions.append(CHOSEN[rule] if rule == ORACLE else f"{rule}: {CHOSEN[rule]}")
    warnings = list(dict.fromkeys(line for view in views for line in view.warnings))
    return Table(f"{first.metric} by method, selection rule and held-out site", head, rows, captions, warnings)


def _rule(selection: str) -> Cell:
    return Cell("ORACLE", mark="missing words") if selection == ORACLE else Cell(selection, mark="words")


def _cells(view: View, method: str, sites: Sequence[str], at_home: bool) -> list[Cell]:
    at = {one.held_out: one for one in view.findings.scores if one.method == method}
    total = next((one for one in view.findings.overall if one.method == method), None)
    cells = [view.score(at[site].models, at[site].training) if site in at else view.score(None) for site in sites]
    home = next(iter(at.values())).home if len(sites) == 1 and at else None
    if len(sites) > 1:
        cells.append(view.score(None) if total is None else view.score(total.models, total.training))
        home = None if total is None else total.home
    return [*cells, *([view.score(home)] if at_home else [])]
