"""Training curves: a comparison is fair where ERM's validation curve is flat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from elsewhere.benchmark.loading import Loaded, Run, read_logs
from elsewhere.evidence.findings_material import BASELINE
from elsewhere.report.blocks import Block, Figure, Figures, Heading, Section, Text, number
from elsewhere.report.charts import Line, curves

TITLE = "Was training long enough?"

MOST = 100
"""Points of a curve: a page has a few hundred pixels."""

FAINT = 60
"""Single seeds are drawn where a page has no more runs than this; of more only the mean."""

LAST = 0.25
"""Share of the training over which ERM's curve is looked at."""


def section(loaded: Loaded, colours: Mapping[str, int], name: str = "training") -> Section:
    """Training loss and validation score of each fold."""
    runs = [run for run in loaded.runs if run.spec.fold.part is None]
    logs = read_logs(runs)
    if not logs:
        why = "the predictions were made elsewhere" if loaded.evaluation else "no run has logged a step yet"
        return Section(name, TITLE, [Text([f"Not here: {why}."])])
    blocks: list[Block] = []
    for fold in dict.fromkeys(run.spec.fold.name for run in runs):
        of_fold = [run for run in runs if run.spec.fold.name == fold]
        mine = [(run, logs[run.spec.identity]) for run in of_fold if run.spec.identity in logs]
        if not mine:
            continue
        seeds = len(runs) <= FAINT
        losses = _lines(mine, "train", "loss", colours, seeds)
        loss = curves(losses, f"training loss, {fold} held out", logarithmic=True)
        score = curves(_lines(mine, "validation", "score", colours, seeds), f"validation score, {fold} held out")
        blocks.append(Heading(f"without {fold}"))
        flat = _flat(mine)
        figures = [Figure("training loss (logarithmic)", loss), Figure("validation score", score)]
        blocks.append(Figures(figures, [flat] if flat else []))
    thin = " Thin lines are single seeds, thick ones their mean." * (len(runs) <= FAINT)
    lead = (
        f"A comparison is fair where ERM's validation curve is flat.{thin} Horizontally: optimiser steps. Validation "
        "is on patients of the development sites; the held-out site has no part in it."
    )
    return Section(name, TITLE, blocks, lead)


def _lines(
    logs: Sequence[tuple[Run, pd.DataFrame]], split: str, name: str, colours: Mapping[str, int], seeds: bool
) -> list[Line]:
    lines: list[Line] = []
    for method, series in _series(logs, split, name).items():
        colour = colours.get(method, 7)
        if seeds and len(series) > 1:
            lines += [Line(_points(one), colour, method, faint=True) for one in series]
        mean = pd.concat(series, axis=1).mean(axis=1).sort_index()
        lines.append(Line(_points(mean), colour, method))
    return lines


def _series(logs: Sequence[tuple[Run, pd.DataFrame]], split: str, name: str) -> dict[str, list[pd.Series[Any]]]:
    by_method: dict[str, list[pd.Series[Any]]] = {}
    for run, log in logs:
        some = log[(log["split"] == split) & (log["name"] == name)].drop_duplicates("step", keep="last")
        if len(some):
            by_method.setdefault(run.spec.method, []).append(some.set_index("step")["value"].astype(float))
    return by_method


def _points(series: pd.Series[Any]) -> list[tuple[float, float]]:
    """At most MOST points, each the mean of its neighbours."""
    width = max(1, math.ceil(len(series) / MOST))
    pairs = list(zip((float(step) for step in series.index), series.to_numpy(dtype=float), strict=True))
    groups = [pairs[i : i + width] for i in range(0, len(pairs), width)]
    return [(group[-1][0], float(sum(y for _, y in group) / len(group))) for group in groups]


def _flat(logs: Sequence[tuple[Run, pd.DataFrame]]) -> str:
    """What ERM's validation score still did in the last quarter of the training."""
    series = _series(logs, "validation", "score").get(BASELINE)
    if not series:
        return ""
    mean = pd.concat(series, axis=1).mean(axis=1).sort_index().dropna()
    late = mean[mean.index >= (1 - LAST) * mean.index.max()] if len(mean) else mean
    if len(late) < 2:
        return ""
    change = float(late.iloc[-1] - late.iloc[0])
    return (
        f"ERM's validation score changed by {number(change, sign=True)} over the last {100 * LAST:g} % of the steps; "
        f"over all of them it spans {number(float(mean.max() - mean.min()))}."
    )
