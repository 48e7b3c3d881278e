from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import work

from elsewhere.benchmark.executor_local import LocalExecutor, cores
from elsewhere.benchmark.executor_ray import RayExecutor, _gpus
from elsewhere.errors import RunError


def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("note.json"))]


def test_workers_are_reused_share_the_cores_and_fail_alone(tmp_path: Path) -> None:
    """One test for several things, for each worker that is started imports torch and MONAI."""
    executor, heard = LocalExecutor(work.one_is_killed_some_fail, jobs=2), list[dict[str, Any]]()
    specs = [work.spec(i) for i in range(8)]
    outcomes = {o.identity: o for o in executor.run(specs, tmp_path, heard.append)}
    assert [spec.seed for spec in specs if not outcomes[spec.identity].ok] == [work.REFUSED, work.BUG, work.KILLED]

    assert executor.starts == 3  # two, and one in place of the one that was killed
    found = notes(tmp_path)
    assert len(found) == 5
    assert len({one["process"] for one in found}) <= 3
    assert os.getpid() not in {one["process"] for one in found}
    share = max(1, cores() // 2)
    assert {(one["threads"], one["omp"]) for one in found} == {(share, str(share))}
    assert {message["kind"] for message in heard} == {"start", "progress"}

    killed = outcomes[work.spec(work.KILLED).identity].error or ""
    assert "was killed" in killed
    assert (tmp_path / work.spec(work.KILLED).folder / "error.txt").read_text().startswith(killed)


def test_a_failed_run_stops_no_other_in_this_process(tmp_path: Path) -> None:
    executor = LocalExecutor(work.some_fail, jobs=1)
    outcomes = {o.identity: o for o in executor.run([work.spec(i) for i in range(4)], tmp_path, lambda m: None)}
    assert len(notes(tmp_path)) == 2
    assert executor.starts == 0
    assert outcomes[work.spec(work.REFUSED).identity].error == "manifest row 7: image 'a.png' cannot be read"
    assert outcomes[work.spec(work.BUG).identity].error == "ZeroDivisionError: division by zero"
    kept = (tmp_path / work.spec(work.BUG).folder / "error.txt").read_text()
    assert kept.startswith("ZeroDivisionError: division by zero\n")
    assert "Traceback" in kept


def test_an_error_goes_when_its_run_succeeds(tmp_path: Path) -> None:
    (tmp_path / work.spec(0).folder).mkdir(parents=True)
    (tmp_path / work.spec(0).folder / "error.txt").write_text("of last time")
    list(LocalExecutor(work.note, jobs=1).run([work.spec(0)], tmp_path, lambda m: None))
    assert not (tmp_path / work.spec(0).folder / "error.txt").exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_benchmark(tmp_path: Path, ending: signal.Signals) -> None:
    program = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a shell's background job
        "from pathlib import Path\n"
        "import work\n"
        "from elsewhere.benchmark.executor_local import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    specs = [work.spec(0)]\n"
        "    list(LocalExecutor(work.forever, jobs=2).run(specs, Path(sys.argv[2]), lambda m: None))\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py"), str(Path(__file__).parent), str(tmp_path / "out")]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (found := list((tmp_path / "out").rglob("process"))) and time.monotonic() < deadline:
            time.sleep(0.1)
        (worker,) = (int(path.read_text()) for path in found)
        parent.send_signal(ending)
        parent.wait(timeout=20)
    finally:
        parent.kill()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


@pytest.mark.slow
def test_the_same_runs_on_a_real_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    init = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    executor = RayExecutor(work.some_fail, "local", init=init)
    outcomes = {o.identity: o for o in executor.run([work.spec(i) for i in range(4)], tmp_path, lambda m: None)}
    assert sorted(o.ok for o in outcomes.values()) == [False, False, True, True]
    assert outcomes[work.spec(work.REFUSED).identity].error == "manifest row 7: image 'a.png' cannot be read"
    assert len(notes(tmp_path)) == 2


@pytest.mark.parametrize(
    ("device", "cluster", "wanted"),
    [("auto", {"CPU": 4.0, "GPU": 2.0}, 2), ("cpu", {"GPU": 2.0}, 0), ("auto", {"CPU": 4.0}, 0)],
)
def test_a_ray_task_asks_for_the_gpus_that_its_training_uses(
    device: str, cluster: dict[str, float], wanted: float
) -> None:
    assert _gpus({"device": device, "devices": 2}, cluster) == wanted


def test_no_ray_there(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(RunError, match="no cluster can be reached there"):
        RayExecutor(work.note, "127.0.0.1:1")


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match="elsewhere\\[ray\\]"):
        RayExecutor(work.note, "auto")
