"""`elsewhere learning-curve`: the same benchmark with more and more training patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.benchmark import Selection
from elsewhere.cli.options import AllowOutside, SiteColumn, StudyArgument


def learning_curve(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="a folder for all of it; repeat the command to go on")],
    methods: Annotated[
        str, typer.Option(metavar="A,B", help="methods, by comma; LABEL=METHOD: under another name")
    ] = "erm,gin,vrex",
    patients: Annotated[
        str, typer.Option(metavar="N,...,all", help="numbers of training patients, over all development sites together")
    ] = "1,3,5,10,all",
    seeds: Annotated[int, typer.Option(min=1, help="seeds 0 ... N-1")] = 3,
    held_out: Annotated[
        list[str] | None, typer.Option(metavar="SITE ...", help="sites to hold out, each in turn; A+B is one group")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps of each run")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at the same time; they share the cores")] = 1,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE ...", help="settings, or METHOD.OPTION=VALUE, LABEL.OPTION=VALUE"),
    ] = None,
    selection: Annotated[
        list[Selection] | None, typer.Option(metavar="RULE ...", help="source-val (default), last, oracle")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run on this Ray cluster (local: start one)")
    ] = None,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Train with few patients and with more, leave-one-site-out: a benchmark for each number, a table and a page."""
    from elsewhere.analysis.learning_curve import read_sizes, run_learning_curve
    from elsewhere.report.learning_curve import write_learning_curve

    code = run_learning_curve(
        study,
        out=out,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        patients=read_sizes(patients),
        seeds=seeds,
        held_out=held_out or None,
        steps=steps,
        jobs=jobs,
        changes=changes or [],
        selection=[rule.value for rule in selection or [Selection.source_val]],
        ray=ray,
        site_column=site_column,
        allow_outside=allow_outside,
    )
    typer.echo(f"wrote {write_learning_curve(out)}")
    raise typer.Exit(code)
