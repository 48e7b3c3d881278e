"""Names from the data in sentences for people: short enough for a line, and counted where they are many."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 24
"""Letters of a name in a sentence; the whole name is in the tables."""


def clip(name: str, longest: int = LONGEST) -> str:
    """A name in one line, cut where it is long: `a hospital with a very l…`."""
    plain = " ".join(str(name).split()).replace("`", "'")
    return plain if len(plain) <= longest else plain[: longest - 1].rstrip() + "…"


def places(sites: Sequence[str], n_sites: int) -> str:
    """Some of the sites: `A`, `A and B`, `3 of 5 sites`, `both sites`, `all 5 sites`."""
    if len(sites) == n_sites and n_sites > 1:
        return f"all {n_sites} sites" if n_sites > 2 else "both sites"
    return " and ".join(map(clip, sites)) if len(sites) <= 2 else f"{len(sites)} of {n_sites} sites"


def parts(sentence: str) -> list[tuple[str, bool]]:
    """A sentence cut at its backticks: pieces, and whether each is a command."""
    return [(piece, number % 2 == 1) for number, piece in enumerate(sentence.split("`")) if piece]


def plural(n: int, what: str) -> str:
    """`1 patient`, `2 patients`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def are(n: int) -> str:
    """`is` for one, else `are`."""
    return "is" if n == 1 else "are"


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where a known name is close to `found`, else nothing."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(found.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean '{lowered[close[0]]}'?)" if close else ""
