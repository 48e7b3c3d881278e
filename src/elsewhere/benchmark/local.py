"""How much would N labelled local patients change the answer?

At each site, R times: the site's patients are put in random order; the first N are "local", on them threshold and
temperature are chosen anew (and the model is fine-tuned, where that is asked for), and what changes is judged on
patients behind the largest N, the same ones for every N of that order. N = 0 is the model as it is, judged on the same
patients, so that every change is a difference on the same people.

`local.csv` has every value: site, what, n, resample, metric, value. `local_summary.csv` has, for each n, the mean over
the resamples and the range of the middle 95 % of them, of the value and of its change from n = 0. That range says how
much it depends on WHICH patients are local and which are judged, among the patients of this site; it is no confidence
interval for other patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elsewhere.benchmark.local_material import Material
from elsewhere.benchmark.local_redone import redone
from elsewhere.errors import SettingsError
from elsewhere.files import atomic

if TYPE_CHECKING:
    from elsewhere.benchmark.external_exam import Exam

LOCAL, SUMMARY = "local.csv", "local_summary.csv"

RESAMPLES, FINE_TUNINGS = 100, 5
"""Orders of a site's patients; of them, those on which the model is fine-tuned, which costs a training each."""

LEAST_JUDGED = 5
"""Patients that must be left to judge on; a larger N is left out at that site (our choice)."""

COLUMNS = ["site", "what", "n", "resample", "metric", "value"]

Row = dict[str, Any]
Tune = Callable[[Material, NDArray[np.bool_] | None, NDArray[np.bool_], int], dict[str, float]]
"""Takes the site, the local cases (None: as it is), those to judge and the number of the order; metric -> value."""


@dataclass(frozen=True)
class Local:
    """What is asked.

    Attributes:
        numbers: of local patients.
        resamples: orders of a site's patients.
        fine_tune: steps of fine-tuning; 0: none.
        fine_tunings: how many of the orders are fine-tuned on.
    """

    numbers: tuple[int, ...]
    resamples: int = RESAMPLES
    fine_tune: int = 0
    fine_tunings: int = FINE_TUNINGS

    def check(self, exam: Exam) -> None:
        """Say it before anything is computed.

        Raises:
            SettingsError: numbers that make no sense, no probabilities to choose anything by, or no model of ours.
        """
        if not self.numbers or min(self.numbers) < 1:
            raise SettingsError(f"--local: found {list(self.numbers)}, wanted numbers of patients from 1 on")
        if not exam.about.get("probabilities"):
            raise SettingsError(
                "--local: only labels or masks were given, and without probabilities there is no threshold and no "
                "temperature to choose"
            )
        if self.fine_tune and exam.tunable is None:
            raise SettingsError(
                "--fine-tune: wanted a model's folder of elsewhere (--model DIR); others are not trained"
            )

    def run(self, out: Path, sites: Sequence[Material], console: Console, tune: Tune | None) -> None:
        """Write both tables and print the summary."""
        rows: list[Row] = []
        notes: list[str] = []
        undecided: dict[tuple[str, str, int], int] = {}
        for material in sites:
            numbers, left_out = self._numbers(material)
            notes += left_out
            for resample in range(self.resamples if numbers else 0):
                for what, n, found, decided in self._resample(material, numbers, resample, tune):
                    key = material.site, what, n
                    undecided[key] = undecided.get(key, 0) + (not decided)
                    common = {"site": material.site, "what": what, "n": n, "resample": resample}
                    rows += [{**common, "metric": metric, "value": value} for metric, value in found.items()]
        table = pd.DataFrame(rows, columns=COLUMNS)
        summary = summarise(table, undecided)
        for name, some in ((LOCAL, table), (SUMMARY, summary)):
            with atomic(out / name) as temporary:
                some.to_csv(temporary, index=False)
        print_local(console, summary, self)
        for note in notes:
            console.print(f"[yellow]note[/yellow] {escape(note)}", highlight=False, soft_wrap=True)

    def _numbers(self, material: Material) -> tuple[list[int], list[str]]:
        """The numbers for which enough patients are left at a site."""
        there = len(set(material.patients))
        fit = sorted({n for n in self.numbers if there - n >= LEAST_JUDGED})
        left = sorted(set(self.numbers) - set(fit))
        if not left:
            return fit, []
        said = ", ".join(map(str, left))
        return fit, [
            f"site {material.site} has {there} patients: {said} local ones would leave fewer than {LEAST_JUDGED} to "
            "judge on, and are left out"
        ]

    def _resample(
        self, material: Material, numbers: Sequence[int], resample: int, tune: Tune | None
    ) -> Iterator[tuple[str, int, dict[str, float], bool]]:
        for n, local, judged in draws(material, numbers, resample):
            for what, (values, decided) in redone(material, local, judged).items():
                yield what, n, values, decided
            if tune is not None and resample < self.fine_tunings:
                yield "fine-tuning", n, tune(material, local, judged, resample), True


def draws(
    material: Material, numbers: Sequence[int], resample: int
) -> Iterator[tuple[int, NDArray[np.bool_] | None, NDArray[np.bool_]]]:
    """One order of a site's patients: for 0 and each number, the local cases (None for 0) and those judged.

    The order depends on the patients' names, the number of the resample and nothing else.
    """
    names = sorted(set(material.patients))
    order = [names[i] for i in np.random.default_rng([resample, len(names)]).permutation(len(names))]
    judged = np.isin(material.owners, order[max(numbers) :])
    yield 0, None, judged
    for n in numbers:
        yield n, np.isin(material.owners, order[:n]), judged


def summarise(table: pd.DataFrame, undecided: dict[tuple[str, str, int], int]) -> pd.DataFrame:
    """Mean and middle 95 % over the resamples, of the value and of its change from n = 0 in the same resample."""
    rows = []
    base = table[table["n"] == 0].set_index(["site", "what", "metric", "resample"])["value"]
    for _, group in table.groupby(["site", "what", "metric", "n"], sort=False):
        first = group.iloc[0]
        site, what, metric, n = str(first["site"]), str(first["what"]), str(first["metric"]), int(first["n"])
        values = group.set_index(["site", "what", "metric", "resample"])["value"]
        changes = values - base.reindex(values.index)
        row = {"site": site, "what": what, "metric": metric, "n": n, "resamples": int(values.notna().sum())}
        row |= {"undecided": undecided.get((site, what, n), 0)}
        for name, of in (("value", values), ("change", changes)):
            known = of.dropna().to_numpy()
            lo, hi = np.quantile(known, [0.025, 0.975]) if len(known) > 1 else (math.nan, math.nan)
            row |= {name: known.mean() if len(known) else math.nan, f"{name}_lo": lo, f"{name}_hi": hi}
        rows.append(row)
    columns = ["site", "what", "metric", "n", "resamples", "undecided"]
    columns += [f"{name}{end}" for name in ("value", "change") for end in ("", "_lo", "_hi")]
    return pd.DataFrame(rows, columns=columns)


SHOWN = {"threshold": ("balanced_accuracy", "dice"), "temperature": ("nll", "ece"), "fine-tuning": ("dice", "auroc")}
"""Metrics that are printed; the table has all."""


def print_local(console: Console, summary: pd.DataFrame, asked: Local) -> None:
    """Print the changes, one line a site, what is redone and metric."""
    table = Table(title="What N local patients change", title_justify="left", title_style="bold")
    for name in ("site", "redone", "metric", "as it is"):
        table.add_column(name)
    numbers = sorted(set(asked.numbers))
    for n in numbers:
        table.add_column(f"{n} patients", justify="right")
    for _, group in summary.groupby(["site", "what", "metric"], sort=False):
        site, what, metric = (str(group.iloc[0][name]) for name in ("site", "what", "metric"))
        if metric not in SHOWN[what]:
            continue
        by_n = group.set_index("n")
        cells = [_change(by_n.loc[n]) if n in by_n.index else "-" for n in numbers]
        as_it_is = float(by_n["value"].to_dict()[0])
        table.add_row(escape(site), what, metric, f"{as_it_is:.3f}", *cells)
    console.print()
    console.print(table)
    tuned = f" (fine-tuning: {min(asked.fine_tunings, asked.resamples)})" if asked.fine_tune else ""
    console.print(
        f"[dim]Change from the model as it is, on the same other patients of the site; \\[ ]: the middle 95 % of "
        f"{asked.resamples} draws{tuned} of which patients are local. Negative is better for nll and ece.[/dim]",
        highlight=False,
        soft_wrap=True,
    )


def _change(row: Any) -> str:
    if math.isnan(row["change"]):
        return "undefined"
    interval = "" if math.isnan(row["change_lo"]) else f" \\[{row['change_lo']:+.3f}, {row['change_hi']:+.3f}]"
    return f"{row['change']:+.3f}{interval}"
