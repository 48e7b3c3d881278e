"""Runs that name code of somebody's own: done with the code that they were planned with, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elsewhere.benchmark.attempt import Emit, Work
from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import SettingsError
from elsewhere.methods.own_code import OwnCode


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
