"""What several commands share: arguments that mean the same everywhere, pairs, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
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


class Selection(StrEnum):
    """By which rule the evaluated checkpoint is chosen."""

    source_val = "source-val"
    last = "last"
    oracle = "oracle"


# What a benchmark is asked, by whichever command.
Methods = Annotated[str, typer.Option(metavar="A,B", help="methods, by comma; LABEL=METHOD: under another name")]
Seeds = Annotated[int, typer.Option(min=1, help="seeds 0 ... N-1")]
HeldOut = Annotated[
    list[str] | None, typer.Option(metavar="SITE ...", help="sites to hold out, each in turn; A+B is one group")
]
Steps = Annotated[int | None, typer.Option(min=1, help="training steps of each run")]
Lengths = Annotated[
    str | None,
    typer.Option(
        metavar="N[,N]", help="training steps of each run; two or more, by comma: does length still pay? ERM alone"
    ),
]
Jobs = Annotated[int, typer.Option(min=1, help="runs at the same time; they share the cores")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE ...", help="settings, or METHOD.OPTION=VALUE, LABEL.OPTION=VALUE"),
]
Selections = Annotated[
    list[Selection] | None, typer.Option(metavar="RULE ...", help="source-val (default), last, oracle")
]
Reference = Annotated[
    bool, typer.Option("--reference", help="also train within each held-out site: how hard is it in itself?")
]
Ray = Annotated[str | None, typer.Option(metavar="ADDRESS", help="run on this Ray cluster (local: start one)")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="allow networks and extractors by import path, package.module:Class: runs that code"),
]


def rules(selection: list[Selection] | None) -> list[str]:
    """The rules asked for, as the benchmark takes them."""
    return [rule.value for rule in selection or [Selection.source_val]]


def lengths(text: str | None) -> list[int]:
    """The numbers of `--steps`, as given; none where it was not.

    Raises:
        ElsewhereError: something else than whole numbers above 0 that differ.
    """
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isascii() and word.isdigit() and int(word) > 0]
    if len(numbers) < len(words) or len(set(numbers)) < len(numbers):
        raise ElsewhereError(
            f"--steps: found {text!r}, wanted one number above 0, or two or more that differ, separated by commas, "
            "such as 600,1200"
        )
    return numbers


def by_comma(text: str) -> list[str]:
    """A,B apart."""
    return [name.strip() for name in text.split(",") if name.strip()]


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
