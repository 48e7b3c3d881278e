"""Masks that somebody else's model wrote: which file is whose, what its values mean, and its probabilities.

nnU-Net's output folder is taken as it is: `CASE.nii.gz`, with `CASE.npz` beside it where probabilities were saved, and
`dataset.json` for the names of the values. So is any folder of masks (PNG, TIFF, NIfTI, DICOM SEG) that are named as
the cases are: by the case's id, by the path or the name of its mask, or by that of its first image (without nnU-Net's
`_0000`).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.given_names import Matched, listed, match
from elsewhere.errors import StudyError
from elsewhere.study.case import Case, Geometry
from elsewhere.study.manifest import without_suffix
from elsewhere.study.palette import PALETTE_REMEDY, disagreement
from elsewhere.study.reading import (
    DICOMS,
    LOSSY,
    PHOTOGRAPHS,
    TIFFS,
    grid_difference,
    is_lossy,
    read_colours,
    read_label,
    read_label_values,
)
from elsewhere.study.resample import canonical_geometry, from_canonical, to_canonical

if TYPE_CHECKING:
    from elsewhere.study.study import Study

SUMS_TO_ONE = 0.01
"""How far saved probabilities may be from adding up to 1: nnU-Net saves them in half precision (our choice)."""


@dataclass(frozen=True)
class Masks:
    """A folder's masks, read one at a time.

    Attributes:
        matched: which file is whose.
        values: value in a file -> class index.
        classes: how many there are.
        saved: probabilities lie beside the masks, for every one of them.
        notes: how the folder was understood.
    """

    matched: Matched
    values: Mapping[int, int]
    classes: int
    saved: bool
    notes: tuple[str, ...]

    def mask(self, case: str, original: Geometry) -> NDArray[Any]:
        """(*spatial) class indices on the grid and in the axes of the case's image.

        Raises:
            StudyError: unreadable, on another grid than the image, or with a value that is no class.
        """
        path = self.matched.files[case]
        dicom = path.name.lower().endswith(DICOMS)
        picture = read_label(path, original if dicom else None)
        raw = _on_grid(picture.array, picture.geometry, original, path)
        out = np.zeros(raw.shape, np.uint8 if self.classes <= 256 else np.int16)
        for value in np.unique(raw):
            if int(value) not in self.values:
                raise _foreign_value(path, int(value), self.values)
            out[raw == value] = self.values[int(value)]
        return out

    def probabilities(self, case: str, original: Geometry) -> NDArray[np.float32] | None:
        """(K, *spatial) likewise; None where none were saved.

        Raises:
            StudyError: they cannot be read, or do not lie on the grid of the mask.
        """
        if not self.saved:
            return None
        path = self.matched.files[case]
        beside = _beside(path)
        values = _load_npz(beside)
        if values.ndim == 4 and len(original.shape) == 2:  # nnU-Net has a slice axis in 2D
            values = values[:, 0]
        elif values.ndim == 4:  # SimpleITK's k, j, i
            values = values.transpose(0, 3, 2, 1)
        geometry = read_label(path).geometry
        if values.shape[1:] != geometry.shape:
            raise StudyError(f"{beside}: is {_by(values.shape[1:])}, its mask {path.name} is {_by(geometry.shape)}")
        total = values.sum(axis=0)
        if float(values.min(initial=0)) < -SUMS_TO_ONE:
            raise StudyError(f"{beside}: has the value {values.min():.3g}; wanted probabilities between 0 and 1")
        if not bool((np.abs(total - 1) <= SUMS_TO_ONE).all()):
            worst = float(total.flat[np.abs(total - 1).argmax()])
            raise StudyError(
                f"{beside}: probabilities add up to {worst:.3g} somewhere; wanted 1 over the classes (remove the .npz "
                "files to evaluate the masks alone)"
            )
        ordered = np.zeros((self.classes, *values.shape[1:]), np.float32)
        for value, index in self.values.items():
            ordered[index] += values[value]
        turned: NDArray[np.float32] = _on_grid(ordered / total, geometry, original, beside)
        return turned


def read_masks(folder: Path, study: Study, cases: Sequence[Case]) -> Masks:
    """Match a folder's masks to cases, and find out what their values mean.

    Args:
        folder: of masks; folders in it are walked.
        study: a segmentation.
        cases: those that are to be evaluated.

    Raises:
        StudyError: no file fits a case, one fits two, or a value that is no class.
    """
    matched = match(folder, study, cases)
    values, note = _values(folder, study, matched)
    notes = [*([note] if note else []), *_other_names(folder / "dataset.json", study)]
    beside = [_beside(path).is_file() for path in matched.files.values()]
    saved = all(beside)
    if saved:
        channels = _n_channels(_beside(next(iter(matched.files.values()))))
        if set(values) != set(range(channels)):
            saved = False
            notes.append(
                f"the .npz files hold {channels} channels, the masks {len(values)} values: no probabilities are used"
            )
    elif any(beside):
        notes.append(f"{len(beside) - sum(beside)} masks have no .npz beside them: no probabilities are used")
    return Masks(matched, values, len(study.classes), saved, tuple(notes))


# ---- values


def _values(folder: Path, study: Study, matched: Matched) -> tuple[dict[int, int], str | None]:
    """What the values in the files mean, and a sentence where that had to be found out."""
    own = {int(value): int(index) for value, index in study.label_values.items()}
    indices = {index: index for index in range(len(study.classes))}
    names = _names(folder / "dataset.json")
    named = None
    if names is not None and set(names) == set(study.classes):
        named = {value: study.classes.index(name) for name, value in names.items()}
    candidates = [
        *([(named, "by the names in dataset.json")] if named is not None else []),
        (own, "as in the study's masks"),
        (indices, "by the number of the class"),
    ]
    # A volume is not read twice to learn that its values are what they should be; `mask` says what is not.
    flat = all(path.name.lower().endswith((*PHOTOGRAPHS, *TIFFS)) for path in matched.files.values())
    if not flat and all(values == indices for values, _ in candidates):
        return indices, None
    if differing := disagreement((str(path), read_colours(path)) for path in matched.files.values()):
        raise StudyError(f"{differing[0]}: {differing[1]}; {PALETTE_REMEDY}")
    seen: dict[int, Path] = {}
    for path in matched.files.values():
        for value in read_label_values(path):
            seen.setdefault(value, path)
    for values, how in candidates:
        if set(seen) <= set(values):
            if all(other == values for other, _ in candidates):
                return dict(values), None
            return dict(values), f"masks were read {how}: {_meaning(values, study.classes)}"
    foreground = sorted(set(seen) - {0})
    if len(study.classes) == 2 and len(foreground) == 1:
        values = {0: 0, foreground[0]: 1}
        return values, f"masks hold one value besides 0: {_meaning(values, study.classes)}"
    wrong = next(value for value in sorted(seen) if value not in own)
    raise _foreign_value(seen[wrong], wrong, own)


def _names(path: Path) -> dict[str, int] | None:
    """nnU-Net's `labels`: name -> value in the masks; None where there are none, or overlapping regions."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        if all(str(key).isdigit() for key in labels):  # version 1 has it the other way round
            labels = {name: value for value, name in labels.items()}
        # "ignore" are voxels that nobody annotated: learnt from by nobody, predicted never.
        return {str(name): int(value) for name, value in labels.items() if name != "ignore"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not nnU-Net's, or overlapping regions: the values say it themselves


def _other_names(path: Path, study: Study) -> list[str]:
    names = _names(path)
    if names is None or set(names) == set(study.classes):
        return []
    return [
        f"{path.name} has other names than the study ({listed(list(names))}; {listed(study.classes)}), so values were "
        "not read by them"
    ]


def _meaning(values: Mapping[int, int], classes: Sequence[str]) -> str:
    return ", ".join(f"{value} = {classes[index]}" for value, index in sorted(values.items()))


def _foreign_value(path: Path, value: int, values: Mapping[int, int]) -> StudyError:
    lossy = f"; {LOSSY}" if is_lossy(path) else ""
    known = ", ".join(str(v) for v in sorted(values))
    return StudyError(f"{path}: has the value {value}, which is no class; wanted {known}{lossy}")


# ---- grids and probabilities


def _beside(path: Path) -> Path:
    return path.with_name(f"{without_suffix(path.name)}.npz")


def _on_grid(array: NDArray[Any], geometry: Geometry, original: Geometry, path: Path) -> NDArray[Any]:
    """(..., *spatial) in the axes of the image; nothing is resampled.

    Raises:
        StudyError: it lies elsewhere.
    """
    if grid_difference(geometry, original) is None:
        return array
    turned, there = to_canonical(array, geometry)
    difference = grid_difference(there, canonical_geometry(original))
    if difference is not None:
        raise StudyError(f"{path}: the prediction {difference[0]}, its image {difference[1]}; wanted the image's grid")
    return np.ascontiguousarray(from_canonical(turned, original))


def _load_npz(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            name = next((n for n in ("probabilities", "softmax") if n in stored.files), None)
            if name is None:
                raise StudyError(f"{path}: holds {', '.join(stored.files)}; wanted 'probabilities'")
            array: NDArray[Any] = stored[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StudyError(f"{path}: cannot be read ({error}); it is truncated or holds Python objects") from error
    if array.ndim not in (3, 4):
        raise StudyError(f"{path}: has {array.ndim} axes; wanted classes and 2 or 3 of space")
    return array.astype(np.float32)


def _n_channels(path: Path) -> int:
    return len(_load_npz(path))


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)
