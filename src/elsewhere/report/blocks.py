"""What a page is made of: sections of tables, charts, pictures and sentences. The templates draw them, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from elsewhere.evidence.estimands import NEW_SITE, THIS_METHOD
from elsewhere.evidence.intervals import Interval
from elsewhere.report.pictures import Panel

ACROSS = 3
"""Charts beside each other on a wide screen."""

LONG = 14
"""Letters of a name that needs more room than others."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a value, and what stands small below it; `mark` is a class of the style sheet."""

    text: str
    small: Sequence[str] = ()
    mark: str = ""


def name(text: str) -> Cell:
    """A cell that is a name, such as a site's; a long one has room for some words of it."""
    return Cell(text, mark="words long" if len(text) > LONG else "words")


@dataclass(frozen=True)
class Row:
    """A row: its head (a name, with a colour's number where it is a method's) and its cells."""

    head: str
    cells: Sequence[Cell]
    colour: int | None = None
    small: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: what is read out.
        head: one text a column, that of the rows' heads first.
        rows: all with the same number of cells.
        captions: sentences below it: what the numbers are.
        warnings: marks below it, in the colour of warnings: what is wrong with all of it, in a few words.
        folded: shown only when it is asked for; the text of what is clicked.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Row]
    captions: Sequence[str] = ()
    warnings: Sequence[str] = ()
    folded: str = ""
    kind: str = field(default="table", init=False)

    @property
    def words(self) -> frozenset[int]:
        """Columns of words, which start on the left: those whose cells say so."""
        columns = range(1, len(self.head))
        return frozenset(c for c in columns if any("words" in row.cells[c - 1].mark for row in self.rows))


@dataclass(frozen=True)
class Figure:
    """A chart and its title."""

    title: str
    svg: Markup
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """Charts side by side where there is room; the sentences stand in the place that is left in their last row."""

    figures: Sequence[Figure]
    captions: Sequence[str] = ()
    folded: str = ""
    kind: str = field(default="figures", init=False)

    @property
    def left(self) -> tuple[int, int]:
        """Places that are left in the last row, of ACROSS columns and of two; all of them where it is full."""
        n = len(self.figures)
        return tuple((columns - n % columns) for columns in (ACROSS, 2))  # type: ignore[return-value]


@dataclass(frozen=True)
class Case:
    """An example: what it is, and its pictures."""

    name: str
    text: str
    case: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Cases:
    """The examples of a method at a site."""

    title: str
    colour: int | None
    cases: Sequence[Case]
    kind: str = field(default="cases", init=False)

    @property
    def single(self) -> bool:
        """One picture a case, which can be larger and needs no name."""
        return all(len(case.panels) == 1 for case in self.cases)


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: str = field(default="heading", init=False)


@dataclass(frozen=True)
class Text:
    """Sentences; `mark` is a class of the style sheet (`missing` for warnings)."""

    sentences: Sequence[str]
    mark: str = ""
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Facts:
    """Names and what they are; `command` in a box of its own."""

    facts: Sequence[tuple[str, str]]
    command: str = ""
    folded: str = ""
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown only when they are asked for; `folded` is what is clicked."""

    folded: str
    blocks: Sequence[Table | Figures | Cases | Heading | Text | Facts]
    kind: str = field(default="fold", init=False)


Block = Table | Figures | Cases | Heading | Text | Facts | Fold


@dataclass(frozen=True)
class Section:
    """A section of the page: an anchor, a title, what it shows, and how models were selected for it.

    Attributes:
        name, title, blocks, lead, selection: these.
        key: marks of its charts, and what they are.
        legend: the colours of the methods are needed to read its charts, and are said again.
    """

    name: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""
    selection: str = ""
    key: Sequence[tuple[str, str]] = ()
    legend: bool = False


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """`0.812`, `+0.031`; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def percent(value: float) -> str:
    """`93 %`; one digit more below 1 and above 99."""
    if math.isnan(value):
        return "–"
    digits = 1 if 0 < value < 0.0995 or 0.985 <= value < 1 else 0
    return f"{100 * value:.{digits}f} %"


def limits(one: Interval, digits: int = 2, *, sign: bool = False) -> str:
    """`[0.78, 0.84]` for these models, `(0.75, 0.86)` for the method, `0.60 to 0.93` for a new site; "no interval"."""
    if math.isnan(one.lo) or math.isnan(one.hi):
        return "no interval"
    low, high = (number(limit, digits, sign=sign) for limit in (one.lo, one.hi))
    return {THIS_METHOD: f"({low}, {high})", NEW_SITE: f"{low} to {high}"}.get(one.estimand, f"[{low}, {high}]")


def percents(lo: float, hi: float) -> str:
    """`[78, 84 %]`, or "no interval": limits of a share, in the width that tables of many shares have."""
    if math.isnan(lo) or math.isnan(hi):
        return "no interval"
    return f"[{percent(lo).removesuffix(' %')}, {percent(hi)}]"


def chance(p: float) -> str:
    """A probability that is estimated, never certain: `0.93`, `< 0.01`, `> 0.99`."""
    return "< 0.01" if p < 0.005 else "> 0.99" if p > 0.995 else number(p, 2)


def p_value(p: float) -> str:
    """`0.03`, `< 0.001`."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
