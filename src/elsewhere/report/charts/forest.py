"""A forest plot: values with their intervals in rows, all on one axis, so that they can be compared by eye."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from elsewhere.report.charts.scale import NAMED, WIDTH, Axis, columns, extent, frame, left_for, name, under_axis

ROW, TOP, BOTTOM, RIGHT = 18, 8, 26, 14


@dataclass(frozen=True)
class Span:
    """A value in a row; NaN limits where there are none.

    Attributes:
        label: of the row.
        colour: its number.
        value: the dot.
        lo, hi: the narrow interval, a thick line.
        text: on hovering.
        wide: the wide interval, a thin line with ends.
    """

    label: str
    colour: int
    value: float
    lo: float
    hi: float
    text: str
    wide: tuple[float, float] = (math.nan, math.nan)

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that must fit on the axis."""
        return (self.value, self.lo, self.hi, *self.wide)


def reach(spans: Sequence[Span], include: Sequence[float] = ()) -> tuple[float, float] | None:
    """From where to where an axis for all of these goes; None where nothing is known."""
    return extent((number for span in spans for number in span.numbers), include)


def forest(
    spans: Sequence[Span],
    title: str,
    *,
    across: tuple[float, float] | None = None,
    line_at: float | None = None,
    under: str = "",
) -> Markup:
    """Rows on one axis; nothing where no value is known.

    Args:
        spans: the rows.
        title: what is read out.
        across: the axis, to share it with other charts; None: as these need.
        line_at: a value to be compared with, such as no difference.
        under: name of the axis.
    """
    own = reach(spans, [] if line_at is None else [line_at])
    if own is None:
        return Markup("")
    left = left_for(span.label for span in spans)
    axis = Axis(*(across or own), left, WIDTH - RIGHT)
    foot = TOP + ROW * len(spans)
    height = foot + BOTTOM + (NAMED if under else 0)
    parts = [*columns(axis, TOP, foot, foot + BOTTOM - 10), *under_axis(under, left, WIDTH - RIGHT, height)]
    if line_at is not None:
        x = axis.at(line_at)
        parts.append(f'<line class="zero" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{foot}"/>')
    for number, span in enumerate(spans):
        y = TOP + ROW * (number + 0.5)
        parts.append(f"<g><title>{escape(f'{span.label}: {span.text}')}</title>{name(span.label, left - 8, y)}")
        parts += _marks(span, axis, y)
        parts.append("</g>")
    return frame(title, height, parts)


def _marks(span: Span, axis: Axis, y: float) -> list[str]:
    colour, parts = f"c{span.colour % 8}", []
    lo, hi = span.wide
    if not math.isnan(lo):
        x1, x2 = axis.at(lo), axis.at(hi)
        parts.append(
            f'<path class="wide {colour}" d="M{x1:.1f} {y - 4:.1f}v8m0-4H{x2:.1f}m0-4v8"/>'  # with ends
        )
    if not math.isnan(span.lo):
        ends = f'x1="{axis.at(span.lo):.1f}" x2="{axis.at(span.hi):.1f}"'
        parts.append(f'<line class="span {colour}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
    if not math.isnan(span.value):
        parts.append(f'<circle class="dot {colour}" cx="{axis.at(span.value):.1f}" cy="{y:.1f}" r="4"/>')
    return parts
