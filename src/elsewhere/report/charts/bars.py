"""Bars from zero, in rows: changes, at the held-out site and at home, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from elsewhere.report.charts.scale import NAMED, WIDTH, Axis, columns, extent, frame, left_for, name, under_axis

LANE, BETWEEN, GAP, TOP, BOTTOM, RIGHT = 9, 5, 9, 8, 26, 14
"""Units: of one bar, between rows, more between groups, and around all."""


@dataclass(frozen=True)
class Bar:
    """A change; NaN limits where there is no interval.

    Attributes:
        value: where it ends.
        lo, hi: the interval.
        text: on hovering.
        home: of the in-domain test: drawn pale.
    """

    value: float
    lo: float
    hi: float
    text: str
    home: bool = False


@dataclass(frozen=True)
class Bars:
    """A row: its name, the number of its colour, and its bars, one below the other."""

    label: str
    colour: int
    bars: Sequence[Bar]


def reach(groups: Sequence[Sequence[Bars]]) -> tuple[float, float] | None:
    """From where to where an axis for all of these goes, zero included; None where nothing is known."""
    bars = [bar for rows in groups for row in rows for bar in row.bars]
    return extent((number for bar in bars for number in (bar.value, bar.lo, bar.hi)), [0.0])


def bars(
    groups: Sequence[Sequence[Bars]], title: str, *, across: tuple[float, float] | None = None, under: str = ""
) -> Markup:
    """Groups of rows, with room between them, on one axis; nothing where no value is known.

    Args:
        groups: the rows.
        title: what is read out.
        across: the axis, to share it with other charts; None: as these need.
        under: name of the axis.
    """
    groups, own = [rows for rows in groups if rows], reach(groups)
    if own is None:
        return Markup("")
    left = left_for(row.label for rows in groups for row in rows)
    axis = Axis(*(across or own), left, WIDTH - RIGHT)
    places: list[tuple[float, Bars]] = []
    y = float(TOP)
    for rows in groups:
        for row in rows:
            places.append((y, row))
            y += LANE * max(len(row.bars), 1) + BETWEEN
        y += GAP
    foot = y - GAP
    height = foot + BOTTOM + (NAMED if under else 0)
    zero = axis.at(0.0)
    parts = [*columns(axis, TOP, foot, foot + BOTTOM - 10), *under_axis(under, left, WIDTH - RIGHT, height)]
    for top, row in places:
        parts.append(f"<g>{name(row.label, left - 8, top + LANE * len(row.bars) / 2)}")
        for lane, bar in enumerate(row.bars):
            parts.append(_drawn(bar, row, axis, top + LANE * (lane + 0.5)))
        parts.append("</g>")
    parts.append(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{foot:.1f}"/>')
    return frame(title, height, parts)


def _drawn(bar: Bar, row: Bars, axis: Axis, y: float) -> str:
    if math.isnan(bar.value):
        return ""
    kind = f"bar{' pale' if bar.home else ''} c{row.colour % 8}"
    ends = f'x1="{axis.at(0.0):.1f}" x2="{axis.at(bar.value):.1f}"'
    whisker = ""
    if not math.isnan(bar.lo):
        x1, x2 = axis.at(bar.lo), axis.at(bar.hi)
        whisker = f'<path class="whisker" d="M{x1:.1f} {y - 2:.1f}v4m0-2H{x2:.1f}m0-2v4"/>'
    title = escape(f"{row.label}: {bar.text}")
    return f'<g><title>{title}</title><line class="{kind}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>{whisker}</g>'
