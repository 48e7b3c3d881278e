"""`learning_curve.html`: the score over the number of training patients, at the held-out sites and at home."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from elsewhere.analysis.everywhere import EVERYWHERE
from elsewhere.analysis.learning_curve import COLUMNS, CURVE, over_folds, sizes_of
from elsewhere.benchmark.loading import Loaded, load
from elsewhere.benchmark.record import reading
from elsewhere.errors import RunError
from elsewhere.evidence.estimands import THESE_MODELS, sentence
from elsewhere.evidence.findings_material import HELD_OUT, HOME, NAMES, PRIMARY
from elsewhere.evidence.intervals import Interval
from elsewhere.files import write_text
from elsewhere.report.blocks import (
    Block,
    Cell,
    Facts,
    Figure,
    Figures,
    Heading,
    Row,
    Section,
    Table,
    Text,
    limits,
    number,
)
from elsewhere.report.charts.places import Series, Value, places
from elsewhere.report.charts.scale import extent
from elsewhere.report.page import Page, render, warnings
from elsewhere.report.sections.view import DISTANCES

PAGE = "learning_curve.html"

AGAIN = "run the same 'elsewhere learning-curve' command again to write it anew"

NAN: Value = (math.nan, math.nan, math.nan)

UNDER = "patients that train, over all development sites"

SAID = {HELD_OUT: "held out", HOME: "home"}


def write_learning_curve(folder: Path | str) -> Path:
    """Write `learning_curve.html` into the folder of a learning curve; returns its path.

    Raises:
        RunError: there is no learning curve, no run of it is finished, or one of its files is damaged.
    """
    folder = Path(folder)
    table = read_curve(folder)
    if table.empty:
        raise RunError(f"{folder}: no run is finished yet; {AGAIN}")
    benchmarks = {size: load(folder / f"patients-{size}") for size in dict.fromkeys(table["patients"])}
    write_text(folder / PAGE, render(page_of_curve(table, benchmarks)))
    return folder / PAGE


def read_curve(folder: Path) -> pd.DataFrame:
    """`learning_curve.csv`; a site may be called "NA".

    Raises:
        RunError: it is missing or damaged.
    """
    text = {name: str for name in ("method", "held_out", "patients", "selection", "split", "metric")}
    with reading(folder / CURVE, AGAIN):
        empty = {name: ["", "nan"] for name in ("value", "lo", "hi")}
        return pd.read_csv(folder / CURVE, dtype=text, keep_default_na=False, na_values=empty)[COLUMNS]


def page_of_curve(table: pd.DataFrame, benchmarks: dict[str, Loaded]) -> Page:
    """The page.

    Args:
        table: `learning_curve.csv`.
        benchmarks: by number of patients, as in the table.
    """
    first = next(iter(benchmarks.values()))
    metric = PRIMARY[first.task]
    shown = table[table["metric"] == metric]
    methods = list(dict.fromkeys(table["method"]))
    colours = {method: place for place, method in enumerate(methods)}
    sections = []
    for place, rule in enumerate(dict.fromkeys(shown["selection"])):
        of_rule = shown[shown["selection"] == rule]
        end = "" if place == 0 else f"-{rule}"
        sections.append(_curves(of_rule, colours, metric, f"curves{end}", rule))
        sections.append(_numbers(of_rule, colours, metric, f"numbers{end}", rule))
    sections.append(_runs(benchmarks))
    version = first.question.get("versions", {}).get("elsewhere", "")
    return Page(
        f"{first.study}: learning curve",
        f"{first.study}: how many patients does it take?",
        _answer(shown, metric),
        "Each number of training patients is a benchmark of its own, leave one site out. Those who train with fewer "
        "are among those who train with more; validation, calibration and test patients are the same at every number.",
        _warnings(benchmarks),
        list(colours.items()),
        sections,
        f"Made by elsewhere {version}. The table is in {CURVE} beside this file, the benchmark of each number in the "
        "folder of its name.",
    )


def _warnings(benchmarks: dict[str, Loaded]) -> list[str]:
    """Each once, with the numbers of patients that it is of."""
    found: dict[str, list[str]] = {}
    for size, loaded in benchmarks.items():
        for line in warnings(loaded):
            found.setdefault(line, []).append(size)
    return [f"training patients {', '.join(sizes)}: {line}" for line, sizes in found.items()]


def _answer(shown: pd.DataFrame, metric: str) -> str:
    """What the first and the last number of patients give at the held-out sites, by the first rule."""
    found = over_folds(shown)
    found = found[(found["split"] == HELD_OUT) & (found["selection"] == shown["selection"].iloc[0])]
    names = sizes_of(shown)
    told = []
    for size in dict.fromkeys((*list(names)[:1], *list(names)[-1:])):
        scores = [
            f"{method} {number(_value(found[found['method'] == method], size)[0], 2)}"
            for method in dict.fromkeys(shown["method"])
        ]
        people = names[size].replace("(", "").replace(")", "")  # all 21
        told.append(f"with {people} training {'patient' if size == '1' else 'patients'}: {', '.join(scores)}")
    return f"{NAMES[metric]} at the held-out sites {'; '.join(told)}."


def _value(of_method: pd.DataFrame, size: str) -> Value:
    row = of_method[of_method["patients"] == size]
    return (float(row["value"].iloc[0]), float(row["lo"].iloc[0]), float(row["hi"].iloc[0])) if len(row) else NAN


def _curves(shown: pd.DataFrame, colours: dict[str, int], metric: str, anchor: str, rule: str) -> Section:
    names = sizes_of(shown)
    up = extent(shown[["value", "lo", "hi"]].to_numpy(dtype=float).ravel().tolist())
    figures = []
    for where, side, title in _panels(shown):
        mine = shown[(shown["held_out"] == where) & (shown["split"] == side)]
        series = [
            Series(method, colour, [_value(mine[mine["method"] == method], size) for size in names])
            for method, colour in colours.items()
        ]
        drawn = places(
            series, f"{title}: {NAMES[metric]} over training patients", list(names.values()), up=up, under=UNDER
        )
        if drawn:
            figures.append(Figure(title, drawn))
    captions = [
        "Dot: mean over the seeds' models; upright line: 95 % interval for these models. One scale for all; the steps "
        "along the axis are equally wide, whatever the numbers. In brackets: how many trained, where that is another "
        "number.",
    ]
    lead = f"{NAMES[metric]} over the number of patients that train."
    return Section(anchor, "Learning curve", [Figures(figures, captions)], lead, rule, legend=True)


def _panels(shown: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Fold, split and title of each chart: the means first, then each held-out site."""
    folds = [name for name in dict.fromkeys(shown["held_out"]) if name != EVERYWHERE]
    if len(folds) == 1:
        return [
            (name, side, f"{name} {words}" if side == HELD_OUT else words)
            for name in folds
            for side, words in SAID.items()
        ]
    means = [(EVERYWHERE, side, f"{words}, mean over the folds") for side, words in SAID.items()]
    return [*means, *((name, HELD_OUT, f"{name} held out") for name in folds)]


def _numbers(shown: pd.DataFrame, colours: dict[str, int], metric: str, anchor: str, rule: str) -> Section:
    names = sizes_of(shown)
    panels = _panels(shown)
    blocks: list[Block] = []
    for where, side, title in panels:
        mine = shown[(shown["held_out"] == where) & (shown["split"] == side)]
        rows = []
        for method, colour in colours.items():
            values = [_value(mine[mine["method"] == method], size) for size in names]
            rows.append(Row(method, [_cell(value, metric) for value in values], colour))
        folded = (
            title if len(panels) > len(SAID) and where != EVERYWHERE else ""
        )  # those of one fold, where there is a mean
        blocks += [] if folded else [Heading(title)]
        blocks.append(Table(f"{NAMES[metric]}, {title}", ["method", *names.values()], rows, folded=folded))
    blocks.append(Text([sentence(THESE_MODELS)]))
    return Section(anchor, "The numbers", blocks, f"{NAMES[metric]} by number of training patients.", rule)


def _cell(value: Value, metric: str) -> Cell:
    if math.isnan(value[0]):
        return Cell("–", mark="quiet")
    digits = 2 if metric in DISTANCES else 3
    return Cell(number(value[0], digits), [limits(Interval(*value, 0, 0), digits - 1)])


def _runs(benchmarks: dict[str, Loaded]) -> Section:
    """Each benchmark: its folder, its runs, its command."""
    command = next((text for one in benchmarks.values() if (text := str(one.question.get("command", "")))), "")
    runs = [run for loaded in benchmarks.values() for run in loaded.runs]
    seeds = sorted({run.spec.seed for run in runs})
    facts = [
        ("methods", ", ".join(dict.fromkeys(run.spec.method_title for run in runs))),
        ("seeds", ", ".join(map(str, seeds))),
    ]
    for size, loaded in benchmarks.items():
        done = sum(run.done is not None for run in loaded.runs)
        facts.append((f"patients-{size}", f"{done} of {len(loaded.runs)} runs done"))
    first = next(iter(benchmarks.values()))
    settings = [(key, str(value)) for key, value in first.runs[0].spec.settings.items()]
    return Section("runs", "What was run", [Facts(facts, command=command), Facts(settings, folded="Settings")])
