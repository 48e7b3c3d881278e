"""A benchmark of one method and one seed, quickly, and what it leaves."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import tiny
from rich.console import Console

from elsewhere.benchmark import run_benchmark

THREE = {"A": 6, "B": 6, "C": 6}


class Bench:
    """A benchmark of one method and one seed, quickly; `said` is what it printed."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.said = ""

    def __call__(self, study: Path, *, changes: list[str] | None = None, **more: object) -> int:
        console = Console(file=io.StringIO(), width=200)
        question = {"methods": ["erm"], "steps": 2, "held_out": ["A"], **more}
        code = run_benchmark(study, out=self.out, changes=changes or tiny.SETTINGS, console=console, **question)  # type: ignore[arg-type]
        self.said = console.file.getvalue()  # type: ignore[attr-defined]
        return code

    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.out.glob("runs/*/*/*/config.yaml"))

    def results(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "results.csv", keep_default_na=False, na_values={"value": [""], "lo": [""]})


def weights(run: Path, rule: str = "last") -> bytes:
    return (run / "model" / rule / "model.safetensors").read_bytes()
