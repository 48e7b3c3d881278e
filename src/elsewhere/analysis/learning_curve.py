"""How the score grows with the number of training patients: one benchmark for each number, and one table of all.

Each number has a benchmark folder of its own, `DIR/patients-5`, made with the same question; `DIR/learning_curve.csv`
is gathered from their tables. At a seed those who train with 3 patients are among those who train with 5, and all
points are selected and judged by the same patients (`study.few_shot`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elsewhere.analysis.everywhere import EVERYWHERE, open_for_analysis
from elsewhere.benchmark.benchmark import PLAN, run_benchmark
from elsewhere.benchmark.loading import read_plan, read_results
from elsewhere.benchmark.spec import ORACLE, REFERENCE
from elsewhere.benchmark.summary import METRIC_NAMES, Cell, mean_of, read_patients
from elsewhere.benchmark.tables import ALL
from elsewhere.errors import RunError, SettingsError
from elsewhere.evidence.estimands import THESE_MODELS, sentence
from elsewhere.evidence.findings_material import PRIMARY
from elsewhere.evidence.findings_scores import disjoint
from elsewhere.files import atomic
from elsewhere.study.case import Fold
from elsewhere.study.few_shot import keep_few
from elsewhere.study.manifest import MANIFEST_NAME
from elsewhere.study.splits import plan_folds, split
from elsewhere.terminal import console as standard_output

if TYPE_CHECKING:
    from elsewhere.study.study import Study

CURVE = "learning_curve.csv"

COLUMNS = [
    "method", "held_out", "patients", "trained", "selection", "split", "metric", "value", "lo", "hi", "n_cases",
    "n_patients", "n_seeds",
]  # fmt: skip
"""`patients` is the number that was asked for, or "all"; `trained` how many trained, in the mean over the runs;
`n_seeds` of how many trainings each value is the mean (the least over the folds).
`held_out` is "all" for the mean over the folds, where there are several; it is empty until all are finished."""

SPLITS = {"held-out": "held out", "in-domain": "home"}
"""The table's word for each split of the patients who are judged."""


def read_sizes(text: str) -> list[int | None]:
    """Numbers of training patients, rising; None, the last, is all of them.

    Args:
        text: such as "1,3,5,10,all".

    Raises:
        SettingsError: something else.
    """
    found: list[int | None] = []
    for word in (part.strip() for part in text.split(",")):
        if word != ALL and not (word.isascii() and word.isdigit() and int(word) > 0):
            raise SettingsError(
                f"--patients: found {word!r}, wanted whole numbers above 0, or all, such as 1,3,5,10,all"
            )
        found.append(None if word == ALL else int(word))
    return sorted(dict.fromkeys(found), key=lambda n: math.inf if n is None else n)


def run_learning_curve(
    study: Path | str,
    *,
    out: Path | str,
    methods: Sequence[str],
    patients: Sequence[int | None],
    console: Console | None = None,
    **question: Any,
) -> int:
    """Make a benchmark for each number of training patients, and write and print the table of all.

    Runs what is not done yet; can be interrupted and called again at any time.

    Args:
        study: folder or manifest.
        out: the folder of the curve; the benchmarks lie in it.
        methods: names of the registry, or "LABEL=METHOD".
        patients: numbers of training patients, None for all of them; see `read_sizes`.
        console: where to print; standard output by default.
        question: whatever else `run_benchmark` takes, apart from `reference`, which has all patients of its site.

    Returns:
        0 where all runs are done, 1 where some failed.

    Raises:
        ElsewhereError: the question makes no sense, or a folder is in use or of something else.
    """
    out, console = Path(out), console or standard_output()
    for name, what in ((PLAN, "a benchmark"), (MANIFEST_NAME, "a study")):
        if (out / name).exists():
            raise RunError(f"{out}: is the folder of {what}; choose another folder with --out")
    if not patients:
        raise SettingsError("--patients: found no number, wanted some, such as 1,3,5,10,all")
    opened = open_for_analysis(study, question)
    needed = _that_differ(patients, opened, question)
    for size in patients:
        if size not in needed:
            console.print(
                f"{size} training patients: there are no more than that, so it is the same as `{_named(needed[-1])}`",
                highlight=False,
            )
    patients, failed = needed, 0
    for number, size in enumerate(patients):
        folder = folder_of(out, size)
        title = f"{number + 1} of {len(patients)}: {_named(size)} training {'patient' if size == 1 else 'patients'}"
        console.rule(escape(f"{title}, in {folder}"), align="left")
        failed |= run_benchmark(study, out=folder, methods=methods, patients=size, console=console, **question)
        console.print()
    table = learning_curve(out, patients, opened)
    with atomic(out / CURVE) as temporary:
        table.to_csv(temporary, index=False)
    print_curve(console, table, PRIMARY[opened.task], opened.name)
    return failed


def _that_differ(sizes: Sequence[int | None], study: Study, question: Mapping[str, Any]) -> list[int | None]:
    """Those of `sizes` that are not all patients under another name, of which one comes last."""
    seeds = question.get("seeds", 1)
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    folds = plan_folds(study, question.get("held_out"))
    most = max((trained(study, fold, seed, None) for fold in folds for seed in numbers), default=0)
    fewer = [size for size in sizes if size is not None and size < most]
    if None in sizes:
        return [*fewer, None]
    return [*fewer, *sorted(size for size in sizes if size is not None and size >= most)[:1]]


def folder_of(out: Path, size: int | None) -> Path:
    """The benchmark of a number of training patients."""
    return out / f"patients-{_named(size)}"


def learning_curve(out: Path, sizes: Iterable[int | None], study: Study) -> pd.DataFrame:
    """The table of all benchmarks of a curve: mean over the seeds' models, class "all".

    Args:
        out: the folder of the curve.
        sizes: numbers of training patients, None for all.
        study: opened: who trained is read off its split.

    Returns:
        COLUMNS; numbers of patients in the order given.
    """
    rows: list[dict[str, Any]] = []
    for size in sizes:
        folder = folder_of(out, size)
        _, specs = read_plan(folder)
        own = [spec for spec in specs if spec.method != REFERENCE]
        counted = {(spec.fold, spec.seed): trained(study, spec.fold, spec.seed, size) for spec in own}
        results, people = read_results(folder), read_patients(folder)
        results = results[results["class"] == ALL]
        folds = list(dict.fromkeys(spec.fold.name for spec in own))
        by_fold = {name: _mean(n for (fold, _), n in counted.items() if fold.name == name) for name in folds}
        for method in dict.fromkeys(spec.method for spec in own):
            mine = results[results["method"] == method]
            for found in _rows(mine, folds, by_fold, people):
                rows.append({"method": method, "patients": _named(size), **found})
    return pd.DataFrame(rows, columns=COLUMNS)


def trained(study: Study, fold: Fold, seed: int, patients: int | None) -> int:
    """How many patients train a run."""
    parts = keep_few(study, split(study, fold, seed), patients, seed)
    return len({study.by_id[case_id].patient for case_id in parts.train})


def _rows(
    results: pd.DataFrame, folds: Sequence[str], trained_by: Mapping[str, float], people: Mapping[Any, set[str]]
) -> Iterator[dict[str, Any]]:
    """One method's rows of one number of patients: each fold's, then the mean over the folds (NaN: one is missing)."""
    for key, group in results.groupby(["selection", "split", "metric"], sort=False):
        which = dict(zip(("selection", "split", "metric"), key, strict=True))
        cells: dict[str, Cell] = {}
        seeds = group[group["seed"] != ALL].groupby("held_out")["seed"].nunique()
        for fold in folds:
            for row in group[(group["held_out"] == fold) & (group["seed"] == ALL)].to_dict("records"):
                counts = int(row["n_cases"]), int(row["n_patients"]), seeds[fold]
                cells[fold] = Cell(row["value"], row["lo"], row["hi"], *counts)
                yield {**which, "held_out": fold, "trained": trained_by[fold], **_plain(cells[fold])}
        if len(folds) > 1:
            apart = disjoint([people.get((fold, which["split"]), set()) for fold in folds])
            whole = len(cells) == len(folds)
            mean = mean_of(list(cells.values()), apart=apart) if whole else Cell(math.nan, math.nan, math.nan)
            yield {**which, "held_out": EVERYWHERE, "trained": _mean(trained_by.values()), **_plain(mean)}


def _plain(cell: Cell) -> dict[str, Any]:
    names = ("value", "lo", "hi", "n_cases", "n_patients", "n_seeds")
    return {name: getattr(cell, name) for name in names}


def _mean(numbers: Iterable[float]) -> float:
    found = list(numbers)
    return sum(found) / len(found)


def _named(size: int | None) -> str:
    return ALL if size is None else str(size)


def sizes_of(table: pd.DataFrame) -> dict[str, str]:
    """The numbers of patients of a table, and how many trained where that is another: `all (43)`."""
    found = {}
    for size, group in table.groupby("patients", sort=False):
        few, many = group["trained"].min(), group["trained"].max()
        real = f"{few:.0f}" if round(few) == round(many) else f"{few:.0f}–{many:.0f}"
        found[str(size)] = str(size) if real == str(size) else f"{size} ({real})"
    return found


def over_folds(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the mean over the folds; where there is one fold, its own."""
    return table[table["held_out"] == EVERYWHERE] if table["held_out"].nunique() > 1 else table


def print_curve(console: Console, table: pd.DataFrame, metric: str, study: str) -> None:
    """Print a table for each rule of selection and split: methods down, numbers of training patients across."""
    of_metric = table[table["metric"] == metric]
    several = of_metric["held_out"].nunique() > 1
    over = over_folds(of_metric)
    names = sizes_of(table)
    for rule in dict.fromkeys(of_metric["selection"]):
        for side, words in SPLITS.items():
            shown = over[(over["selection"] == rule) & (over["split"] == side)]
            oracle = " [bold red]ORACLE[/bold red]" if rule == ORACLE else ""
            mean = ", mean over the folds" if several else ""
            what = f"{METRIC_NAMES.get(metric, metric)} by training patients"
            title = f"{escape(study)}: {what}, {words}{mean}; {rule}{oracle}"
            console.print(f"[bold]{title}[/bold]", highlight=False, soft_wrap=True)  # a narrow table would fold it
            printed = Table()
            printed.add_column("method", no_wrap=True)
            for name in names.values():
                printed.add_column(name, justify="right")
            for method in dict.fromkeys(of_metric["method"]):
                mine = shown[shown["method"] == method]
                cells = [_cell(mine[mine["patients"] == size]) for size in names]
                printed.add_row(escape(method), *(escape(text) for text in cells))
            console.print(printed)
    for line in (
        "Columns: training patients, over all development sites together; in brackets how many there were, where that "
        "is another number.",
        sentence(THESE_MODELS),
    ):
        console.print(f"[dim]{escape(line)}[/dim]", highlight=False, soft_wrap=True)


def _cell(rows: pd.DataFrame) -> str:
    """Of the one row, where there is one."""
    for row in rows.dropna(subset=["value"]).to_dict("records"):
        return Cell(row["value"], row["lo"], row["hi"]).text()
    return "-"
