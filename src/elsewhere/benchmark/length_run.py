"""`elsewhere benchmark STUDY --steps N,2N`: ERM at several lengths, compared on validation patients alone.

Each training is the very run that a benchmark of that many steps needs, in the same folder: that benchmark only
evaluates it. Runs that a benchmark has finished before are read, and not made again. No held-out case is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape

from elsewhere.benchmark.asked import Asked
from elsewhere.benchmark.attempt import Work
from elsewhere.benchmark.benchmark import executor_for, print_ending, require_free, run_all
from elsewhere.benchmark.length import LENGTH, Length, Training, compare, write_length
from elsewhere.benchmark.loading import Run, read_logs
from elsewhere.benchmark.record import read_done
from elsewhere.benchmark.run import train_only
from elsewhere.benchmark.spec import few_patients, few_patients_said
from elsewhere.benchmark.trusting import trusting
from elsewhere.benchmark.variants import read_methods, require_used
from elsewhere.errors import RunError, SettingsError
from elsewhere.evidence.findings_material import BASELINE, PRIMARY
from elsewhere.files import folder_lock, remove_half_written
from elsewhere.study.description import describe
from elsewhere.terminal import console as standard_output

if TYPE_CHECKING:
    from elsewhere.benchmark.spec import RunSpec


def run_length(
    study: Path | str,
    *,
    out: Path | str,
    steps: Sequence[int],
    methods: Sequence[str] = (BASELINE,),
    seeds: int | Sequence[int] = 1,
    held_out: Sequence[str] | None = None,
    jobs: int | None = 1,
    changes: Sequence[str] = (),
    ray: str | None = None,
    site_column: str | None = None,
    allow_outside: bool = False,
    cache: Path | str | None = None,
    patients: int | None = None,
    trust: bool = False,
    console: Console | None = None,
    work: Work = train_only,
) -> int:
    """Train ERM at each length for every fold and seed, write `length.json`, and say whether length still pays.

    Trains what is not done yet; can be interrupted and called again at any time. `length` has the rule.

    Args:
        study: folder or manifest.
        out: the benchmark's folder.
        steps: two or more lengths.
        methods: of the question; ERM alone is trained, the others are checked and named.
        seeds, held_out, jobs, changes, ray, site_column, allow_outside, cache, patients, trust, console, work: as of
            `run_benchmark`.

    Returns:
        0 where all trainings are done, 1 where some failed.

    Raises:
        ElsewhereError: the question itself makes no sense, or the folder is in use or cannot be written.
    """
    out, console = Path(out), console or standard_output()
    steps = sorted(steps)
    if len(set(steps)) < max(2, len(steps)) or steps[0] < 1:
        raise SettingsError(f"--steps: found {steps}, wanted two or more different lengths from 1 on")
    asked = Asked(
        path=Path(study),
        methods=methods,
        seeds=seeds,
        held_out=held_out,
        changes=changes,
        patients=patients,
        site_column=site_column,
        allow_outside=allow_outside,
        cache=None if cache is None else Path(cache),
        trust=trust,
        here=ray is None,
    )
    by_length = [_planned(asked, length) for length in steps]
    # A pair is whole before the next is begun.
    specs = [spec for pair in zip(*by_length, strict=True) for spec in pair]
    require_free(out)
    with folder_lock(out, "a benchmark"):
        remove_half_written(out)
        waiting = [spec for spec in specs if not _is_trained(out, spec)]
        _print_question(console, asked, steps, specs, len(waiting))
        outcomes = []
        if waiting:
            executor = executor_for(trusting(work, specs) if trust else work, ray, jobs, len(waiting))
            outcomes = run_all(executor, waiting, out, console)
        found = length_of(out, asked.study.name, PRIMARY[asked.study.task], specs)
        write_length(out, found)
    code = print_ending(console, out, specs, outcomes)
    for line in (
        found.sentence,
        f"wrote {out / LENGTH}; a benchmark of one of these lengths only evaluates its trainings",
    ):
        console.print(escape(line), highlight=False, soft_wrap=True)
    return code


def _planned(asked: Asked, length: int) -> list[RunSpec]:
    settings, options = asked.settings(length)
    if settings.steps != length:
        raise SettingsError(f"--set steps={settings.steps}: --steps has the lengths; leave one of them away")
    require_used(read_methods(asked.methods), options)
    return asked.plan([BASELINE], settings, {}, ["source-val"])


def _is_trained(out: Path, spec: RunSpec) -> bool:
    """This very training was finished, be it evaluated or not."""
    return (read_done(out / spec.folder) or {}).get("identity") == spec.identity


def length_of(out: Path, study: str, metric: str, specs: Sequence[RunSpec]) -> Length:
    """What the logs of the finished trainings say.

    Raises:
        RunError: a finished training has no log, or a damaged one.
    """
    runs = [Run(spec, out / spec.folder, None, None) for spec in specs if _is_trained(out, spec)]
    logs = read_logs(runs)
    trainings = []
    for run in runs:
        spec = run.spec
        if spec.identity not in logs:
            raise RunError(
                f"{run.folder / 'log.csv'}: is missing; delete the folder {run.folder} and run the same command again"
            )
        score = logs[spec.identity].score
        known = score[~np.isnan(score[:, 1])]
        best = known[known[:, 1].argmax()] if len(known) else None
        trainings.append(
            Training(
                held_out=spec.fold.name,
                seed=spec.seed,
                steps=spec.settings["steps"],
                identity=spec.identity,
                selected=np.nan if best is None else float(best[1]),
                selected_step=None if best is None else int(best[0]),
                last=float(score[-1, 1]) if len(score) else np.nan,
            )
        )
    steps = sorted({spec.settings["steps"] for spec in specs})
    return compare(study, metric, steps, len({(spec.fold.name, spec.seed) for spec in specs}), trainings)


def _print_question(
    console: Console, asked: Asked, steps: Sequence[int], specs: Sequence[RunSpec], waiting: int
) -> None:
    def say(line: str) -> None:
        console.print(escape(line), highlight=False, soft_wrap=True)

    for line in describe(asked.study):
        say(line)
    others = [name for name in read_methods(asked.methods) if name != BASELINE]
    idle = f"; {', '.join(others)} {'is' if len(others) == 1 else 'are'} not trained for it" if others else ""
    say(f"question  does a longer training pay? erm alone is trained, and scored on validation patients{idle}")
    folds = [fold.title for fold in {spec.fold.name: spec.fold for spec in specs}.values()]
    each = " (each in turn)" if len(folds) > 1 else ""
    say(f"held out  {'; '.join(folds)}{each}; no held-out case is opened")
    settings = specs[0].settings
    lengths = f"{', '.join(map(str, steps[:-1]))} and {steps[-1]}"
    say(f"training  {settings['network']}, {lengths} steps of {settings['batch_size']} cases")
    few = few_patients(specs)
    if few is not None:
        say(f"patients  {few_patients_said(few)}")
    seeds = len(asked.numbers)
    say(
        f"runs      {len(specs)} ({seeds} seed{'s' * (seeds > 1)}, {len(steps)} lengths); {len(specs) - waiting} done, "
        f"{waiting} to do"
    )
