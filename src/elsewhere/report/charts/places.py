"""Values with their intervals at a few named places along an axis, joined by lines: a learning curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from elsewhere.report.charts.curves import COLOURS, HEIGHT, LEFT, RIGHT, TOP
from elsewhere.report.charts.scale import LETTER, NAMED, WIDTH, Axis, extent, frame, ticks, under_axis

BOTTOM = 28

APART = 7.0
"""Units between the values of two methods at a place, where there is room: intervals must not cover each other."""

ROOM = 0.7
"""Share of the way to the next place that the values of all methods take at most."""

Value = tuple[float, float, float]
"""A value and the limits of its interval; NaN where there are none."""


@dataclass(frozen=True)
class Series:
    """A method's values, one a place; `colour` is a number, as for a `Line`."""

    label: str
    colour: int
    values: Sequence[Value]

    @property
    def numbers(self) -> list[float]:
        """All that must fit on the axis."""
        return [number for value in self.values for number in value]


def places(
    series: Sequence[Series],
    title: str,
    names: Sequence[str],
    *,
    up: tuple[float, float] | None = None,
    under: str = "",
    beside: str = "",
) -> Markup:
    """Values over places that are equally far apart, whatever their names say; nothing where no value is known.

    Args:
        series: one a method, each with as many values as there are places.
        title: what is read out.
        names: of the places.
        up: the upright axis, to share it with other charts; None: as these need.
        under: name of the horizontal axis.
        beside: name of the upright one, which stands on its top.
    """
    own = extent(number for one in series for number in one.numbers)
    if own is None:
        return Markup("")
    top = TOP + (NAMED if beside else 0)
    bottom = top + HEIGHT - TOP - BOTTOM
    height = bottom + BOTTOM + (NAMED if under else 0)
    axis = Axis(*(up or own), bottom, top)
    slot = (WIDTH - RIGHT - LEFT) / len(names)
    apart = min(APART, ROOM * slot / max(1, len(series) - 1))
    parts = under_axis(under, LEFT, WIDTH - RIGHT, height)
    if beside:
        parts.append(f'<text x="2" y="{TOP + 2}">{escape(beside)}</text>')
    for rule, text in ticks(axis.low, axis.high):
        y = axis.at(rule)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    every = math.ceil(LETTER * max(map(len, names)) / slot)  # names that would run into each other are left out
    for place, text in enumerate(names):
        if (len(names) - 1 - place) % every == 0:
            x = LEFT + slot * (place + 0.5)
            parts.append(f'<text x="{x:.1f}" y="{bottom + BOTTOM - 10}" text-anchor="middle">{escape(text)}</text>')
    for number, one in enumerate(series):
        shift = apart * (number - (len(series) - 1) / 2)
        parts += _marks(one, names, axis, LEFT + slot / 2 + shift, slot)
    return frame(title, height, parts)


def _marks(one: Series, names: Sequence[str], axis: Axis, start: float, slot: float) -> list[str]:
    colour = f"c{one.colour % COLOURS}"
    known = [(place, value) for place, value in enumerate(one.values) if math.isfinite(value[0])]
    line = " ".join(f"{start + slot * place:.1f},{axis.at(value):.1f}" for place, (value, _, _) in known)
    dashed = " second" if one.colour // COLOURS % 2 else ""
    parts = [f'<polyline class="bold {colour}{dashed}" points="{line}"/>']
    for place, (value, lo, hi) in known:
        x = start + slot * place
        limits = f" [{lo:.2f}, {hi:.2f}]" if math.isfinite(lo) and math.isfinite(hi) else ""
        parts.append(f"<g><title>{escape(f'{one.label}, {names[place]}: {value:.3f}{limits}')}</title>")
        if limits:
            parts.append(
                f'<path class="wide {colour}" d="M{x - 3:.1f} {axis.at(lo):.1f}h6m-3 0V{axis.at(hi):.1f}m-3 0h6"/>'
            )
        parts.append(f'<circle class="dot {colour}" cx="{x:.1f}" cy="{axis.at(value):.1f}" r="3.5"/></g>')
    return parts
