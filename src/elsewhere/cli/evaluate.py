"""`elsewhere evaluate`: predictions, or a model, made anywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.options import AllowOutside, SiteColumn, StudyArgument, progress_bar


def evaluate(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the evaluation's folder")],
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="DIR|CSV", help="a folder of masks (nnU-Net's as it is), or a table of probabilities"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL|FILE", help="a model's folder, TorchScript (.ts, .pt) or ONNX")
    ] = None,
    name: Annotated[str | None, typer.Option(help="in the tables")] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(metavar="SITE ...", help="judge at these sites; all by default")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE ...", help="preprocessing of a file that does not say it itself"),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="run a TorchScript program, or a network named by import path")
    ] = False,
    local: Annotated[
        list[int] | None,
        typer.Option(metavar="N ...", min=1, help="what would N labelled patients of the site change?"),
    ] = None,
    fine_tune: Annotated[
        int, typer.Option(metavar="STEPS", min=0, help="with --local: also train the model on, for so many steps")
    ] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="with --local: draws of the local patients")] = 100,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Judge what one already has at each site: predictions, or a model, with the same evidence and report."""
    from elsewhere.benchmark.external import run_evaluation
    from elsewhere.benchmark.local import Local
    from elsewhere.errors import SettingsError
    from elsewhere.report import write_report

    if fine_tune and not local:
        raise SettingsError("--fine-tune: wanted --local N too, the numbers of patients to train on")
    asked = Local(tuple(dict.fromkeys(local)), resamples, fine_tune) if local else None
    folder = run_evaluation(
        study,
        out=out,
        predictions=predictions,
        model=model,
        name=name,
        held_out=held_out or None,
        changes=changes or [],
        trust=trust,
        local=asked,
        site_column=site_column,
        allow_outside=allow_outside,
        progress=progress_bar("judging"),
    )
    typer.echo(f"wrote {write_report(folder)}")
