"""Many small jobs over worker processes, that survive a job which kills its process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(Generic[Job, Result]):
    """A bounded, unordered map over processes started afresh (forkserver or spawn), or in this one if `jobs` is 1.

    Args:
        run: a module-level function of a list of jobs, giving a result for each.
        lost: makes the result of a job whose process died (a decoder that crashed, or no memory left).
        jobs: number of processes.
        chunk: jobs handed to a process at a time.
    """

    def __init__(
        self, run: Callable[[list[Job]], list[Result]], lost: Callable[[Job], Result], jobs: int, chunk: int = 32
    ) -> None:
        self.run, self.lost, self.jobs, self.chunk = run, lost, jobs, chunk
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers[Job, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def map(self, jobs: Iterable[Job]) -> Iterator[list[Result]]:
        """Run all jobs; results come by the chunk, as they are done. Only a few chunks are in flight at any time."""
        waiting = iter(jobs)
        if self.jobs == 1:
            while chunk := list(islice(waiting, self.chunk)):
                yield self.run(chunk)
            return
        flying: dict[Future[list[Result]], list[Job]] = {}
        chunk = list(islice(waiting, self.chunk))
        while chunk or flying:
            try:
                while chunk and len(flying) < 3 * self.jobs:
                    flying[self._submit(chunk)] = chunk
                    chunk = list(islice(waiting, self.chunk))
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    results = future.result()
                    del flying[future]
                    yield results
            except BrokenProcessPool:
                suspects = [job for jobs_of_chunk in flying.values() for job in jobs_of_chunk]
                flying = {}
                self._stop()
                yield [self._alone(job) for job in suspects]
                self._stop()

    def _submit(self, chunk: list[Job]) -> Future[list[Result]]:
        if self._pool is None:
            self._pool = self._start(self.jobs)
        return self._pool.submit(self.run, chunk)

    def _alone(self, job: Job) -> Result:
        """Run one job of those in flight when a process died: the one that kills its process again is to blame."""
        if self._pool is None:
            self._pool = self._start(1)
        try:
            return self._pool.submit(self.run, [job]).result()[0]
        except BrokenProcessPool:
            self._stop()
            return self.lost(job)

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    @staticmethod
    def _start(jobs: int) -> ProcessPoolExecutor:
        methods = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in methods else "spawn"  # fork is unsafe beside the caller's threads
        return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context(method))
