"""A whole sweep: how often files are decoded and workers started, and where the time goes. Prints JSON.

    python benchmarks/sweep.py ../shared/data/cxr     # 3 methods, 3 sites, 200 steps, DenseNet-121, 128 px
    python benchmarks/sweep.py STUDY --steps 4 --size 32 --set network=resnet18

Time is counted in worker seconds: wall clock x jobs, from the call to the printed table, so that a worker that waits
counts. `outside` is all that is neither a training step (its batch included) nor a validation on development patients:

    evaluation   the final models on the held-out and the in-domain patients, scores and pictures included
    decoding     reading and decoding files, wherever it is asked for; taken out of the parts that asked
    preparation  opening the study, cutting it, the fingerprint of its training images
    other        starting processes and importing, building networks, checkpoints and models, tables, waiting
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from elsewhere.benchmark import RunSpec, execute, run_benchmark
from elsewhere.benchmark.attempt import Emit
from elsewhere.study import Cache, open_study

PARTS = {
    "decoding": ("elsewhere.study.cache", "decode"),
    "validation": ("elsewhere.training.train", "validate"),
    "evaluation": ("elsewhere.benchmark.run", "_evaluate"),
    "sealing": ("elsewhere.benchmark.run", "seal"),
    "opening": ("elsewhere.benchmark.run", "_opened"),
}
"""What is timed: module and function."""


def timed(spec: RunSpec, folder: Path, emit: Emit) -> None:
    """A run that also writes down what its parts took."""
    with parts_timed() as seconds:
        execute(spec, folder, emit)
    (folder / "part_seconds.json").write_text(json.dumps(seconds))


@contextlib.contextmanager
def parts_timed() -> Iterator[dict[str, float]]:
    """Seconds of each of PARTS while the block runs; a part inside another is taken out of the outer one."""
    seconds = dict.fromkeys(PARTS, 0.0)
    inner = [0.0]  # for each part under way, seconds of the parts within it
    run = threading.get_ident()

    def stopwatch(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            if threading.get_ident() != run:  # it overlaps with something that is timed
                return work(*args, **more)
            begin = time.perf_counter()
            inner.append(0.0)
            try:
                return work(*args, **more)
            finally:
                took = time.perf_counter() - begin
                seconds[part] += took - inner.pop()
                inner[-1] += took

        return watched

    with contextlib.ExitStack() as put_back:
        for part, (module, name) in PARTS.items():
            room = importlib.import_module(module)
            put_back.callback(setattr, room, name, getattr(room, name))
            setattr(room, name, stopwatch(part, getattr(room, name)))
        yield seconds


def training_seconds(log: Path) -> float:
    """Sum over steps; a row of the log is the mean of the steps since the last one."""
    total, before = 0.0, 0
    with log.open(newline="") as opened:
        for row in csv.DictReader(opened):
            if row["split"] == "train" and row["name"] == "seconds":
                total += float(row["value"]) * (int(row["step"]) - before)
                before = int(row["step"])
    return total


def sweep(study: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a benchmark and count."""
    cache = Cache(out / "cache")
    begin = time.perf_counter()
    code = run_benchmark(
        study,
        out=out / "benchmark",
        methods=options.methods.split(","),
        seeds=options.seeds,
        held_out=options.held_out,
        steps=options.steps,
        jobs=options.jobs,
        changes=[f"size=[{options.size}, {options.size}]", *options.set],
        cache=cache.folder,
        console=Console(stderr=True),
        work=timed,
    )
    wall = time.perf_counter() - begin
    runs = sorted(path.parent for path in (out / "benchmark" / "runs").glob("*/*/*/part_seconds.json"))
    state = json.loads((out / "benchmark" / "benchmark.json").read_text())
    parts = [json.loads((run / "part_seconds.json").read_text()) for run in runs]
    spent = {part: sum(one[part] for one in parts) for part in PARTS}
    training = sum(training_seconds(run / "log.csv") for run in runs)
    total = wall * min(options.jobs, max(1, state["worker_starts"]))
    cases, decodes = len(open_study(study, cache=cache.folder).cases), cache.decodes_logged()
    seconds = {
        "total": total,
        "training_steps": training,
        "validation": spent["validation"],
        "outside": total - training - spent["validation"],
    }
    outside = {
        "evaluation": spent["evaluation"],
        "decoding": spent["decoding"],
        "preparation": spent["sealing"] + spent["opening"],
        "other": total - training - sum(spent.values()),
    }
    return {
        "study": study.name,
        "exit_code": code,
        "runs": len(runs),
        "steps": options.steps,
        "cases": cases,
        "decodes": decodes,
        "decodes_a_case": round(decodes / cases, 4),
        "jobs": options.jobs,
        "worker_starts": state["worker_starts"],
        "wall_seconds": round(wall, 1),
        "worker_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "outside_seconds": {name: round(value, 1) for name, value in outside.items()},
        "share_outside": round(seconds["outside"] / total, 4),
        "share_outside_of": {name: round(value / total, 4) for name, value in outside.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--methods", default="erm,gin,vrex")
    parser.add_argument("--held-out", nargs="+", default=None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=None, help="kept; a temporary folder otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(sweep(options.study, options.out or Path(scratch), options), indent=1))


if __name__ == "__main__":
    main()
