"""`elsewhere predict`: a model on files, DICOM series and studies."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.options import AllowOutside, progress_bar


class Device(StrEnum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="a model's folder")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT ...", help="image files, NIfTI, DICOM, folders of them, or a study")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="masks and predictions.csv; repeat the command to go on")],
    jobs: Annotated[int, typer.Option(min=1, help="cases at the same time; they share the cores")] = 1,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="also write the probabilities of a segmentation")
    ] = False,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="name DICOM series by their paths and SeriesInstanceUIDs in the table")
    ] = False,
    trust: Annotated[bool, typer.Option("--trust", help="run a network that the model names by import path")] = False,
    device: Annotated[Device, typer.Option(help="where to run")] = Device.auto,
    allow_outside: AllowOutside = False,
    as_json: Annotated[bool, typer.Option("--json", help="say what was done as JSON")] = False,
) -> None:
    """Predict: a mask on the grid of each input, or a class, and a table of what the model thinks of it."""
    from elsewhere.deploy.predict import predict_cases

    done = predict_cases(
        model,
        inputs,
        out,
        jobs=jobs,
        probabilities=probabilities,
        keep_ids=keep_ids,
        trust=trust,
        device=device.value,
        allow_outside=allow_outside,
        progress=progress_bar("predicting"),
    )
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2, default=str))
    else:
        for note in done.notes:
            typer.echo(note, err=True)
        for _, sentence in done.failed:
            typer.echo(f"failed: {sentence}", err=True)
        parts = [
            f"{done.finished} predicted",
            *([f"{done.kept} kept from before"] if done.kept else []),
            *([f"{len(done.failed)} failed"] if done.failed else []),
            *([f"{len(done.unlike)} unlike the development data"] if done.unlike else []),
        ]
        typer.echo(f"wrote {done.table}: {', '.join(parts)}")
    raise typer.Exit(1 if done.failed else 0)
