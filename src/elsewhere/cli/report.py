"""`elsewhere report`: what a benchmark or an evaluation found, as one page; or two of them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR [DIR]", help="folder of a benchmark or an evaluation; or two to compare"),
    ],
    metric: Annotated[
        str | None, typer.Option(help="of the table; that by which models are selected by default")
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="share of positives at which PPV and NPV are given besides the site's own")
    ] = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[:EDGE,EDGE]...",
            help="covariates to look at, numbers cut at these edges or at quartiles; all that make groups by default",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the page of two folders; report-of-two.html in the second")] = None,
) -> None:
    """Write DIR/report.html, one file that opens offline, with evidence.json and comparisons.csv.

    With two folders: one page that says what is the same, what differs, and what that does to the scores.
    """
    from elsewhere.errors import SettingsError
    from elsewhere.report import write_comparison, write_report

    if len(folders) > 2:
        raise SettingsError(f"elsewhere report: found {len(folders)} folders, wanted one, or two to compare")
    if len(folders) == 2:
        if prevalence is not None or subgroup:
            raise SettingsError("--prevalence and --subgroup are for the report of one folder, not of two")
        typer.echo(f"wrote {write_comparison(folders[0], folders[1], out=out, metric=metric)}")
        return
    if out is not None:
        raise SettingsError("--out is for the page of two folders; the report of one is written into it")
    typer.echo(f"wrote {write_report(folders[0], metric=metric, prevalence=prevalence, subgroups=subgroup or ())}")
