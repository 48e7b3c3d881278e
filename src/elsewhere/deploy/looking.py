"""What the arguments of a command name: files, folders walked, one series of a folder, rows of manifests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elsewhere.deploy.dicom_series import Scan, scan
from elsewhere.deploy.manifest_rows import Row, find_rows, is_study
from elsewhere.errors import StudyError
from elsewhere.study.manifest import without_suffix
from elsewhere.study.reading import DICOMS, NIFTIS, PHOTOGRAPHS, TIFFS, file_format, split_selection

OTHERS = (*PHOTOGRAPHS, *TIFFS, *NIFTIS)
"""Endings of images that are no DICOM."""


@dataclass
class Heap:
    """What the arguments name, before cases have names.

    Attributes:
        files: (wanted name, path) of images that are no DICOM.
        broken: files that are meant as images and are none, with the reason.
        dicom: DICOM files, of any series.
        rows: of manifests.
        passed_over, links, closed: how many files that are no images, links to folders, folders that cannot be opened.
    """

    files: list[tuple[str, Path]] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)
    dicom: list[Path] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    passed_over: int = 0
    links: int = 0
    closed: int = 0


def look(path: Path, heap: Heap, channels: Sequence[str], ours: Sequence[Path], allow_outside: bool) -> None:
    """Put one argument on the heap.

    Args:
        path: absolute.
        heap: is added to.
        channels: of the model.
        ours: folders that are not walked into.
        allow_outside: take paths of a manifest that leave its folder.

    Raises:
        StudyError: it is not there, no image, or no manifest for these channels.
    """
    place, uid = split_selection(path)
    if uid is not None and place.is_dir():
        chosen = [series for series in scan(list(_walk(place, heap, ours))).series if series.uid == uid]
        if not chosen:
            raise StudyError(f"{path}: there is no image series of this SeriesInstanceUID in the folder")
        heap.dicom += [file for series in chosen for file in series.files]
    elif is_study(path):
        heap.rows += find_rows(path, channels, allow_outside)
    elif path.is_dir():
        for file in _walk(path, heap, ours):
            _sort(file, file.relative_to(path).as_posix(), heap)
    elif file_format(path) == "dicom":
        heap.dicom.append(path)
    else:
        heap.files.append((without_suffix(place.name) + (f"-{uid}" if uid is not None else ""), path))


def _walk(folder: Path, heap: Heap, ours: Sequence[Path]) -> Iterator[Path]:
    """Files of a folder and of those within it, sorted; hidden ones and what we write ourselves are passed over."""

    def closed(_: OSError) -> None:
        heap.closed += 1

    for root, folders, files in os.walk(folder, onerror=closed):
        here = Path(root)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and here / f not in ours)
        heap.links += sum((here / f).is_symlink() for f in folders)  # `os.walk` does not follow them: they may be loops
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _sort(file: Path, relative: str, heap: Heap) -> None:
    """Put one file of a folder on the heap."""
    try:
        kind = file_format(file)
    except StudyError as error:
        if file.name.lower().endswith((*OTHERS, *DICOMS)):
            heap.broken.append((file, str(error).removeprefix(f"{file}: ")))
        else:
            heap.passed_over += 1
        return
    if kind == "dicom":
        heap.dicom.append(file)
    else:
        heap.files.append((without_suffix(relative), file))


def notes(heap: Heap, seen: Scan) -> Iterable[str]:
    """A sentence for whatever was passed over."""
    for n, noun, what in (
        (heap.links, "link", "to a folder, which is walked only where you name it"),
        (heap.closed, "folder", "cannot be opened"),
        (heap.passed_over, "file", "no image"),
        (seen.others, "file", "DICOM but no image (a segmentation, a report, ...)"),
        (seen.copies, "file", "a copy of another DICOM file (the same SOPInstanceUID)"),
    ):
        if n:
            yield f"passed over {n} {noun}{'s' * (n > 1)}: {what}"
