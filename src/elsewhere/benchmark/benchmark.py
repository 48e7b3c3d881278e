"""Leave-one-site-out, from the question to the table: what `elsewhere benchmark` does."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from elsewhere.benchmark.asked import Asked
from elsewhere.benchmark.attempt import Outcome, Work
from elsewhere.benchmark.content import repeated
from elsewhere.benchmark.covariates import write_covariates
from elsewhere.benchmark.display import Display, clock, titles
from elsewhere.benchmark.executor_local import LocalExecutor, cores
from elsewhere.benchmark.executor_ray import RayExecutor
from elsewhere.benchmark.glance import look, print_glance
from elsewhere.benchmark.loading import is_evaluation
from elsewhere.benchmark.record import read_done, require_intact, trained, up_to_date, versions
from elsewhere.benchmark.run import execute
from elsewhere.benchmark.spec import ORACLE, REFERENCE, RunSpec, few_patients, few_patients_said
from elsewhere.benchmark.summary import print_summary, summarise
from elsewhere.benchmark.tables import write_tables
from elsewhere.benchmark.trusting import trusting
from elsewhere.errors import RunError
from elsewhere.files import folder_lock, remove_half_written, write_text
from elsewhere.methods import card
from elsewhere.study.cache import Cache
from elsewhere.study.description import describe, study_yaml
from elsewhere.study.hashes import FileHashes
from elsewhere.study.manifest import MANIFEST_NAME
from elsewhere.terminal import console as standard_output
from elsewhere.training.bfloat16 import slow_bfloat16
from elsewhere.training.settings import Settings

if TYPE_CHECKING:
    from elsewhere.study.study import Study

PLAN, STATE = "plan.json", "benchmark.json"


def run_benchmark(
    study: Path | str,
    *,
    out: Path | str,
    methods: Sequence[str],
    seeds: int | Sequence[int] = 1,
    held_out: Sequence[str] | None = None,
    steps: int | None = None,
    jobs: int | None = 1,
    changes: Sequence[str] = (),
    selection: Sequence[str] = ("source-val",),
    reference: bool = False,
    ray: str | None = None,
    site_column: str | None = None,
    allow_outside: bool = False,
    cache: Path | str | None = None,
    patients: int | None = None,
    trust: bool = False,
    console: Console | None = None,
    work: Work = execute,
) -> int:
    """Train each method on all sites but one, judge it on the one left out, and print the table.

    Runs what is not done yet; can be interrupted and called again at any time. A run that fails stops no other.

    Args:
        study: folder or manifest.
        out: the benchmark's folder.
        methods: names of the registry, or "LABEL=METHOD" to run a method under another name with its own options.
        seeds: how many (0, 1, ...), or which.
        held_out: sites, or groups "A+B"; None for each site in turn.
        steps: of each training.
        jobs: runs at once on this machine; None for one a core.
        changes: "KEY=VALUE" settings, "METHOD.KEY=VALUE" and "LABEL.KEY=VALUE" options.
        selection: "source-val", "last", "oracle".
        reference: also train within each held-out site.
        ray: address of a Ray cluster, or "local".
        site_column: the column that is the site.
        allow_outside: take paths that leave the study's folder.
        cache: folder of decoded cases; None for the user's.
        patients: at most that many train, over all development sites together; None for all.
        trust: networks and extractors may be import paths, `package.module:Class`, whose code is run.
        console: where to print; standard output by default.
        work: does one run (tests put another in its place).

    Returns:
        0 where all runs are done, 1 where some failed.

    Raises:
        ElsewhereError: the question itself makes no sense, or the folder is in use or cannot be written.
    """
    out, console = Path(out), console or standard_output()
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
    settings, options = asked.settings(steps)
    opened = asked.study

    def planned(rules: Sequence[str]) -> list[RunSpec]:
        return asked.plan(methods, settings, options, rules, reference)

    specs = planned(selection)
    if ORACLE not in selection and any(out.glob("runs/*/*/seed*-oracle-*")):
        specs = _with_models(out, specs, planned([*selection, ORACLE]))
    require_free(out)
    with folder_lock(out, "a benchmark"):
        remove_half_written(out)  # of a command that was killed, beside the folders of its runs
        _write_question(out, opened, specs)
        waiting = []
        for spec in specs:
            if not up_to_date(out / spec.folder, spec):
                waiting.append(spec)
            else:  # now, and not after hours of training
                require_intact(out / spec.folder)
        _print_question(console, out, opened, specs, waiting, settings.resolved(opened.task, opened.dims), ray is None)
        began = time.monotonic()
        executor = executor_for(trusting(work, specs) if trust else work, ray, jobs, len(waiting)) if waiting else None
        outcomes = run_all(executor, waiting, out, console) if executor is not None else []
        write_tables(out, specs)
        _write_state(out, outcomes, executor.starts if executor else 0, time.monotonic() - began)
        return _print_answer(console, out, specs, outcomes)


def require_free(out: Path) -> None:
    """Refuse the folder of something else.

    Raises:
        RunError: it is that of a study or of an evaluation.
    """
    if (out / MANIFEST_NAME).exists():  # its study.yaml would be overwritten
        raise RunError(f"{out}: is the folder of a study, which is never written to; choose another folder with --out")
    if is_evaluation(out):  # its tables would be overwritten
        raise RunError(f"{out}: is the folder of an evaluation; choose another folder with --out")


def _with_models(out: Path, specs: Sequence[RunSpec], seen: Sequence[RunSpec]) -> list[RunSpec]:
    """In the place of a run that was never begun, the finished one that the oracle saw: it has the same models."""

    def chosen(spec: RunSpec, other: RunSpec) -> RunSpec:
        folder, answered = out / other.folder, replace(other, selection=spec.selection)
        there = up_to_date(folder, answered) or trained(folder, answered)
        return answered if there and not (out / spec.folder).exists() else spec

    return [chosen(spec, other) for spec, other in zip(specs, seen, strict=True)]


def executor_for(work: Work, ray: str | None, jobs: int | None, n_runs: int) -> LocalExecutor | RayExecutor:
    """On this machine, or on a cluster."""
    if ray is not None:
        return RayExecutor(work, ray)
    return LocalExecutor(work, min(jobs or cores(), n_runs))


def run_all(
    executor: LocalExecutor | RayExecutor, waiting: Sequence[RunSpec], out: Path, console: Console
) -> list[Outcome]:
    """Do the runs and show how they go on."""
    outcomes = []
    with Display(waiting, console) as display:
        for outcome in executor.run(waiting, out, display.event):
            display.finish(outcome)
            outcomes.append(outcome)
    return outcomes


def _write_question(out: Path, study: Study, specs: Sequence[RunSpec]) -> None:
    write_text(out / "study.yaml", study_yaml(study))
    question: dict[str, Any] = {
        "study": study.name,
        "task": study.task,
        "dims": study.dims,
        "classes": list(study.classes),
        "command": shlex.join(["elsewhere", *sys.argv[1:]]) if Path(sys.argv[0]).name == "elsewhere" else "",
        "written": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "versions": versions(),
        "sees_unlabelled_target": sorted({spec.method for spec in specs if card(spec.trained_as).unlabelled_target}),
        "runs": [{"folder": str(spec.folder), "spec": spec.to_dict()} for spec in specs],
    }
    few = few_patients(specs)
    if few is not None:
        question["patients"] = few
    cache = specs[0].cache if specs else None
    twice = repeated(study, FileHashes(Cache(None if cache is None else Path(cache)).folder / "hashes.tsv"))
    if twice:
        question["repeated"] = twice
    write_covariates(out, study)
    write_text(out / PLAN, json.dumps(question, indent=1))


def _print_question(
    console: Console,
    out: Path,
    study: Study,
    specs: Sequence[RunSpec],
    waiting: Sequence[RunSpec],
    settings: Settings,
    here: bool,
) -> None:
    def say(line: str) -> None:
        console.print(escape(line), highlight=False, soft_wrap=True)

    for line in describe(study):
        say(line)
    folds = [fold.title for fold in {spec.fold.name: spec.fold for spec in specs}.values()]
    names = list(dict.fromkeys(spec.method_title for spec in specs))
    say(f"methods   {', '.join(names)}")
    say(f"held out  {'; '.join(folds)} (each in turn)" if len(folds) > 1 else f"held out  {folds[0]}")
    say(f"training  {settings.network}, {settings.steps} steps of {settings.batch_size} cases")
    few = few_patients(specs)
    if few is not None:
        say(f"patients  {few_patients_said(few)}")
    seeds = sorted({spec.seed for spec in specs})
    say(
        f"runs      {len(specs)} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''}); "
        f"{len(specs) - len(waiting)} done, {len(waiting)} to do"
    )
    again = sum(trained(out / spec.folder, spec) for spec in waiting)
    if again:
        say(f"again     {again} of them {'is' if again == 1 else 'are'} trained already, and only evaluated")
    if any(spec.method == REFERENCE for spec in specs):
        say("reference the same network, trained with ERM within each held-out site, patient-wise cross-validation")
    if any(ORACLE in spec.selection for spec in specs):
        say("ORACLE    selection by the held-out site was asked for: nobody who deploys a model can do that")
    elif any(spec.oracle for spec in specs):
        say("seen      runs that the oracle looked at answer this: their models of these rules are those of other runs")
    if here and len(waiting) > again:
        slow = slow_bfloat16(settings.precision, settings.device, study.dims)
        if slow is not None:
            say(f"precision {slow}")


def _write_state(out: Path, outcomes: Sequence[Outcome], starts: int, seconds: float) -> None:
    """How the latest call went: for `benchmarks/sweep.py` and for the report."""
    state = {
        "runs_done_now": sum(outcome.ok for outcome in outcomes),
        "runs_failed": {outcome.identity: outcome.error for outcome in outcomes if not outcome.ok},
        "worker_starts": starts,
        "seconds": seconds,
    }
    write_text(out / STATE, json.dumps(state, indent=1))


def _print_answer(console: Console, out: Path, specs: Sequence[RunSpec], outcomes: Sequence[Outcome]) -> int:
    print_summary(console, summarise(out))
    code = print_ending(console, out, specs, outcomes)
    print_glance(console, look(out))
    return code


def print_ending(console: Console, out: Path, specs: Sequence[RunSpec], outcomes: Sequence[Outcome]) -> int:
    """Say what runs noted, which failed and where their errors are, and how long it took.

    Returns:
        0 where none failed, else 1.
    """
    notes: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in specs:
        for note in (read_done(out / spec.folder) or {}).get("notes", ()):
            notes.setdefault((spec.fold.name, note), []).append(spec)
    for (_, note), those in notes.items():  # most are of the split: the same for every method
        whose = f"{those[0].fold.title} held out" if len(those) > 1 else those[0].title
        console.print(f"[yellow]note[/yellow] {escape(whose)}: {escape(note)}", highlight=False, soft_wrap=True)
    failed = [outcome for outcome in outcomes if not outcome.ok]
    by_identity, named = {spec.identity: spec for spec in specs}, titles(specs)
    for outcome in failed:
        where = out / by_identity[outcome.identity].folder / "error.txt"
        line = f"{escape(named[outcome.identity])}: {escape(outcome.error or '')} ({escape(str(where))})"
        console.print(f"[red]failed[/red] {line}", highlight=False, soft_wrap=True)
    if failed:
        console.print(
            f"{len(failed)} of {len(specs)} runs failed; the same command tries them again and keeps the others",
            highlight=False,
        )
    else:
        took = sum(outcome.seconds for outcome in outcomes)
        console.print(f"{len(specs)} run{'s' * (len(specs) > 1)} done ({clock(took)} of runs now)", highlight=False)
    return 1 if failed else 0
