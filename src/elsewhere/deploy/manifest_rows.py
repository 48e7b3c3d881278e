"""A study as a list of images to predict: of its manifest, only the columns of images and `case` are looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.manifest import MANIFEST_NAME, read_rows, without_suffix


@dataclass(frozen=True)
class Row:
    """One row: its images in the order of the model's channels.

    Attributes:
        manifest, number: where it stands; the header is row 1.
        case: the column `case`, or the path of the first image without its suffix.
        named: whether it is the column.
        images: file of each channel.
        problem: why it cannot be predicted.
    """

    manifest: Path
    number: int
    case: str
    named: bool
    images: Mapping[str, Path]
    problem: str | None = None

    @property
    def where(self) -> str:
        """`manifest.csv row 7`."""
        return f"{self.manifest.name} row {self.number}"


def is_study(path: Path) -> bool:
    """Tell whether a path is a manifest, or a folder with one."""
    return (path / MANIFEST_NAME).is_file() or (path.suffix.lower() == ".csv" and path.is_file())


def find_rows(path: Path, channels: Sequence[str], allow_outside: bool) -> list[Row]:
    """List the rows of a study; labels, sites and patients may be absent.

    Args:
        path: a folder with `manifest.csv`, or a manifest.
        channels: of the model; columns `image:NAME` are brought into their order.
        allow_outside: take paths that leave the manifest's folder.

    Raises:
        StudyError: no columns of images, other channels than the model's, or an id twice.
    """
    manifest = path / MANIFEST_NAME if path.is_dir() else path
    header, rows = read_rows(manifest)
    columns = _image_columns(manifest, header, channels)
    case_column = header.index("case") if "case" in header else None
    found: list[Row] = []
    numbers: dict[str, int] = {}
    for number, cells in rows:
        row = _row(manifest, number, [cell.strip() for cell in cells], header, columns, case_column, allow_outside)
        first = numbers.setdefault(row.case, number)
        if first != number:
            what = f"case '{row.case}'" if row.named else "an image of this name"  # which may name a patient
            raise StudyError(f"{manifest.name} row {number}: {what} is already in row {first}")
        found.append(row)
    return found


def _image_columns(manifest: Path, header: Sequence[str], channels: Sequence[str]) -> dict[str, int]:
    """Column of each channel, in the order of the model."""
    columns = {
        name.removeprefix("image").removeprefix(":").strip() or "image": index
        for index, name in enumerate(header)
        if name == "image" or name.startswith("image:")
    }
    if not columns:
        raise StudyError(f"{manifest.name}: has no column 'image' or 'image:NAME'; found: {', '.join(header)}")
    if len(columns) == 1:
        return columns
    if sorted(columns) != sorted(channels):
        raise StudyError(
            f"{manifest.name}: has the channels {', '.join(columns)}; the model takes {', '.join(channels)}"
        )
    return {name: columns[name] for name in channels}


def _row(
    manifest: Path,
    number: int,
    cells: list[str],
    header: Sequence[str],
    columns: Mapping[str, int],
    case_column: int | None,
    allow_outside: bool,
) -> Row:
    where = f"{manifest.name} row {number}"

    def broken(reason: str) -> Row:
        return Row(manifest, number, f"row-{number}", False, {}, f"{where}: {reason}")

    if len(cells) != len(header):
        return broken(f"has {len(cells)} cells, the header has {len(header)}; quote cells that hold a comma")
    root = str(manifest.parent)
    images = {}
    for name, index in columns.items():
        cell = cells[index]
        if not cell:
            return broken(f"{header[index]} is empty; fill it in or remove the row")
        full = os.path.normpath(os.path.join(root, cell))
        if not allow_outside and not full.startswith(root.rstrip(os.sep) + os.sep) and full != root:
            return broken(f"{header[index]} leaves the study's folder; move the file into it, or pass --allow-outside")
        images[name] = Path(full)
    named = case_column is not None and bool(cells[case_column])
    first = os.path.normpath(cells[next(iter(columns.values()))]).replace(os.sep, "/")
    return Row(
        manifest,
        number,
        cells[case_column] if case_column is not None and named else without_suffix(first),
        named,
        images,
    )
