"""One case, decoded: its files read, its mask turned into class indices, all in canonical axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.config import MaskPlace
from elsewhere.study.entry import Entry, make_entry
from elsewhere.study.grey import one_grey_channel
from elsewhere.study.reading import LOSSY, is_lossy, read_image, read_label, read_map
from elsewhere.study.resample import to_canonical

if TYPE_CHECKING:
    from elsewhere.study.study import Study


@dataclass(frozen=True)
class Schema:
    """How the cases of a study are read.

    Attributes:
        classes: declared names, in the order of the outputs.
        label_values: value in a mask file -> class index; empty for classification.
        dims: 2 or 3; None: as the files are.
        mask_place: see `StudyConfig`.
    """

    classes: tuple[str, ...]
    label_values: Mapping[int, int] = field(default_factory=dict)
    dims: int | None = None
    mask_place: MaskPlace = "header"

    @classmethod
    def of(cls, study: Study) -> Schema:
        """That of a study."""
        return cls(study.classes, dict(study.label_values), study.dims, study.config.mask_place)


def decode(case: Case, schema: Schema) -> Entry:
    """Read all files of a case, without a cache.

    Raises:
        StudyError: a file is unreadable or does not fit the study; names the file and the row.
    """
    picture = read_image(case.images)
    original = picture.geometry
    image = usable_image(picture.array, len(case.images), f"{where(case)}: image '{_first(case)}'")
    require_dims(len(original.shape), case, schema)  # before its mask, which then does not fit either
    image, geometry = to_canonical(image, original)
    label = None
    if isinstance(case.label, Path):
        raw = read_label(case.label, original, schema.mask_place).array
        label = to_canonical(class_indices(raw, case, schema), original)[0]
    maps = {name: to_canonical(read_map(path, original).array, original)[0] for name, path in case.maps.items()}
    for name, values in maps.items():
        if not np.isfinite(values).all():
            raise StudyError(f"{where(case)}: map '{name}' has NaN or Inf values; wanted finite numbers")
    return make_entry(image, label, maps, geometry, original)


def usable_image(array: NDArray[Any], n_files: int, named: str) -> NDArray[Any]:
    """Give (C, *spatial) in the types that are kept, a grey image saved as RGB in its one channel.

    Args:
        array: (C, *spatial), as read.
        n_files: that it was read from.
        named: how a message begins.

    Raises:
        StudyError: NaN or Inf.
    """
    image = one_grey_channel(_storable(array), n_files)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(image.size - np.isfinite(image).sum())
        raise StudyError(f"{named} has {bad} NaN or Inf values; wanted finite numbers")
    return image


def class_indices(raw: NDArray[Any], case: Case, schema: Schema) -> NDArray[Any]:
    """Turn the values of a mask file into class indices (uint8, or int16 beyond 256 classes).

    Raises:
        StudyError: a value that no class declares.
    """
    dtype = np.uint8 if max(schema.label_values.values(), default=0) < 256 else np.int16
    out = np.zeros(raw.shape, dtype)
    for value in np.unique(raw):
        if int(value) not in schema.label_values:
            known = ", ".join(f"{schema.classes[index]} = {v}" for v, index in sorted(schema.label_values.items()))
            lossy = f"; {LOSSY}" if isinstance(case.label, Path) and is_lossy(case.label) else ""
            raise StudyError(
                f"{where(case)}: label '{case.label}' has the value {value} ({int((raw == value).sum())} times), which "
                f"no class declares; the classes: {known}{lossy}"
            )
        out[raw == value] = schema.label_values[int(value)]
    return out


def _storable(image: NDArray[Any]) -> NDArray[Any]:
    """Native byte order; booleans as 8-bit; floats of any width as float32 (a larger value becomes Inf)."""
    if image.dtype.kind == "f":
        return image.astype(np.float32)
    if image.dtype == np.bool_:
        return image.astype(np.uint8)
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def require_dims(found: int, case: Case, schema: Schema) -> None:
    """Raise a StudyError where an image of `found` axes is no case of the study."""
    if schema.dims is not None and found != schema.dims:
        raise StudyError(
            f"{where(case)}: image '{_first(case)}' is {found}D, the study is {schema.dims}D (as its first image); "
            f"wanted {schema.dims}D images only"
        )


def where(case: Case) -> str:
    """Name a case in a message: its row, or its id where it has none."""
    return f"manifest row {case.row}" if case.row else f"case '{case.id}'"


def _first(case: Case) -> str:
    return str(next(iter(case.images.values())))
