"""How far a training is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console


class Live:
    """A bar on a terminal, plain lines elsewhere; a context manager.

    Args:
        console: where to.
        more: columns of the bar behind the text.
        counted: the bar also says how many of how many.
    """

    def __init__(self, console: Console, *more: Any, counted: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = console
        self._spoken = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            count = [TextColumn("{task.completed:.0f}/{task.total:.0f}")] if counted else []
            columns = (BarColumn(24), *count, TextColumn("{task.description}"), *more)
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("starting", total=1)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, said: str, line: str, done: int, total: int, *, now: bool) -> None:
        """Move the bar and change its text; without one, print `line` if it is time, or `now`."""
        from elsewhere.benchmark.display import LINE_EVERY

        if self._bar is not None:
            self._bar.update(self._task, description=said, completed=done, total=total)
        elif now or time.monotonic() - self._spoken >= LINE_EVERY:
            self.console.print(line, highlight=False, soft_wrap=True)
            self._spoken = time.monotonic()
