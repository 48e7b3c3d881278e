"""Runs on this machine: worker processes that are started once, reused from run to run, and replaced when killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from elsewhere.benchmark.attempt import Emit, Outcome, Work, attempt, record
from elsewhere.benchmark.spec import RunSpec
from elsewhere.files import remove_half_written

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class _Worker:
    """A process, our end of its pipe, and what it is doing."""

    process: Any
    pipe: Connection
    spec: RunSpec | None = None
    since: float = 0.0


class LocalExecutor:
    """At most `jobs` runs at once, each with its share of the cores.

    With one job the runs are done in this process, with all of its threads: nothing to start, nothing to wait for. With
    more, each worker is a process of its own, so that one that is killed (out of memory) takes only its run with it.

    Args:
        work: does one run.
        jobs: runs at once.
        threads: torch threads of each worker; by default cores // jobs, so that the cores are never oversubscribed.

    Attributes:
        starts: worker processes started so far.
    """

    def __init__(self, work: Work, jobs: int, threads: int | None = None) -> None:
        self.work = work
        self.jobs = max(1, jobs)
        self.threads = threads or max(1, cores() // self.jobs)
        self.starts = 0
        self._workers: list[_Worker] = []

    def run(self, specs: Sequence[RunSpec], benchmark: Path, emit: Emit) -> Iterator[Outcome]:
        """Do all runs; outcomes come as runs end. Leaving early (Ctrl-C) ends the workers."""
        if self.jobs == 1:
            for spec in specs:
                emit({"kind": "start", "run": spec.identity})
                yield attempt(self.work, spec, benchmark, emit)
            return
        try:
            yield from self._in_processes(deque(specs), benchmark, emit)
        finally:
            stopped = [worker.spec for worker in self._workers if worker.spec is not None]
            self.close()
            for spec in stopped:
                remove_half_written(benchmark / spec.folder)

    def _in_processes(self, waiting: deque[RunSpec], benchmark: Path, emit: Emit) -> Iterator[Outcome]:
        while waiting or any(worker.spec for worker in self._workers):
            while waiting and (worker := self._idle()) is not None:
                spec = waiting.popleft()
                emit({"kind": "start", "run": spec.identity})
                worker.spec, worker.since = spec, time.monotonic()
                with contextlib.suppress(OSError):  # it died while idle: its closed pipe says so below
                    worker.pipe.send((spec, benchmark))
            busy = {worker.pipe: worker for worker in self._workers if worker.spec is not None}
            for pipe in wait(list(busy)):
                outcome = self._listen(busy[pipe], benchmark, emit)  # type: ignore[index]
                if outcome is not None:
                    yield outcome

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.spec is None:
                return worker
        if len(self._workers) < self.jobs:
            self._workers.append(self._start())
            return self._workers[-1]
        return None

    def _start(self) -> _Worker:
        # "spawn": a forked child would share torch's threads and the progress bar of its parent.
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(self.work, theirs, self.threads), daemon=True)
        with _environment(dict.fromkeys(THREADS, str(self.threads))):
            process.start()
        theirs.close()
        self.starts += 1
        return _Worker(process, ours)

    def _listen(self, worker: _Worker, benchmark: Path, emit: Emit) -> Outcome | None:
        spec = worker.spec
        assert spec is not None
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker, spec, benchmark)
        if isinstance(message, Outcome):
            worker.spec = None
            return message
        emit(message)
        return None

    def _bury(self, worker: _Worker, spec: RunSpec, benchmark: Path) -> Outcome:
        """The worker is gone: its run failed, the next run gets a new one."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        remove_half_written(benchmark / spec.folder)
        sentence = f"its worker process {_ending(worker.process.exitcode)}; run the same command again to go on with it"
        record(benchmark / spec.folder, sentence)
        return Outcome(spec.identity, sentence, time.monotonic() - worker.since)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(work: Work, pipe: Connection, threads: int) -> None:
    """Life of a worker: take a run, do it, say how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _end_with_parent()
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            spec, benchmark = pipe.recv()
            pipe.send(attempt(work, spec, benchmark, pipe.send))


def _end_with_parent() -> None:
    """Do not outlive the benchmark, even one that was killed: its lock is gone, and another may start any moment."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _ending(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "was killed (often: out of memory; then try fewer --jobs or a smaller batch_size)"
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended by itself with code {code}"


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment for a child that is being started; ours is put back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
