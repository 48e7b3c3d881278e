"""`elsewhere ablate`: a method taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.benchmark import Selection
from elsewhere.cli.options import AllowOutside, Patients, SiteColumn, StudyArgument


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
    seeds: Annotated[int, typer.Option(min=1, help="seeds 0 ... N-1")] = 3,
    held_out: Annotated[
        list[str] | None, typer.Option(metavar="SITE ...", help="sites to hold out, each in turn; A+B is one group")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps of each run")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at the same time; they share the cores")] = 1,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE ...", help="settings, or METHOD.OPTION=VALUE for all its variants"),
    ] = None,
    selection: Annotated[
        list[Selection] | None, typer.Option(metavar="RULE ...", help="source-val (default), last, oracle")
    ] = None,
    patients: Patients = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="also train within each held-out site: how hard is it in itself?")
    ] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run on this Ray cluster (local: start one)")
    ] = None,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Take a method apart: its variants in one benchmark, and what each input channel is worth to their networks."""
    from elsewhere.analysis.ablation import run_ablation

    code = run_ablation(
        method,
        study,
        out=out,
        variants=None if variants is None else [name.strip() for name in variants.split(",") if name.strip()],
        sensitivity=sensitivity,
        seeds=seeds,
        held_out=held_out or None,
        steps=steps,
        jobs=jobs,
        changes=changes or [],
        selection=[rule.value for rule in selection or [Selection.source_val]],
        reference=reference,
        ray=ray,
        site_column=site_column,
        allow_outside=allow_outside,
        patients=patients,
    )
    raise typer.Exit(code)
