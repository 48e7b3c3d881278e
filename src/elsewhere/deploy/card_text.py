"""Small pieces of Markdown: text from the data that cannot become markup, numbers, tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAMES = {
    "dice": "Dice", "iou": "IoU", "hd95": "HD95", "assd": "ASSD", "accuracy": "accuracy", "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy", "average_precision": "average precision", "f1": "F1",
    "brier": "Brier score", "ece": "ECE", "ppv": "PPV", "npv": "NPV",
}  # fmt: skip

DISTANCES = ("hd95", "assd")

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "~": "&#126;"}
_MARKUP = str.maketrans({**_ENTITIES, **{c: "\\" + c for c in "\\`*#"}})

_LINK = re.compile(r"\][(\[:]")

_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore that is not within a word; one within a word is text."""

_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text after them."""


def text(value: Any, *, ends: bool = False) -> str:
    """One line of plain text, whatever it holds; `ends` keeps a space at either end, of a piece of a sentence."""
    if ends:
        before, after = (" " * str(value)[at:].startswith(" ") for at in (0, -1))
        return f"{before}{text(value)}{after}"
    plain = _UNSEEN.sub("\ufffd", " ".join(str(value).split())).translate(_MARKUP)
    plain = _EMPHASIS.sub(r"\\_", plain)
    # Intervals keep their brackets; only what could be a link must not.
    return plain.replace("[", "\\[").replace("]", "\\]") if _LINK.search(plain) else plain


def several(names: Sequence[Any], word: str = "and") -> str:
    """`A, B and C`."""
    plain = [text(name) for name in names]
    return plain[0] if len(plain) == 1 else f"{', '.join(plain[:-1])} {word} {plain[-1]}" if plain else "none"


def count(n: int, what: str) -> str:
    """`1 patient`, `2 patients`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def number(value: float | None) -> str:
    """Three significant digits, as people write them."""
    if value is None or math.isnan(value):
        return "not known"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def metric_name(metric: str) -> str:
    """As in text."""
    return NAMES.get(metric, metric)


def figure(metric: str, value: float, unit: str) -> str:
    """A score as it is shown, a distance with its unit."""
    return f"{value:.1f}{unit}" if metric in DISTANCES else f"{value:.3f}"


def interval(row: Mapping[str, Any], unit: str) -> str:
    """`0.812 [0.78, 0.84]`, distances with their unit; says why where there is no interval.

    Args:
        row: metric, value, lo, hi, each None where it is not known, and `reason`, which may be absent.
        unit: of distances.
    """
    far = row["metric"] in DISTANCES
    value, lo, hi = (row[key] for key in ("value", "lo", "hi"))
    if value is None:
        return "undefined"
    shown = figure(row["metric"], value, unit)
    if lo is None or hi is None:
        reason = row.get("reason")
        return f"{shown} (no interval{': ' + text(reason) if reason else ''})"
    return f"{shown} [{lo:.1f}, {hi:.1f}]" if far else f"{shown} [{lo:.2f}, {hi:.2f}]"


def share(found: Mapping[str, Any]) -> str:
    """A share with its interval."""
    return interval({"metric": "", **found}, "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """A list; its lines are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)
