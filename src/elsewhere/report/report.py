"""`report.html` of a benchmark: the answer first, then the curves, cases to look at, and what was run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from elsewhere.benchmark.display import clock
from elsewhere.benchmark.record import read_done, reading
from elsewhere.benchmark.spec import ORACLE, RunSpec
from elsewhere.benchmark.summary import METRIC_NAMES, Summary, read_plan, read_results, summarise
from elsewhere.benchmark.tables import write_tables
from elsewhere.errors import RunError
from elsewhere.files import write_text
from elsewhere.report.pictures import picture
from elsewhere.report.svg import Line, Span, curves, forest

OTHER_METRICS = {
    "segmentation": ("iou", "accuracy", "hd95", "assd"),
    "classification": ("balanced_accuracy", "accuracy", "average_precision", "f1", "brier", "ece"),
}


@dataclass(frozen=True)
class Run:
    """A planned run and what became of it."""

    spec: RunSpec
    folder: Path
    done: dict[str, Any] | None
    error: str | None


def write_report(folder: Path | str) -> Path:
    """Write `report.html` into a benchmark's folder: one file that opens offline.

    Raises:
        RunError: there is no benchmark in the folder, or it cannot be written.
    """
    folder = Path(folder)
    if not (folder / "plan.json").is_file():
        raise RunError(f"{folder}: no benchmark here (no plan.json); run 'elsewhere benchmark' first")
    question, specs = read_plan(folder)
    if not (folder / "results.csv").is_file():  # interrupted before its first table
        write_tables(folder, specs)
    runs = [_run(folder, spec) for spec in specs]
    summaries = summarise(folder)
    methods = list(dict.fromkeys(spec.method for spec in specs))
    colours = {name: number for number, name in enumerate(methods)}
    environment = Environment(
        loader=PackageLoader("elsewhere.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        question=question,
        summaries=summaries,
        forests=[_forest(summary, colours) for summary in summaries],
        metric_names=METRIC_NAMES,
        others=_other_metrics(folder, question, summaries[0]) if summaries else [],
        methods=methods,
        colours=colours,
        folds=_curves(runs, colours),
        examples=_examples(runs),
        notes=_notes(runs),
        failed=[run for run in runs if run.error is not None],
        waiting=[run for run in runs if run.error is None and run.done is None],
        runs=runs,
        settings=specs[0].settings if specs else {},
        seeds=sorted({spec.seed for spec in specs}),
        seconds=sum(sum(run.done["seconds"].values()) for run in runs if run.done),
        clock=clock,
        oracle=any(spec.oracle for spec in specs),
        ORACLE=ORACLE,
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _run(folder: Path, spec: RunSpec) -> Run:
    where = folder / spec.folder
    done = read_done(where)
    error = None
    if done is None and (where / "error.txt").is_file():
        error = (where / "error.txt").read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    return Run(spec, where, done, error)


def _forest(summary: Summary, colours: dict[str, int]) -> Markup:
    groups: dict[str, list[Span]] = {}
    for site in summary.held_out:
        cells = [(row.method, row.cells[site]) for row in summary.rows if site in row.cells]
        groups[site] = [Span(name, colours[name], c.value, c.lo, c.hi, c.text()) for name, c in cells]
    means = [(row.method, row.mean) for row in summary.rows if row.mean is not None]
    if means:
        groups["mean over these sites"] = [
            Span(name, colours[name], c.value, c.lo, c.hi, c.text()) for name, c in means
        ]
    name = METRIC_NAMES.get(summary.metric, summary.metric)
    return forest(groups, f"{name} at each held-out site, with 95 % intervals")


def _other_metrics(folder: Path, question: dict[str, Any], first: Summary) -> list[dict[str, Any]]:
    """Rows method x held-out site with the other metrics, over all seeds, by the first selection rule."""
    results = read_results(folder)
    here = results[
        (results["selection"] == first.selection)
        & (results["split"] == "held-out")
        & (results["class"] == "all")
        & (results["seed"] == "all")
    ]
    rows = []
    for (method, site), group in here.groupby(["method", "held_out"], sort=False):
        values = dict(zip(group["metric"], group["value"], strict=True))
        cells = [(name, values.get(name, math.nan)) for name in OTHER_METRICS[question["task"]]]
        rows.append({"method": method, "site": site, "cells": cells})
    return rows


def _curves(runs: Sequence[Run], colours: dict[str, int]) -> list[dict[str, Any]]:
    """Training loss and validation score of each fold; single seeds faint, their mean on top."""
    folds = []
    for name in dict.fromkeys(run.spec.fold.name for run in runs if run.spec.fold.part is None):
        of_fold = [run for run in runs if run.spec.fold.name == name and run.spec.fold.part is None]
        logs = [(run.spec, log) for run in of_fold if (log := _log(run.folder)) is not None]
        folds.append(
            {
                "name": name,
                "loss": curves(
                    _lines(logs, "train", "loss", colours), f"training loss, {name} held out", logarithmic=True
                ),
                "score": curves(_lines(logs, "validation", "score", colours), f"validation score, {name} held out"),
            }
        )
    return folds


def _log(folder: Path) -> pd.DataFrame | None:
    try:
        return pd.read_csv(folder / "log.csv", keep_default_na=False, na_values={"value": ["nan"]})
    except (FileNotFoundError, pd.errors.EmptyDataError):  # interrupted before its first step
        return None
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise RunError(f"{folder / 'log.csv'}: is damaged; delete it and write the report again") from error


def _lines(
    logs: Sequence[tuple[RunSpec, pd.DataFrame]], split: str, name: str, colours: dict[str, int], most: int = 120
) -> list[Line]:
    by_method: dict[str, list[pd.Series[Any]]] = {}
    for spec, log in logs:
        some = log[(log["split"] == split) & (log["name"] == name)].drop_duplicates("step", keep="last")
        if len(some):
            by_method.setdefault(spec.method, []).append(some.set_index("step")["value"].astype(float))
    lines = []
    for method, series in by_method.items():
        faint = [Line(_points(one, most), colours[method], method, faint=True) for one in series]
        mean = pd.concat(series, axis=1).mean(axis=1).sort_index()
        lines += [*(faint if len(series) > 1 else []), Line(_points(mean, most), colours[method], method)]
    return lines


def _points(series: pd.Series[Any], most: int) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its neighbours: a page has a few hundred pixels."""
    width = max(1, math.ceil(len(series) / most))
    pairs = list(zip((float(step) for step in series.index), series.to_numpy(dtype=float), strict=True))
    groups = [pairs[i : i + width] for i in range(0, len(pairs), width)]
    return [(group[-1][0], float(sum(y for _, y in group) / len(group))) for group in groups]


def _examples(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """By held-out site: a row a method, of the lowest seed."""
    folds: dict[str, list[dict[str, Any]]] = {}
    shown: set[tuple[str, str]] = set()
    for run in sorted(runs, key=lambda one: one.spec.seed):
        key = (run.spec.fold.name, run.spec.method)
        listed = run.folder / "examples" / "examples.json"
        if run.done is None or run.spec.fold.part is not None or key in shown or not listed.is_file():
            continue
        shown.add(key)
        with reading(listed.parent, "delete the folder and write the report again"):
            cases = json.loads(listed.read_text(encoding="utf-8"))
            pictures = [{**case, "picture": picture(listed.with_name(f"{case['name']}.npz"))} for case in cases]
        folds.setdefault(run.spec.fold.name, []).append({"method": run.spec.method, "cases": pictures})
    return [{"name": name, "rows": rows} for name, rows in folds.items()]


def _notes(runs: Sequence[Run]) -> list[tuple[str, int]]:
    """Each note once, with the number of runs that have it."""
    counts: dict[str, int] = {}
    for run in runs:
        for note in (run.done or {}).get("notes", ()):
            counts[note] = counts.get(note, 0) + 1
    return list(counts.items())
