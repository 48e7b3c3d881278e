"""`elsewhere pretrain`: an extractor of stable features of your own."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elsewhere.cli.live import Live

if TYPE_CHECKING:
    from elsewhere.training.state import Progress as Told


class RecipeName(StrEnum):
    """Which size of network and training."""

    cpu = "cpu"
    gpu = "gpu"


def pretrain(
    dims: Annotated[int, typer.Option(min=2, max=3, help="2 or 3")],
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="the extractor; repeat the command to go on")],
    recipe: Annotated[RecipeName, typer.Option(help="cpu: within an hour on 2 cores")] = RecipeName.cpu,
    labels: Annotated[
        list[Path] | None, typer.Option(metavar="PATH ...", help="label maps (NIfTI files, or folders of them)")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of weights, anatomies and images")] = 0,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE ...", help="settings")] = None,
) -> None:
    """Pretrain an extractor of stable features on drawn anatomies, each seen by two drawn scanners."""
    from elsewhere.terminal import console
    from elsewhere.training.bfloat16 import slow_bfloat16
    from elsewhere.training.pretrain import parse
    from elsewhere.training.pretrain import pretrain as run

    settings = parse(recipe.value, dims, changes or [], steps)
    typed = Path(sys.argv[0]).name == "elsewhere"
    slow = slow_bfloat16(settings.precision, settings.device, dims)
    if slow is not None:
        typer.echo(f"precision {slow}")
    with _Display(console()) as display:
        done = run(
            dims,
            out,
            settings,
            labels=labels or [],
            seed=seed,
            command=shlex.join(["elsewhere", *sys.argv[1:]]) if typed else "",
            progress=display.tell,
        )
    if not done.fresh:
        typer.echo(f"{done.path} is finished; nothing to do")
        return
    typer.echo(
        f"wrote {done.path} and {done.card}: {done.curve[-1][2]:.1%} of places found again in the other view "
        f"(MIND: {done.mind:.1%})"
    )


class _Display(Live):
    """Shows what the training tells."""

    def tell(self, told: Told) -> None:
        """How far it is."""
        from elsewhere.benchmark.display import clock

        found = "" if told.score is None else f", found again {told.score:.1%}"
        left = "" if told.seconds_left is None else f", {clock(told.seconds_left)} left"
        said = f"{told.step}/{told.total} loss {told.loss:.3f}{found}{left}"
        self.show(said, said, told.step, told.total, now=told.step == told.total)
