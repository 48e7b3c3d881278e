"""Where people read what is printed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160
"""Columns where there is no terminal: in a file or a pipe, a table that is folded at 80 can be neither read nor cut."""


def console() -> Console:
    """Standard output, as wide as the terminal; WIDE where there is none and COLUMNS does not say otherwise."""
    from rich.console import Console

    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if fixed else WIDE)
