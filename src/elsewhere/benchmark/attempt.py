"""A run, tried: what happens to it stays in its folder and stops no other."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import ElsewhereError
from elsewhere.files import remove_half_written, write_text

Emit = Callable[[dict[str, Any]], None]
"""Takes what a run has to say while it goes on: plain values, so that it can cross processes and machines."""

Work = Callable[[RunSpec, Path, Emit], None]
"""Does one run in a folder; a function of a module, so that it can cross processes too."""

ERROR = "error.txt"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        identity: of the run.
        error: one sentence, or None where it finished.
        seconds: wall clock.
    """

    identity: str
    error: str | None
    seconds: float

    @property
    def ok(self) -> bool:
        """It finished."""
        return self.error is None


def attempt(work: Work, spec: RunSpec, benchmark: Path, emit: Emit) -> Outcome:
    """Do a run in its folder below `benchmark`; its error goes to `error.txt` and back as a sentence."""
    start = time.monotonic()
    folder = benchmark / spec.folder
    with contextlib.suppress(OSError):
        (folder / ERROR).unlink(missing_ok=True)
        remove_half_written(folder)  # of an attempt that was killed
    try:
        work(spec, folder, emit)
    except Exception as error:  # whatever it is, the other runs go on
        sentence = say(error)
        record(folder, sentence, traceback.format_exc())
        return Outcome(spec.identity, sentence, time.monotonic() - start)
    return Outcome(spec.identity, None, time.monotonic() - start)


def record(folder: Path, sentence: str, details: str = "") -> None:
    """Write `error.txt`; on a full disk there may be no room even for that, and the sentence is still handed back."""
    with contextlib.suppress(ElsewhereError, OSError):
        write_text(folder / ERROR, f"{sentence}\n\n{details}".rstrip() + "\n")


def say(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, ElsewhereError):
        return text
    if isinstance(error, MemoryError):
        return "out of memory; try fewer --jobs, a smaller batch_size or patch_size"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
