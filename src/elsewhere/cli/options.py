"""What several commands share: arguments that mean the same everywhere, pairs, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from elsewhere.errors import ElsewhereError

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with manifest.csv, or a manifest")]
SiteColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="the manifest column that is the site")]
AllowOutside = Annotated[bool, typer.Option("--allow-outside", help="allow paths that leave the study's folder")]
Patients = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="few-shot: at most N patients train, over all training sites together"),
]


def pair(text: str, option: str) -> tuple[str, str]:
    """KEY=VALUE apart."""
    key, found, value = text.partition("=")
    if not found or not key or not value:
        raise ElsewhereError(f"{option} {text!r}: wanted KEY=VALUE")
    return key, value


def progress_bar(what: str) -> Callable[[int, int], None] | None:
    """A progress bar on standard error, as a callback of (done, total); None where nobody would see it."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)

    def advance(done: int, total: int) -> None:
        if done < total:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return advance
