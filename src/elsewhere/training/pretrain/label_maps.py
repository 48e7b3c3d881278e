"""Given label maps: read once, then cut, turned and bent anew for every anatomy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elsewhere.acquisition import Anatomy, Spatial, crop
from elsewhere.errors import StudyError
from elsewhere.study.nifti import decode_nifti

SUFFIXES = (".nii", ".nii.gz")

MARGIN = 1.3
"""What is cut, in sizes of what is kept after it was turned and bent."""

TRIES = 64
"""Voxels that are looked at for one in a structure."""

MOST = 2**15 - 1
"""Structures, so that a map can be kept as int16."""


@dataclass(frozen=True, eq=False)
class CutMaps(Anatomy):
    """Pieces of label maps, about a voxel of a structure where one is soon found.

    Any axis may come first and be reversed: these are shapes, not patients (our choice). A 2D anatomy is a slice of a
    3D map across any axis.

    Attributes:
        maps: each (*spatial) int16 with labels 0 to K - 1, of any shapes; all 3D, or all 2D.
        names: of the K labels.
        spatial: how a piece is turned and bent.
    """

    maps: tuple[Tensor, ...]
    names: tuple[str, ...]
    spatial: Spatial = field(
        default_factory=lambda: Spatial(
            affine_probability=1.0,
            rotation=(-45, 45),
            scale=(0.7, 1.5),
            elastic_probability=0.8,
            elastic_magnitude=(0.0, 0.08),
        )
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """As given."""
        return self.names

    def draw(self, shape: Sequence[int], generator: torch.Generator, lesion: Tensor | None = None) -> Tensor:
        """See `Anatomy.draw`; `lesion` is not used, there is none."""
        n, *spatial = (int(s) for s in shape)
        wide = [math.ceil(MARGIN * s) for s in spatial]
        pieces = torch.stack([self._piece(wide, generator) for _ in range(n)]).long()
        # Spatial, not crop: one interpolation turns, bends and cuts.
        whole = Spatial(**{**self.spatial.__dict__, "size": tuple(spatial), "place": "centre"})
        moved = whole(pieces.new_zeros((n, 1, *wide), dtype=torch.float32), generator, pieces).target
        assert moved is not None
        return moved

    def _piece(self, size: Sequence[int], generator: torch.Generator) -> Tensor:
        """One piece (*size), as it is in its map but for its orientation."""

        def below(number: int, count: int = 1) -> list[int]:
            return torch.randint(number, (count,), generator=generator, device=generator.device).tolist()

        found = self.maps[below(len(self.maps))[0]].to(generator.device)
        flat = torch.tensor(below(found.numel(), TRIES), device=found.device)
        hit = found.reshape(-1)[flat].nonzero()
        place = int(flat[hit[0, 0]] if len(hit) else flat[0])
        centre = [int(i) for i in np.unravel_index(place, tuple(found.shape))]
        if found.ndim > len(size):
            axis = below(found.ndim)[0]
            found = found.select(axis, centre.pop(axis))
        order = torch.randperm(len(size), generator=generator, device=generator.device).tolist()
        found, centre = found.permute(order), [centre[axis] for axis in order]
        piece = crop(found[None, None], [c - s // 2 for c, s in zip(centre, size, strict=True)], size)[0, 0]
        return piece.flip([axis for axis, coin in enumerate(below(2, len(size))) if coin])


def read_label_maps(paths: Sequence[Path], dims: int) -> CutMaps:
    """Label maps from NIfTI files and folders of them; label values are numbered anew, over all files together.

    Args:
        paths: a folder stands for all `.nii` and `.nii.gz` right in it.
        dims: of the anatomies; maps may be 3D for either, 2D for 2.

    Raises:
        StudyError: nothing there, a file that cannot be read, values that are no labels, or a map of one slice for 3D.
    """
    arrays = [_read(path, dims) for path in _files(paths)]
    if len({array.ndim for array in arrays}) > 1:
        raise StudyError("label maps: some are 2D and some 3D; give those of one kind")
    values = np.unique(np.concatenate([np.unique(array) for array in arrays]))
    values = np.concatenate([[0], values[values != 0]])  # background stays 0 also where no file has any
    if not 2 <= len(values) <= MOST:
        raise StudyError(f"label maps: they have {len(values)} different values together, wanted 2 to {MOST}")
    order = np.argsort(values)
    maps = [order[np.searchsorted(values[order], array)].astype(np.int16) for array in arrays]
    return CutMaps(tuple(torch.from_numpy(array) for array in maps), tuple(f"label {int(value)}" for value in values))


def digest(maps: CutMaps) -> str:
    """What the maps are, in 16 hexadecimal digits: shapes and values, not file names."""
    found = hashlib.sha256("/".join(maps.names).encode())
    for array in maps.maps:
        found.update(f"{tuple(array.shape)}".encode())
        found.update(array.numpy().tobytes())
    return found.hexdigest()[:16]


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(found for found in path.iterdir() if found.name.endswith(SUFFIXES))
            if not inside:
                raise StudyError(f"{path}: no label map in this folder; wanted files .nii or .nii.gz right in it")
            files += inside
        elif not path.is_file():
            raise StudyError(f"{path}: there is no such file or folder; wanted label maps, .nii or .nii.gz")
        elif not path.name.endswith(SUFFIXES):
            raise StudyError(f"{path}: wanted a label map that ends in .nii or .nii.gz")
        else:
            files.append(path)
    return files


def _read(path: Path, dims: int) -> NDArray[np.int64]:
    try:
        array, _ = decode_nifti(path)
    except StudyError:
        raise
    except Exception as error:  # whatever nibabel raises on a damaged file
        reason = str(error).splitlines()[0][:200] if str(error) else "no reason given"
        raise StudyError(f"{path}: cannot be read as NIfTI ({type(error).__name__}: {reason})") from error
    if array.shape[0] != 1:
        raise StudyError(f"{path}: has {array.shape[0]} channels; a label map has one")
    array = array[0]
    if array.ndim < dims:
        raise StudyError(f"{path}: is one slice; label maps for 3D have several")
    whole: NDArray[np.int64] | None = array.astype(np.int64) if np.isfinite(array).all() else None
    if whole is None or not np.array_equal(whole, array):
        raise StudyError(f"{path}: has values that are not whole numbers; wanted a label map")
    return whole
