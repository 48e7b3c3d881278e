"""Two kinds of charts as inline SVG: curves over steps, and intervals side by side. Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 28
LABEL = 20
"""Letters of a method's name; what is longer is cut, and shown whole on hovering."""


@dataclass(frozen=True)
class Line:
    """A curve: points (x, y), the number of its colour, faint for single seeds."""

    points: Sequence[tuple[float, float]]
    colour: int
    label: str
    faint: bool = False


@dataclass(frozen=True)
class Span:
    """An interval in a row: NaN limits where there is none."""

    label: str
    colour: int
    value: float
    lo: float
    hi: float
    text: str


def curves(lines: Sequence[Line], title: str, *, logarithmic: bool = False) -> Markup:
    """Curves over training steps; `title` is read out and shown on hovering."""
    drawn = [Line(_finite(line.points, logarithmic), line.colour, line.label, line.faint) for line in lines]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return Markup('<p class="quiet">no curve was logged</p>')
    xs = [x for line in drawn for x, _ in line.points]
    ys = [math.log10(y) if logarithmic else y for line in drawn for _, y in line.points]
    x0, x1 = 0.0, max(max(xs), 1.0)
    y0, y1 = _padded(min(ys), max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        height = math.log10(y) if logarithmic else y
        return (
            LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT),
            TOP + (y1 - height) / (y1 - y0) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_frame(title)]
    values = [10**tick if logarithmic else tick for tick in _ticks(y0, y1, 4)]
    for value, text in zip(values, _numbers(values), strict=True):
        _, y = at(0, value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for tick, text in _labelled(x0, x1):
        x, _ = at(tick, 1.0 if logarithmic else y0)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>')
    for line in sorted(drawn, key=lambda one: not one.faint):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line.points))
        style = "faint" if line.faint else "bold"
        parts.append(
            f'<polyline class="{style} c{line.colour % 8}" points="{path}"><title>{escape(line.label)}</title>'
        )
        parts.append("</polyline>")
        if len(line.points) == 1:
            x, y = at(*line.points[0])
            parts.append(f'<circle class="dot c{line.colour % 8}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return Markup("".join(parts) + "</svg>")


def forest(groups: Mapping[str, Sequence[Span]], title: str) -> Markup:
    """Intervals in rows, grouped; all on one axis, so that they can be compared by eye."""
    spans = [span for group in groups.values() for span in group]
    known = [v for span in spans for v in (span.value, span.lo, span.hi) if not math.isnan(v)]
    if not known:
        return Markup("")
    row, head = 17, 24
    height = TOP + sum(head + row * len(group) for group in groups.values()) + BOTTOM
    longest = max(len(_short(span.label, LABEL)) for span in spans)
    left, right = max(60, 14 + 6.6 * longest), 14
    x0, x1 = _padded(min(known), max(known))

    def at(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (WIDTH - left - right)

    parts = [_frame(title, height)]
    for tick, text in _labelled(x0, x1):
        x = at(tick)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{text}</text>')
    y = float(TOP)
    for name, group in groups.items():
        parts.append(f'<text class="head" x="0" y="{y + 15:.1f}">{escape(_short(name, 34))}</text>')
        y += head
        for span in group:
            parts.append(f"<g><title>{escape(f'{span.label}: {span.text}')}</title>")
            parts.append(
                f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(span.label, LABEL))}</text>'
            )
            if not math.isnan(span.lo):
                ends = f'x1="{at(span.lo):.1f}" x2="{at(span.hi):.1f}"'
                parts.append(f'<line class="span c{span.colour % 8}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
            if not math.isnan(span.value):
                parts.append(f'<circle class="dot c{span.colour % 8}" cx="{at(span.value):.1f}" cy="{y:.1f}" r="4"/>')
            parts.append("</g>")
            y += row
    return Markup("".join(parts) + "</svg>")


def _frame(title: str, height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _finite(points: Sequence[tuple[float, float]], positive: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not positive)]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = max((high - low) * 0.06, abs(high) * 0.005, 1e-6)
    return low - margin, high + margin


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers inside [low, high]."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _labelled(low: float, high: float) -> list[tuple[float, str]]:
    ticks = _ticks(low, high, 4)
    return list(zip(ticks, _numbers(ticks), strict=True))


def _numbers(values: Sequence[float]) -> list[str]:
    """As few digits as tell them apart, three at least."""
    texts: list[str] = []
    for digits in range(3, 9):
        texts = [f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.{digits}g}" for v in values]
        if len(set(texts)) == len(values):
            break
    return texts


def _short(name: str, limit: int) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
