"""How the tables of `coverage.py` are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

LEVEL = 0.95

Rows = Iterable[Sequence[object]]


def table(title: str, n: int, head: Sequence[str], rows: Rows, nominal: float = LEVEL) -> None:
    """Print one table; rows as they are found."""
    error = 100 * math.sqrt(nominal * (1 - nominal) / n)
    print(f"\n{title} {n} simulations a number, standard error {error:.1f} at {100 * nominal:g}.\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{100 * x:.1f}" if isinstance(x, float) else str(x) for x in row) + " |", flush=True)
