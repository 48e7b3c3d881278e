"""Sensitivity to input channels, printed: for each variant the image, the feature of the largest change, and all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elsewhere.analysis.everywhere import EVERYWHERE
from elsewhere.analysis.sensitivity_table import (
    ALL_FEATURES,
    ALL_IMAGE,
    FEATURE,
    IMAGE,
    SENSITIVITY,
    interval,
)
from elsewhere.benchmark.sheets import HELD_OUT, HOME
from elsewhere.evidence.estimands import THESE_MODELS, THIS_METHOD
from elsewhere.evidence.findings_material import NAMES

Row = Mapping[Any, Any]


def print_sensitivity(console: Console, table: pd.DataFrame, methods: Sequence[str]) -> None:
    """Print the changes over the held-out sites, a row each.

    Args:
        console: where to.
        table: `sensitivity.csv`.
        methods: in the order in which they are shown.
    """
    if table.empty:
        console.print("channels  no run is finished whose channels could be removed", highlight=False)
        return
    several = EVERYWHERE in set(table["held_out"])
    shown = table[table["held_out"] == EVERYWHERE] if several else table
    for selection, of in shown.groupby("selection", sort=False):
        metric = NAMES.get(of["metric"].iloc[0], of["metric"].iloc[0])
        oracle = " [bold red]ORACLE[/bold red]" if selection == "oracle" else ""
        printed = Table(
            title=f"change of {metric} without an input channel{oracle}", title_justify="left", title_style="bold"
        )
        for name, side in (("method", "left"), ("without", "left"), ("held out", "right"), ("home", "right")):
            printed.add_column(name, justify=side, no_wrap=side == "left")  # type: ignore[arg-type]
        for method in methods:
            _add(printed, method, of[of["method"] == method])
        console.print()
        console.print(printed)
    found = [interval(row) for row in shown.to_dict("records")]
    whose = {one.estimand for one in found if not math.isnan(one.lo)}
    words = {
        THIS_METHOD: "( ): for the method, other patients and training runs",
        THESE_MODELS: "[ ]: for these models",
    }
    brackets = (
        "; ".join(text for estimand, text in words.items() if estimand in whose) or "no interval: too few patients"
    )
    over = "; mean over the held-out sites" if several else ""
    console.print(
        f"[dim]{escape(brackets)}{over}. Below 0: the network is worse without it. The feature of the largest change "
        f"was picked by that change, so part of it is chance; every channel is in {SENSITIVITY}.[/dim]",
        highlight=False,
        soft_wrap=True,
    )


def _add(printed: Table, method: str, of: pd.DataFrame) -> None:
    away = of[of["split"] == HELD_OUT]
    for site, here in away.groupby("held_out", sort=False):
        home = of[(of["split"] == HOME) & (of["held_out"] == site)].set_index("channel")
        rows = here.to_dict("records")
        features = [row for row in rows if row["kind"] == FEATURE and not math.isnan(row["change"])]
        most = [max(features, key=lambda row: abs(row["change"]))] if features else []
        chosen = [row for row in rows if row["kind"] in (IMAGE, ALL_IMAGE)]
        chosen += [*most, *(row for row in rows if row["kind"] == ALL_FEATURES)]
        for row in chosen:
            at_home = text(home.loc[row["channel"]].to_dict()) if row["channel"] in home.index else "-"
            words = f"{row['channel']}{' (largest change)' if row['kind'] == FEATURE else ''}"
            where = f"\n[dim]{escape(str(site))}[/dim]" if site != EVERYWHERE and len(set(of["held_out"])) > 1 else ""
            printed.add_row(escape(method) + where, escape(words), escape(text(row)), escape(at_home))


def text(row: Row) -> str:
    """`-0.123 (-0.20, -0.05)`."""
    one = interval(row)
    if math.isnan(one.value):
        return "undefined"
    if math.isnan(one.lo):
        return f"{one.value:+.3f} no interval"
    left, right = "()" if one.estimand == THIS_METHOD else "[]"
    return f"{one.value:+.3f} {left}{one.lo:+.3f}, {one.hi:+.3f}{right}"
