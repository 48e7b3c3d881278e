"""What N labelled local patients would change, where `elsewhere evaluate --local` was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from elsewhere.benchmark.loading import Loaded
from elsewhere.benchmark.local import SHOWN, SUMMARY
from elsewhere.benchmark.record import reading
from elsewhere.evidence.findings_material import LOWER_IS_BETTER as SCORES_LOWER_IS_BETTER
from elsewhere.evidence.findings_material import NAMES
from elsewhere.report.blocks import Block, Cell, Figure, Figures, Heading, Row, Section, Table, name, number
from elsewhere.report.charts import Line, curves

TITLE = "What local patients would change"

METRICS = {**NAMES, "nll": "negative log likelihood"}
LOWER_IS_BETTER = ("nll", *SCORES_LOWER_IS_BETTER)


def section(loaded: Loaded, anchor: str = "local") -> Section | None:
    """Curves of the change against the number of local patients; None where it was not asked."""
    path = loaded.folder / SUMMARY
    if not path.is_file():
        return None
    numbers = ("n", "value", "change", "change_lo", "change_hi")
    with reading(path, "run the same 'elsewhere evaluate' command again to write it anew"):
        text = {column: str for column in ("site", "what", "metric")}
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={column: [""] for column in numbers})
        table = table[[*text, *numbers]]
    blocks: list[Block] = []
    for what in dict.fromkeys(table["what"]):
        of = table[table["what"] == what]
        shown = [metric for metric in SHOWN.get(what, ()) if metric in set(of["metric"])]
        if shown:
            blocks.append(Heading(f"{str(what).capitalize()} done again on them"))
            blocks.append(Figures([_curve(of[of["metric"] == metric], what, metric) for metric in shown]))
            blocks.append(_table(of[of["metric"].isin(shown)], what))
    if not blocks:
        return None
    lead = (
        "At each site some patients are taken for local ones, threshold or temperature are chosen anew on them (or the "
        "model is trained on with them), and the change is judged on other patients of the site. Thin lines: the "
        "middle 95 % of the draws of who is local. That is no confidence interval for other patients."
    )
    return Section(anchor, TITLE, blocks, lead)


def _curve(table: pd.DataFrame, what: str, metric: str) -> Figure:
    lines = []
    for colour, (site, group) in enumerate(table.groupby("site", sort=False)):
        ordered = group.sort_values("n")
        for column, faint in (("change_lo", True), ("change_hi", True), ("change", False)):
            points = list(zip(ordered["n"].astype(float), ordered[column].astype(float), strict=True))
            lines.append(Line(points, colour, str(site), faint=faint, dots=not faint))
    label = METRICS.get(metric, metric)
    title = f"change of {label} against the number of local patients, {what}"
    return Figure(f"change of {label}", curves(lines, title, under="local patients", beside=f"change of {label}"))


def _table(table: pd.DataFrame, what: str) -> Table:
    numbers = sorted({int(n) for n in table["n"] if n > 0})
    rows = []
    sites = list(dict.fromkeys(table["site"]))
    for key, group in table.groupby(["site", "metric"], sort=False):
        site, metric = (str(part) for part in key)
        by_n: dict[int, dict[Any, Any]] = {int(row["n"]): row for row in group.to_dict("records")}
        as_it_is = float(by_n[0]["value"]) if 0 in by_n else math.nan
        cells = [name(METRICS.get(metric, metric)), Cell(number(as_it_is)), *_changes(by_n, numbers)]
        rows.append(Row(site, cells, sites.index(site)))
    head = ["site", "metric", "as it is", *(f"{n} patients" for n in numbers)]
    caption = "Change from the model as it is, on the same other patients."
    lower = [METRICS[metric] for metric in dict.fromkeys(table["metric"]) if metric in LOWER_IS_BETTER]
    if lower:
        caption += f" Lower is better for {' and '.join(lower)}."
    return Table(f"what local patients change, {what}", head, rows, [caption])


def _changes(by_n: Mapping[int, Mapping[Any, Any]], numbers: Sequence[int]) -> list[Cell]:
    cells = []
    for n in numbers:
        row = by_n.get(n)
        if row is None:
            cells.append(Cell("–", mark="quiet"))
            continue
        lo, hi = float(row["change_lo"]), float(row["change_hi"])
        small = [] if math.isnan(lo) else [f"[{number(lo, sign=True)}, {number(hi, sign=True)}]"]
        cells.append(Cell(number(float(row["change"]), sign=True), small))
    return cells
