from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import tiny


@pytest.fixture
def sweep() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "sweep.py"
    spec = importlib.util.spec_from_file_location("sweep", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_part_within_a_part_counts_once(sweep: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    room = ModuleType("room")
    room.inner = lambda: time.sleep(0.2)  # type: ignore[attr-defined]
    room.outer = lambda: (time.sleep(0.1), room.inner(), room.inner())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "room", room)
    monkeypatch.setattr(sweep, "PARTS", {"in": ("room", "inner"), "out": ("room", "outer")})
    before = room.inner
    with sweep.parts_timed() as seconds:
        room.outer()
    assert seconds["in"] >= 0.4
    assert 0.1 <= seconds["out"] < 0.4
    assert room.inner is before


def test_a_sweep_decodes_each_file_once_and_accounts_for_all_of_its_time(sweep: ModuleType, tmp_path: Path) -> None:
    study = tiny.classification(tmp_path / "study", {"A": 12, "B": 12, "C": 12})
    options = argparse.Namespace(
        methods="erm,vrex", held_out=None, seeds=1, steps=2, size=32, jobs=1, set=tiny.CLASSIFIER
    )
    found = sweep.sweep(study, tmp_path / "out", options)
    assert (found["exit_code"], found["runs"]) == (0, 6)
    assert (found["cases"], found["decodes"]) == (36, 36)
    seconds, outside = found["worker_seconds"], found["outside_seconds"]
    assert seconds["total"] == pytest.approx(
        seconds["training_steps"] + seconds["validation"] + seconds["outside"], abs=0.3
    )
    assert seconds["outside"] == pytest.approx(sum(outside.values()), abs=0.3)
    assert min(outside.values()) >= 0
    assert json.dumps(found)
