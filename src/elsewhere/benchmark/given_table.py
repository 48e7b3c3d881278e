"""Probabilities, or labels, that somebody else's classifier gave: a table with a row a case."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.given_names import listed
from elsewhere.benchmark.sheets import PROBABILITY
from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.manifest import without_suffix

if TYPE_CHECKING:
    from elsewhere.study.study import Study

WHO = ("case", "image", "id")
"""Columns that may name the case, the first that is there."""

LABEL = ("prediction", "predicted")
"""Columns that may hold the label that was given, the first that is there; `label` is the truth, in a manifest."""

SINGLE = ("probability", "score")
"""Columns that may hold the probability of the second of two classes, besides its own name."""

NEED_PROBABILITIES = ("auroc", "average_precision", "brier", "ece")
"""Metrics that labels alone do not give."""

ROUNDED = 0.005
"""What rounding to two decimals takes from a probability: so far, for each class, may a row be from 1 (our choice)."""


@dataclass(frozen=True)
class Table:
    """What a table says of the cases of a study.

    Attributes:
        probabilities: case id -> (K,) that add up to 1; 0 and 1 where only labels were given.
        labels_only: the table gives no probabilities.
        missing: cases without a row.
        surplus: rows without a case, as the table names them.
        notes: how the table was understood.
    """

    probabilities: Mapping[str, NDArray[np.float64]]
    labels_only: bool
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    notes: tuple[str, ...]


def read_table(path: Path, study: Study, cases: Sequence[Case]) -> Table:
    """Read a CSV with a column `case` (or `image`), and a column a class, or one of labels.

    Class columns are called as the classes are, or `probability:CLASS`. For two classes one column is enough: that of
    either class, or `probability`, which is of the second. Labels (column `prediction`) are class names, or their
    numbers from 0.

    Args:
        path: the table.
        study: a classification.
        cases: those that are to be evaluated.

    Raises:
        StudyError: columns are missing, a row is named as no case or twice, a value is no probability and no class, or
            the column `probability` is of whichever class was predicted.
    """
    rows = _rows(path)
    columns = list(rows[0])
    who = next((name for name in WHO if name in columns), None)
    if who is None:
        raise StudyError(f"{path}: found the columns {', '.join(columns)}; wanted 'case' or 'image'")
    found_in = _class_columns(path, columns, study.classes)
    label = next((name for name in LABEL if name in columns), None)
    if not found_in and label is None:
        raise StudyError(
            f"{path}: found the columns {', '.join(columns)}; wanted one for each class ({', '.join(study.classes)})"
            f"{', or one of the two' if len(study.classes) == 2 else ''}, or 'prediction' for labels"
        )
    if label is not None:
        _require_of_one_class(path, rows, found_in, label)
    of_case = _names(study, cases)
    probabilities: dict[str, NDArray[np.float64]] = {}
    lines: dict[str, int] = {}
    surplus = []
    for line, row in enumerate(rows, start=2):
        name = row[who]
        case = of_case.get(name, of_case.get(without_suffix(name)))
        if case is None:
            surplus.append(name)
            continue
        if case == "":
            raise StudyError(f"{path} row {line}: '{name}' fits several cases; write the case's id")
        if case in lines:
            raise StudyError(f"{path} row {line}: case '{case}' is in row {lines[case]} too; wanted one row a case")
        lines[case] = line
        where = f"{path} row {line}"
        probabilities[case] = (
            _probabilities(where, row, found_in, len(study.classes))
            if found_in
            else _one_hot(where, row[label or ""], study.classes)
        )
    if not probabilities:
        raise StudyError(
            f"{path}: none of its {len(rows)} rows names a case of study {study.name}: found '{rows[0][who]}', wanted "
            f"such as '{cases[0].id}'"
        )
    missing = tuple(case.id for case in cases if case.id not in probabilities)
    return Table(probabilities, not found_in, missing, tuple(surplus), _notes(found_in, label, study.classes))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            names = [(name or "").strip() for name in reader.fieldnames or ()]
            rows = [{(key or "").strip(): (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path}: cannot be read as a table ({error}); wanted CSV in UTF-8") from error
    if not rows:
        raise StudyError(f"{path}: holds no rows; wanted one a case")
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice is not None:
        raise StudyError(f"{path}: has the column '{twice}' twice; keep one of them")
    return rows


def _class_columns(path: Path, columns: Sequence[str], classes: Sequence[str]) -> dict[int, str]:
    """Class index -> its column: all of them, or one of two; empty where there is none."""
    found = {
        index: name
        for index, label in enumerate(classes)
        for name in (PROBABILITY + label, label)  # the plain name goes first
        if name in columns and name not in WHO + LABEL
    }
    single = next((name for name in SINGLE if name in columns), None)
    if not found and single is not None and len(classes) == 2:
        found = {1: single}
    if found and len(found) < len(classes) and len(classes) > 2:
        without = [label for index, label in enumerate(classes) if index not in found]
        raise StudyError(f"{path}: there is no column for {listed(without)}; wanted one for each class of the study")
    return found


def _require_of_one_class(
    path: Path, rows: Sequence[Mapping[str, str]], columns: Mapping[int, str], label: str
) -> None:
    """Refuse a `probability` that is the larger of two beside both labels: it is of now one class and now the other."""
    single = next((name for name in columns.values() if name in SINGLE), None)
    if single is None or len({row[label] for row in rows}) < 2:
        return
    try:
        low = min(float(row[single]) for row in rows)
    except ValueError:
        return  # the row says it
    if low >= 0.5:
        raise StudyError(
            f"{path}: no '{single}' is below 0.5, and '{label}' names both classes: it seems to be that of the class "
            "that was predicted; wanted that of one class, in a column of its name"
        )


def _names(study: Study, cases: Sequence[Case]) -> dict[str, str]:
    """What a row may call a case -> its id; "" where several are called so."""
    names: dict[str, str] = {}

    def enter(name: str, case: Case) -> None:
        names[name] = case.id if names.get(name, case.id) == case.id else ""

    for case in cases:
        for name in dict.fromkeys(_image_names(case, study)):
            enter(name, case)
    return names | {case.id: case.id for case in cases}  # an id is a case's own, whatever else is called so


def _image_names(case: Case, study: Study) -> Iterator[str]:
    """Paths and names of its first image, and the last part of its id."""
    yield case.id.rpartition("/")[2]
    path = next(iter(case.images.values()), None)
    if path is None:
        return
    shown = [path.name, str(path)]
    if path.is_relative_to(study.root):
        shown.append(path.relative_to(study.root).as_posix())
    for name in shown:
        yield name
        yield without_suffix(name)


def _probabilities(where: str, row: Mapping[str, str], columns: Mapping[int, str], n: int) -> NDArray[np.float64]:
    values = np.zeros(n)
    for index, name in columns.items():
        try:
            values[index] = float(row[name])
        except ValueError:
            values[index] = math.nan
        if not 0 <= values[index] <= 1:
            raise StudyError(f"{where}: column '{name}' is '{row[name]}'; wanted a probability between 0 and 1")
    if len(columns) == 1:  # of two classes
        (index,) = columns
        values[1 - index] = 1 - values[index]
    if abs(values.sum() - 1) > ROUNDED * n + 1e-9:
        raise StudyError(
            f"{where}: the probabilities of the {n} classes add up to {values.sum():.4g}; wanted 1 (one class a case)"
        )
    normalised: NDArray[np.float64] = values / values.sum()
    return normalised


def _one_hot(where: str, label: str, classes: Sequence[str]) -> NDArray[np.float64]:
    if label in classes:
        index = classes.index(label)
    elif label.isdigit() and int(label) < len(classes):
        index = int(label)
    else:
        raise StudyError(f"{where}: label '{label}' is no class; wanted one of {', '.join(classes)}")
    row: NDArray[np.float64] = np.eye(len(classes))[index]
    return row


def _notes(columns: Mapping[int, str], label: str | None, classes: Sequence[str]) -> tuple[str, ...]:
    if not columns:
        return (
            f"labels were given (column '{label}') and no probabilities: what ranks cases or weighs confidence cannot "
            f"be computed ({', '.join(NEED_PROBABILITIES)}, operating points, calibration, risk against coverage)",
        )
    if len(columns) == 1:
        ((index, name),) = columns.items()
        return (f"column '{name}' was read as the probability of class '{classes[index]}'",)
    return ()
