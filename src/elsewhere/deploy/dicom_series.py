"""DICOM files into series: told apart by their UIDs, read, and opened again as the sources of a segmentation.

No patient's name or number is read, but by `sources`, which hands the headers to the DICOM SEG that must carry them.
Messages call a series by the name it was given here ("series-0001"), never by its files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.case import Picture
from elsewhere.study.reading import split_selection

_LIBRARIES = ("pydicom", "highdicom")
_UID = re.compile(r"(?<![\w.])\d+(?:\.\d+){2,}")


@dataclass(frozen=True)
class Instance:
    """One DICOM file: where it is, its SOPInstanceUID (a hash of the file where it has none), its frames, its bytes."""

    path: Path
    uid: str
    frames: int
    size: int


@dataclass(frozen=True)
class Series:
    """The files of one image.

    Attributes:
        uid: SeriesInstanceUID ("" where the files have none).
        instances: in the order of their paths.
        part: `uid` of the instance, where the image is just one file of its series; else "".
    """

    uid: str
    instances: tuple[Instance, ...]
    part: str = ""

    @property
    def files(self) -> list[Path]:
        """Of all instances."""
        return [instance.path for instance in self.instances]

    @property
    def identity(self) -> str:
        """Which image this is, the same wherever its files lie; a hash that says nothing of whose it is.

        Without a SeriesInstanceUID it is that of its instances: with another slice it is another image.
        """
        return digest(self.uid, self.part) if self.uid else digest(self.part, self.content)

    @property
    def content(self) -> str:
        """Hash of which instances there are; another one where a slice is added."""
        return digest(*sorted(f"{instance.uid} {instance.size}" for instance in self.instances))


@dataclass(frozen=True)
class Scan:
    """What a heap of DICOM files holds.

    Attributes:
        series: images, in the order of their first file.
        unreadable: files that are meant as DICOM and are not, with the reason.
        others: how many are DICOM, but no images (SEG, RTSTRUCT, reports, DICOMDIR).
        copies: how many are the same instance as another file, and were left out.
    """

    series: tuple[Series, ...]
    unreadable: tuple[tuple[Path, str], ...]
    others: int
    copies: int


def scan(files: Sequence[Path], *, singly: bool = False) -> Scan:
    """Read the headers of DICOM files and tell their series apart.

    A file of several frames is an image of its own; the other files of one SeriesInstanceUID are the slices of one
    image, in whatever folders they lie.

    Args:
        files: in an order that is the same whenever they are the same.
        singly: each file is an image of its own (for models of 2D images).
    """
    from elsewhere.study.dicom import instance_key, read_tags

    found: dict[tuple[str, str], list[Instance]] = {}
    seen: set[tuple[str, str]] = set()
    unreadable: list[tuple[Path, str]] = []
    others = copies = 0
    for path in files:
        try:
            with silenced():
                tags = read_tags(path, pixels=False)
                series = str(tags.get("SeriesInstanceUID", ""))
                image = _is_image(tags)
                frames = int(tags.get("NumberOfFrames") or 1)
                key = instance_key(path, tags)
        except Exception:  # StudyError, or whatever pydicom raises on a corrupt header, perhaps quoting it
            image = None
        if image is None:
            unreadable.append((path, "is no readable DICOM file; it is truncated or corrupt"))
            continue
        if not image:
            others += 1
            continue
        if key in seen:
            copies += 1
            continue
        seen.add(key)
        uid = key[0]
        alone = frames > 1 or singly
        # Without a SeriesInstanceUID, what lies in one folder belongs together.
        together = series or f"folder {path.parent}"
        part = uid if alone else ""
        if alone and (together, part) in found:
            part = " ".join(key)  # another place, under the same UID
        found.setdefault((together, part), []).append(Instance(path, uid, frames, path.stat().st_size))
    images = [
        Series("" if together.startswith("folder ") else together, tuple(instances), part)
        for (together, part), instances in found.items()
    ]
    return Scan(tuple(images), tuple(unreadable), others, copies)


def _is_image(tags: Any) -> bool | None:
    """Tell an image from what lies beside images; None where the header ends before it says."""
    from elsewhere.study.dicom import NOT_IMAGES

    if "Rows" in tags:
        return tags.get("Modality") not in NOT_IMAGES
    kind = tags.get("SOPClassUID") or tags.file_meta.get("MediaStorageSOPClassUID")
    return None if not kind or kind.name.endswith("Image Storage") else False


def series_at(path: Path) -> Series:
    """Find the image series that a path of a manifest means: a file, a folder, or `folder#SeriesInstanceUID`.

    Raises:
        StudyError: there is not just one.
    """
    place, uid = split_selection(path)
    found = [series for series in scan(files_at(place)).series if uid in (None, series.uid)]
    if len(found) != 1:
        raise StudyError(f"{path}: {len(found)} image series here; wanted one, named as 'FOLDER#SERIES'")
    return found[0]


def files_at(place: Path) -> list[Path]:
    """A file, or all files of a folder but hidden ones (folders within it apart)."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))


def read_series(series: Series, name: str) -> Picture:
    """Decode a series: slices in the order of their position, rescaled; (C, columns, rows, slices), or 2D.

    Raises:
        StudyError: a slice is missing or twice, or the files are no one image; calls the series `name`.
    """
    from elsewhere.study.dicom import decode_files

    try:
        with silenced():
            array, geometry = decode_files(series.files, Path(name))
    except StudyError as error:
        raise StudyError(without_paths(str(error), series.files, name)) from None
    except MemoryError as error:
        raise StudyError(f"{name}: too large for the memory of this machine; cut it in parts") from error
    except Exception:  # what pydicom says may quote the header, hence a patient
        raise StudyError(f"{name}: cannot be read as DICOM; it is truncated or corrupt") from None
    return Picture(array, geometry)


def sources(series: Series) -> tuple[list[Any], NDArray[np.intp]]:
    """Open the headers of a series, as the sources that a DICOM SEG names.

    Returns:
        Datasets without pixels, sorted as the slices of `read_series` are; and for each frame that a segmentation of
        them has, in order, its index along the last axis of the image (of several files: 0, 1, 2, ...; of one file
        with several frames: their own order in the file).
    """
    import pydicom

    with silenced():
        datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in series.files]
        order = np.argsort(_heights(datasets), kind="stable")
    if len(datasets) == 1:
        return datasets, np.argsort(order)
    return [datasets[i] for i in order], np.arange(len(datasets))


def _heights(datasets: Sequence[Any]) -> NDArray[np.float64]:
    """Position (mm) of each frame along the normal of the first; 0 where there is none (an image without a place)."""
    from elsewhere.study.dicom import find, functional_group

    heights, normal = [], None
    for dataset in datasets:
        shared = functional_group(dataset.get("SharedFunctionalGroupsSequence"))
        frames = dataset.get("PerFrameFunctionalGroupsSequence") or [None] * int(dataset.get("NumberOfFrames") or 1)
        for own in frames:
            groups = (own, *shared, dataset)
            position = find(groups, "PlanePositionSequence", "ImagePositionPatient")
            orientation = find(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
            if normal is None and orientation:
                normal = np.cross(np.array(orientation[:3], float), np.array(orientation[3:], float))
            placed = bool(position) and normal is not None
            heights.append(float(np.array(position, float) @ normal) if placed else 0.0)
    return np.array(heights)


def without_paths(message: str, files: Sequence[Path], name: str) -> str:
    """Put `name` where a message names one of the files, or a folder above them: paths are often made of patients.

    A UID of DICOM, which leads whoever has the archive to the patient, becomes "UID".

    Args:
        message: a sentence about these files.
        files: of a series, or folders of them.
        name: of the series.
    """
    places = {str(path) for path in files} | {str(path.parent) for path in files}
    for place in sorted(places - {os.sep, os.curdir}, key=len, reverse=True):
        message = message.replace(place, name)
    for label in sorted({path.name for path in files}, key=len, reverse=True):
        for end in ("'", "#"):  # as in 'FOLDER#SERIES'
            message = message.replace(f"'{label}{end}", f"'{name}{end}")
    return _UID.sub("UID", message)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep pydicom and highdicom from warning or logging: they quote header values, a patient's name among them."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def digest(*parts: str) -> str:
    """Twelve hexadecimal digits of a hash of some words; a path may hold bytes that are no UTF-8."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]
