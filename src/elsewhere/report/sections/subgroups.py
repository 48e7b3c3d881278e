"""Scores by subgroup: groups down, methods across, small groups marked, the gap between those that are not."""

from __future__ import annotations

from collections.abc import Sequence

from elsewhere.evidence.bounded import IN_DOUBT
from elsewhere.evidence.findings_subgroups import ALL_SITES, MOST, SubgroupsAt
from elsewhere.evidence.subgroups import SMALL
from elsewhere.report.blocks import Block, Cell, Row, Section, Table, name, number
from elsewhere.report.sections.view import View

TITLE = "Subgroups"


def section(view: View, name: str = "subgroups") -> Section:
    """By each covariate, each held-out site, each group."""
    found = view.findings
    if not found.subgroups:
        return view.empty(name, TITLE)
    blocks: list[Block] = []
    for covariate in dict.fromkeys(one.covariate for one in found.subgroups):
        mine = [one for one in found.subgroups if one.covariate == covariate]
        blocks.append(_table(view, covariate, mine))
    lead = (
        f"{view.metric} by what the manifest says of the patients. Groups of fewer than {SMALL} patients are marked "
        "and in no gap. A gap is the largest of several differences and above 0 by chance alone; a difference between "
        "groups is not said to be caused by what names them."
    )
    if len({one.covariate for one in found.subgroups}) == MOST:
        lead += f" No more than {MOST} covariates are looked at unless --subgroup names them."
    return Section(name, TITLE, blocks, lead, found.selection)


def _table(view: View, covariate: str, some: Sequence[SubgroupsAt]) -> Table:
    methods = [method for method in view.findings.methods if any(one.method == method for one in some)]
    by = {(one.method, one.held_out): one for one in some}
    rows = []
    for site in [*view.findings.sites, ALL_SITES]:
        here = [by[method, site] for method in methods if (method, site) in by]
        if not here:
            continue
        for group in dict.fromkeys(row.group for one in here for row in one.rows):
            cells, size = [], None
            for method in methods:
                one = by.get((method, site))
                row = next((r for r in one.rows if r.group == group), None) if one is not None else None
                size = size or row
                cells.append(Cell("–", mark="quiet") if row is None else view.score(row.found))
            if size is None:
                continue
            mark = f"{size.n_patients} patients" if size.n_patients != 1 else "1 patient"
            few = "small group" if size.n_patients < SMALL else f"{size.found.n_patients} with a score"
            count = Cell(mark, [few] if size.small else [], "missing" if size.small else "")
            rows.append(Row(f"{covariate} {group}", [name(site), count, *cells]))
        gaps = [by.get((method, site)) for method in methods]
        if any(one is not None and one.gap == one.gap for one in gaps):
            rows.append(Row(f"{covariate}: gap", [name(site), Cell(""), *(_gap(view, one) for one in gaps)]))
    reasons = [reason for reason in dict.fromkeys(one.reason for one in some) if reason]
    captions = [*(f"No gap at some sites: {reason}." for reason in reasons[:2])]
    if any(one.held_out == ALL_SITES for one in some):
        captions.append(
            f"{ALL_SITES}: each case judged by models that had not seen its site; sites and groups are mixed."
        )
    if any(row.found.doubt is not None for one in some for row in one.rows):
        captions.append(f"in doubt: {IN_DOUBT}")
    head = ["group", "held out", "size", *methods]
    alone = len({one.covariate for one in view.findings.subgroups}) == 1 and len(rows) <= 24
    folded = "" if alone else f"By {covariate}"
    return Table(f"{view.metric} by {covariate}", head, rows, captions, view.warnings, folded)


def _gap(view: View, one: SubgroupsAt | None) -> Cell:
    if one is None or one.gap != one.gap:
        return Cell("–", mark="quiet")
    return Cell(number(one.gap, view.digits), [f"worst: {one.worst}"])
