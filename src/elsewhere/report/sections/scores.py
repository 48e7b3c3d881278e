"""The table: methods down, held-out sites across, with what each interval is about; and the same as a picture."""

from __future__ import annotations

import math

from elsewhere.evidence.bounded import IN_DOUBT
from elsewhere.evidence.findings_material import RANKING, REFERENCE
from elsewhere.evidence.findings_scores import OverallScore, Score
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.sites import FEWEST
from elsewhere.report.blocks import Block, Cell, Figure, Figures, Row, Section, Table, limits, name, number
from elsewhere.report.charts import Span, forest
from elsewhere.report.charts.forest import reach
from elsewhere.report.sections.view import DISTANCES, PIXELS, View

NAN = math.nan

CHOSEN = {
    "source-val": "Models were selected on the validation patients of the development sites.",
    "last": "The model is that after the last step.",
    "oracle": "ORACLE: models were selected by the held-out site itself, which nobody who deploys a model can do.",
    "given": "The predictions were made elsewhere and judged as they are.",
}


def section(view: View, name: str = "scores") -> Section:
    """How good each method is at each held-out site, over them, and at home."""
    found = view.findings
    title = f"{view.metric} at the held-out site"
    if not found.scores:
        return view.empty(name, title, "nothing is finished yet")
    blocks: list[Block] = [_table(view), _picture(view)]
    if any(len(one.seeds) > 1 for one in found.scores):
        blocks.append(_seeds(view))
    return Section(name, title, blocks, selection=found.selection)


def _table(view: View) -> Table:
    found = view.findings
    by = {(one.method, one.held_out): one for one in found.scores}
    over = {one.method: one for one in found.overall}
    several, at_home = len(found.sites) > 1, any(one.home is not None for one in found.scores)
    new_site = any(not math.isnan(one.new_site.lo) for one in found.overall)
    head = ["method", *found.sites, *(["mean over these sites"] if several else [])]
    head += [*(["a site like these"] if new_site else []), *(["home", "held-out minus home"] if at_home else [])]
    rows = []
    for method in found.methods:
        mine = [by.get((method, site)) for site in found.sites]
        cells = [Cell("–", mark="quiet") if one is None else view.score(one.models, one.training) for one in mine]
        total = over.get(method)
        if several:
            cells.append(Cell("–", mark="quiet") if total is None else view.score(total.models, total.training))
        if new_site:
            cells.append(_expected(view, total))
        if at_home:
            cells += _home(view, total, [one for one in mine if one is not None], len(found.sites))
        rows.append(Row(method, cells, view.colours.get(method), view.stamps(method)))
    return Table(
        f"{view.metric} by method and held-out site", head, rows, _captions(view, new_site, at_home), view.warnings
    )


def _expected(view: View, total: OverallScore | None) -> Cell:
    if total is None or math.isnan(total.new_site.lo):
        return Cell("–", mark="quiet")
    return Cell(limits(total.new_site, view.digits - 1))


def _home(view: View, total: OverallScore | None, mine: list[Score], n_sites: int) -> list[Cell]:
    home: Interval | None = total.home if total is not None else None
    gap: Interval | None = total.gap if total is not None else None
    if n_sites == 1 and mine:
        home, gap = mine[0].home, mine[0].gap
    return [view.score(home), view.score(gap, sign=True)]


def _captions(view: View, new_site: bool, at_home: bool) -> list[str]:
    found = view.findings
    patients = ", ".join(f"{site} {_size(view, site)}" for site in found.sites)
    what = "over the site's cases" if found.task == "classification" else "mean over cases"
    fewest = min(len(one.seeds) for one in found.scores)
    several = f"{found.n_seeds}" if fewest == found.n_seeds else f"{fewest} to {found.n_seeds}"
    seeds = f"mean of {several} seeds' models" if found.n_seeds > 1 else "one seed"
    if view.evaluation:
        seeds = "one set of predictions"
    lines = [f"{view.metric} ({what}; {seeds}; {view.direction}), over {view.over}. Patients: {patients}."]
    lines.append(CHOSEN.get(found.selection, ""))
    if found.n_seeds == 1 and not view.evaluation:
        lines.append("One seed: what another training run would give cannot be seen; no interval for the method.")
    if fewest == 1 < found.n_seeds:
        lines.append("No ( ): only one seed there, or in one of the sites that a mean is over.")
    if not new_site and len(found.sites) > 1:
        why = next((one.new_site.reason for one in found.overall if one.new_site.reason), "not judged at all of them")
        why = f"with fewer than {FEWEST}" if len(found.sites) < FEWEST else f"({why})"
        lines.append(f"The mean is over {view.over}; {why} nothing is said about another site.")
    if found.metric in DISTANCES:
        lines.append(PIXELS)
    if at_home:
        lines.append("home: in-domain test, unseen patients of the development sites, mean over folds.")
    if REFERENCE in found.methods:
        lines.append(
            "reference: the same network, trained with ERM within the held-out site by patient-wise cross-validation: "
            "how hard the site is in itself."
            + " Only cases that one of its trainings judged are ranked against each other."
            * (found.metric in RANKING)
        )
    if view.sees_target:
        names = ", ".join(view.sees_target)
        lines.append(f"Unlabelled images of the held-out site are seen in training by: {names}; the others see none.")
    if any(one.models.doubt is not None for one in found.scores):
        lines.append(f"in doubt: {IN_DOUBT}")
    return [line for line in lines if line]


def _size(view: View, site: str) -> str:
    """Patients, and cases where these are more."""
    here = [one.models for one in view.findings.scores if one.held_out == site]
    patients, cases = (max((getattr(one, n) for one in here), default=0) for n in ("n_patients", "n_cases"))
    return f"{patients} ({cases} cases)" if cases > patients else f"{patients}"


def _picture(view: View) -> Figures:
    found = view.findings
    groups = {
        view.at(site): [
            _span(view, one.method, one.models, one.training) for one in found.scores if one.held_out == site
        ]
        for site in found.sites
    }
    if found.overall:
        groups["mean over these sites"] = [_span(view, one.method, one.models, one.training) for one in found.overall]
    new = [one for one in found.overall if not math.isnan(one.new_site.lo)]
    if new:
        groups["a site like these"] = [_new_site(view, one) for one in new]
    across = reach([span for spans in groups.values() for span in spans])
    figures = [
        Figure(title, forest(spans, f"{view.axis}: {title}", across=across, under=view.axis))
        for title, spans in groups.items()
        if reach(spans) is not None
    ]
    wide = "; thin line: for this method" if found.n_seeds > 1 else ""
    prediction = "; at a site like these: the 95 % prediction interval" if new else ""
    return Figures(figures, [f"Thick line: 95 % interval for these models{wide}{prediction}. One axis for all."])


def _span(view: View, method: str, models: Interval, training: Interval) -> Span:
    text = f"{number(models.value, view.digits)} {limits(models, view.digits - 1)}"
    wide = (training.lo, training.hi)
    return Span(method, view.colours.get(method, 7), models.value, models.lo, models.hi, text, wide)


def _new_site(view: View, one: OverallScore) -> Span:
    text = limits(one.new_site, view.digits - 1)
    return Span(one.method, view.colours.get(one.method, 7), NAN, NAN, NAN, text, (one.new_site.lo, one.new_site.hi))


def _seeds(view: View) -> Table:
    rows = [
        Row(
            one.method,
            [
                name(one.held_out),
                Cell(number(one.spread, view.digits)),
                Cell(", ".join(number(value, view.digits) for value in one.seeds.values())),
            ],
            view.colours.get(one.method),
        )
        for one in view.findings.scores
    ]
    return Table(
        "spread over seeds",
        ["method", "held out", "standard deviation", "each seed's model"],
        rows,
        warnings=view.warnings,
        folded="Spread over seeds",
    )
