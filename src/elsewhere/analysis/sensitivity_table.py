"""Sensitivity to single input channels as tables: what a run wrote, and `sensitivity.csv` with intervals.

A run's `sensitivity.parquet` has a row a case and removal: who (`case`, `patient`, `site`, `split`), what was removed
(`channel`, `kind`; both empty where nothing was), and `value`, the Dice of the case, or (classification) `target` and
`probability:CLASS`. `sensitivity.csv` has a row for each method, held-out site, split and removal: the change of the
task's main metric with both intervals of a comparison (`evidence.paired`), and the mean over the held-out sites
(`held_out` is then "all"). `sensitivity.json` beside it names the runs that it is of: the folder may be asked another
question later, and the report must not show the one's numbers with the other's.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elsewhere.analysis.everywhere import EVERYWHERE
from elsewhere.benchmark.record import finished, reading
from elsewhere.benchmark.sheets import PROBABILITY, TARGET
from elsewhere.benchmark.spec import REFERENCE, RunSpec
from elsewhere.benchmark.tables import RESAMPLES
from elsewhere.errors import RunError
from elsewhere.evidence.estimands import THESE_MODELS, THIS_METHOD
from elsewhere.evidence.findings_material import PRIMARY
from elsewhere.evidence.findings_scores import disjoint, mean_of
from elsewhere.evidence.intervals import Interval, patient_interval
from elsewhere.evidence.paired import compare_sets
from elsewhere.evidence.run_scores import RunScores, mean_scores, set_scores
from elsewhere.evidence.runs import interval_of, interval_over
from elsewhere.files import atomic, write_text

SENSITIVITY = "sensitivity.csv"
OF_A_RUN, ABOUT = "sensitivity.parquet", "sensitivity.json"

FORMAT = 1
"""Raised when the rows of a run would be others: it is done again."""

IMAGE, FEATURE, ALL_IMAGE, ALL_FEATURES = "image", "feature", "all image channels", "all features"
"""Kinds of removals: one channel of the image, one feature, and all of either together."""

NOTHING = ""
"""Channel and kind of the rows of the network as it is."""

COLUMNS = [
    "method", "held_out", "selection", "split", "channel", "kind", "metric", "score", "change", "models_lo",
    "models_hi", "method_lo", "method_hi", "n_cases", "n_patients", "n_seeds",
]  # fmt: skip

AGAIN = "run the same 'elsewhere ablate' command again to write it anew"


def is_done(folder: Path, spec: RunSpec, most: int | None) -> bool:
    """A run's channels were removed already, of as many patients."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = _about(spec, most)
    return {key: about.get(key) for key in wanted} == wanted and (folder / OF_A_RUN).is_file()


def write_done(folder: Path, spec: RunSpec, most: int | None, rows: pd.DataFrame) -> None:
    """Write the rows of a run, and whose they are."""
    with atomic(folder / OF_A_RUN) as temporary:
        rows.to_parquet(temporary, index=False)
        (folder / ABOUT).unlink(missing_ok=True)  # of older rows: stopped between the two files, a run is done again
    digest = _sha256((folder / OF_A_RUN).read_bytes())
    write_text(folder / ABOUT, json.dumps({**_about(spec, most), "sha256": digest}, indent=1))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _about(spec: RunSpec, most: int | None) -> dict[str, Any]:
    return {"format": FORMAT, "identity": spec.identity, "selection": spec.selection[0], "patients": most}


def read_done_rows(folder: Path) -> pd.DataFrame:
    """The rows of a run.

    Raises:
        RunError: they are damaged, or not those that were written.
    """
    path = folder / OF_A_RUN
    with reading(path, f"delete it and {AGAIN}"):
        content, about = path.read_bytes(), json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if _sha256(content) != about["sha256"]:
            raise RunError(f"{path}: was changed since it was written (its hash differs); delete it and {AGAIN}")
        return pd.read_parquet(io.BytesIO(content))


def write_sensitivity(out: Path, specs: Sequence[RunSpec], task: str, most: int | None) -> pd.DataFrame:
    """Write `sensitivity.csv` of a benchmark from the runs whose channels were removed; returns it."""
    done = [spec for spec in specs if looked_at(out, spec) and is_done(out / spec.folder, spec, most)]
    table = sensitivities(of_runs(out, done), tuple(dict.fromkeys(spec.fold.name for spec in specs)), task)
    with atomic(out / SENSITIVITY) as temporary:
        table.to_csv(temporary, index=False)
    about = {"runs": [str(spec.folder) for spec in done], "sha256": _sha256((out / SENSITIVITY).read_bytes())}
    write_text(out / ABOUT, json.dumps(about, indent=1))
    return table


def is_of(out: Path, specs: Iterable[RunSpec]) -> bool:
    """`sensitivity.csv` is of these runs, or of some of them, and of no others."""
    try:
        about = json.loads((out / ABOUT).read_text(encoding="utf-8"))
        whole = about["sha256"] == _sha256((out / SENSITIVITY).read_bytes())
        return whole and set(about["runs"]) <= {str(spec.folder) for spec in specs}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def of_runs(out: Path, specs: Iterable[RunSpec]) -> pd.DataFrame:
    """The rows of these runs, with `method`, `held_out`, `seed` and `selection`."""
    tables = [
        read_done_rows(out / spec.folder).assign(
            method=spec.method, held_out=spec.fold.name, seed=spec.seed, selection=spec.selection[0]
        )
        for spec in specs
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def looked_at(out: Path, spec: RunSpec) -> bool:
    """A run whose channels are removed: it is finished, and no reference (which is part of a cross-validation)."""
    return spec.method != REFERENCE and finished(out / spec.folder, spec)


def read_sensitivity(out: Path) -> pd.DataFrame | None:
    """`sensitivity.csv`; None where there is none.

    Raises:
        RunError: it is damaged.
    """
    path = out / SENSITIVITY
    if not path.is_file():
        return None
    numbers = ("score", "change", "models_lo", "models_hi", "method_lo", "method_hi")
    text = {name: str for name in ("method", "held_out", "selection", "split", "channel", "kind", "metric")}
    with reading(path, AGAIN):
        empty = {name: [""] for name in numbers}
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=empty)[COLUMNS]


@dataclass(frozen=True)
class Change:
    """What a removal does to a score.

    Attributes:
        score: of the network as it is, mean over seeds, on the same cases.
        runs: the change of each seed's model, and each patient's part in it.
        models: the change, with the interval for these models.
    """

    score: float
    runs: RunScores
    models: Interval


def sensitivities(rows: pd.DataFrame, sites: Sequence[str], task: str) -> pd.DataFrame:
    """`sensitivity.csv`.

    Args:
        rows: of `of_runs`.
        sites: the held-out sites of the question; the mean over them is there where all were judged.
        task: "segmentation" or "classification".
    """
    return pd.DataFrame(list(_rows(rows, sites, PRIMARY[task])), columns=COLUMNS)


def _rows(rows: pd.DataFrame, sites: Sequence[str], metric: str) -> Iterator[dict[str, Any]]:
    if rows.empty:
        return
    for key, of in rows.groupby(["method", "selection", "split"], sort=False):
        about: dict[str, Any] = {**dict(zip(("method", "selection", "split"), key, strict=True)), "metric": metric}
        at = {site: here for site, here in of.groupby("held_out", sort=False)}
        people = [set(at[site]["patient"]) for site in sites if site in at]
        removed = of.loc[of["channel"] != NOTHING, ["channel", "kind"]].drop_duplicates()
        for channel, kind in removed.itertuples(index=False, name=None):
            what = {**about, "channel": channel, "kind": kind}
            changes = {site: change(at[site], channel, metric) for site in sites if site in at}
            for site, one in changes.items():
                yield _row({**what, "held_out": site}, one.score, one.models, interval_of(one.runs), one.runs.n_runs)
            if len(changes) == len(sites) > 1:
                models = mean_of([one.models for one in changes.values()], apart=disjoint(people))
                method = interval_over({site: one.runs for site, one in changes.items()})
                score = float(np.mean([one.score for one in changes.values()]))
                n_seeds = min(one.runs.n_runs for one in changes.values())
                yield _row({**what, "held_out": EVERYWHERE}, score, models, method, n_seeds)


def change(rows: pd.DataFrame, channel: str, metric: str) -> Change:
    """The score without a channel minus that with all of them, of the same cases and seeds.

    Args:
        rows: of one method, held-out site and split.
        channel: what is removed.
        metric: "dice", a mean over cases; or a metric of `tasks.classification_metrics`.
    """
    without, whole = rows[rows["channel"] == channel], rows[rows["channel"] == NOTHING]
    first = whole.drop_duplicates("case").set_index("case")
    patients, seeds = first["patient"].to_numpy(), sorted(whole["seed"].unique())
    if TARGET not in rows.columns:
        less, more = (_by_seed(some, "value", seeds, first.index) for some in (without, whole))
        values = less - more
        of_both = mean_scores(np.where(np.isnan(values), np.nan, more), patients)
        models = patient_interval(values, patients, n_boot=RESAMPLES)
        return Change(of_both.value, mean_scores(values, patients), models)
    columns = [name for name in rows.columns if name.startswith(PROBABILITY)]
    less, more = (
        np.stack([_by_seed(some, column, seeds, first.index) for column in columns], axis=2)
        for some in (without, whole)
    )
    target = first[TARGET].to_numpy().astype(np.int64)
    found, score = compare_sets(less, more, target, patients, metric), set_scores(more, target, patients, metric)
    models = Interval(found.difference, found.models_lo, found.models_hi, found.n_cases, found.n_patients, found.reason)
    return Change(score.value, set_scores(less, target, patients, metric) - score, models)


def _by_seed(rows: pd.DataFrame, column: str, seeds: list[Any], cases: Any) -> Any:
    """(S, N), NaN where a seed's model did not judge a case."""
    table = rows.pivot(index="case", columns="seed", values=column).reindex(index=cases, columns=seeds)
    return table.to_numpy(dtype=float).T


def _row(about: Mapping[str, Any], score: float, models: Interval, method: Interval, n_seeds: int) -> dict[str, Any]:
    return {
        **about,
        "score": score,
        "change": models.value,
        "models_lo": models.lo,
        "models_hi": models.hi,
        "method_lo": method.lo,
        "method_hi": method.hi,
        "n_cases": models.n_cases,
        "n_patients": models.n_patients,
        "n_seeds": n_seeds,
    }


def interval(row: Mapping[Any, Any]) -> Interval:
    """Of a row of `sensitivity.csv`: for the method where there are several seeds, else for these models."""
    which, estimand = ("models", THESE_MODELS) if math.isnan(row["method_lo"]) else ("method", THIS_METHOD)
    lo, hi = float(row[f"{which}_lo"]), float(row[f"{which}_hi"])
    n_cases, n_patients = int(row["n_cases"]), int(row["n_patients"])
    return Interval(float(row["change"]), lo, hi, n_cases, n_patients, estimand=estimand)
