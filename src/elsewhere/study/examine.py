"""What `study check` does with one row, in a worker process: open every file, and say all that is wrong with it.

Only numbers and short texts go back to the parent: pixels stay here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.case import Case, Geometry
from elsewhere.study.config import MaskPlace
from elsewhere.study.grey import one_grey_channel
from elsewhere.study.likeness import digest, fine_vector, fingerprint
from elsewhere.study.palette import Colours
from elsewhere.study.problem import Problem
from elsewhere.study.reading import GridError, label_values, read_colours, read_image, read_label, read_map, size

MOST_VALUES = 256
"""Values of one mask that are reported to the parent; a mask with more is no label."""


@dataclass(frozen=True)
class Row:
    """A case to examine; `where` is its row in the words of the report, `root` the study's folder."""

    index: int
    case: Case
    where: str
    root: str
    masks: bool
    place: MaskPlace = "header"


@dataclass(frozen=True)
class Findings:
    """What one row turned out to be. Without an image that could be read, all but `problems` is empty.

    Attributes:
        digest, hash, thumbnail: of the image's pixels (`likeness`), as bytes; None for images without content.
        values: of the mask, at most `MOST_VALUES` of them.
        colours: behind these values, where the mask's file has a palette (`palette.colours_of`).
    """

    index: int
    problems: tuple[Problem, ...]
    n_channels: int = 0
    dims: int = 0
    digest: bytes | None = None
    hash: bytes = b""
    thumbnail: bytes = b""
    values: tuple[int, ...] = ()
    colours: Colours = field(default_factory=dict)


def examine_rows(rows: list[Row]) -> list[Findings]:
    """Examine a chunk of rows."""
    return [examine(row) for row in rows]


def examine(row: Row) -> Findings:
    """Open the image, the mask and the maps of one row."""
    problems: list[Problem] = []
    case = row.case

    def add(severity: Literal["error", "warning"], code: str, message: str) -> None:
        problems.append(Problem(severity, code, row.where, message))

    def attempt(read: Callable[[], Any], what: str, path: Path) -> Any:
        try:
            return read()
        except GridError as error:
            add(
                "error",
                "grid",
                f"{what} '{_short(path, row.root)}' {error.found}, its image {_names(row)} {error.wanted}",
            )
        except StudyError as error:
            code = "missing" if isinstance(error.__cause__, FileNotFoundError) else "unreadable"
            add("error", code, f"{what} {str(error).replace(row.root + os.sep, '')}")
        return None

    picture = attempt(partial(read_image, case.images), "image", next(iter(case.images.values())))
    reference: Geometry | None = picture.geometry if picture is not None else None
    values: tuple[int, ...] = ()
    colours: Colours = {}
    if row.masks and isinstance(case.label, Path):
        path = case.label
        label = attempt(partial(read_label, path, reference, row.place), "label", path)
        if label is not None:
            values = tuple(sorted(label_values(label.array))[:MOST_VALUES])
            for note in label.notes:
                add("warning", "adjusted", f"label '{_short(path, row.root)}': {note}")
            colours = read_colours(path)
    for name, path in case.maps.items():
        found = attempt(partial(read_map, path, reference), f"map:{name}", path)
        if found is not None and not np.isfinite(found.array).all():
            add("error", "not-finite", f"map:{name} '{_short(path, row.root)}' holds NaN or Inf; wanted finite values")
    if picture is None:
        return Findings(row.index, tuple(problems), values=values, colours=colours)
    array = picture.array
    content = _content(row, array, add)
    n_channels = len(one_grey_channel(array, len(case.images)))
    if not content:
        return Findings(row.index, tuple(problems), n_channels, array.ndim - 1, values=values, colours=colours)
    code, thumbnail = fingerprint(array)
    return Findings(
        row.index,
        tuple(problems),
        n_channels,
        array.ndim - 1,
        digest(array),
        code.tobytes(),
        thumbnail.tobytes(),
        values,
        colours,
    )


def _content(row: Row, array: NDArray[Any], add: Callable[[Literal["error", "warning"], str, str], None]) -> bool:
    """Report NaN, Inf and constant channels; tell whether there is anything to compare with other images."""
    shown = f"image {_names(row)}"
    if array.size == 0:
        add("error", "empty-image", f"{shown} has no pixels ({size(array.shape[1:])})")
        return False
    if array.dtype.kind == "f":
        wrong = int(array.size - np.isfinite(array).sum())
        if wrong:
            add("error", "not-finite", f"{shown} holds {wrong} values that are NaN or Inf; wanted finite intensities")
    flat = array.reshape(len(array), -1)
    constant = [k for k in range(len(flat)) if flat[k].min() == flat[k].max()]
    if len(constant) == len(flat):
        same = "" if len({flat[k, 0].item() for k in constant}) > 1 else f" ({flat[0, 0].item():g} everywhere)"
        add("error", "empty-image", f"{shown} is constant{same}; remove the row or find the image")
        return False
    if constant:
        names = list(row.case.images)
        which = [names[k] if len(names) == len(flat) else str(k) for k in constant]
        add("warning", "empty-channel", f"{shown} is constant in channel {', '.join(which)}")
    return True


def fine_thumbnails(images: list[tuple[int, Mapping[str, Path]]]) -> list[tuple[int, bytes | None]]:
    """Give the fine views of images as float16 bytes, by index; None where a file cannot be read any more."""
    views: list[tuple[int, bytes | None]] = []
    for index, paths in images:
        try:
            views.append((index, fine_vector(read_image(paths).array).astype(np.float16).tobytes()))
        except StudyError:
            views.append((index, None))
    return views


def _names(row: Row) -> str:
    return " + ".join(f"'{_short(path, row.root)}'" for path in row.case.images.values())


def _short(path: Path, root: str) -> str:
    return str(path).removeprefix(root + os.sep)
