"""The command line on disks that are full or read-only, in folders that are in use or of something else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from bench import Bench

from elsewhere.cli import main


class Cli:
    """`elsewhere ...` in this process: exit code, and what it said on either stream."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        self.out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        assert "unexpected" not in self.err
        assert len(self.err.strip().splitlines()) <= 1, self.err
        return int(stop.value.code or 0) if not isinstance(stop.value.code, str) else 1

    def benchmark(self, study: Path, out: Path, *more: object) -> int:
        return self("benchmark", study, "--out", out, *QUICK, *more)


QUICK = ("--methods", "erm", "--seeds", "1", "--steps", "2", "--held-out", "A", "--set", *tiny.SETTINGS)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@contextlib.contextmanager
def mounted(folder: Path, *how: str) -> Iterator[None]:
    """Something mounted on `folder`; skips where this user may not mount."""
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(["mount", *how, str(folder)], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount here ({error})")
    if done.returncode:
        pytest.skip(f"this user may not mount ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # mapped cache entries keep it busy


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


# A run of the tiny study takes about 120 KB: the disk fills at the first file, or in the middle of the run.
@pytest.mark.parametrize("kilobytes", [4, 40, 80])
def test_a_disk_that_really_is_full(study: Path, tmp_path: Path, cli: Cli, kilobytes: int) -> None:
    out = tmp_path / "disk"
    with mounted(out, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
        assert cli.benchmark(study, out / "bench") == 1
        assert "the disk is full; free some space" in " ".join((cli.out + cli.err).split())
        assert not list(out.rglob("*.part"))
        assert not list(out.rglob("done.json"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        assert cli.benchmark(study, out / "bench") == 0
        assert len(list(out.rglob("done.json"))) == 1
        assert not list(out.rglob("error.txt"))


def test_the_disk_of_the_cache_is_full(study: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=40k", "tmpfs"):
        monkeypatch.setenv("ELSEWHERE_CACHE", str(disk))
        assert cli.benchmark(study, tmp_path / "bench") == 1
        assert "the disk is full" in " ".join((cli.out + cli.err).split())
        assert not list(disk.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert cli.benchmark(study, tmp_path / "bench") == 0


@pytest.fixture(params=["untouched", "bind", "user"])
def read_only(request: pytest.FixtureRequest, study: Path, tmp_path: Path) -> Iterator[Path]:
    """A study that cannot be written: by promise (this one always runs), by its mount, or by its owner."""
    if request.param == "bind":
        with mounted(tmp_path / "ro", "--bind", "-o", "ro", str(study)):
            yield tmp_path / "ro"
        return
    for path in (study, *study.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if request.param == "untouched":
        yield study
        return
    if os.geteuid() != 0:
        pytest.skip("root alone may become another user")
    for path in (tmp_path, Path(os.environ["ELSEWHERE_CACHE"])):
        os.chown(path, 65534, 65534)
    folders = [folder for folder in tmp_path.parents if folder.owner() == "root" and not folder.stat().st_mode & 0o001]
    for folder in folders:  # pytest keeps its folders to the user
        folder.chmod(folder.stat().st_mode | 0o011)
    cache_parents = [p for p in Path(os.environ["ELSEWHERE_CACHE"]).parents if not p.stat().st_mode & 0o001]
    for folder in cache_parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        yield study
    finally:
        os.seteuid(0)


def test_data_on_a_read_only_disk(read_only: Path, tmp_path: Path, cli: Cli) -> None:
    before = everything(read_only)
    assert cli("study", "check", read_only, "--jobs", "1") == 0
    assert cli("study", "show", read_only) == 0
    assert cli.benchmark(read_only, tmp_path / "bench") == 0
    assert cli("report", tmp_path / "bench") == 0
    assert everything(read_only) == before


def test_results_on_a_read_only_disk(read_only: Path, tmp_path: Path, cli: Cli) -> None:
    if os.access(read_only, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert cli.benchmark(read_only, read_only / "bench") == 1
    assert "cannot be written" in cli.err
    assert "choose a folder that you may write to" in cli.err


def test_two_benchmarks_that_really_run_in_one_folder(study: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "bench"
    command = [
        sys.executable,
        "-m",
        "elsewhere.cli",
        "benchmark",
        str(study),
        "--out",
        str(out),
        *QUICK,
        "steps=100000",
    ]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("runs/*/*/*/config.yaml")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert first.poll() is None, "the first one ended too soon"
        assert cli.benchmark(study, out) == 1
        assert "already running in this folder; wait for it or choose another folder" in cli.err
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    # The lock that it left behind is nobody's.
    assert (out / ".lock").exists()
    assert cli.benchmark(study, out) == 0


def test_a_class_of_masks_that_only_the_held_out_site_has(bench: Bench, study: Path) -> None:
    for path in (study / "masks").glob("s0-*.png"):  # of site A
        mask = np.asarray(tiny.Image.open(path)).copy()
        mask[:2, :2] = 2
        tiny.save(path, mask)
    (study / "study.yaml").write_text("classes: {background: 0, disc: 1, corner: 2}\n")
    assert bench(study, held_out=["A"]) == 0
    assert "class 'corner' is in 6 held-out cases and in no development case" in bench.said
    results = bench.results()
    away = results[(results["split"] == "held-out") & (results["seed"] == "all") & (results["metric"] == "dice")]
    value = away.set_index("class")["value"]
    assert value["corner"] < 0.05  # a class that was never seen is not found, and counts as it falls
    assert value["all"] == pytest.approx((value["corner"] + value["disc"]) / 2, abs=1e-6)


@pytest.mark.parametrize("declared", ["", "name: mine\n"])
def test_a_benchmark_is_never_written_over_a_study(study: Path, cli: Cli, declared: str) -> None:
    (study / "study.yaml").write_text(declared)
    before = everything(study)
    assert cli.benchmark(study, study) == 1
    assert "choose another folder with --out" in cli.err
    assert everything(study) == before
    assert (study / "study.yaml").read_text() == declared


def test_a_file_where_the_folder_should_be(study: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "bench").write_text("mine")
    assert cli.benchmark(study, tmp_path / "bench") == 1
    assert "is a file; wanted a folder" in cli.err
    assert (tmp_path / "bench").read_text() == "mine"
