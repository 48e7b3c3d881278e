"""Curves over an axis: training over steps, risk over coverage, right over confident."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from elsewhere.report.charts.scale import WIDTH, Axis, frame, padded, powers, ticks

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 210, 44, 10, 10, 28
NAMED = 14
"""Units more at the bottom where the axis has a name."""


@dataclass(frozen=True)
class Line:
    """A curve: points (x, y), the number of its colour; faint for single seeds, dots where the points are few."""

    points: Sequence[tuple[float, float]]
    colour: int
    label: str
    faint: bool = False
    dots: bool = False


def curves(
    lines: Sequence[Line],
    title: str,
    *,
    logarithmic: bool = False,
    across: tuple[float, float] | None = None,
    up: tuple[float, float] | None = None,
    diagonal: bool = False,
    under: str = "",
) -> Markup:
    """Curves over one axis.

    Args:
        lines: the curves; points whose y is not a number (or not positive, on a logarithmic axis) are left out.
        title: what is read out.
        logarithmic: the upright axis.
        across, up: from where to where the axes go; None: from 0 to the last point, and as the points lie.
        diagonal: draw y = x.
        under: name of the horizontal axis.
    """
    drawn = [Line(_finite(line.points, logarithmic), line.colour, line.label, line.faint, line.dots) for line in lines]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return Markup('<p class="quiet">nothing to draw</p>')

    def height(y: float) -> float:
        return math.log10(y) if logarithmic else y

    xs = [x for line in drawn for x, _ in line.points]
    ys = [height(y) for line in drawn for _, y in line.points]
    bottom = HEIGHT - BOTTOM
    across_axis = Axis(*(across or (0.0, max(*xs, 1.0) if len(xs) > 1 else max(xs[0], 1.0))), LEFT, WIDTH - RIGHT)
    up_axis = Axis(*(up or padded(min(ys), max(ys))), bottom, TOP)

    def at(x: float, y: float) -> str:
        return f"{across_axis.at(x):.1f},{up_axis.at(height(y)):.1f}"

    parts = []
    for rule, text in (powers if logarithmic else ticks)(up_axis.low, up_axis.high):
        y = up_axis.at(rule)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for tick, text in ticks(across_axis.low, across_axis.high):
        parts.append(f'<text x="{across_axis.at(tick):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>')
    if under:
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT + NAMED - 8}" text-anchor="middle">{escape(under)}</text>')
    if diagonal:
        low, high = max(across_axis.low, up_axis.low), min(across_axis.high, up_axis.high)
        parts.append(f'<polyline class="ideal" points="{at(low, low)} {at(high, high)}"/>')
    for line in sorted(drawn, key=lambda one: not one.faint):
        points = [at(*point) for point in line.points]
        style = f"{'faint' if line.faint else 'bold'} c{line.colour % 8}"
        parts.append(
            f'<polyline class="{style}" points="{" ".join(points)}"><title>{escape(line.label)}</title></polyline>'
        )
        if line.dots or len(points) == 1:
            for point in points:
                left, top = point.split(",")
                parts.append(f'<circle class="dot c{line.colour % 8}" cx="{left}" cy="{top}" r="3"/>')
    return frame(title, HEIGHT + (NAMED if under else 0), parts)


def _finite(points: Sequence[tuple[float, float]], positive: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not positive)]
