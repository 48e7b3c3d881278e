"""Home against elsewhere: what is lost on the way to the held-out site, and how hard that site is in itself."""

from __future__ import annotations

import math

from elsewhere.evidence.findings_material import REFERENCE
from elsewhere.report.blocks import Figure, Figures, Row, Section, Table, name
from elsewhere.report.charts import Journey, dumbbell
from elsewhere.report.charts.scale import extent
from elsewhere.report.sections.view import View

TITLE = "Home against elsewhere"

OTHERS = "Home patients are of other sites: held-out minus home holds a difference of people as well as one of images."


def section(view: View, name: str = "home") -> Section:
    """The score in the in-domain test and at the held-out site, beside the reference."""
    found = view.findings
    mine = [one for one in found.scores if one.home is not None]
    if not mine:
        why = "predictions made elsewhere have no home" if view.evaluation else "no in-domain test patients were left"
        return view.empty(name, TITLE, why)
    reference = {one.held_out: one.models for one in found.scores if one.method == REFERENCE}
    values = [v for one in mine if one.home is not None for v in (one.home.value, one.models.value)]
    across = extent([*values, *(one.value for one in reference.values())])
    figures = []
    for site in found.sites:
        rows = [
            Journey(one.method, view.colours.get(one.method, 7), one.home.value, one.models.value)
            for one in mine
            if one.held_out == site and one.home is not None
        ]
        hard = reference[site].value if site in reference else math.nan
        if rows:
            text = f"{view.metric} at home and at {site}"
            chart = dumbbell(rows, text, reference=hard, across=across, under=view.axis)
            figures.append(Figure(f"to {view.at(site)}", chart))
    key = [("ring", "home: in-domain test"), ("dot", "held-out site")]
    if reference:
        key.append(("dashed", "reference: trained within the site"))
    return Section(
        name, TITLE, [Figures(figures, [OTHERS]), _table(view, bool(reference))], selection=found.selection, key=key
    )


def _table(view: View, with_reference: bool) -> Table:
    found = view.findings
    reference = {one.held_out: one.models for one in found.scores if one.method == REFERENCE}
    rows = []
    for one in found.scores:
        if one.home is None:
            continue
        cells = [name(one.held_out), view.score(one.home), view.score(one.models), view.score(one.gap, sign=True)]
        if with_reference:
            cells.append(view.score(reference.get(one.held_out)))
        rows.append(Row(one.method, cells, view.colours.get(one.method)))
    head = ["method", "held out", "home", "elsewhere", "held-out minus home"]
    if with_reference:
        head.append("reference")
    return Table("home against elsewhere", head, rows, (), view.warnings, folded="The numbers")
