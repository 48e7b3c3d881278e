"""The table that people read: methods down, held-out sites across, an interval in every cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elsewhere.benchmark.loading import read_plan, read_results
from elsewhere.benchmark.record import finished, reading
from elsewhere.benchmark.sheets import CASES
from elsewhere.benchmark.spec import ORACLE, REFERENCE, RunSpec, few_patients, few_patients_said
from elsewhere.benchmark.tables import ALL, RANKING
from elsewhere.evidence.bounded import IN_DOUBT, doubt_of_row
from elsewhere.evidence.estimands import THESE_MODELS, sentence
from elsewhere.evidence.findings_material import NAMES, PRIMARY
from elsewhere.evidence.findings_scores import disjoint
from elsewhere.evidence.findings_scores import mean_of as mean_of_intervals
from elsewhere.evidence.intervals import Interval

Patients = Mapping[tuple[str, str], set[str]]
"""Who was judged, by (fold, split)."""

METRIC_NAMES = NAMES

STAMP = "[bold red]ORACLE[/bold red]"


@dataclass(frozen=True)
class Cell:
    """A score and its interval; NaN where there is none."""

    value: float
    lo: float
    hi: float
    n_cases: int = 0
    n_patients: int = 0
    n_seeds: int = 0

    def text(self, digits: int = 3) -> str:
        """`0.812 [0.78, 0.84]`."""
        if math.isnan(self.value):
            return "undefined"
        if math.isnan(self.lo):
            return f"{self.value:.{digits}f} [no interval]"
        return f"{self.value:.{digits}f} [{self.lo:.{digits - 1}f}, {self.hi:.{digits - 1}f}]"


@dataclass(frozen=True)
class Row:
    """A method: a cell a held-out site, their mean, and the in-domain test over the same folds."""

    method: str
    cells: dict[str, Cell]
    mean: Cell | None
    home: Cell | None
    stamps: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """One table: one metric, one selection rule.

    Attributes:
        study: its name.
        metric: e.g. "dice".
        selection: the rule by which the models were chosen.
        held_out: the columns.
        rows: the methods, reference last.
        caption: sentences that say what the numbers are.
        missing: sentences that say what is not there.
        runs: (finished, planned).
    """

    study: str
    metric: str
    selection: str
    held_out: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: tuple[str, ...]
    missing: tuple[str, ...]
    runs: tuple[int, int]


def summarise(out: Path, metric: str | None = None) -> list[Summary]:
    """One summary for each selection rule of a benchmark.

    Args:
        out: its folder.
        metric: of the task; None for the one that models are selected by.
    """
    question, specs = read_plan(out)
    results = read_results(out)
    patients = read_patients(out)
    metric = metric or PRIMARY[question["task"]]
    results = results[(results["class"] == ALL) & (results["metric"] == metric)]
    rules = list(dict.fromkeys(rule for spec in specs for rule in spec.selection))
    return [_summary(out, question, specs, results, patients, metric, rule) for rule in rules]


def read_patients(out: Path) -> Patients:
    """Who was judged in each fold and split, from `cases.csv`."""
    columns = ["held_out", "split", "patient"]
    with reading(out / CASES):
        cases = pd.read_csv(out / CASES, usecols=columns, dtype=str, keep_default_na=False).drop_duplicates()
    return {key: set(group["patient"]) for key, group in cases.groupby(["held_out", "split"])}  # type: ignore[misc]


def _summary(
    out: Path,
    question: dict[str, Any],
    specs: Sequence[RunSpec],
    results: pd.DataFrame,
    patients: Patients,
    metric: str,
    rule: str,
) -> Summary:
    of_rule = results[results["selection"] == rule]
    mine = [spec for spec in specs if rule in spec.selection]
    sites = tuple(dict.fromkeys(spec.fold.name for spec in mine))
    methods = sorted(dict.fromkeys(spec.method for spec in mine), key=lambda name: name == REFERENCE)
    sees = {spec.method for spec in mine if _sees_target(spec)}
    rows = tuple(_row(name, of_rule[of_rule["method"] == name], sites, patients, name in sees) for name in methods)
    failed = [spec for spec in mine if not finished(out / spec.folder, spec)]
    missing = [f"not in the table, for it is not finished: {spec.title}" for spec in failed]
    caption = _caption(question, mine, of_rule, metric, rule, sites, rows)
    runs = (len(mine) - len(failed), len(mine))
    return Summary(question["study"], metric, rule, sites, rows, caption, tuple(missing), runs)


def _row(method: str, results: pd.DataFrame, sites: Sequence[str], patients: Patients, sees_target: bool) -> Row:
    seeds = results[results["seed"] != ALL].groupby(["held_out", "split"])["seed"].nunique().to_dict()

    def cell(site: str, split: str) -> Cell | None:
        found = results[(results["held_out"] == site) & (results["split"] == split) & (results["seed"] == ALL)]
        if found.empty:
            return None
        one = found.iloc[0]
        n_seeds = int(seeds.get((site, split), 0))
        return Cell(one["value"], one["lo"], one["hi"], int(one["n_cases"]), int(one["n_patients"]), n_seeds)

    away = {site: found for site in sites if (found := cell(site, "held-out")) is not None}
    home = [found for site in sites if (found := cell(site, "in-domain")) is not None]
    complete = len(away) == len(sites)

    def mean(split: str, cells: Sequence[Cell]) -> Cell:
        return mean_of(cells, apart=disjoint([patients.get((site, split), set()) for site in sites]))

    stamps = ["trained within"] if method == REFERENCE else []
    if sees_target:
        stamps.append("sees unlabelled target")
    return Row(
        method,
        away,
        mean("held-out", list(away.values())) if complete and len(sites) > 1 else None,
        mean("in-domain", home) if len(home) == len(sites) else None,
        tuple(stamps),
    )


def _sees_target(spec: RunSpec) -> bool:
    from elsewhere.methods import card  # late: it brings torch, which a report does without

    return spec.method != REFERENCE and card(spec.trained_as).unlabelled_target


def mean_of(cells: Sequence[Cell], *, apart: bool = True) -> Cell:
    """Mean of scores at fixed sites, or of fixed folds, as `evidence.findings_scores.mean_of` has it.

    Args:
        cells: the scores.
        apart: no patient is in two of them.
    """
    intervals = [Interval(cell.value, cell.lo, cell.hi, cell.n_cases, cell.n_patients) for cell in cells]
    mean = mean_of_intervals(intervals, apart=apart)
    return Cell(mean.value, mean.lo, mean.hi, mean.n_cases, mean.n_patients, min(cell.n_seeds for cell in cells))


def _caption(
    question: dict[str, Any],
    specs: Sequence[RunSpec],
    results: pd.DataFrame,
    metric: str,
    rule: str,
    sites: Sequence[str],
    rows: Sequence[Row],
) -> tuple[str, ...]:
    seeds = len({spec.seed for spec in specs})
    sizes = [max((row.cells[site].n_patients for row in rows if site in row.cells), default=0) for site in sites]
    over = f"these {len(sites)} held-out sites" if len(sites) > 1 else "this one held-out site"
    patients = ", ".join(f"{site} {n}" for site, n in zip(sites, sizes, strict=True))
    chosen = {
        "source-val": "selected on the validation patients of the development sites",
        "last": "the model after the last step",
        ORACLE: "ORACLE: selected by the held-out site itself, which nobody who deploys a model can do",
    }[rule]
    estimand = "mean over cases" if question["task"] == "segmentation" else "over the site's cases"
    seed_text = f"mean of {seeds} seeds' models" if seeds > 1 else "one seed"
    lines = [
        f"{METRIC_NAMES.get(metric, metric)} at the held-out site ({estimand}; {seed_text}), over {over}; "
        f"patients: {patients}.",
        sentence(THESE_MODELS),
        f"Selection: {rule} ({chosen}).",
    ]
    few = few_patients(specs)
    if few is not None:
        lines.append(f"{few_patients_said(few).capitalize()}.")
    cells = [cell for row in rows for cell in (*row.cells.values(), row.mean, row.home) if cell is not None]
    if any(math.isnan(cell.lo) and not math.isnan(cell.value) for cell in cells):
        lines.append(
            "no interval: one patient, all score alike, or so few patients of a class that the metric is undefined in "
            "more than 10 % of the resamples; a mean over sites has none where one of them has none."
        )
    doubtful = [
        f"{row.method} at {site}"
        for row in rows
        for site, cell in row.cells.items()
        if doubt_of_row(metric, cell.value, (cell.lo, cell.hi), cell.n_patients) is not None
    ]
    if doubtful:
        lines.append(f"In doubt ({', '.join(doubtful)}): {IN_DOUBT}")
    if any(row.home is not None for row in rows):
        lines.append("home: in-domain test, unseen patients of the development sites, mean over folds.")
    if any(row.method == REFERENCE for row in rows):
        lines.append(
            "reference: the same network, trained with ERM within the held-out site by patient-wise cross-validation: "
            "how hard the site is in itself."
            + (" Only cases that one of its trainings judged are ranked against each other." * (metric in RANKING))
        )
    for row in rows:
        if "sees unlabelled target" in row.stamps:
            lines.append(f"{row.method} sees unlabelled target images in training; the others do not.")
    return tuple(lines)


def print_summary(console: Console, summaries: Sequence[Summary]) -> None:
    """Print the table with its captions; several selection rules side by side, a row for each method and rule."""
    if not summaries:
        return
    first, ruled = summaries[0], len(summaries) > 1
    sites = tuple(dict.fromkeys(site for summary in summaries for site in summary.held_out))
    several = len(sites) > 1
    stamp = "" if ruled or first.selection != ORACLE else f" {STAMP}"
    title = f"{escape(first.study)}: {METRIC_NAMES.get(first.metric, first.metric)}, held out{stamp}"
    table = Table(title=title, title_justify="left", caption_justify="left", title_style="bold")
    table.add_column("method", no_wrap=True)
    if ruled:
        table.add_column("selection", no_wrap=True)
    for name in [*sites, *(["mean"] if several else []), "home"]:
        table.add_column(escape(name), justify="right")
    methods = list(dict.fromkeys(row.method for summary in summaries for row in summary.rows))
    both = [(summary, row) for summary in summaries for row in summary.rows]
    for summary, row in sorted(both, key=lambda one: methods.index(one[1].method)):
        cells = [row.cells.get(site) for site in sites] + ([row.mean] if several else []) + [row.home]
        # Wide consoles have value and interval side by side, narrow ones below each other.
        gap = " " if console.width >= 20 + 12 * ruled + 24 * len(cells) else "\n"
        texts = ("-" if cell is None else escape(cell.text().replace(" ", gap, 1)) for cell in cells)
        stamps = "".join(f"\n[dim]{escape(stamp)}[/dim]" for stamp in row.stamps)
        rule = [STAMP if summary.selection == ORACLE else summary.selection] * ruled
        table.add_row(escape(row.method) + stamps, *rule, *texts)
    console.print()
    console.print(table)
    # Line by line: what one rule says of something stands beside what the other says of it.
    said = zip_longest(*((*summary.caption, *summary.missing) for summary in summaries), fillvalue="")
    for line in filter(None, dict.fromkeys(line for lines in said for line in lines)):
        console.print(f"[dim]{escape(line)}[/dim]", highlight=False, soft_wrap=True)
