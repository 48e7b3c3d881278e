from __future__ import annotations

import io

import pytest
import work
from rich.console import Console

from elsewhere.benchmark.attempt import Outcome
from elsewhere.benchmark.display import Display
from elsewhere.terminal import WIDE, console


def watched(terminal: bool, width: int = 140) -> str:
    shown = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    specs = [work.spec(0, site="A [old]"), work.spec(1)]
    with Display(specs, shown) as display:
        for spec in specs:
            display.event({"kind": "start", "run": spec.identity})
        display._progress and display._progress.refresh()
        progress = {"kind": "progress", "run": specs[0].identity, "stage": "training", "step": 30, "steps": 120}
        display.event({**progress, "loss": 0.5, "metric": 0.75, "seconds_left": 75.0})
        display._progress and display._progress.refresh()
        display.finish(Outcome(specs[0].identity, None, 90.0))
        display.finish(Outcome(specs[1].identity, "row 3: [x] is gone", 1.0))
    return shown.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_on_a_terminal_every_run_under_way_has_a_bar_from_its_start() -> None:
    text = watched(terminal=True)
    assert "0/2" in text
    assert text.index("starting") < text.index("30/120")
    assert "training, loss 0.500, metric 0.750, 1 min 15 s left" in text
    assert "1/2 done erm, without A [old], seed 0 (1 min 30 s)" in text
    assert "2/2 failed erm, without A, seed 1: row 3: [x] is gone" in text


def test_elsewhere_lines_only() -> None:
    text = watched(terminal=False)
    assert "\x1b" not in text
    assert "━" not in text
    assert "1/2 done erm, without A [old], seed 0 (1 min 30 s)" in text


def test_tables_are_not_folded_at_80_columns_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console().width == WIDE
    monkeypatch.setenv("COLUMNS", "100")
    assert console().width == 100


def test_a_narrow_terminal_gets_one_whole_line_a_run() -> None:
    lines = watched(terminal=True, width=80).replace("\r", "\n").split("\n")
    (row,) = {line for line in lines if "30/120" in line}
    assert "erm A [old] 0" in row
    assert "━" in row
    assert row.rstrip().endswith("loss 0.500, metric 0.750, 1 min 15 s left")
