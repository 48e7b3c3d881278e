"""From runs to `results.csv` and `cases.csv`.

A row of `results.csv` is a score of a set of cases: one a seed, and one with seed "all", the mean over the seeds'
models. Its interval is about other patients of the site, for the models as trained (`evidence.intervals`).
Calibration patients are in neither table: the runs' own `predictions.parquet` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from elsewhere.benchmark.record import finished, reading, require_intact
from elsewhere.benchmark.sheets import CALIBRATING, CASES, PREDICTIONS, PROBABILITY, TARGET, WHO
from elsewhere.benchmark.spec import RunSpec
from elsewhere.evidence.bounded import bounds_of_case
from elsewhere.evidence.intervals import Interval, patient_interval, set_interval
from elsewhere.files import atomic
from elsewhere.tasks.classification_metrics import METRICS

RESULTS = "results.csv"

GROUP = ["method", "held_out", "selection", "split"]

COLUMNS = [
    "method", "held_out", "seed", "selection", "split", "class", "metric", "value", "lo", "hi", "n_cases", "n_patients",
]  # fmt: skip

RESAMPLES = 1000

PART = "part"
"""Column of the gathered predictions: which training of a reference judged the case; 0 elsewhere."""

RANKING = ("auroc", "average_precision")
"""Metrics that compare cases with each other: within a reference, only those that one training judged."""

ALL = "all"


def write_tables(out: Path, specs: Sequence[RunSpec]) -> pd.DataFrame:
    """Write both tables of a benchmark from its finished runs; returns the results.

    Raises:
        RunError: a table of a run is missing, damaged, or was changed since the run wrote it.
    """
    runs = usable(out, specs)
    for spec in runs:
        require_intact(out / spec.folder)
    cases = _gather(out, runs, CASES)
    predictions = _gather(out, runs, PREDICTIONS)
    results = pd.DataFrame(list(result_rows(cases, predictions)), columns=COLUMNS)
    results = results.sort_values(["selection", "split"], key=_order, kind="stable")
    for name, table in ((CASES, cases), (RESULTS, results)):
        with atomic(out / name) as temporary:
            table.to_csv(temporary, index=False)
    return results


def usable(out: Path, specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The finished runs, without references of which a part is missing: they would be of other patients."""
    done = [spec for spec in specs if finished(out / spec.folder, spec)]
    parts: dict[tuple[str, str, int], int] = {}
    for spec in done:
        key = (spec.method, spec.fold.name, spec.seed)
        parts[key] = parts.get(key, 0) + 1
    return [
        spec
        for spec in done
        if spec.fold.part is None or parts[spec.method, spec.fold.name, spec.seed] == spec.fold.part[1]
    ]


def _gather(out: Path, runs: Sequence[RunSpec], name: str) -> pd.DataFrame:
    """One table of all runs, by the rules that are asked for now; of predictions, what classification scores need."""
    tables = []
    for spec in runs:
        path = out / spec.folder / name
        # With its hash the file was checked; without one it is of an older evaluation.
        with reading(path, f"delete the folder {path.parent} and run the same 'elsewhere benchmark' command again"):
            table = _cases(path) if name == CASES else _probabilities(path)
            table["selection"]  # of another file
        if name == PREDICTIONS:
            table = table.assign(**{PART: spec.fold.part[0] if spec.fold.part is not None else 0})
        tables.append(table[table["selection"].isin(spec.selection)])
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=[*GROUP, "seed", "case", "patient", "site", "class", "metric", "value"])
    return pd.concat(tables, ignore_index=True)


def _cases(path: Path) -> pd.DataFrame:
    text = {column: str for column in ("method", "held_out", "case", "patient", "site", "class")}
    # keep_default_na: a site or a patient may be called "NA"
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"value": ["", "nan"]})


def _probabilities(path: Path) -> pd.DataFrame:
    names = pq.read_schema(path).names
    wanted = [name for name in names if name in (*WHO, TARGET) or name.startswith(PROBABILITY)]
    table = pd.read_parquet(path, columns=wanted)
    return table[table["split"] != CALIBRATING]


def result_rows(cases: pd.DataFrame, predictions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of `results.csv`.

    Args:
        cases: rows as in `cases.csv`.
        predictions: of `predictions.parquet`, with the column PART; of a classification, what it is scored by.
    """
    if TARGET in predictions.columns:
        for key, group in predictions.groupby(GROUP, sort=False):
            yield from _set_rows(dict(zip(GROUP, key, strict=True)), group)
        return
    for key, group in cases.groupby([*GROUP, "class", "metric"], sort=False):
        yield from _mean_rows(dict(zip([*GROUP, "class", "metric"], key, strict=True)), group)


def _mean_rows(key: Mapping[str, Any], group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Scores that are means over cases."""
    # Case ids are unique in a study, but a reference fold's parts and the seeds share them.
    table = group.pivot(index="case", columns="seed", values="value")
    patients = group.drop_duplicates("case").set_index("case")["patient"].loc[table.index].to_numpy()
    values = table.to_numpy(dtype=float).T
    bounds = bounds_of_case(key["metric"])
    for seed, some in [*zip(table.columns, values[:, None], strict=True), (ALL, values)]:
        yield _row(key, seed, patient_interval(some, patients, n_boot=RESAMPLES, bounds=bounds))


def _set_rows(key: Mapping[str, Any], group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Scores of a set of cases, such as AUROC."""
    columns = [name for name in group.columns if name.startswith(PROBABILITY) and group[name].notna().any()]
    names = [name.removeprefix(PROBABILITY) for name in columns]
    first = group.drop_duplicates("case").set_index("case")
    seeds = sorted(group["seed"].unique())
    by_seed = [group[group["seed"] == seed].set_index("case").reindex(first.index) for seed in seeds]
    stack = np.stack([table[columns].to_numpy(dtype=float) for table in by_seed])
    parts = np.stack([table[PART].fillna(0).to_numpy(dtype=int) for table in by_seed])
    target, patients = first[TARGET].to_numpy(), first["patient"].to_numpy()
    questions = [(ALL, metric, stack, target) for metric in METRICS]
    for who, what, said, truth in [*questions, *_per_class(names, stack, target)]:
        for seed, some, of in [*zip(seeds, said[:, None], parts[:, None], strict=True), (ALL, said, parts)]:
            groups = of if what in RANKING else None
            found = set_interval(some, truth, patients, what, groups=groups, n_boot=RESAMPLES)
            yield _row({**key, "class": who, "metric": what}, seed, found)


def _per_class(
    names: Sequence[str], stack: NDArray[Any], target: NDArray[Any]
) -> Iterator[tuple[str, str, NDArray[Any], NDArray[Any]]]:
    """Each class against the rest: name, metric, probabilities, target. With two classes that says nothing new."""
    if len(names) < 3:
        return
    for index, name in enumerate(names):
        # Ranking metrics look at the probability, the others at the label that was given.
        given = np.where(np.isnan(stack).any(axis=-1), np.nan, stack.argmax(axis=-1) == index)
        for metric in ("auroc", "average_precision", "f1"):
            one = stack[..., index] if metric in RANKING else given
            yield name, metric, np.stack([1 - one, one], axis=-1), (target == index).astype(np.int64)


def _row(key: Mapping[str, Any], seed: Any, found: Interval) -> dict[str, Any]:
    return {
        **key,
        "seed": seed,
        "value": found.value,
        "lo": found.lo,
        "hi": found.hi,
        "n_cases": found.n_cases,
        "n_patients": found.n_patients,
    }


def _order(column: pd.Series[Any]) -> pd.Series[Any]:
    """source-val before last before oracle, held-out before in-domain."""
    rank = {"source-val": 0, "last": 1, "oracle": 2, "held-out": 0, "in-domain": 1}
    return column.map(rank)
