"""The whole command in a process of its own: interrupted, on a pipe, on a terminal, on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import tiny
from bench import Bench, weights


def command(study: Path, out: Path, *more: str) -> list[str]:
    # A shell's background job ignores Ctrl-C, and so would its children: these tests may run in one.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = [sys.executable, "-c", f"{heeds}; from elsewhere.cli import main; main()"]
    return [*program, "benchmark", str(study), "--out", str(out), *more, "--set", *tiny.SETTINGS]


def wait_for(something: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not something():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_interrupted_and_gone_on_with(bench: Bench, study: Path, tmp_path: Path) -> None:
    steps, sites = 300, ["A", "B"]
    arguments = ("--methods", "erm", "--seeds", "1", "--held-out", *sites, "--steps", str(steps), "--jobs", "2")
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command(study, bench.out, *arguments), stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_for(
                lambda: len(list(bench.out.glob("runs/*/*/*/checkpoint/step-*"))) >= 1 or process.poll() is not None
            )
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
    assert len(family) >= 2
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, "workers outlived the benchmark"
    text = (tmp_path / "said").read_text()
    assert text.rstrip().endswith(
        "elsewhere: interrupted; what was finished stays, the same command goes on from there"
    )
    assert "Traceback" not in text
    assert not list(bench.out.rglob("*.part"))

    done = [run for run in bench.runs() if (run / "done.json").exists()]
    assert len(done) < 2
    whole = Bench(tmp_path / "whole")
    for place in (bench.out, bench.out / "runs", bench.out / "runs" / "erm"):
        (place / ".tables.csv.0123abcd.part").write_text("of a process that was killed outright")
    assert bench(study, held_out=sites, steps=steps) == 0
    assert not list(bench.out.rglob("*.part"))
    assert whole(study, held_out=sites[-1:], steps=steps) == 0
    assert [weights(run) for run in bench.runs()][1] == weights(whole.runs()[0])


@pytest.mark.slow
def test_the_very_run_on_a_real_ray(bench: Bench, study: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    here = Bench(tmp_path / "here")
    assert here(study) == 0
    assert bench(study, ray="local") == 0
    assert "1/1 done" in bench.said
    for mine, theirs in zip(here.runs(), bench.runs(), strict=True):
        assert theirs.name == mine.name, "the same identity"
        assert weights(theirs) == weights(mine)
        assert (theirs / "cases.csv").read_text() == (mine / "cases.csv").read_text()
