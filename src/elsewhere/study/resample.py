"""Axes and grids: into the canonical axes and the asked grid, and the whole way back.

A grid is resampled with its field of view kept: the outer edges of the first and last voxel stay where they are, and
the number of voxels changes (the convention of `align_corners=False`). The new spacing is therefore the asked one up
to the rounding of the number of voxels.

- Images and maps: linear; where an axis shrinks, the triangle widens by the factor (antialias, as Pillow does).
- Labels: the share that each class has of a new voxel (where an axis grows: linear), then the class with most of it;
  a tie goes to the higher class index, so to foreground over background: a line of one pixel survives halving (our
  choice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import nibabel.orientations as axes
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry, StoredCase

MOST_VOXELS = 2**29
"""Of an image on its new grid; more is taken for a mistake (our choice)."""

SAME_SPACING = 0.05
"""Relative difference of spacing below which an axis is left as it is (our choice)."""


def to_canonical(array: NDArray[Any], geometry: Geometry) -> tuple[NDArray[Any], Geometry]:
    """Permute and flip (..., *spatial) to the axes closest to RAS+; nothing is interpolated.

    Arrays without an affine (2D, or volumes that say nothing of their axes) come back as they are.
    """
    if geometry.affine is None:
        return array, geometry
    orientation = axes.io_orientation(geometry.affine)
    if not _readable(orientation) or np.array_equal(orientation, _RAS):
        return array, geometry
    return _turn(array, orientation), canonical_geometry(geometry)


def canonical_geometry(geometry: Geometry) -> Geometry:
    """The geometry that `to_canonical` gives."""
    if geometry.affine is None:
        return geometry
    orientation = axes.io_orientation(geometry.affine)
    if not _readable(orientation):
        return geometry
    order = np.argsort(orientation[:, 0])
    shape = tuple(geometry.shape[i] for i in order)
    spacing = None if geometry.spacing is None else tuple(geometry.spacing[i] for i in order)
    affine = geometry.affine @ axes.inv_ornt_aff(orientation, geometry.shape)
    return Geometry(shape, spacing, np.asarray(affine, np.float64))


def from_canonical(array: NDArray[Any], original: Geometry) -> NDArray[Any]:
    """Undo `to_canonical`: (..., *canonical spatial) to the axes of the file whose geometry is `original`."""
    if original.affine is None:
        return array
    orientation = axes.io_orientation(original.affine)
    if not _readable(orientation):
        return array
    return _turn(array, axes.ornt_transform(_RAS, orientation))


def to_original(array: NDArray[Any], stored: StoredCase) -> NDArray[np.float32]:
    """Bring what was predicted on a stored case back to the grid and the axes of its file.

    Args:
        array: (K, *spatial) on the grid of `stored.image`, e.g. probabilities.
        stored: the case that it was predicted for.

    Returns:
        (K, *spatial) float32 on the grid of `stored.original`, interpolated linearly.
    """
    if array.shape[1:] != stored.geometry.shape:
        raise ValueError(f"array {array.shape[1:]} is not on the grid {stored.geometry.shape} of the stored case")
    grid = canonical_geometry(stored.original).shape
    values = np.asarray(array, np.float32)
    if grid != stored.geometry.shape:
        values = resize(values, grid)
    return np.ascontiguousarray(from_canonical(values, stored.original))


def target_geometry(
    geometry: Geometry, size: Sequence[int] | None = None, spacing: Sequence[float] | None = None
) -> Geometry:
    """The grid that `size` or `spacing` ask for; the same object where there is nothing to do.

    `size` goes first. An axis whose spacing is within 5 % of the asked one is left as it is. A case without spacing
    cannot be brought to one and is left as it is.

    Raises:
        StudyError: more than `MOST_VOXELS`.
    """
    shape = geometry.shape
    if size is not None:
        shape = tuple(int(n) for n in size)
    elif spacing is not None and geometry.spacing is not None:
        shape = tuple(
            n if abs(have / want - 1) <= SAME_SPACING else max(1, round(n * have / want))
            for n, have, want in zip(geometry.shape, geometry.spacing, spacing, strict=True)
        )
    if shape == geometry.shape:
        return geometry
    if math.prod(shape) > MOST_VOXELS:
        raise StudyError(
            f"{'size' if size is not None else 'spacing'} {list(size or spacing or ())} makes "
            f"{'x'.join(map(str, shape))} voxels of {'x'.join(map(str, geometry.shape))}; wanted a coarser grid"
        )
    factor = np.array(geometry.shape, float) / np.array(shape, float)
    new_spacing = None
    if geometry.spacing is not None:
        new_spacing = tuple(float(s * f) for s, f in zip(geometry.spacing, factor, strict=True))
    affine = None
    if geometry.affine is not None:
        step = np.eye(4)
        step[:3, :3] = np.diag(factor)
        step[:3, 3] = factor / 2 - 0.5
        affine = geometry.affine @ step
    return Geometry(shape, new_spacing, affine)


def resize(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Resample (K, *spatial) linearly to (K, *shape); 8-bit images stay 8-bit, all else becomes float32."""
    out = np.asarray(array, np.float32)
    for axis, n in enumerate(shape, start=1):
        out = _resize_axis(out, axis, n)
    if array.dtype == np.uint8:
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
    return out


def resize_label(label: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Resample class indices (*spatial) to `shape`: the class with most of each voxel."""
    best = np.full(tuple(shape), -1.0, np.float32)
    out = np.zeros(tuple(shape), label.dtype)
    for index in np.unique(label):
        share = (label == index).astype(np.float32)
        for axis, n in enumerate(shape):
            share = _resize_axis(share, axis, n, share=True)
        wins = share >= best - 1e-4  # rounding must not decide a tie
        out[wins] = index
        best = np.maximum(best, share)
    return out


def _resize_axis(array: NDArray[np.float32], axis: int, n: int, share: bool = False) -> NDArray[np.float32]:
    if array.shape[axis] == n:
        return array
    moved = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    make = _shares if share and n < len(moved) else _triangles
    out = (make(len(moved), n) @ flat).reshape(n, *moved.shape[1:])
    return np.ascontiguousarray(np.moveaxis(out, 0, axis))


@lru_cache(maxsize=64)
def _triangles(n_in: int, n_out: int) -> Any:
    """Sparse (n_out, n_in): a triangle around each new centre, as wide as the larger of both steps."""
    step = n_in / n_out
    width = max(step, 1.0)
    centre = (np.arange(n_out) + 0.5) * step - 0.5
    reach = int(np.ceil(width))
    near = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 2)[None, :]
    weight = np.clip(1 - np.abs(near - centre[:, None]) / width, 0, None)
    return _sparse(weight, near, n_in)


@lru_cache(maxsize=64)
def _shares(n_in: int, n_out: int) -> Any:
    """Sparse (n_out, n_in), n_out < n_in: how much of each new voxel each old one covers."""
    step = n_in / n_out
    start = np.arange(n_out)[:, None] * step
    near = np.floor(start).astype(int) + np.arange(int(np.ceil(step)) + 1)[None, :]
    weight = np.clip(np.minimum(near + 1, start + step) - np.maximum(near, start), 0, None)
    return _sparse(weight, near, n_in)


def _sparse(weight: NDArray[np.float64], columns: NDArray[np.int_], n_in: int) -> Any:
    """Row i has `weight[i]` at `columns[i]`, those outside of the grid cut off, and sums to 1."""
    weight[(columns < 0) | (columns >= n_in)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(weight)), columns.shape[1])
    place = (rows, np.clip(columns, 0, n_in - 1).ravel())
    matrix = sparse.csr_matrix((weight.ravel().astype(np.float32), place), shape=(len(weight), n_in))
    matrix.eliminate_zeros()
    return matrix


_RAS = np.array([[0, 1], [1, 1], [2, 1]], float)


def _readable(orientation: NDArray[Any]) -> bool:
    """A degenerate affine has an axis that points nowhere (nan): such a file is left in its own axes."""
    return not bool(np.isnan(orientation).any())


def _turn(array: NDArray[Any], orientation: NDArray[Any]) -> NDArray[Any]:
    """`nibabel.orientations.apply_orientation` on the last three axes."""
    lead = array.ndim - 3
    for axis, flip in enumerate(orientation[:, 1]):
        if flip == -1:
            array = np.flip(array, lead + axis)
    order = [int(i) + lead for i in np.argsort(orientation[:, 0])]
    return array.transpose(*range(lead), *order)
