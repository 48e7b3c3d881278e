"""`elsewhere stability`: how a representation stands a change of acquisition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.options import AllowOutside, SiteColumn, StudyArgument, Trust, progress_bar


def stability(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the numbers and the picture go")],
    extractors: Annotated[
        str, typer.Option(metavar="A,B=FILE", help="representations, by comma, with their weights where they need some")
    ] = "mind",
    cases: Annotated[int, typer.Option(min=1, help="patients looked at, one case of each at each site")] = 20,
    draws: Annotated[int, typer.Option(min=1, help="of each acquisition, for each case")] = 2,
    strength: Annotated[float, typer.Option(help="of the drawn acquisitions; 1 is about another scanner")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="of patients, acquisitions and voxels")] = 0,
    sites: Annotated[list[str] | None, typer.Option(metavar="SITE ...", help="open these only; all by default")] = None,
    trust: Trust = False,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Measure how alike representations stay when the acquisition changes, and how well they tell structures apart."""
    from rich.markup import escape

    from elsewhere.analysis.stability_run import run_stability
    from elsewhere.analysis.stability_summary import tables
    from elsewhere.terminal import console

    found = run_stability(
        study,
        extractors=extractors,
        out=out,
        cases=cases,
        draws=draws,
        strength=strength,
        seed=seed,
        sites=sites or None,
        site_column=site_column,
        allow_outside=allow_outside,
        trust=trust,
        progress=progress_bar("looking"),
    )
    for table in tables(found.summary):
        console().print(table)
    for note in found.measured.notes:
        console().print(escape(note), highlight=False, soft_wrap=True)
    counts = (found.measured.cases, "case"), (found.measured.patients, "patient")
    looked_at = " of ".join(f"{n} {what}" if n == 1 else f"{n} {what}s" for n, what in counts)
    typer.echo(f"{looked_at}; wrote {out / 'stability.csv'}, {out / 'summary.csv'} and {out / 'stability.png'}")
