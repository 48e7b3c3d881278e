"""`elsewhere train`: the final model, trained on all sites, in a folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elsewhere.cli.live import Live
from elsewhere.cli.options import AllowOutside, Patients, SiteColumn, StudyArgument, Trust

if TYPE_CHECKING:
    from rich.console import Console


class FinalSelection(StrEnum):
    """By which rule the model of the training is chosen."""

    source_val = "source-val"
    last = "last"


def train(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="the model's folder; repeat the command to go on")],
    method: Annotated[str, typer.Option(metavar="NAME", help="see elsewhere methods")],
    steps: Annotated[int | None, typer.Option(min=1, help="training steps")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of split, weights, order and augmentation")] = 0,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE ...", help="settings, or METHOD.OPTION=VALUE")
    ] = None,
    selection: Annotated[
        FinalSelection, typer.Option(help="the best on the validation patients, or the model of the last step")
    ] = FinalSelection.source_val,
    patients: Patients = None,
    benchmark: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="benchmark of this study and method, for the card"),
    ] = None,
    trust: Trust = False,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Train on all sites, and write the model's folder: weights, preprocessing, calibration, and a card."""
    from elsewhere.deploy.final import train_final
    from elsewhere.deploy.question import ask
    from elsewhere.terminal import console

    question = ask(
        study,
        method,
        steps=steps,
        seed=seed,
        changes=changes or [],
        selection=selection.value,
        benchmark=benchmark,
        site_column=site_column,
        allow_outside=allow_outside,
        trust=trust,
        patients=patients,
        command=shlex.join(["elsewhere", *sys.argv[1:]]) if Path(sys.argv[0]).name == "elsewhere" else "",
    )
    with Display(console()) as display:
        final = train_final(question, out, display.event)
    if final.trained:
        typer.echo(f"wrote {out}; read {out / 'card.md'} before it is used")
    elif final.card_changed:
        typer.echo(f"{out} was finished; wrote what the benchmark found to {out / 'card.md'}")
    else:
        typer.echo(f"{out} is finished; nothing to do")


class Display(Live):
    """Shows what `train_final` says."""

    def __init__(self, console: Console) -> None:
        from rich.progress import TimeElapsedColumn

        super().__init__(console, TimeElapsedColumn(), counted=True)
        self._stage = ""

    def event(self, message: Mapping[str, Any]) -> None:
        """A sentence, or how far a stage is; see `deploy.final.Emit`."""
        from rich.markup import escape

        from elsewhere.benchmark.display import note

        if message["kind"] == "say":
            self.console.print(escape(message["text"]), highlight=False, soft_wrap=True)
            return
        said = escape(note(message))
        line = f"{message['step']}/{message['steps']} {said}"
        self.show(said, line, message["step"], message["steps"] or 1, now=message["stage"] != self._stage)
        self._stage = str(message["stage"])
