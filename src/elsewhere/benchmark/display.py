"""What a person sees while a benchmark runs: one overall bar and one a run; plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from elsewhere.benchmark.attempt import Outcome
from elsewhere.benchmark.spec import RunSpec

ROOMY = 130
"""Columns from which a row has all that it can say."""

LINE_EVERY = 30.0
"""Seconds between plain lines of one run."""


class Display:
    """Shows runs as they start, go on and end; a context manager.

    Args:
        specs: the runs that will be done.
        console: where to.
    """

    def __init__(self, specs: Sequence[RunSpec], console: Console) -> None:
        self.console = console
        self.specs: Mapping[str, RunSpec] = {spec.identity: spec for spec in specs}
        self._titles = titles(specs)
        self.done = 0
        self._spoken: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._progress: Progress | None = None
        self._narrow = console.width < ROOMY
        if console.is_terminal and specs:
            one_line = Column(no_wrap=True)  # a row of changing height leaves traces on the screen
            columns = [
                TextColumn(
                    "{task.description}", table_column=Column(no_wrap=True, max_width=24 if self._narrow else 60)
                ),
                BarColumn(bar_width=8 if self._narrow else 24, table_column=one_line),
                TextColumn("{task.completed:.0f}/{task.total:.0f}", table_column=one_line),
                TextColumn("{task.fields[note]}", table_column=one_line),
            ]
            around = [] if self._narrow else [TimeElapsedColumn(table_column=one_line)]
            self._progress = Progress(*columns, *around, console=console, transient=True)

    def __enter__(self) -> Display:
        if self._progress is not None:
            self._progress.start()
            self._overall = self._progress.add_task("[bold]all runs", total=len(self.specs), note="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def event(self, message: Mapping[str, Any]) -> None:
        """A run started, or has something to say (see `attempt.Emit`)."""
        run = str(message["run"])
        if message["kind"] == "start":
            self._began[run] = time.monotonic()
            if self._progress is not None:  # a new worker needs some seconds before it has anything to say
                self._bars[run] = self._progress.add_task(self._name(run), total=1, note="starting")
            return
        if self._progress is None:
            self._line(run, message)
            return
        self._progress.update(
            self._bars[run],
            completed=message.get("step", 0),
            total=message.get("steps") or 1,
            note=escape(note(message, brief=self._narrow)),
        )

    def finish(self, outcome: Outcome) -> None:
        """A run ended."""
        self.done += 1
        title = escape(self._titles[outcome.identity])
        if self._progress is not None:
            bar = self._bars.pop(outcome.identity, None)
            if bar is not None:
                self._progress.remove_task(bar)
            self._progress.update(self._overall, completed=self.done)
        count = f"{self.done}/{len(self.specs)}"
        if outcome.ok:
            self.console.print(f"{count} [green]done[/green] {title} ({clock(outcome.seconds)})", highlight=False)
        else:
            text = escape(outcome.error or "")
            self.console.print(f"{count} [red]failed[/red] {title}: {text}", highlight=False, soft_wrap=True)

    def _name(self, run: str) -> str:
        spec = self.specs[run]
        what = spec.settings["steps"] if _lengths(self.specs.values()) > 1 else spec.method
        return escape(f"{what} {spec.fold.name} {spec.seed}" if self._narrow else self._titles[run])

    def _line(self, run: str, message: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self._spoken.get(run, self._began.get(run, now)) < LINE_EVERY:
            self._spoken.setdefault(run, self._began.get(run, now))
            return
        self._spoken[run] = now
        where = f"{message.get('step', 0)}/{message.get('steps', 0)}"
        text = escape(f"{self._titles[run]}: {where} {note(message)}".rstrip())
        self.console.print(text, highlight=False, soft_wrap=True)


def titles(specs: Iterable[RunSpec]) -> dict[str, str]:
    """The title of each run by its identity; it has the steps where runs differ in them."""
    specs = list(specs)
    several = _lengths(specs) > 1
    return {spec.identity: spec.title + (f", {spec.settings['steps']} steps" if several else "") for spec in specs}


def _lengths(specs: Iterable[RunSpec]) -> int:
    return len({spec.settings.get("steps") for spec in specs})


def note(message: Mapping[str, Any], *, brief: bool = False) -> str:
    """Stage, loss, metric and time left of a message, as far as it has them; brief: no stage where there is a loss."""
    parts = ["" if brief and "loss" in message else str(message.get("stage", ""))]
    for name in ("loss", "metric"):
        value = message.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            parts.append(f"{message.get('metric_name', 'metric') if name == 'metric' else name} {value:.3f}")
    left = message.get("seconds_left")
    if isinstance(left, int | float) and math.isfinite(left):
        parts.append(f"{clock(float(left))} left")
    return ", ".join(part for part in parts if part)


def clock(seconds: float) -> str:
    """Seconds as people say them."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
