"""How the cases of each held-out site are spread: a mean hides the worst of them."""

from __future__ import annotations

from elsewhere.report.blocks import Figure, Figures, Section
from elsewhere.report.charts import Strip, strips
from elsewhere.report.charts.scale import extent
from elsewhere.report.sections.view import View


def section(view: View, name: str = "cases") -> Section:
    """Every case of each site, method by method."""
    found = view.findings
    what = "probability given to the true class" if found.task == "classification" else view.axis
    title = "Case by case"
    figures, across = [], extent(v for sites in found.cases.values() for values in sites.values() for v in values)
    if found.task == "classification":
        across = (0.0, 1.0)
    for site in found.sites:
        rows = [
            Strip(method, view.colours.get(method, 7), found.cases[method][site])
            for method in found.methods
            if found.cases.get(method, {}).get(site)
        ]
        if rows:
            n = max(len(row.values) for row in rows)
            chart = strips(rows, f"{what} of the cases of {site}", across=across, under=what)
            figures.append(Figure(f"{site} ({n} {'case' if n == 1 else 'cases'})", chart))
    if not figures:
        return view.empty(name, title, found.missing.get(name, "no score of single cases was written"))
    of = ", mean over seeds" if found.n_seeds > 1 else ""
    caption = f"{what[0].upper()}{what[1:]} of every held-out case{of}. Box: half of the cases; bar: median."
    return Section(name, title, [Figures(figures, [caption])], selection=found.selection)
