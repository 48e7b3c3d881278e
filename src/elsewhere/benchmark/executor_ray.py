"""The same runs on a Ray cluster (extra `ray`): one task a run, on a file system that all machines share."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from elsewhere.benchmark.attempt import Emit, Outcome, Work, attempt, record
from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import RunError


class RayExecutor:
    """Runs as Ray tasks. The study and the benchmark's folder must have the same path on every machine.

    Args:
        work: does one run.
        address: of the cluster ("auto", "ray://host:10001", "host:6379"), or "local" for a new one on this machine.
        cpus: cores of each run.
        gpus: GPUs of each run; None: its setting `devices` where the cluster has GPUs and `device` is not "cpu".
        init: further arguments of `ray.init`.

    Raises:
        RunError: Ray is not installed, or there is no cluster at `address`.
    """

    def __init__(
        self, work: Work, address: str, *, cpus: int = 1, gpus: float | None = None, init: dict[str, Any] | None = None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise RunError("--ray needs Ray, which is not installed here; try: pip install 'elsewhere[ray]'")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        _require_answer(address)
        self.work, self.cpus, self.gpus = work, cpus, gpus
        self.starts = 0
        self._ray = ray
        try:
            ray.init(
                address=None if address == "local" else address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                **(init or {}),
            )
        except (ConnectionError, RuntimeError, ValueError, TypeError) as error:
            raise _unreachable(address, str(error)) from error

    def run(self, specs: Sequence[RunSpec], benchmark: Path, emit: Emit) -> Iterator[Outcome]:
        """Do all runs; outcomes come as runs end, and `emit` is told nothing else. Leaving early cancels the rest."""
        ray = self._ray
        task = ray.remote(num_cpus=self.cpus, max_retries=0)(_on_the_cluster)
        waiting = {}
        for spec in specs:
            gpus = _gpus(spec.settings, ray.cluster_resources()) if self.gpus is None else self.gpus
            waiting[task.options(num_gpus=gpus).remote(self.work, spec, str(benchmark.resolve()), self.cpus)] = spec
        try:
            while waiting:
                ended, _ = ray.wait(list(waiting), num_returns=1)
                for reference in ended:
                    yield self._outcome(reference, waiting.pop(reference), benchmark)
        finally:
            for reference in waiting:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)
            self.close()

    def _outcome(self, reference: Any, spec: RunSpec, benchmark: Path) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except Exception as error:  # the machine or its worker is gone: this run failed, the others go on
            sentence = f"its Ray task was lost ({str(error).strip().splitlines()[0]})"
            record(benchmark / spec.folder, sentence)
            return Outcome(spec.identity, sentence, 0.0)
        return outcome

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _gpus(settings: Mapping[str, Any], cluster: Mapping[str, float]) -> float:
    """Ray hides the GPUs that a task does not ask for."""
    return float(settings["devices"]) if settings.get("device") != "cpu" and cluster.get("GPU", 0) > 0 else 0.0


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes where nobody listens, and says nothing."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" and "local"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, why: str) -> RunError:
    first = (why.strip().splitlines() or ["no reason given"])[0]
    return RunError(f"--ray {address}: no cluster can be reached there ({first}); wanted auto, local or HOST:PORT")


def _on_the_cluster(work: Work, spec: RunSpec, benchmark: str, threads: int) -> Outcome:
    import torch

    torch.set_num_threads(threads)
    return attempt(work, spec, Path(benchmark), lambda message: None)
