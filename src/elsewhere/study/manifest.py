"""`manifest.csv`: rows into cases, and every problem that can be seen without opening an image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.problem import Problem
from elsewhere.study.reading import DICOMS
from elsewhere.study.suspicions import crowded_patients, similar_spellings
from elsewhere.wording import did_you_mean

MANIFEST_NAME = "manifest.csv"

# A label with one of these endings, or with a slash, is meant as a file even where the file is missing.
SUFFIXES: tuple[str, ...] = (
    *(".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm"),
    *(".nrrd", ".mha", ".mhd", ".gif", ".webp", ".npy"),
)


@dataclass(frozen=True)
class Manifest:
    """A manifest, parsed.

    Attributes:
        path: of the file, absolute.
        cases: rows without an error, in the order of the file.
        problems: everything wrong with rows.
        task: as told, or "segmentation" / "classification" after the labels, or None where no row has a label.
        channels, maps, covariates: names, in the order of the columns.
    """

    path: Path
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    task: str | None
    channels: tuple[str, ...]
    maps: tuple[str, ...]
    covariates: tuple[str, ...]


@dataclass
class _Columns:
    """Which cell of a row is what: name -> index."""

    images: dict[str, int] = field(default_factory=dict)
    maps: dict[str, int] = field(default_factory=dict)
    covariates: dict[str, int] = field(default_factory=dict)
    label: int = -1
    site: int = -1
    site_name: str = "site"
    patient: int | None = None
    case: int | None = None


def parse_manifest(
    path: Path, *, task: str | None = None, site_column: str | None = None, allow_outside: bool = False
) -> tuple[tuple[Case, ...], list[Problem]]:
    """The cases of a manifest and all problems of its rows; see `read_manifest`."""
    manifest = read_manifest(path, task=task, site_column=site_column, allow_outside=allow_outside)
    return manifest.cases, list(manifest.problems)


def read_manifest(
    path: Path, *, task: str | None = None, site_column: str | None = None, allow_outside: bool = False
) -> Manifest:
    """Parse a manifest without opening the files it names.

    Whether a path leaves the folder is decided by its text; a symbolic link inside the folder is the owner's word.

    Args:
        path: of the csv file.
        task: whether labels are paths or class names; decided from the labels where None.
        site_column: the column that is the site instead of `site`, which then becomes a covariate.
        allow_outside: take paths that leave the manifest's folder.

    Raises:
        StudyError: the file as a whole is not a manifest (unreadable, not UTF-8, a column missing, no rows).
    """
    path = Path(os.path.abspath(path))
    header, rows = read_rows(path)
    columns = _find_columns(path.name, header, site_column)
    problems: list[Problem] = []
    whole = []
    for number, row in rows:
        if len(row) == len(header):
            whole.append((number, [cell.strip() for cell in row]))
        else:
            message = f"has {len(row)} cells, the header has {len(header)}; quote cells that hold a comma"
            problems.append(Problem("error", "cells", f"{path.name} row {number}", message))
    root = str(path.parent)
    seen = task_of_labels([row[columns.label] for _, row in whole], root)
    if task == "classification" and seen == "segmentation":
        example = next(row[columns.label] for _, row in whole if row[columns.label])
        raise StudyError(
            f"{path.name}: the task is classification, but column 'label' holds files such as '{example}'; wanted "
            "class names, or 'task: segmentation' in study.yaml"
        )
    task = task or seen
    builder = _Builder(path.name, root, columns, task, allow_outside, problems)
    cases = [case for number, row in whole if (case := builder.case(number, row)) is not None]
    if columns.patient is None:
        message = "has no column 'patient': each case is taken as a patient of its own; add it if patients repeat"
        problems.append(Problem("warning", "no-patient-column", path.name, message))
    problems += [*similar_spellings(path.name, cases), *crowded_patients(path.name, cases)]
    problems.sort(key=lambda problem: problem.severity)  # errors first, otherwise in the order of the file
    return Manifest(
        path,
        tuple(cases),
        tuple(problems),
        task,
        tuple(columns.images),
        tuple(columns.maps),
        tuple(columns.covariates),
    )


def task_of_labels(labels: Sequence[str], root: str) -> str | None:
    """Masks or class names? Masks if a label exists as a file, or if most look like one; None without labels."""
    given = [label for label in labels if label]
    if not given:
        return None
    # What follows `#` selects a series or segments within a DICOM file (see `reading`).
    sample = [label.rpartition("#")[0] or label for label in given[:: max(1, len(given) // 100)]]
    if any(os.path.exists(os.path.join(root, label)) for label in sample):
        return "segmentation"
    like_files = sum(label.lower().endswith((*SUFFIXES, *DICOMS)) for label in sample)
    return "segmentation" if 2 * like_files > len(sample) else "classification"


def without_suffix(path: str) -> str:
    """`images/a.nii.gz` -> `images/a`."""
    lowered = path.lower()
    for suffix in SUFFIXES:
        if lowered.endswith(suffix):
            return path[: -len(suffix)]
    return path


@dataclass
class _Builder:
    """Makes cases of rows and writes down what is wrong with them."""

    name: str
    root: str
    columns: _Columns
    task: str | None
    allow_outside: bool
    problems: list[Problem]
    rows_by_id: dict[str, int] = field(default_factory=dict)

    def case(self, number: int, row: list[str]) -> Case | None:
        """The case of a row, or None where the row has an error."""
        columns = self.columns
        before = len(self.problems)
        images = {name: self._path(number, _column("image", name), row[i]) for name, i in columns.images.items()}
        for name, index in columns.images.items():
            self._need(number, _column("image", name), row[index])
        self._need(number, columns.site_name, row[columns.site])
        patient = None
        if columns.patient is not None:
            patient = row[columns.patient]
            self._need(number, "patient", patient)
        label: Path | str | None = row[columns.label] or None
        if label is None:
            self._add("warning", "no-label", number, "label is empty; the case will not be trained on or scored")
        elif self.task == "segmentation":
            label = self._path(number, "label", row[columns.label])
            if label in images.values():
                self._add(
                    "error",
                    "label-is-image",
                    number,
                    f"label '{row[columns.label]}' is the image itself; wanted its mask",
                )
        maps = {name: self._path(number, f"map:{name}", row[i]) for name, i in columns.maps.items() if row[i]}
        if columns.case is not None:
            identifier = row[columns.case]
            self._need(number, "case", identifier)
        else:
            identifier = without_suffix(os.path.normpath(row[next(iter(columns.images.values()))]).replace(os.sep, "/"))
        self._unique(number, identifier)
        if any(problem.severity == "error" for problem in self.problems[before:]):
            return None
        return Case(
            id=identifier,
            images=images,
            label=label,
            site=row[columns.site],
            patient=patient or identifier,
            maps=maps,
            covariates={name: row[i] or None for name, i in columns.covariates.items()},
            row=number,
        )

    def _path(self, number: int, column: str, cell: str) -> Path:
        full = os.path.normpath(os.path.join(self.root, cell))
        if not self.allow_outside and full != self.root and not full.startswith(self.root.rstrip(os.sep) + os.sep):
            message = (
                f"{column} '{cell}' leaves the study's folder; move the file into it, or pass --allow-outside "
                "(allow_outside=True)"
            )
            self._add("error", "outside", number, message)
        return Path(full)

    def _need(self, number: int, column: str, cell: str) -> None:
        if not cell:
            self._add("error", "empty-cell", number, f"{column} is empty; fill it in or remove the row")

    def _unique(self, number: int, identifier: str) -> None:
        first = self.rows_by_id.setdefault(identifier, number)
        if first != number and identifier:
            remedy = "make it unique" if self.columns.case is not None else "add a column 'case' with unique names"
            message = f"case '{identifier}' is already in row {first}; remove one of the rows, or {remedy}"
            self._add("error", "duplicate-id", number, message)

    def _add(self, severity: Any, code: str, number: int, message: str) -> None:
        self.problems.append(Problem(severity, code, f"{self.name} row {number}", message))


def read_rows(path: Path, delimiter: str = ",") -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (row number, cells) of each row that is not blank; the header is row 1."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StudyError(f"{path} line {line}: is not UTF-8 text; save the file as 'CSV UTF-8'") from error
    if "\0" in text:
        raise StudyError(f"{path}: holds NUL bytes and is no CSV text; save the file as 'CSV UTF-8'")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows = [(number, row) for number, row in enumerate(reader, start=1) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise StudyError(f"{path} line {reader.line_num}: is not valid CSV ({error})") from error
    if not rows:
        raise StudyError(f"{path}: is empty; wanted a header with the columns image, label, site, patient")
    header = [name.strip() for name in rows[0][1]]
    if len(rows) == 1:
        raise StudyError(f"{path}: has a header but no rows; add a row for each case")
    return header, rows[1:]


def _find_columns(name: str, header: list[str], site_column: str | None) -> _Columns:
    for index, column in enumerate(header):
        if not column:
            raise StudyError(f"{name}: column {index + 1} has no name; name it or remove it")
        if column in header[:index]:
            raise StudyError(f"{name}: column '{column}' is there twice; rename or remove one")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise StudyError(f"{name}: cells seem to be separated by {';' if ';' in header[0] else 'tabs'}, wanted commas")
    site = site_column or "site"
    if site_column is not None:
        if site_column not in header:
            raise StudyError(
                f"{name}: has no column '{site_column}' to be the site{did_you_mean(site_column, header)}; "
                f"found: {', '.join(header)}"
            )
        if site_column == "label" or site_column.split(":")[0] in ("image", "map"):
            raise StudyError(f"{name}: column '{site_column}' cannot be the site; choose a covariate")
    columns = _Columns(site_name=site)
    for index, column in enumerate(header):
        if column == site:
            columns.site = index
        if column == "patient":
            columns.patient = index
        elif column == site:
            pass
        elif column == "image" or column.startswith("image:"):
            columns.images[column.removeprefix("image").removeprefix(":").strip() or "image"] = index
        elif column.startswith("map:"):
            columns.maps[column.removeprefix("map:").strip()] = index
        elif column == "label":
            columns.label = index
        elif column == "case":
            columns.case = index
        else:
            columns.covariates[column] = index
    missing = [
        wanted
        for wanted, there in (("image", columns.images), ("label", columns.label >= 0), (site, columns.site >= 0))
        if not there
    ]
    if missing:
        hint = did_you_mean(missing[0], header)
        raise StudyError(f"{name}: has no column '{missing[0]}'{hint}; found: {', '.join(header)}")
    if "image" in header and len(columns.images) > 1:
        raise StudyError(f"{name}: has 'image' and 'image:NAME' columns; name every channel as 'image:NAME'")
    return columns


def _column(kind: str, name: str) -> str:
    return kind if name == kind else f"{kind}:{name}"
