"""A run, tried: what happens to it stays in its folder and stops no other."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import ElsewhereError, SettingsError
from elsewhere.files import remove_half_written, write_text
from elsewhere.methods.own_code import OwnCode

Emit = Callable[[dict[str, Any]], None]
"""Takes what a run has to say while it goes on: plain values, so that it can cross processes and machines."""

Work = Callable[[RunSpec, Path, Emit], None]
"""Does one run in a folder; a function of a module, so that it can cross processes too."""

ERROR = "error.txt"


@dataclass(frozen=True)
class Trusting:
    """A `Work` that may run code which runs name by import path, in a process that knows nothing of its parent's trust.

    Attributes:
        work: what is done.
        content: of that code, as the runs were planned with it (`trusting`).
    """

    work: Work
    content: Mapping[str, str]

    def __call__(self, spec: RunSpec, folder: Path, emit: Emit) -> None:
        """Import that code, and do the work.

        Raises:
            SettingsError: it is no longer what the run was planned with.
        """
        code = own_code(spec)
        code.allow(trust=True)
        for path, digest in code.content().items():
            if self.content.get(path) != digest:
                raise SettingsError(f"{path}: its file was changed after this run was planned; run the command again")
        self.work(spec, folder, emit)


def own_code(spec: RunSpec) -> OwnCode:
    """What a run names by import path."""
    return OwnCode.of(spec.settings["network"], spec.trained_as, spec.options)


def trusting(work: Work, specs: Iterable[RunSpec]) -> Work:
    """The same work where the user allows the code that these runs name; `work` itself where they name none."""
    content: dict[str, str] = {}
    for spec in specs:
        code = own_code(spec)
        code.allow(trust=True)
        content |= code.content()
    return Trusting(work, content) if content else work


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
