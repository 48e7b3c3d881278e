"""What a model is run on: files, folders, DICOM series and studies, each case with a name of its own.

A case of a DICOM series is called `series-0001`, ...: neither its folder nor its files are named, in a table or in a
message, for they are often called after the patient. Only with `keep_ids` they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elsewhere.deploy.case_names import Names
from elsewhere.deploy.dicom_series import Series, digest, files_at, read_series, scan, without_paths
from elsewhere.deploy.looking import OTHERS, Heap, look, notes
from elsewhere.deploy.manifest_rows import Row
from elsewhere.errors import StudyError
from elsewhere.study.case import Case, Picture, StoredCase
from elsewhere.study.decode import usable_image
from elsewhere.study.entry import intensity_statistics
from elsewhere.study.grey import fits_as_grey
from elsewhere.study.manifest import without_suffix
from elsewhere.study.reading import (
    DICOMS,
    file_format,
    read_image,
    size,
    split_selection,
)
from elsewhere.study.resample import resize, target_geometry, to_canonical

if TYPE_CHECKING:
    from elsewhere.study.preprocessing import Preprocessing

SERIES, UNREADABLE = "series", "unreadable"

MASKS, PROBABILITIES = "masks", "probabilities"
"""Folders that a prediction writes into."""


@dataclass(frozen=True)
class Input:
    """One case to predict; nothing but its headers was read.

    Attributes:
        case: its name in the table, and of its files.
        shown: what the column `input` says of where it comes from.
        images: file of each channel; empty for a DICOM series that is not of a manifest.
        series: that series.
        fingerprint: "which-state": two hashes, of which image it is and of the state of its files (names, sizes,
            times; instances). A row with the same fingerprint is of the same files.
        problem: why it cannot be predicted, where that is known already.
        dicom: an output is a DICOM object.
        private: its paths are not to be told.
        series_uid: SeriesInstanceUID, where it may be told.
    """

    case: str
    shown: str
    images: Mapping[str, Path]
    fingerprint: str
    series: Series | None = None
    problem: str | None = None
    dicom: bool = False
    private: bool = False
    series_uid: str = ""


@dataclass(frozen=True)
class Found:
    """The cases of a command in order, and a sentence for whatever was passed over."""

    inputs: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def find_inputs(
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    *,
    known: Mapping[str, str],
    out: Path | None = None,
    keep_ids: bool = False,
    allow_outside: bool = False,
) -> Found:
    """List the cases that some paths name.

    Args:
        paths: image files, DICOM files, folders (walked, hidden ones apart), `FOLDER#SeriesInstanceUID`, folders with
            `manifest.csv`, or manifests.
        preprocessing: of the model: a 2D model takes every DICOM file as an image of its own.
        known: names that cases have already, by the first half of their fingerprint: they keep them.
        out: a folder of predictions: what is written there is no input.
        keep_ids: call DICOM cases by their paths in column `input`.
        allow_outside: take paths of a manifest that leave its folder.

    Raises:
        StudyError: a path is not there or no image, or there is nothing at all.
    """
    ours = () if out is None else (out, out / MASKS, out / PROBABILITIES)  # `out` may be a folder of inputs
    heap = Heap()
    for path in paths:
        look(Path(os.path.abspath(path.expanduser())), heap, preprocessing.channels, ours, allow_outside)
    names = Names(known)
    inputs = [_of_file(wanted, path, names) for wanted, path in heap.files]
    inputs += [_of_broken(path, reason, names, keep_ids) for path, reason in heap.broken]
    inputs += [_of_row(row, names, keep_ids) for row in heap.rows]
    seen = scan(list(dict.fromkeys(heap.dicom)), singly=preprocessing.dims == 2)
    inputs += [_of_broken(path, reason, names, keep_ids) for path, reason in seen.unreadable]
    inputs += [_of_series(series, names, keep_ids) for series in seen.series]
    unique = tuple({found.fingerprint: found for found in inputs}.values())
    if not unique:
        raise StudyError(f"{', '.join(map(str, paths))}: no image here; wanted PNG, JPEG, TIFF, NIfTI or DICOM")
    return Found(unique, tuple(notes(heap, seen)))


def read_input(found: Input, preprocessing: Preprocessing) -> StoredCase:
    """Read one case onto the grid of the network; no cache keeps it.

    Raises:
        StudyError: unreadable, a slice missing, or not what the model takes.
    """
    if found.problem is not None:
        raise StudyError(found.problem)
    if found.series is not None:
        picture = read_series(found.series, found.case)
    else:
        try:
            picture = read_image(found.images)
        except StudyError as error:
            if not found.private:
                raise
            raise StudyError(nameless(found, str(error))) from None
    return stored_case(picture, found.case, preprocessing, n_files=max(1, len(found.images)))


def nameless(found: Input, message: str) -> str:
    """A message about a case, without the paths and UIDs that are not to be told."""
    if not found.private:
        return message
    own = [] if found.series is None else found.series.files
    files = [file for path in found.images.values() for file in [path, *_files_of(path)]]
    return without_paths(message, [*own, *files], found.case)


def stored_case(picture: Picture, name: str, preprocessing: Preprocessing, n_files: int = 1) -> StoredCase:
    """Bring an image onto the grid of the network, as the cache of a study does.

    Args:
        picture: (C, *spatial) in the file's axes, and where they lie.
        name: of the case.
        preprocessing: of the model.
        n_files: that the picture was read from; one grey photograph fits a model of colour images.

    Raises:
        StudyError: another number of dimensions or channels than the model takes, or NaN.
    """
    wanted, dims = preprocessing.channels, len(picture.geometry.shape)
    image = usable_image(picture.array, n_files, name)
    if dims != preprocessing.dims:
        raise StudyError(
            f"{name}: the image is {dims}D ({size(picture.geometry.shape)}); the model takes images in "
            f"{preprocessing.dims}D"
        )
    grey = n_files == 1 and fits_as_grey(len(image), len(wanted), dims)
    if len(image) != len(wanted) and not grey:
        one = "several files a case come by a manifest with columns 'image:NAME'"
        raise StudyError(
            f"{name}: the image has {len(image)} channel{'s' * (len(image) > 1)}; the model takes {len(wanted)} "
            f"({', '.join(wanted)}); {one}"
        )
    image, geometry = to_canonical(image, picture.geometry)
    grid = target_geometry(geometry, preprocessing.size, preprocessing.spacing)
    if grid is not geometry:
        image = resize(image, grid.shape)
    mean, std = intensity_statistics(image)
    if grey:
        image, mean, std = np.broadcast_to(image, (len(wanted), *grid.shape)), mean * len(wanted), std * len(wanted)
    case = Case(id=name, images={}, label=None, site="", patient=name)
    return StoredCase(case, image, None, {}, grid, picture.geometry, mean, std)


# ---- cases


def _of_file(wanted: str, path: Path, names: Names) -> Input:
    identity = digest(str(path))
    return Input(names.of(identity, wanted), str(path), {"image": path}, f"{identity}-{_state(_files_of(path))}")


def _of_series(series: Series, names: Names, keep_ids: bool) -> Input:
    name = names.numbered(series.identity, SERIES)
    folder = series.files[0] if len(series.files) == 1 else series.files[0].parent
    return Input(
        name,
        str(folder) if keep_ids else name,
        {},
        f"{series.identity}-{series.content}",
        series=series,
        dicom=True,
        private=not keep_ids,
        series_uid=series.uid if keep_ids else "",
    )


def _of_row(row: Row, names: Names, keep_ids: bool) -> Input:
    first = next(iter(row.images.values()), None)
    dicom = first is not None and _is_dicom(first)
    private = not keep_ids and any(_may_be_dicom(path) for path in row.images.values())
    numbered = private and not row.named
    # A row that is put before others shall not take their names: only those that have no other are known by place.
    place = ("row", str(row.number)) if numbered or first is None else ("case", row.case)
    identity = digest(str(row.manifest), *place)
    name = names.numbered(identity, SERIES) if numbered else names.of(identity, row.case)
    shown = row.where if private or first is None else str(first)
    chosen = [str(path) for path in row.images.values()]  # with the series that is meant
    state = digest(*chosen, _state([file for path in row.images.values() for file in _files_of(path)]))
    return Input(name, shown, row.images, f"{identity}-{state}", problem=row.problem, dicom=dicom, private=private)


def _of_broken(path: Path, reason: str, names: Names, keep_ids: bool) -> Input:
    """A file that is meant as an image and is none. One that is meant as DICOM has no name of its own."""
    told = keep_ids or not path.name.lower().endswith(DICOMS)
    state = _state([path])
    identity = digest(str(path)) if told else digest(UNREADABLE, state)
    name = names.of(identity, without_suffix(path.name)) if told else names.numbered(identity, UNREADABLE)
    shown = str(path) if told else name
    problem = f"{shown}: {reason}" if told else f"{name}: a file of this folder {reason}"
    return Input(name, shown, {}, f"{identity}-{state}", problem=problem, private=not told)


def _is_dicom(path: Path) -> bool:
    try:
        return file_format(path) == "dicom"
    except StudyError:
        return False  # reading it will say what is wrong


def _may_be_dicom(path: Path) -> bool:
    """It is DICOM, or is not there and might have been: its name has the ending of no other format."""
    return _is_dicom(path) or not split_selection(path)[0].name.lower().endswith(OTHERS)


def _files_of(path: Path) -> list[Path]:
    return files_at(split_selection(path)[0])


def _state(files: Sequence[Path]) -> str:
    """Hash of names, sizes and times of files."""
    words = []
    for path in files:
        try:
            found = path.stat()
            words.append(f"{path} {found.st_size} {found.st_mtime_ns}")
        except OSError:
            words.append(f"{path} absent")
    return digest(*words)
