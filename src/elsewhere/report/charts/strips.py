"""How the cases of a site are spread: every case a dot, with the quarters and the median of each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from elsewhere.report.charts.scale import NAMED, WIDTH, Axis, columns, extent, frame, left_for, name, under_axis

ROW, TOP, BOTTOM, RIGHT = 30, 8, 26, 14

MOST = 300
"""Dots of a row: of more cases, evenly chosen ones among the sorted, with the extremes."""

GOLDEN = 0.6180339887
"""Spreads the dots over the height of a row without chance, so that a report is the same each time."""


@dataclass(frozen=True)
class Strip:
    """A row: the cases' values."""

    label: str
    colour: int
    values: Sequence[float]


def strips(rows: Sequence[Strip], title: str, *, across: tuple[float, float] | None = None, under: str = "") -> Markup:
    """Rows of dots on one axis, named `under` it; nothing where no value is known."""
    known = [(row, np.sort(np.array([v for v in row.values if np.isfinite(v)]))) for row in rows]
    own = extent(value for _, values in known for value in values)
    if own is None:
        return Markup("")
    left = left_for(row.label for row in rows)
    axis = Axis(*(across or own), left, WIDTH - RIGHT)
    foot = TOP + ROW * len(rows)
    height = foot + BOTTOM + (NAMED if under else 0)
    parts = [*columns(axis, TOP, foot, foot + BOTTOM - 10), *under_axis(under, left, WIDTH - RIGHT, height)]
    for number, (row, values) in enumerate(known):
        y = TOP + ROW * (number + 0.5)
        parts.append(name(row.label, left - 8, y))
        if not len(values):
            continue
        colour = f"c{row.colour % 8}"
        shown = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST)).round().astype(int))]
        dots = "".join(
            f"M{axis.at(v):.1f} {y + ((i * GOLDEN) % 1 - 0.5) * (ROW - 10):.1f}h0" for i, v in enumerate(shown)
        )
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        text = f"{row.label}: median {middle:.3f}, half of the {len(values)} cases between {low:.3f} and {high:.3f}"
        x1, x2, x = axis.at(low), axis.at(high), axis.at(middle)
        place = f'x="{x1:.1f}" y="{y - 8:.1f}" width="{max(x2 - x1, 0.5):.1f}" height="16"'
        parts.append(
            f'<g><title>{escape(text)}</title><path class="dots {colour}" d="{dots}"/>'
            f'<rect class="box {colour}" {place} rx="2"/>'
            f'<line class="median {colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8:.1f}" y2="{y + 8:.1f}"/></g>'
        )
    return frame(title, height, parts)
