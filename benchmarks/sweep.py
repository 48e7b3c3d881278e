"""A whole sweep: how often files are decoded and workers started, and where the time goes. Prints JSON.

    python benchmarks/sweep.py ../shared/data/cxr     # 3 methods, 3 sites, 200 steps, DenseNet-121, 128 px
    python benchmarks/sweep.py STUDY --steps 4 --size 32 --set network=resnet18

Time is counted in worker seconds: wall clock x jobs, from the call to the printed table. What is not a training step, a
validation or the evaluation at the end is `other`: starting processes, decoding, checkpoints, tables, waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from elsewhere.benchmark import RunSpec, execute, run_benchmark
from elsewhere.benchmark.attempt import Emit
from elsewhere.study import Cache, open_study


def timed(spec: RunSpec, folder: Path, emit: Emit) -> None:
    """A run that also writes down how long its validations took."""
    with validations_timed() as seconds:
        execute(spec, folder, emit)
    (folder / "validation_seconds.json").write_text(json.dumps(seconds))


@contextlib.contextmanager
def validations_timed() -> Iterator[list[float]]:
    room: Any = importlib.import_module("elsewhere.training.train")  # `training.train` itself is the function
    seconds: list[float] = []
    validate = room.validate

    def stopwatch(*args: Any, **more: Any) -> Any:
        begin = time.perf_counter()
        try:
            return validate(*args, **more)
        finally:
            seconds.append(time.perf_counter() - begin)

    room.validate = stopwatch
    try:
        yield seconds
    finally:
        room.validate = validate


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
    runs = sorted(path.parent for path in (out / "benchmark" / "runs").glob("*/*/*/log.csv"))
    state = json.loads((out / "benchmark" / "benchmark.json").read_text())
    done = [json.loads((run / "done.json").read_text())["seconds"] for run in runs if (run / "done.json").exists()]
    training = sum(training_seconds(run / "log.csv") for run in runs)
    validation = sum(sum(json.loads(path.read_text())) for run in runs for path in run.glob("validation_seconds.json"))
    evaluation = sum(one["evaluation"] for one in done)
    total = wall * options.jobs
    return {
        "study": study.name,
        "exit_code": code,
        "runs": len(runs),
        "cases": len(open_study(study, cache=cache.folder).cases),
        "decodes": cache.decodes_logged(),
        "jobs": options.jobs,
        "worker_starts": state["worker_starts"],
        "wall_seconds": round(wall, 1),
        "worker_seconds": {
            "total": round(total, 1),
            "training_steps": round(training, 1),
            "validation": round(validation, 1),
            "evaluation": round(evaluation, 1),
            "preparation": round(sum(one["preparation"] for one in done), 1),
            "other": round(total - training - validation - evaluation, 1),
        },
        "share_outside_training_and_validation": round(1 - (training + validation) / total, 4),
        "share_outside_training_validation_and_evaluation": round(1 - (training + validation + evaluation) / total, 4),
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
