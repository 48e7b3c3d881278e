"""`elsewhere ablate`: a method taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.options import (
    AllowOutside,
    HeldOut,
    Jobs,
    Patients,
    Ray,
    Reference,
    Seeds,
    Selections,
    SiteColumn,
    Steps,
    StudyArgument,
    Trust,
    by_comma,
    rules,
)


def ablate(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="the method that is taken apart: dropgen")],
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the benchmark's folder; repeat the command to go on")],
    variants: Annotated[
        str | None, typer.Option(metavar="A,B", help="some of the variants, by comma; all by default")
    ] = None,
    sensitivity: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="remove input channels on at most N patients of each split; 0: not at all; on all by default",
        ),
    ] = None,
    seeds: Seeds = 3,
    held_out: HeldOut = None,
    steps: Steps = None,
    jobs: Jobs = 1,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE ...", help="settings, or METHOD.OPTION=VALUE for all its variants"),
    ] = None,
    selection: Selections = None,
    patients: Patients = None,
    reference: Reference = False,
    ray: Ray = None,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
    trust: Trust = False,
) -> None:
    """Take a method apart: its variants in one benchmark, and what each input channel is worth to their networks."""
    from elsewhere.analysis.ablation import run_ablation

    code = run_ablation(
        method,
        study,
        out=out,
        variants=None if variants is None else by_comma(variants),
        sensitivity=sensitivity,
        seeds=seeds,
        held_out=held_out or None,
        steps=steps,
        jobs=jobs,
        changes=changes or [],
        selection=rules(selection),
        reference=reference,
        ray=ray,
        site_column=site_column,
        allow_outside=allow_outside,
        trust=trust,
        patients=patients,
    )
    raise typer.Exit(code)
