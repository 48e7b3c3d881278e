"""Training curves, and whether a longer training pays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.loading import Loaded, Log, Run
from elsewhere.evidence.findings_material import BASELINE, NAMES, PRIMARY
from elsewhere.report.blocks import Block, Figure, Figures, Heading, Section, Text, number
from elsewhere.report.charts import Line, curves
from elsewhere.report.sections import length
from elsewhere.report.sections.view import crowded, stands_out

TITLE = "Was training long enough?"

MOST = 100
"""Points of a curve: a page has a few hundred pixels."""

FAINT = 60
"""Single seeds are drawn where a page has no more runs than this, and no crowd of methods; else only the mean."""

STEPS = "optimiser steps"

LAST = 0.25
"""Share of the training over which ERM's curve is looked at."""

PARTS = ("loss", "score")

Series = NDArray[np.float64]
"""(n, 2) steps and values."""


def section(loaded: Loaded, colours: Mapping[str, int], name: str = "training") -> Section:
    """Training loss and validation score of each fold."""
    runs = [run for run in loaded.runs if run.spec.fold.part is None]
    logs = loaded.logs
    if not logs:
        why = "the predictions were made elsewhere" if loaded.evaluation else "no run has logged a step yet"
        return Section(name, TITLE, [Text([f"Not here: {why}."])])
    losses, scores, late = [], [], []
    metric = NAMES[PRIMARY[loaded.task]]
    thin = crowded({run.spec.method for run in runs})
    seeds = len(runs) <= FAINT and not thin
    for fold in dict.fromkeys(run.spec.fold.name for run in runs):
        of_fold = [run for run in runs if run.spec.fold.name == fold]
        mine = [(run, logs[run.spec.identity]) for run in of_fold if run.spec.identity in logs]
        if not mine:
            continue
        loss, score = (_lines([(run, getattr(log, name)) for run, log in mine], colours, seeds) for name in PARTS)
        title = f"without {fold}"
        chart = curves(loss, f"training loss, {fold} held out", logarithmic=True, under=STEPS)
        losses.append(Figure(title, chart))
        scores.append(Figure(title, curves(score, f"validation score, {fold} held out", under=STEPS)))
        late += [f"{title}: {told}"] if (told := _late(mine)) else []
    blocks: list[Block] = [
        *length.blocks(loaded),
        Heading(f"validation score ({metric})"),
        Figures(scores, late),
        Figures(losses, ["Training loss on a logarithmic axis."], folded="Training loss"),
    ]
    if seeds:
        thin = " Thin lines are single seeds, bold ones their mean."
    lead = (
        "A curve that still rises at its end tells that the training was too short. A flat end tells nothing of a "
        "longer one: the learning rate falls to 0 there and flattens every curve. Two trainings of different length "
        f"tell.{thin} Validation is on patients of the development sites; the held-out site has no part in it."
    )
    return Section(name, TITLE, blocks, lead, legend=True)


def _lines(of_runs: Sequence[tuple[Run, Series]], colours: Mapping[str, int], seeds: bool) -> list[Line]:
    lines: list[Line] = []
    methods = {run.spec.method for run, _ in of_runs}
    for method in dict.fromkeys(run.spec.method for run, _ in of_runs):
        series = [one for run, one in of_runs if run.spec.method == method and len(one)]
        colour = colours.get(method, 7)
        if seeds and len(series) > 1:
            lines += [Line(_points(one), colour, method, faint=True) for one in series]
        if series:
            lines.append(Line(_points(_mean(series)), colour, method, faint=not stands_out(method, methods)))
    return lines


def _mean(series: Sequence[Series]) -> Series:
    """Of the runs that have logged a step, step by step."""
    together = np.concatenate(series)
    steps, place = np.unique(together[:, 0], return_inverse=True)
    known = ~np.isnan(together[:, 1])
    sums = np.bincount(place[known], together[known, 1], len(steps))
    counts = np.bincount(place[known], minlength=len(steps))
    return np.stack([steps, np.divide(sums, counts, out=np.full(len(steps), np.nan), where=counts > 0)], axis=1)


def _points(series: Series) -> list[tuple[float, float]]:
    """At most MOST points, each the mean of its neighbours."""
    width = max(1, math.ceil(len(series) / MOST))
    groups = [series[i : i + width] for i in range(0, len(series), width)]
    return [(float(group[-1, 0]), float(group[:, 1].mean())) for group in groups]


def _late(logs: Sequence[tuple[Run, Log]]) -> str:
    """What ERM's validation score still did in the last quarter of the training."""
    series = [log.score for run, log in logs if run.spec.method == BASELINE and len(log.score)]
    if not series:
        return ""
    mean = _mean(series)
    mean = mean[~np.isnan(mean[:, 1])]
    late = mean[mean[:, 0] >= (1 - LAST) * mean[:, 0].max(initial=0)]
    if len(late) < 2:
        return ""
    change = float(late[-1, 1] - late[0, 1])
    return (
        f"ERM's score changed by {number(change, sign=True)} over the last {100 * LAST:g} % of the steps; "
        f"over all of them it spans {number(float(np.ptp(mean[:, 1])))}."
    )
