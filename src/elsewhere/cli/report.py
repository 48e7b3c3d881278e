"""`elsewhere report`: what a benchmark found, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="a benchmark's folder")]) -> None:
    """Write DIR/report.html: the table, the curves, example cases; one file that opens offline."""
    from elsewhere.report import write_report

    typer.echo(f"wrote {write_report(folder)}")
