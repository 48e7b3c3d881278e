"""A finished or unfinished folder, read back: a benchmark's, or that of `elsewhere evaluate`.

Cases are read method by method and site by site, and not kept: 500 runs with their histograms would not fit in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from elsewhere.benchmark.arrays import gathered
from elsewhere.benchmark.covariates import COVARIATES
from elsewhere.benchmark.record import EVALUATE_AGAIN, finished, read_done, reading
from elsewhere.benchmark.sheets import CALIBRATION, PREDICTIONS
from elsewhere.benchmark.spec import REFERENCE, RunSpec
from elsewhere.benchmark.tables import ALL, COLUMNS, RESULTS, usable, write_tables
from elsewhere.errors import RunError
from elsewhere.evidence.findings_material import Judged

EVALUATION = "evaluation"
"""`kind` in the plan.json of a folder that holds predictions made elsewhere, and no runs."""

NOTES = "notes.json"

AGAIN = f"delete it and {EVALUATE_AGAIN}"

JUDGE_AGAIN = "run the same 'elsewhere evaluate' command again to write it anew"
"""Of the files of an evaluation."""

BEING_WRITTEN = "being_written"
"""Key of the plan.json of an evaluation while its tables are replaced."""


@dataclass(frozen=True)
class Run:
    """A planned run and what became of it."""

    spec: RunSpec
    folder: Path
    done: dict[str, Any] | None
    error: str | None

    @property
    def seconds(self) -> float:
        """Of computing; 0 where it is not finished."""
        return float(sum((self.done or {}).get("seconds", {}).values()))


@dataclass(frozen=True)
class Loaded:
    """A folder's question, its tables, and its cases when they are asked for.

    Attributes:
        folder: where.
        question: `plan.json`.
        runs: of the plan; none in the folder of an evaluation.
        whole: identities of the runs whose cases are in the tables.
        results: `results.csv`.
        covariates: index `case`, a column a covariate as text; None in folders of before there was `covariates.csv`.
        labelled: (site, class) of each case of a classification, empty where it has no label; none where not written.
        notes: of an evaluation; those of runs are theirs.
    """

    folder: Path
    question: Mapping[str, Any]
    runs: tuple[Run, ...]
    whole: frozenset[str]
    results: pd.DataFrame
    covariates: pd.DataFrame | None
    notes: tuple[str, ...] = ()
    labelled: tuple[tuple[str, str], ...] = ()

    @property
    def evaluation(self) -> bool:
        """Predictions made elsewhere: no training, no fold, no home."""
        return self.question.get("kind") == EVALUATION

    @property
    def metrics_missing(self) -> tuple[str, ...]:
        """Metrics that cannot be computed: those of probabilities, where only labels were given."""
        return tuple(self.question.get("metrics_missing", ()))

    @property
    def study(self) -> str:
        """Its name."""
        return str(self.question["study"])

    @property
    def task(self) -> str:
        """`segmentation` or `classification`."""
        return str(self.question["task"])

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the outputs."""
        return tuple(self.question.get("classes", ()))

    def rules(self) -> tuple[str, ...]:
        """The selection rules, in the order of the question."""
        if self.evaluation:
            return tuple(dict.fromkeys(self.results["selection"]))
        return tuple(dict.fromkeys(rule for run in self.runs for rule in run.spec.selection))

    def methods(self, selection: str) -> tuple[str, ...]:
        """In the order of the question, the reference last."""
        names = [run.spec.method for run in self._runs(selection)] or self._column(selection, "method")
        return tuple(sorted(dict.fromkeys(names), key=lambda name: name == REFERENCE))

    def held_out(self, selection: str) -> tuple[str, ...]:
        """The folds, in the order of the question."""
        names = [run.spec.fold.name for run in self._runs(selection)] or self._column(selection, "held_out")
        return tuple(dict.fromkeys(names))

    @cached_property
    def logs(self) -> dict[str, Log]:
        """By the run's identity: see `read_logs`; the trainings of a reference, which judge parts of a site, have none.

        Raises:
            RunError: one is damaged.
        """
        return read_logs(run for run in self.runs if run.spec.fold.part is None)

    def class_counts(self, held_out: str) -> tuple[int, ...] | None:
        """Labelled cases of each class at the sites that a fold trains on; None where they were not written."""
        away = next((set(run.spec.fold.held_out) for run in self.runs if run.spec.fold.name == held_out), None)
        if away is None or not self.labelled:
            return None
        counts = Counter(name for site, name in self.labelled if site not in away)
        return tuple(counts[name] for name in self.classes)

    def judged(self, selection: str, method: str, held_out: str) -> dict[str, Judged]:
        """The cases by split, with all seeds' models; empty where no run of these is finished."""
        if self.evaluation:
            table = _read(self.folder / PREDICTIONS, None, JUDGE_AGAIN)
            tables = [(0, 0, _only(table, selection=selection, method=method, held_out=held_out))]
        else:
            tables = [
                (
                    run.spec.seed,
                    run.spec.fold.part[0] if run.spec.fold.part else 0,
                    _only(_of(run), selection=selection),
                )
                for run in self._runs(selection)
                if (run.spec.method, run.spec.fold.name) == (method, held_out) and run.spec.identity in self.whole
            ]
        splits = dict.fromkeys(name for _, _, table in tables for name in table["split"].unique().to_pylist())
        return {
            name: gathered([(seed, part, _only(table, split=name)) for seed, part, table in tables]) for name in splits
        }

    def fitted(self, selection: str, method: str, held_out: str) -> dict[int, dict[str, Any]]:
        """By seed, what was fitted on the calibration patients; empty where no run has written it."""
        found = {}
        for run in self._runs(selection):
            path = run.folder / CALIBRATION
            here = (run.spec.method, run.spec.fold.name) == (method, held_out) and run.spec.identity in self.whole
            if not here or run.spec.fold.part is not None or not path.is_file():
                continue
            with reading(path, AGAIN):
                content = _content(path, (run.done or {}).get("files", {}).get(CALIBRATION))
                found[run.spec.seed] = dict(json.loads(content).get(selection, {}))
        return {seed: of for seed, of in found.items() if of}

    def _runs(self, selection: str) -> list[Run]:
        return [run for run in self.runs if selection in run.spec.selection]

    def _column(self, selection: str, name: str) -> list[str]:
        return list(self.results.loc[self.results["selection"] == selection, name]) if self.evaluation else []


def load(folder: Path | str) -> Loaded:
    """Open the folder of a benchmark or of an evaluation.

    Raises:
        RunError: there is none, or one of its files is missing or damaged; names it.
    """
    folder = Path(folder)
    if not (folder / "plan.json").is_file():
        raise RunError(f"{folder}: no benchmark here (no plan.json); run 'elsewhere benchmark' first")
    question, specs = read_plan(folder)
    if question.get(BEING_WRITTEN):
        raise RunError(f"{folder}: an evaluation was stopped while its tables were written; {JUDGE_AGAIN}")
    judged_again = [JUDGE_AGAIN] if question.get("kind") == EVALUATION else []
    whole = usable(folder, specs)
    if specs and not (folder / RESULTS).is_file():  # interrupted before its first table
        write_tables(folder, specs)
    results = read_results(folder, *judged_again)
    if specs and _behind(results, whole):  # interrupted since
        write_tables(folder, specs)
        results = read_results(folder)
    table = _covariates(folder / COVARIATES, *judged_again)
    classified = table is not None and question["task"] == "classification" and {"site", "label"} <= set(table)
    return Loaded(
        folder,
        question,
        tuple(_run(folder, spec) for spec in specs),
        frozenset(spec.identity for spec in whole),
        results,
        None if table is None else table.drop(columns=[name for name in ("patient", "site") if name in table]),
        _notes(folder / NOTES),
        tuple(zip(table["site"], table["label"], strict=True)) if classified and table is not None else (),
    )


def is_evaluation(folder: Path) -> bool:
    """A folder of `elsewhere evaluate`, be it half written; False where there is nothing, or anything else."""
    try:
        return bool(json.loads((folder / "plan.json").read_text(encoding="utf-8"))["kind"] == EVALUATION)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_plan(out: Path) -> tuple[dict[str, Any], list[RunSpec]]:
    """`plan.json` of a benchmark's folder, and its runs."""
    with reading(out / "plan.json"):
        question: dict[str, Any] = json.loads((out / "plan.json").read_text(encoding="utf-8"))
        return question, [RunSpec.from_dict(run["spec"]) for run in question["runs"]]


def read_results(out: Path, *remedy: str) -> pd.DataFrame:
    """`results.csv`; a site or a class may be called "NA". `remedy`: for a benchmark's where none."""
    text = {name: str for name in ("method", "held_out", "seed", "selection", "split", "class", "metric")}
    empty = {name: ["", "nan"] for name in ("value", "lo", "hi")}
    with reading(out / RESULTS, *remedy):
        return pd.read_csv(out / RESULTS, dtype=text, keep_default_na=False, na_values=empty)[COLUMNS]


def _behind(results: pd.DataFrame, whole: Iterable[RunSpec]) -> bool:
    """The runs of a table of results are not those that are finished now."""
    keys = ["method", "held_out", "seed", "selection"]
    there = set(results.loc[results["seed"] != ALL, keys].itertuples(index=False, name=None))
    return there != {(one.method, one.fold.name, str(one.seed), rule) for one in whole for rule in one.selection}


def _run(folder: Path, spec: RunSpec) -> Run:
    where = folder / spec.folder
    done = read_done(where) if finished(where, spec) else None
    error = None
    if done is None and (where / "error.txt").is_file():
        error = (where / "error.txt").read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    return Run(spec, where, done, error)


def _notes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    with reading(path, JUDGE_AGAIN):
        return tuple(str(note) for note in json.loads(path.read_text(encoding="utf-8")))


def _covariates(path: Path, *remedy: str) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    with reading(path, *remedy):
        return pd.read_csv(path, dtype=str, keep_default_na=False).set_index("case")


def _of(run: Run) -> pa.Table:
    recorded = (run.done or {}).get("files", {})
    return _read(run.folder / PREDICTIONS, recorded.get(PREDICTIONS))


def _read(path: Path, digest: str | None, remedy: str = AGAIN) -> pa.Table:
    with reading(path, remedy):
        return pq.read_table(io.BytesIO(_content(path, digest)))


def _content(path: Path, digest: str | None) -> bytes:
    """The bytes of a file, which must be those that the run wrote; None: it wrote no hash."""
    content = path.read_bytes()
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise RunError(f"{path}: was changed since the run wrote it (its hash differs); {AGAIN}")
    return content


def _only(table: pa.Table, **wanted: str) -> pa.Table:
    keep = np.ones(table.num_rows, dtype=bool)
    for name, value in wanted.items():
        keep &= np.asarray(table[name].to_numpy(zero_copy_only=False) == value, dtype=bool)
    return table.filter(pa.array(keep))


@dataclass(frozen=True)
class Log:
    """What of a run's `log.csv` a page draws: (n, 2) steps and values, the last of each step."""

    loss: NDArray[np.float64]
    score: NDArray[np.float64]


def read_logs(runs: Iterable[Run]) -> dict[str, Log]:
    """Training loss and validation score by the run's identity, where there is a log.

    Raises:
        RunError: one is damaged.
    """
    logs = {}
    for run in runs:
        path = run.folder / "log.csv"
        try:
            table = pd.read_csv(path, keep_default_na=False, na_values={"value": ["nan"]}, dtype={"value": float})
            named = table["split"].astype(str).to_numpy() + "/" + table["name"].astype(str).to_numpy()
            pairs = table[["step", "value"]].to_numpy(dtype=np.float64)
        except (FileNotFoundError, pd.errors.EmptyDataError):  # interrupted before its first step
            continue
        except (OSError, ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
            raise RunError(f"{path}: is damaged; delete it and write the report again") from error
        logs[run.spec.identity] = Log(*(_last(pairs[named == name]) for name in ("train/loss", "validation/score")))
    return logs


def _last(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """A run that was restarted has logged some steps twice."""
    by_step = {step: value for step, value in pairs.tolist()}
    return np.array(sorted(by_step.items()), dtype=np.float64).reshape(-1, 2)
