"""`elsewhere study`: make, check and show a study."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from elsewhere.cli.options import AllowOutside, SiteColumn, StudyArgument, pair, progress_bar

study_app = typer.Typer(
    help="Make, check and show a study: images of several sites and a manifest.", no_args_is_help=True
)


class Source(StrEnum):
    """What a study can be made from."""

    csv = "csv"
    folders = "folders"
    nnunet = "nnunet"
    msd_brats = "msd-brats"
    amos = "amos"
    hvsmr = "hvsmr"
    topcow = "topcow"
    prostate_multisite = "prostate-multisite"
    pancreasdg = "pancreasdg"


@study_app.command("new")
def study_new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the study's folder, made here")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="the table, the folder of sites, or the data set")],
    kind: Annotated[Source, typer.Option("--from", help="what SOURCE is")],
    column: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS ...", help="csv: which column is image, label, site, ...")
    ] = None,
    site: Annotated[str | None, typer.Option(metavar="NAME", help="csv, nnunet: one site for all cases")] = None,
    site_rule: Annotated[
        str | None, typer.Option(metavar="REGEX", help="the site in the image path or case name: its first group")
    ] = None,
    patient_rule: Annotated[str | None, typer.Option(metavar="REGEX", help="likewise, the patient")] = None,
    name: Annotated[str | None, typer.Option(help="of the study; the folder's name by default")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="copy the files into the study's folder")] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Make a study from a CSV, folders (site/images + site/masks, or site/class/*.png), nnU-Net, or a public set."""
    from elsewhere.study import describe, new_study

    study = new_study(
        folder,
        kind.value,
        source,
        columns=dict(pair(text, "--column") for text in column or []) or None,
        site=site,
        site_rule=site_rule,
        patient_rule=patient_rule,
        name=name,
        copy=copy,
        allow_outside=allow_outside,
        progress=progress_bar("reading"),
    )
    typer.echo("\n".join(describe(study)))
    typer.echo(f"wrote {folder / 'manifest.csv'}; next: elsewhere study check {folder}")


@study_app.command("check")
def study_check(
    path: StudyArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print the problems as JSON")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; all cores by default")] = None,
    allow_outside: AllowOutside = False,
    site_column: SiteColumn = None,
) -> None:
    """Open every file and report all problems in one table; exit 1 if any is an error."""
    from elsewhere.study import check_study
    from elsewhere.terminal import console

    report = check_study(
        path, jobs=jobs, allow_outside=allow_outside, site_column=site_column, progress=progress_bar("checking")
    )
    if as_json:
        typer.echo(report.to_json())
    else:
        console().print(report.table() if report.problems else report.summary)
    raise typer.Exit(1 if report.failed else 0)


@study_app.command("show")
def study_show(
    path: StudyArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE.png", help="also draw example cases of each site")] = None,
    every: Annotated[bool, typer.Option("--all", help="read every image, not 50 a site")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="print study.yaml with all that was inferred, and stop")
    ] = False,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Print what is in a study, by site: cases, patients, classes, sizes, spacings, intensities, covariates."""
    import json

    from elsewhere.study import draw_contact_sheet, open_study, study_yaml, summarise
    from elsewhere.study.show import render
    from elsewhere.terminal import console

    study = open_study(path, site_column=site_column, allow_outside=allow_outside)
    if as_yaml:
        typer.echo(study_yaml(study), nl=False)
        return
    summary = summarise(study, images_per_site=None if every else 50, progress=progress_bar("reading"))
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2, default=str))
    else:
        for part in render(summary):
            console().print(part)
    if out is not None:
        typer.echo(f"wrote {draw_contact_sheet(study, out)}", err=as_json)
