"""The command line: one thin command a verb. Imports nothing heavy before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from elsewhere import __version__
from elsewhere.errors import ElsewhereError

app = typer.Typer(
    name="elsewhere",
    help="Medical imaging models that work elsewhere: trained on the sites you have, judged on the one left out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
study_app = typer.Typer(
    help="Make, check and show a study: images of several sites and a manifest.", no_args_is_help=True
)
app.add_typer(study_app, name="study")

INTERRUPTED = 130

MANY = ("--held-out", "--set", "--selection", "--column")  # options that take several values: --held-out A B


class Source(StrEnum):
    """What a study can be made from."""

    csv = "csv"
    folders = "folders"
    nnunet = "nnunet"


class Selection(StrEnum):
    """By which rule the evaluated checkpoint is chosen."""

    source_val = "source-val"
    last = "last"
    oracle = "oracle"


StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="a folder with manifest.csv, or a manifest")]
SiteColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="the manifest column that is the site")]
AllowOutside = Annotated[bool, typer.Option("--allow-outside", help="allow paths that leave the study's folder")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@study_app.command("new")
def study_new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the study's folder, made here")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="the table, the folder of sites, or the dataset")],
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
    """Make a study from a CSV, from folders (site/images + site/masks, or site/class/*.png), or from nnU-Net raw."""
    from elsewhere.study import describe, new_study

    study = new_study(
        folder,
        kind.value,
        source,
        columns=dict(_pair(text, "--column") for text in column or []) or None,
        site=site,
        site_rule=site_rule,
        patient_rule=patient_rule,
        name=name,
        copy=copy,
        allow_outside=allow_outside,
        progress=_progress("reading"),
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
        path, jobs=jobs, allow_outside=allow_outside, site_column=site_column, progress=_progress("checking")
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
    summary = summarise(study, images_per_site=None if every else 50, progress=_progress("reading"))
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2, default=str))
    else:
        for part in render(summary):
            console().print(part)
    if out is not None:
        typer.echo(f"wrote {draw_contact_sheet(study, out)}", err=as_json)


@app.command()
def methods() -> None:
    """List the methods: what each assumes, for which shift it is made, its options."""
    from rich.console import Console
    from rich.padding import Padding

    from elsewhere import methods as registry

    console = Console(highlight=False)
    for name in registry.names():
        card = registry.card(name)
        options = ", ".join(f"{key}={value}" for key, value in card.defaults.items()) or "none"
        console.print(f"[bold]{name}[/bold]  {card.title}")
        for line in (
            f"assumes  {card.assumption}",
            f"shift    {', '.join(card.shift) or 'none'}",
            f"options  {options}",
            f"[dim]{card.paper}[/dim]",
        ):
            console.print(Padding(line, (0, 0, 0, 2)))


@app.command()
def benchmark(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the benchmark's folder; repeat the command to go on")],
    methods: Annotated[str, typer.Option(metavar="A,B", help="methods, by comma")] = "erm,gin,vrex",
    seeds: Annotated[int, typer.Option(min=1, help="seeds 0 ... N-1")] = 3,
    held_out: Annotated[
        list[str] | None, typer.Option(metavar="SITE ...", help="sites to hold out, each in turn; A+B is one group")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps of each run")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at the same time; they share the cores")] = 1,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE ...", help="settings, or METHOD.OPTION=VALUE")
    ] = None,
    selection: Annotated[
        list[Selection] | None, typer.Option(metavar="RULE ...", help="source-val (default), last, oracle")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="also train within each held-out site: how hard is it in itself?")
    ] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run on this Ray cluster (local: start one)")
    ] = None,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Leave one site out: train each method on the other sites, and judge it on the one that it has never seen."""
    from elsewhere.benchmark import run_benchmark

    code = run_benchmark(
        study,
        out=out,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
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
    )
    raise typer.Exit(code)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="a benchmark's folder")]) -> None:
    """Write DIR/report.html: the table, the curves, example cases; one file that opens offline."""
    from elsewhere.report import write_report

    typer.echo(f"wrote {write_report(folder)}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the study and the benchmark go")] = Path("demo"),
    steps: Annotated[int, typer.Option(min=1, help="training steps of each run")] = 300,
    jobs: Annotated[int, typer.Option(min=1, help="runs at the same time")] = 2,
) -> None:
    """Simulate four hospitals, compare three methods leave-one-site-out, write the report (about 4 minutes)."""
    from elsewhere.benchmark import run_benchmark
    from elsewhere.report import write_report
    from elsewhere.simulate import four_hospitals

    study = out / "study"
    if not (study / "manifest.csv").exists():
        four_hospitals(study)
    code = run_benchmark(
        study,
        out=out / "benchmark",
        methods=["erm", "gin", "vrex"],
        seeds=1,
        steps=steps,
        jobs=jobs,
        changes=["patch_size=96", "batch_size=6", "network_options={channels: [8, 16, 32, 64], num_res_units: 1}"],
    )
    typer.echo(f"wrote {write_report(out / 'benchmark')}")
    raise typer.Exit(code)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key or not value:
        raise ElsewhereError(f"{option} {text!r}: wanted KEY=VALUE")
    return key, value


def _progress(what: str) -> Callable[[int, int], None] | None:
    """A progress bar on standard error, as a callback of (done, total); None where nobody would see it."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)

    def advance(done: int, total: int) -> None:
        if done < total:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return advance


def spread_values(arguments: list[str]) -> list[str]:
    """`--held-out A B` as click wants it: `--held-out A --held-out B`; the same for every option in MANY."""
    spread: list[str] = []
    option: str | None = None
    fresh = False
    for argument in arguments:
        if argument.startswith("-"):
            option, fresh = (argument, True) if argument in MANY else (None, False)
            spread.append(argument)
        else:
            spread += [argument] if option is None or fresh else [option, argument]
            fresh = False
    return spread


def main(arguments: list[str] | None = None) -> None:
    """Entry point: one sentence for an error (traceback with --debug); 1 failed, 2 wrong usage, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"]
    try:
        app(args=spread_values(given), prog_name="elsewhere")
    except ElsewhereError as error:
        if debug:
            raise
        sys.exit(_say(f"elsewhere: {error}", 1))
    except (KeyboardInterrupt, SystemExit) as ending:  # of the first, typer makes the second, without a word
        if isinstance(ending, SystemExit) and ending.code != INTERRUPTED:
            raise
        sentence = "elsewhere: interrupted; what was finished stays, the same command goes on from there"
        sys.exit(_say(sentence, INTERRUPTED))
    except Exception as error:
        if debug:
            raise
        sentence = f"elsewhere: unexpected {type(error).__name__}: {error} (a bug of ours; --debug shows where)"
        sys.exit(_say(sentence, 1))


def _say(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code
