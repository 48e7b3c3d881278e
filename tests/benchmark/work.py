"""Things to do in place of a run, for tests of what runs them; importable by worker processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import StudyError
from elsewhere.study.case import Fold


def spec(number: int, method: str = "erm", site: str = "A") -> RunSpec:
    return RunSpec(
        study="nowhere",
        site_column=None,
        allow_outside=False,
        method=method,
        trained_as="erm",
        fold=Fold((site,)),
        seed=number,
        settings={},
        options={},
        selection=("source-val",),
        identity=f"{number:064x}",
    )


def note(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
    """Writes down who did it, after a moment, so that the runs are shared out."""
    import torch

    emit({"kind": "progress", "run": spec.identity, "stage": "training", "step": 1, "steps": 2, "loss": 0.5})
    time.sleep(0.2)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"process": os.getpid(), "threads": torch.get_num_threads(), "omp": os.environ.get("OMP_NUM_THREADS")}
    (folder / "note.json").write_text(json.dumps(found))


REFUSED, BUG, KILLED = 1, 2, 4


def some_fail(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
    if spec.seed == REFUSED:
        raise StudyError("manifest row 7: image 'a.png' cannot be read")
    if spec.seed == BUG:
        raise ZeroDivisionError("division by zero")
    note(spec, folder, emit)


def one_is_killed_some_fail(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
    if spec.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    some_fail(spec, folder, emit)


def forever(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "process").write_text(str(os.getpid()))
    time.sleep(600)
