"""A method taken apart: its variants at home and elsewhere, and what their networks lose without an input channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from elsewhere.analysis.ablation import Variant, read_variants
from elsewhere.analysis.everywhere import EVERYWHERE
from elsewhere.analysis.sensitivity_table import (
    ALL_FEATURES,
    ALL_IMAGE,
    FEATURE,
    IMAGE,
    SENSITIVITY,
    interval,
    is_of,
    read_sensitivity,
)
from elsewhere.benchmark.loading import Loaded
from elsewhere.evidence.estimands import THIS_METHOD
from elsewhere.evidence.findings_material import BASELINE, HELD_OUT, HOME
from elsewhere.evidence.findings_scores import OverallScore, Score
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import (
    Block,
    Cell,
    Figure,
    Figures,
    Heading,
    Row,
    Section,
    Table,
    Text,
    limits,
    name,
    number,
)
from elsewhere.report.charts import Bar, Bars, Span, bars, forest
from elsewhere.report.charts.bars import reach as reach_of_bars
from elsewhere.report.charts.forest import reach
from elsewhere.report.sections.view import View

NAN = math.nan

GROUPS = ((IMAGE, ALL_IMAGE), (FEATURE,), (ALL_FEATURES,))
"""Rows of a chart of channels that stand together."""

STALE = (
    f"{SENSITIVITY} is of other runs or rules than these, and is not shown; the 'elsewhere ablate' command of these, "
    "without --sensitivity 0, writes it anew."
)


def section(loaded: Loaded, view: View, anchor: str = "ablation") -> Section | None:
    """The variants side by side, and the change without each channel; None where it is no folder of an ablation."""
    found = read_variants(loaded.folder)
    if found is None:
        return None
    method, variants = found
    scores = _scores(view)
    shown = [one for one in variants if one.label in scores and _is_run(loaded, one)]
    if len(shown) < 2:
        return None
    blocks: list[Block] = [_picture(view, shown, scores), _table(view, shown, scores)]
    table = read_sensitivity(loaded.folder)
    key: list[tuple[str, str]] = []
    if table is not None:
        ours = is_of(loaded.folder, [run.spec for run in loaded.runs])
        table = table[table["selection"] == view.findings.selection] if ours else table.iloc[:0]
        if table.empty:
            blocks.append(Text([STALE], "missing"))
        sites = view.findings.sites
        table = table[table["held_out"] == (EVERYWHERE if len(sites) > 1 else sites[0])]
        drawn = _channels(view, shown, table)
        if drawn is not None:
            key = [("bar", "held out"), ("bar pale", "home"), ("thin", "95 % interval")]
            blocks += [Heading("Without one input channel"), drawn, _numbers(view, shown, table)]
    lead = (
        f"The parts of {method}, added one after the other; one benchmark, with the same patients, settings and "
        "seeds for all."
    )
    return Section(anchor, f"What the parts of {method} add", blocks, lead, view.findings.selection, key, legend=True)


def _is_run(loaded: Loaded, one: Variant) -> bool:
    """What the question trains under this label is the variant: the folder may have been asked another since."""
    specs = [run.spec for run in loaded.runs if run.spec.method == one.label]
    wanted = one.options.items()
    return all(
        spec.trained_as == one.method and all(spec.options.get(key) == value for key, value in wanted) for spec in specs
    )


def _scores(view: View) -> Mapping[str, Score | OverallScore]:
    """By method: at the one held-out site, or over all of them."""
    several = len(view.findings.sites) > 1
    return {one.method: one for one in (view.findings.overall if several else view.findings.scores)}


def _picture(view: View, shown: Sequence[Variant], scores: Mapping[str, Score | OverallScore]) -> Figures:
    away = [_span(view, one.label, scores[one.label].models, scores[one.label].training) for one in shown]
    home = [_span(view, one.label, found) for one in shown if (found := scores[one.label].home) is not None]
    across = reach([*away, *home])
    sites = view.findings.sites
    where = "held out, mean over these sites" if len(sites) > 1 else f"held out: {view.at(sites[0])}"
    figures = [
        Figure(title, forest(spans, f"{view.axis}, {title}", across=across, under=view.axis))
        for title, spans in ((where, away), ("home: in-domain test", home))
        if reach(spans) is not None
    ]
    wide = "; thin line, of the held-out score: for this method" if view.findings.n_seeds > 1 else ""
    return Figures(figures, [f"Thick line: 95 % interval for these models{wide}. One axis for both."])


def _span(view: View, label: str, models: Interval, training: Interval | None = None) -> Span:
    text = f"{number(models.value, view.digits)} {limits(models, view.digits - 1)}"
    wide = (NAN, NAN) if training is None else (training.lo, training.hi)
    return Span(label, view.colours.get(label, 7), models.value, models.lo, models.hi, text, wide)


def _table(view: View, shown: Sequence[Variant], scores: Mapping[str, Score | OverallScore]) -> Table:
    differences = _differences(view)
    rows = []
    for one in shown:
        score = scores[one.label]
        models, training = differences.get(one.label, (None, None))
        cells = [
            Cell(one.what, mark="words long"),
            view.score(score.models, score.training),
            view.score(models, training, sign=True),
            view.score(score.home),
            view.score(score.gap, sign=True),
        ]
        rows.append(Row(one.label, cells, view.colours.get(one.label), view.stamps(one.label)))
    captions = [
        f"{view.metric}; {view.direction}.",
        f"minus {BASELINE}: held out, on the same patients, as in the section that compares each method with it, where "
        "the tests are. No interval here is corrected for the number of variants.",
        "home: in-domain test, unseen patients of the development sites, mean over folds.",
    ]
    head = ["variant", "what its network gets", "held out", f"minus {BASELINE}", "home", "held-out minus home"]
    return Table("the variants", head, rows, captions, view.warnings)


def _differences(view: View) -> dict[str, tuple[Interval, Interval | None]]:
    """From ERM, by method."""
    found = view.findings.comparisons
    if len(view.findings.sites) > 1:
        return {one.method: (one.mean, None) for one in found.over_sites}
    return {one.method: (one.models, one.training) for one in found.contrasts}


def _channels(view: View, shown: Sequence[Variant], table: pd.DataFrame) -> Figures | None:
    """A chart a variant: the image's channels, the features, and all features together."""
    charts: dict[str, list[list[Bars]]] = {}
    for one in shown:
        mine = table[table["method"] == one.label]
        if mine["channel"].nunique() > 1:  # an only channel is all that the network has
            charts[one.label] = [_rows(view, one.label, mine[mine["kind"].isin(kinds)]) for kinds in GROUPS]
    across = reach_of_bars([rows for groups in charts.values() for rows in groups])
    if across is None:
        return None
    under = f"change of {view.axis}"
    figures = [
        Figure(label, bars(groups, f"{under} without each channel, {label}", across=across, under=under))
        for label, groups in charts.items()
    ]
    of_method = any(interval(row).estimand == THIS_METHOD for row in table.to_dict("records"))
    whose = "for these methods: other patients and other training runs" if of_method else "for these models"
    over = ", mean over these sites" if len(view.findings.sites) > 1 else ""
    caption = (
        f"{view.metric} with a channel set to 0 (what dropout puts there in training, and the mean of what is "
        f"normalised image by image) minus {view.metric} with all channels, on the same patients{over}. Nothing is "
        f"trained again, and no other channel is scaled up. The interval is {whose}, not corrected for the number of "
        "channels. Left of the line: the network is worse without it. One axis for all. A variant with one channel has "
        "no chart: without it nothing is left."
    )
    patients = table.groupby("split", sort=False)["n_patients"].max()
    words = {HELD_OUT: "held out", HOME: "home"}
    who = "Patients: " + ", ".join(f"{words[str(split)]} {n}" for split, n in patients.items()) + "."
    who += f" Training runs behind each change: {' or '.join(map(str, sorted(set(table['n_seeds']))))}."
    return Figures(figures, [caption, who])


def _rows(view: View, label: str, table: pd.DataFrame) -> list[Bars]:
    colour = view.colours.get(label, 7)
    rows = []
    for channel, of in table.groupby("channel", sort=False):
        both = [
            _bar(view, row, split == HOME)
            for split in (HELD_OUT, HOME)
            for row in of[of["split"] == split].to_dict("records")
        ]
        rows.append(Bars(str(channel), colour, both))
    return rows


def _bar(view: View, row: Mapping[Any, Any], home: bool) -> Bar:
    one = interval(row)
    text = f"{number(one.value, view.digits, sign=True)} {limits(one, view.digits, sign=True)}"
    return Bar(one.value, one.lo, one.hi, f"{'home' if home else 'held out'} {text}", home)


def _numbers(view: View, shown: Sequence[Variant], table: pd.DataFrame) -> Table:
    rows = []
    for one in shown:
        mine = table[table["method"] == one.label]
        for channel, of in mine.groupby("channel", sort=False):
            by_split = {row["split"]: row for row in of.to_dict("records")}
            changes = [
                view.score(interval(by_split[split]) if split in by_split else None, sign=True)
                for split in (HELD_OUT, HOME)
            ]
            rows.append(Row(one.label, [name(str(channel)), *changes], view.colours.get(one.label)))
    captions = [
        f"Each held-out site is in {SENSITIVITY}.",
    ]
    head = ["variant", "without", "change, held out", "change, home"]
    return Table("change without a channel", head, rows, captions, view.warnings, folded="The numbers")
