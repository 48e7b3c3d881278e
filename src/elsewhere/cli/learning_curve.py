"""`elsewhere learning-curve`: the same benchmark with more and more training patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.options import (
    AllowOutside,
    Changes,
    HeldOut,
    Jobs,
    Methods,
    Ray,
    Seeds,
    Selections,
    SiteColumn,
    Steps,
    StudyArgument,
    Trust,
    by_comma,
    rules,
)


def learning_curve(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="a folder for all of it; repeat the command to go on")],
    methods: Methods = "erm,gin,vrex",
    patients: Annotated[
        str, typer.Option(metavar="N,...,all", help="numbers of training patients, over all development sites together")
    ] = "1,3,5,10,all",
    seeds: Seeds = 3,
    held_out: HeldOut = None,
    steps: Steps = None,
    jobs: Jobs = 1,
    changes: Changes = None,
    selection: Selections = None,
    ray: Ray = None,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
    trust: Trust = False,
) -> None:
    """Train with few patients and with more, leave-one-site-out: a benchmark for each number, a table and a page."""
    from elsewhere.analysis.learning_curve import read_sizes, run_learning_curve
    from elsewhere.report.learning_curve import write_learning_curve

    code = run_learning_curve(
        study,
        out=out,
        methods=by_comma(methods),
        patients=read_sizes(patients),
        seeds=seeds,
        held_out=held_out or None,
        steps=steps,
        jobs=jobs,
        changes=changes or [],
        selection=rules(selection),
        ray=ray,
        site_column=site_column,
        allow_outside=allow_outside,
        trust=trust,
    )
    typer.echo(f"wrote {write_learning_curve(out)}")
    raise typer.Exit(code)
