"""`elsewhere benchmark`, `methods` and `demo`: leave one site out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from elsewhere.cli.options import (
    AllowOutside,
    Changes,
    HeldOut,
    Jobs,
    Lengths,
    Methods,
    Patients,
    Ray,
    Reference,
    Seeds,
    Selection,
    Selections,
    SiteColumn,
    StudyArgument,
    Trust,
    by_comma,
    lengths,
    rules,
)
from elsewhere.errors import ElsewhereError


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


def benchmark(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the benchmark's folder; repeat the command to go on")],
    methods: Methods = "erm,gin,vrex",
    seeds: Seeds = 3,
    held_out: HeldOut = None,
    steps: Lengths = None,
    jobs: Jobs = 1,
    changes: Changes = None,
    selection: Selections = None,
    patients: Patients = None,
    reference: Reference = False,
    ray: Ray = None,
    site_column: SiteColumn = None,
    allow_outside: AllowOutside = False,
    trust: Trust = False,
) -> None:
    """Leave one site out: train each method on the other sites, and judge it on the one that it has never seen.

    With --steps N,2N: train ERM at both lengths, on validation patients alone, and say whether length still pays.
    """
    numbers = lengths(steps)
    question: dict[str, Any] = {
        "out": out,
        "methods": by_comma(methods),
        "seeds": seeds,
        "held_out": held_out or None,
        "jobs": jobs,
        "changes": changes or [],
        "ray": ray,
        "site_column": site_column,
        "allow_outside": allow_outside,
        "trust": trust,
        "patients": patients,
    }
    if len(numbers) > 1:
        if reference or Selection.oracle in (selection or ()):
            option = "--reference" if reference else "--selection oracle"
            raise ElsewhereError(f"{option}: with several --steps no held-out site is opened; leave it away")
        from elsewhere.benchmark.length_run import run_length

        raise typer.Exit(run_length(study, steps=numbers, **question))
    from elsewhere.benchmark import run_benchmark

    one = numbers[0] if numbers else None
    code = run_benchmark(study, steps=one, selection=rules(selection), reference=reference, **question)
    raise typer.Exit(code)


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
