"""What a study is made of: cases, folds, splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """One row of a manifest; nothing is read yet.

    Attributes:
        id: unique in the study: the column `case` where there is one, else the first image path without its suffix.
        images: path of each input channel, in channel order (`{"image": ...}` or `{"t1": ..., "flair": ...}`).
        label: path of a mask (segmentation), a class name (classification), or None where it is empty.
        site: name of the site.
        patient: patient identifier; the case id where the manifest has no column `patient`.
        maps: path of each per-case map, by name; a map whose cell is empty is absent here.
        covariates: every other column, as text; an empty cell is None.
        row: row of the manifest, the header being row 1.
    """

    id: str
    images: Mapping[str, Path]
    label: Path | str | None
    site: str
    patient: str
    maps: Mapping[str, Path] = field(default_factory=dict)
    covariates: Mapping[str, str | None] = field(default_factory=dict)
    row: int = 0


@dataclass(frozen=True)
class Geometry:
    """Where an array lies: spatial `shape`, `spacing` in mm (None: pixels), `affine` 4x4 to RAS+ mm (3D only).

    `unplaced`: the file does not say where it lies, and `affine` is a guess that is compared with nothing.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    unplaced: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Picture:
    """A file, decoded: `array` (C, *spatial) for images, (*spatial) integers for labels; and where it lies.

    2D arrays are (rows, columns). 3D arrays follow the file's own axes (nibabel's i, j, k); `affine` tells the rest.
    `notes` are what a person should know of how the file was read; `study check` warns of them.
    """

    array: NDArray[Any]
    geometry: Geometry
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredCase:
    """A case as the cache holds it: decoded and resampled, intensities as in the file.

    Attributes:
        case: the manifest row.
        image: (C, *spatial), memory-mapped; the file's integers or float32.
        label: (*spatial) class indices as uint8/int16 (segmentation), a class index (classification), or None.
        maps: (*spatial) float32 each; a map the case lacks is absent.
        geometry: of `image` (after resampling).
        original: of the file (before resampling).
        mean, std: (C,) of this case's image, for per-case normalisation (over non-zero voxels where more than a
            quarter of the image is exactly 0: our choice).
    """

    case: Case
    image: NDArray[Any]
    label: NDArray[Any] | int | None
    maps: Mapping[str, NDArray[Any]]
    geometry: Geometry
    original: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]


SHOWN = 3
"""Sites of a group that its title names."""


@dataclass(frozen=True)
class Fold:
    """A site, or a named group of sites, that is held out; none for the final model, which is trained on all sites.

    With `part` = (i, k) it is a *reference* fold: development and evaluation are both within the held-out sites, and
    the i-th of k groups of patients is held out.
    """

    held_out: tuple[str, ...]
    part: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """`A`, or `A+B` for a group."""
        return "+".join(self.held_out)

    @property
    def title(self) -> str:
        """The name where it is short; else `A+B+C and 5 more sites`, for people."""
        more = len(self.held_out) - SHOWN
        return self.name if more < 2 else f"{'+'.join(self.held_out[:SHOWN])} and {more} more sites"


@dataclass(frozen=True)
class Split:
    """Case ids of a fold's development, by role, and what had to be given up.

    Attributes:
        train, validation, calibration, test: `test` is the in-domain test ("home").
        left_out: development cases whose patient also appears at the held-out site, or is not among the few that train.
        notes: one sentence for each site that was too small for four parts, and on how few train.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
