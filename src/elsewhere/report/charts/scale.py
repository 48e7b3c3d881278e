"""What all charts share: the frame, an axis, round ticks with labels that differ, names that fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 360
"""Units of a chart's width: about the pixels of a phone, so that its letters are read there too."""

LETTER = 5.7
"""Units that a letter of 10.5 px takes on the average."""

NAMED = 14
"""Units more at the bottom where the horizontal axis has a name, at the top where the upright one has."""

LABEL = 20
"""Letters of a name; what is longer is cut, and shown whole on hovering."""


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies; outside of the axis, at its end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def frame(title: str, height: float, parts: Iterable[str]) -> Markup:
    """The SVG element; `title` is read out."""
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(parts) + "</svg>")


def left_for(labels: Iterable[str]) -> float:
    """Units that the longest of the names takes, in front of a chart with rows."""
    longest = max((len(short(label)) for label in labels), default=0)
    return max(48.0, 14 + 6.6 * longest)


def extent(values: Iterable[float], include: Iterable[float] = ()) -> tuple[float, float] | None:
    """From the smallest to the largest with a margin; None where none is known."""
    known = [value for value in values if math.isfinite(value)]
    return padded(min([*known, *include]), max([*known, *include])) if known else None


def padded(low: float, high: float) -> tuple[float, float]:
    """A little more on both sides; never empty."""
    margin = max((high - low) * 0.06, abs(high) * 0.005, 1e-6)
    return low - margin, high + margin


def ticks(low: float, high: float, about: int = 4) -> list[tuple[float, str]]:
    """Round numbers inside [low, high], and their labels."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    values = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return list(zip(values, numbers(values), strict=True))


def powers(low: float, high: float) -> list[tuple[float, str]]:
    """On a logarithmic axis, from 10^low to 10^high: 1, 2 and 5 times powers of ten, where two or more fit, and their
    places (logarithms) and labels."""
    for steps in ((1,), (1, 2, 5), tuple(range(1, 10))):
        exponents = range(math.floor(low), math.ceil(high) + 1)
        values = [m * 10.0**e for e in exponents for m in steps if low <= math.log10(m * 10.0**e) <= high]
        if len(values) > 1:
            return [(math.log10(v), text) for v, text in zip(values, numbers(values), strict=True)]
    return [(place, numbers([10**place])[0]) for place, _ in ticks(low, high, 3)]


def numbers(values: Sequence[float]) -> list[str]:
    """As few digits as tell them apart, three at least."""
    texts: list[str] = []
    for digits in range(3, 16):
        texts = [_text(value, digits) for value in values]
        if len(set(texts)) == len(values):
            break
    return [text.replace("-", "−") for text in texts]


def _text(value: float, digits: int) -> str:
    if abs(value) < 1000:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def columns(axis: Axis, top: float, bottom: float, label: float) -> list[str]:
    """Vertical rules at round numbers, numbered at height `label`."""
    parts = []
    for tick, text in ticks(axis.low, axis.high):
        x = axis.at(tick)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.0f}" y2="{bottom:.0f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{label:.0f}" text-anchor="middle">{text}</text>')
    return parts


def under_axis(text: str, start: float, end: float, height: float) -> list[str]:
    """The name of a horizontal axis, at the foot of a chart of this height; nothing where it has none."""
    if not text:
        return []
    return [f'<text x="{(start + end) / 2:.1f}" y="{height - 4:.1f}" text-anchor="middle">{escape(text)}</text>']


def name(text: str, x: float, y: float) -> str:
    """A row's name, ending at x."""
    return f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(short(text))}</text>'


def short(text: str, limit: int = LABEL) -> str:
    """Cut to `limit` letters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
