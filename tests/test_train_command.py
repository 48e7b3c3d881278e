"""`elsewhere train` as a person meets it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from benchmark import tiny
from elsewhere.cli import main
from elsewhere.cli.train import Display


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    code: object = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return (code if isinstance(code, int) else int(code is not None)), printed.out, printed.err


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tiny.segmentation(tmp_path / "study", {"A": 7, "B": 7})


def arguments(study: Path, out: Path, *more: str, steps: int = 4) -> list[str]:
    return ["train", str(study), "--method", "erm", "--out", str(out), "--steps", str(steps), *more, "--set",
            *tiny.SETTINGS]  # fmt: skip


def test_it_trains_and_says_what_to_read(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "MODEL"
    code, said, complaints = run(*arguments(study, out), capsys=capsys)
    assert (code, complaints) == (0, "")
    assert "no site is held out" in said
    assert said.rstrip().endswith(f"wrote {out}; read {out / 'card.md'} before it is used")
    assert (out / "SHA256SUMS").is_file()
    assert "\x1b" not in said
    code, said, _ = run(*arguments(study, out), capsys=capsys)
    assert code == 0
    assert said.rstrip().endswith(f"{out} is finished; nothing to do")
    code, _, complaints = run(*arguments(study, out, "--seed", "3"), capsys=capsys)
    assert code == 1
    assert complaints.count("\n") == 1
    assert "holds a finished model of another question (seed=0, now 3)" in complaints


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--benchmark", "nowhere"], "nowhere: is no benchmark's folder"),
        (["--method", "nope"], "unknown method 'nope'"),
        (["--set", "network=my_code:Net"], "network my_code:Net is code outside of elsewhere"),
        (["--set", "network=my_code:Net", "--trust"], "network my_code:Net: cannot be imported"),
        (["--set", "steps=none"], "steps"),
        (["--site-column", "hospital"], "hospital"),
    ],
)
def test_a_wrong_question_is_one_sentence(
    more: list[str], sentence: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(study), "--method", "erm", "--out", str(tmp_path / "MODEL"), *more]
    code, _, complaints = run(*words, capsys=capsys)
    assert code == 1
    assert sentence in complaints
    assert complaints.count("\n") == 1
    assert "unexpected" not in complaints
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study"]


def test_method_and_out_must_be_given(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", str(study), "--out", "x", capsys=capsys)[0] == 2
    assert run("train", str(study), "--method", "erm", capsys=capsys)[0] == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_what_it_shows_while_it_trains(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Display(console) as display:
        display.event({"kind": "say", "text": "study [bold]x"})
        training = {"kind": "progress", "stage": "training", "steps": 50, "loss": 0.5, "metric": 0.7}
        for step in range(1, 51):
            display.event({**training, "step": step, "seconds_left": 50.0 - step})
        display.event({"kind": "progress", "stage": "calibrating", "step": 1, "steps": 9})
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "study [bold]x" in said
    if not terminal:
        lines = said.splitlines()
        assert lines[1:] == ["1/50 training, loss 0.500, metric 0.700, 49 s left", "1/9 calibrating"]
    else:
        assert "50/50" in said or "1/9" in said


@pytest.mark.slow
def test_a_benchmark_of_the_same_study_goes_on_the_card(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = tmp_path / "bench", tmp_path / "MODEL"
    tail = ["--steps", "2", "--set", *tiny.SETTINGS]
    code, _, _ = run("benchmark", str(study), "--out", str(bench), "--methods", "erm", "--seeds", "1", *tail,
                     capsys=capsys)  # fmt: skip
    assert code == 0
    assert run(*arguments(study, out), capsys=capsys)[0] == 0
    weights = (out / "model.safetensors").read_bytes()
    code, said, _ = run(*arguments(study, out, "--benchmark", str(bench)), capsys=capsys)
    assert code == 0
    assert said.rstrip().endswith(f"{out} was finished; wrote what the benchmark found to {out / 'card.md'}")
    assert (out / "model.safetensors").read_bytes() == weights
    card = (out / "card.md").read_text()
    assert "Nothing is known" not in card
    assert "steps was 2 there and is 4 here" in card
    found = yaml.safe_load((out / "config.yaml").read_text())["elsewhere"]
    assert {row["held_out"] for row in found["rows"]} == {"A", "B"}
    code, said, _ = run(*arguments(study, out, "--benchmark", str(bench)), capsys=capsys)
    assert said.rstrip().endswith("is finished; nothing to do")
    assert not (tmp_path / "MODEL.part").exists()
    other = tiny.segmentation(tmp_path / "other", {"A": 7, "B": 7})
    words = arguments(other, tmp_path / "OTHER", "--benchmark", str(bench))
    assert "is a benchmark of another study: study, and not other" in run(*words, capsys=capsys)[2]


@pytest.mark.slow
def test_killed_it_goes_on(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = 120
    program = [sys.executable, "-c", "from elsewhere.cli import main; main()"]
    # The same weights bit for bit are promised for the same number of threads.
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [*program, *arguments(study, tmp_path / "MODEL", steps=steps)], stdout=subprocess.DEVNULL, env=threads
    )
    work = tmp_path / "MODEL.part"
    try:
        deadline = time.monotonic() + 300
        while not list(work.glob("training/checkpoint/step-*")) and process.poll() is None:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    finally:
        process.kill()
    assert not (tmp_path / "MODEL").exists()
    assert work.is_dir()
    assert run(*arguments(study, tmp_path / "MODEL", steps=steps), capsys=capsys)[0] == 0
    assert run(*arguments(study, tmp_path / "WHOLE", steps=steps), capsys=capsys)[0] == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("MODEL", "WHOLE")]
    assert weights[0] == weights[1]
