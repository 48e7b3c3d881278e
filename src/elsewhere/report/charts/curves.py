"""Curves over an axis: training over steps, risk over coverage, right over confident."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from markupsafe import Markup, escape

from elsewhere.report.charts.scale import NAMED, WIDTH, Axis, frame, padded, powers, ticks, under_axis

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 210, 44, 10, 10, 28
DOT, LARGEST = 3.0, 5.0
"""Radius of a dot; of one that stands for the whole."""

COLOURS = 8
"""Of the style sheet: lines of the methods after these have the same colours again, and are dashed."""


@dataclass(frozen=True)
class Line:
    """A curve: points (x, y), the number of its colour; faint for single seeds, dots where the points are few.

    `weights`, one a point, are shares of the whole: the areas of the dots are as these. `faded`, one a point: so little
    is behind the point that it, and the line to it, is drawn pale.
    """

    points: Sequence[tuple[float, float]]
    colour: int
    label: str
    faint: bool = False
    dots: bool = False
    weights: Sequence[float] = ()
    faded: Sequence[bool] = ()

    @property
    def style(self) -> str:
        """Classes of the style sheet."""
        dashed = " second" if self.colour // COLOURS % 2 else ""
        return f"{'faint' if self.faint else 'bold'} c{self.colour % COLOURS}{dashed}"

    def drawn(self, positive: bool) -> Line:
        """Without the points whose y is not a number, or not `positive` where it must be."""
        keep = [i for i, (_, y) in enumerate(self.points) if math.isfinite(y) and (y > 0 or not positive)]
        points, weights = [self.points[i] for i in keep], [self.weights[i] for i in keep if self.weights]
        return replace(self, points=points, weights=weights, faded=[self.faded[i] for i in keep if self.faded])

    @property
    def stretches(self) -> list[tuple[int, int, bool]]:
        """The line in pieces, first and last point of each, and whether it is pale: where one of its ends is."""
        if not any(self.faded) or len(self.points) < 2:
            return [(0, len(self.points) - 1, any(self.faded))]
        pale = [a or b for a, b in pairwise(self.faded)]
        starts = [0, *(i for i in range(1, len(pale)) if pale[i] != pale[i - 1])]
        return [(a, b, pale[a]) for a, b in zip(starts, [*starts[1:], len(pale)], strict=True)]


def curves(
    lines: Sequence[Line],
    title: str,
    *,
    logarithmic: bool = False,
    across: tuple[float, float] | None = None,
    up: tuple[float, float] | None = None,
    diagonal: bool = False,
    under: str = "",
    beside: str = "",
) -> Markup:
    """Curves over one axis.

    Args:
        lines: the curves; points whose y is not a number (or not positive, on a logarithmic axis) are left out.
        title: what is read out.
        logarithmic: the upright axis.
        across, up: from where to where the axes go; None: from 0 to the last point, and as the points lie.
        diagonal: draw y = x.
        under: name of the horizontal axis.
        beside: name of the upright one, which stands on its top.
    """
    drawn = [one for line in lines if (one := line.drawn(logarithmic)).points]
    if not drawn:
        return Markup('<p class="quiet">nothing to draw</p>')

    def height(y: float) -> float:
        return math.log10(y) if logarithmic else y

    xs = [x for line in drawn for x, _ in line.points]
    ys = [height(y) for line in drawn for _, y in line.points]
    top = TOP + (NAMED if beside else 0)
    bottom = top + HEIGHT - TOP - BOTTOM
    height_of_all = bottom + BOTTOM + (NAMED if under else 0)
    across_axis = Axis(*(across or (0.0, max(*xs, 1.0) if len(xs) > 1 else max(xs[0], 1.0))), LEFT, WIDTH - RIGHT)
    up_axis = Axis(*(up or padded(min(ys), max(ys))), bottom, top)

    def at(x: float, y: float) -> str:
        return f"{across_axis.at(x):.1f},{up_axis.at(height(y)):.1f}"

    parts = under_axis(under, LEFT, WIDTH - RIGHT, height_of_all)
    if beside:
        parts.append(f'<text x="2" y="{TOP + 2}">{escape(beside)}</text>')
    for rule, text in (powers if logarithmic else ticks)(up_axis.low, up_axis.high):
        y = up_axis.at(rule)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for tick, text in ticks(across_axis.low, across_axis.high):
        parts.append(
            f'<text x="{across_axis.at(tick):.1f}" y="{bottom + BOTTOM - 10}" text-anchor="middle">{text}</text>'
        )
    if diagonal:
        low, high = max(across_axis.low, up_axis.low), min(across_axis.high, up_axis.high)
        parts.append(f'<polyline class="ideal" points="{at(low, low)} {at(high, high)}"/>')
    for line in sorted(drawn, key=lambda one: not one.faint):
        points = [at(*point) for point in line.points]
        for first, last, pale in line.stretches:
            style, some = line.style + " pale" * pale, " ".join(points[first : last + 1])
            parts.append(f'<polyline class="{style}" points="{some}"><title>{escape(line.label)}</title></polyline>')
        if line.dots or len(points) == 1:
            for number, point in enumerate(points):
                left, upright = point.split(",")
                radius = max(1.5, LARGEST * math.sqrt(line.weights[number])) if line.weights else DOT
                faded = " pale" if line.faded and line.faded[number] else ""
                parts.append(
                    f'<circle class="dot c{line.colour % COLOURS}{faded}" cx="{left}" cy="{upright}" r="{radius:.2g}"/>'
                )
    return frame(title, height_of_all, parts)
