"""The evaluation of a run, gathered into its tables: calibration, scores, cases to look at, findings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elsewhere.benchmark import examples
from elsewhere.benchmark.evaluate import Judge, Read, labelled, outlier_columns
from elsewhere.benchmark.scoring import Extras, Judged, case_rows, prediction_row
from elsewhere.benchmark.sheets import CALIBRATING, CALIBRATION, CASE_COLUMNS, CASES, PREDICTIONS
from elsewhere.deploy.calibration import MOST, Calibrated, calibrate
from elsewhere.deploy.predictor import Answer
from elsewhere.files import atomic, write_text
from elsewhere.study.case import Picture
from elsewhere.study.seal import Development

Tell = Callable[[str, int, int], None]
"""Takes stage, step and steps of an evaluation."""


@dataclass
class Sheets:
    """What a run writes about its cases, gathered over rules and splits."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    extras: Extras = field(default_factory=Extras)


def calibrate_judge(
    judge: Judge, development: Development, common: Mapping[str, Any], sheets: Sheets, tell: Tell
) -> Judge:
    """Look at the development once more: outlier statistics, temperature, and the calibration patients' own rows.

    Returns:
        The judge that knows what was found; where nothing could be, the same one, and the reason is written.
    """
    split, rows = development.split, {**common, "split": CALIBRATING}
    seen = 0

    def read(case: str) -> Any:
        nonlocal seen
        seen += 1
        tell("calibrating", seen, min(len(split.train), MOST) + len(split.calibration))
        return labelled(development, case)

    def look(answer: Answer, label: Picture | int) -> dict[str, Any]:
        return prediction_row(judge.score(answer, label), rows)

    def fit() -> Calibrated:
        # Operating points and prediction sets are the report's, from the calibration patients' rows.
        return calibrate(judge.predictor, read, split.train, split.calibration, look=look, operating=False)

    found = sheets.extras.attempt("calibration", fit, None)
    rule = common["selection"]
    sheets.calibration[rule] = fitted(found, sheets.extras.reasons.get("calibration"))
    if found is None:
        return judge
    sheets.predictions += [row.looked | outlier_columns(row.outlier) for row in found.rows]
    return replace(judge, statistics=found.statistics, temperature=found.temperature)


def fitted(found: Calibrated | None, why_not: str | None) -> dict[str, Any]:
    """What `calibration.json` says by one rule."""
    if found is None:
        return {"temperature": None, "n_patients": 0, "n_cases": 0, "reason": why_not, "outlier_threshold": None}
    threshold = found.statistics.threshold
    return {
        "temperature": found.temperature,
        "n_patients": found.n_patients,
        "n_cases": found.n_cases,
        "reason": found.reason,
        "outlier_threshold": threshold if threshold is not None and math.isfinite(threshold) else None,
    }


def judge_cases(
    judge: Judge, cases: Iterable[str], read: Read, common: Mapping[str, Any], sheets: Sheets, tell: Tell
) -> tuple[list[examples.Score], dict[int, int]]:
    """Score cases into the sheets; their primary scores, and class index -> number of cases that have it."""
    cases = list(cases)
    scores: list[examples.Score] = []
    present: dict[int, int] = {}
    for number, judged in enumerate(judge.judge(cases, read), start=1):
        sheets.cases += case_rows(judged, common)
        sheets.predictions.append(prediction_row(judged, common))
        for index in _classes_in(judged):
            present[index] = present.get(index, 0) + 1
        score = examples.score_of(judged, judge.model.task.primary, judge.classes)
        scores.append(examples.Score(judged.stored.case.id, score))
        tell(f"scoring {common['split']}", number, len(cases))
    return scores, present


def draw_examples(
    judge: Judge, scores: Iterable[examples.Score], read: Read, common: Mapping[str, Any], folder: Path
) -> None:
    """The best, the median and the worst case, predicted once more: to keep pictures of all would take much memory."""
    chosen = examples.choose(scores)
    again = replace(judge, distances=False, extras=None)
    cases = list(dict.fromkeys(one.case for one in chosen.values()))
    drawn = {
        judged.stored.case.id: examples.thumbnail(judged, judge.model.task.primary, judge.classes)
        for judged in again.judge(cases, read)
    }
    save_to = folder / "examples" / common["selection"]
    # The score is the table's: of a batch of other cases it may differ by rounding.
    kept = {name: replace(drawn[one.case], score=one.score) for name, one in chosen.items()}
    examples.save(kept, save_to, dict(common))


def _classes_in(judged: Judged) -> list[int]:
    if isinstance(judged.truth, int):
        return [judged.truth]
    return [int(index) for index in np.flatnonzero(np.bincount(judged.truth.ravel()))]


def new_classes(development: Development, present: dict[int, int], classes: tuple[str, ...]) -> list[str]:
    """Classes that the held-out site has and no development case: a finding about the sites, not an error."""
    known = {index for index, name in enumerate(classes) if name not in development.unseen_classes}
    for case in development.case_ids:
        if known >= set(present):
            break  # nothing more to find; most studies end before the first case
        label = development.load(case).label
        known |= {label} if isinstance(label, int) else set() if label is None else set(np.unique(label).tolist())
    return [
        f"class '{classes[index]}' is in {present[index]} held-out cases and in no development case: they stay in the "
        "evaluation and count as they fall"
        for index in sorted(set(present) - known)
    ]


def write_sheets(folder: Path, sheets: Sheets) -> None:
    """Write the tables of a run.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    with atomic(folder / CASES) as temporary:
        pd.DataFrame(sheets.cases, columns=CASE_COLUMNS).to_csv(temporary, index=False)
    with atomic(folder / PREDICTIONS) as temporary:
        pd.DataFrame(sheets.predictions).to_parquet(temporary, index=False)
    write_text(folder / CALIBRATION, json.dumps(sheets.calibration, indent=1))
