"""From home to elsewhere: what each method loses on the way, and how hard the site is in itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from elsewhere.report.charts.scale import NAMED, WIDTH, Axis, columns, extent, frame, left_for, name, under_axis

ROW, TOP, BOTTOM, RIGHT = 18, 8, 26, 14


@dataclass(frozen=True)
class Journey:
    """A row: the score at home (a ring) and at the held-out site (a dot)."""

    label: str
    colour: int
    home: float
    away: float


def dumbbell(
    rows: Sequence[Journey],
    title: str,
    *,
    reference: float = math.nan,
    across: tuple[float, float] | None = None,
    under: str = "",
) -> Markup:
    """Rows on one axis, with an upright line where the reference is; nothing where no value is known."""
    own = extent([*(v for row in rows for v in (row.home, row.away)), reference])
    if own is None or not rows:
        return Markup("")
    left = left_for(row.label for row in rows)
    axis = Axis(*(across or own), left, WIDTH - RIGHT)
    foot = TOP + ROW * len(rows)
    height = foot + BOTTOM + (NAMED if under else 0)
    parts = [*columns(axis, TOP, foot, foot + BOTTOM - 10), *under_axis(under, left, WIDTH - RIGHT, height)]
    if math.isfinite(reference):
        x = axis.at(reference)
        parts.append(
            f'<line class="ideal" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{foot}">'
            f"<title>reference: {reference:.3f}</title></line>"
        )
    for number, row in enumerate(rows):
        y, colour = TOP + ROW * (number + 0.5), f"c{row.colour % 8}"
        text = f"{row.label}: home {row.home:.3f}, elsewhere {row.away:.3f}"
        parts.append(f"<g><title>{escape(text)}</title>{name(row.label, left - 8, y)}")
        if math.isfinite(row.home) and math.isfinite(row.away):
            parts.append(
                f'<line class="span {colour}" x1="{axis.at(row.home):.1f}" x2="{axis.at(row.away):.1f}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        if math.isfinite(row.home):
            parts.append(f'<circle class="ring {colour}" cx="{axis.at(row.home):.1f}" cy="{y:.1f}" r="4"/>')
        if math.isfinite(row.away):
            parts.append(f'<circle class="dot {colour}" cx="{axis.at(row.away):.1f}" cy="{y:.1f}" r="4.5"/>')
        parts.append("</g>")
    return frame(title, height, parts)
