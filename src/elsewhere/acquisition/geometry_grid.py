"""Where each output voxel looks in the input: affine maps and free-form deformations as sampling grids.

Coordinates are voxel indices in axis order (row, column) or (i, j, k), the centre of the first voxel being 0; only the
last step turns them into the normalised, reversed order that `grid_sample` wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.acquisition.smooth import spline_field

Fill = Literal["zeros", "minimum", "border"]
Mode = Literal["linear", "nearest"]


def rotation_matrix(degrees: Tensor) -> Tensor:
    """Rotations from angles (B, 1) in 2D or (B, 3) in 3D, as matrices (B, D, D) on coordinates in axis order.

    In 2D a positive angle turns the content counter-clockwise as an image is displayed (rows down). In 3D angle `a`
    turns the plane of the two other axes, and the matrices multiply in axis order: R0 @ R1 @ R2.
    """
    radians = torch.deg2rad(degrees)
    cosine, sine = radians.cos(), radians.sin()
    planes = [(0, 1)] if degrees.shape[1] == 1 else [(1, 2), (0, 2), (0, 1)]
    dims = 2 if degrees.shape[1] == 1 else 3
    result = torch.eye(dims, dtype=degrees.dtype, device=degrees.device).expand(len(degrees), dims, dims)
    for angle, (i, j) in enumerate(planes):
        turn = torch.eye(dims, dtype=degrees.dtype, device=degrees.device).repeat(len(degrees), 1, 1)
        turn[:, i, i] = turn[:, j, j] = cosine[:, angle]
        turn[:, i, j] = -sine[:, angle]
        turn[:, j, i] = sine[:, angle]
        result = result @ turn
    return result


def shear_matrix(shear: Tensor) -> Tensor:
    """Unit upper triangular matrices (B, D, D) from shear factors (B, 1) in 2D or (B, 3) in 3D: (01), (02), (12)."""
    dims = 2 if shear.shape[1] == 1 else 3
    result = torch.eye(dims, dtype=shear.dtype, device=shear.device).repeat(len(shear), 1, 1)
    rows, columns = torch.triu_indices(dims, dims, offset=1)
    result[:, rows, columns] = shear
    return result


def affine_matrix(rotation: Tensor, scale: Tensor, shear: Tensor, spacing: Tensor | None = None) -> Tensor:
    """How content moves, in voxels: (B, D, D) = S^-1 (rotation @ shear @ diag(scale)) S, S = diag(spacing).

    With `spacing` (B, D) in mm the rotation is one of the body, not of the voxel lattice.
    """
    matrix = rotation_matrix(rotation) @ shear_matrix(shear) * scale[:, None, :]
    if spacing is not None:
        matrix = matrix * spacing[:, None, :] / spacing[:, :, None]
    return matrix


def sampling_grid(
    shape: Sequence[int],
    size: Sequence[int],
    *,
    origin: Tensor,
    matrix: Tensor | None = None,
    translation: Tensor | None = None,
    displacement: Tensor | None = None,
    flips: Tensor | None = None,
) -> Tensor:
    """Grid (B, *size, D) for `grid_sample`: an input of `shape` is flipped, then moved, bent and cropped to `size`.

    Args:
        shape: spatial shape of the input.
        size: spatial shape of the output.
        origin: (B, D) voxel of the input at the output's first voxel (negative: padding).
        matrix: (B, D, D) how content moves about the output's centre; None for not at all.
        translation: (B, D) by what fraction of `size` content moves towards higher indices.
        displacement: (B, D, *control) control points; the output looks that fraction of `size` further on.
        flips: (B, D) bool, which axes are reversed before all else.
    """
    dims, n = len(shape), len(origin)
    device = origin.device
    lengths = torch.tensor(shape, dtype=torch.float32, device=device)
    extent = torch.tensor(size, dtype=torch.float32, device=device)
    centre = (extent - 1) / 2
    shift = torch.zeros(n, dims, device=device) if translation is None else translation * extent
    back = torch.eye(dims, device=device).expand(n, dims, dims) if matrix is None else torch.linalg.inv(matrix)
    # input voxel = centre + origin + back (output voxel - centre - shift); then x -> (2 x + 1) / N - 1; a flip negates.
    step = 2 / lengths
    if flips is not None:
        step = step * torch.where(flips, -1.0, 1.0)
    step = step.expand(n, dims)
    at_centre = centre + origin - torch.einsum("bij,bj->bi", back, shift)
    constant = (2 * at_centre + 1) / lengths - 1
    if flips is not None:
        constant = torch.where(flips, -constant, constant)
    slopes = back * step[:, :, None]
    # The affine part is a sum of one ramp an axis, (B, D, 1, ..., length, ..., 1) each.
    ramps = []
    for axis, length in enumerate(size):
        line = torch.arange(length, dtype=torch.float32, device=device) - (length - 1) / 2
        ramps.append((slopes[:, :, axis, None] * line).view(n, dims, *_along(axis, length, dims)))
    ramps[0] = ramps[0] + constant.view(n, dims, *[1] * dims)
    if dims == 2:  # as complex numbers, x + iy, one addition writes both coordinates side by side
        rows, columns = (torch.complex(ramp[:, 1], ramp[:, 0]) for ramp in ramps)
        grid = torch.view_as_real(rows + columns)
    else:
        grid = torch.stack((ramps[0] + ramps[1] + ramps[2]).unbind(1)[::-1], dim=-1)
    if displacement is not None:
        field = spline_field(displacement * (step * extent)[(...,) + (None,) * dims], size)
        grid = grid + field.flip(1).movedim(1, -1)
    return grid


def _along(axis: int, length: int, dims: int) -> list[int]:
    """The shape of a line of `length` that lies along one of `dims` axes."""
    return [length if other == axis else 1 for other in range(dims)]


def resample(values: Tensor, grid: Tensor, mode: Mode = "linear", fill: Fill = "zeros") -> Tensor:
    """`values` (B, C, *spatial) at `grid` (B, *size, D); integers come back as integers.

    Args:
        values: what is looked up.
        grid: from `sampling_grid`.
        mode: between the voxels (bi- or trilinear), or the nearest of them.
        fill: outside of the image: 0, each sample's and channel's own minimum, or the voxel at its border.
    """
    dtype = values.dtype
    work = values if dtype == torch.float64 else values.float()
    low: Tensor | None = None
    if fill == "minimum":
        low = work.detach().flatten(2).amin(2).reshape(*work.shape[:2], *[1] * (work.ndim - 2))
        work = work - low
    if values.device.type == "cpu" and values.shape[-1] % 64 == 0:
        # Rows a power of two apart share few places in a CPU's cache, and slanted lines throw each other out.
        work = functional.pad(work, (0, 16))[..., :-16]
    looked_up = functional.grid_sample(
        work,
        grid.to(work.dtype),
        mode="nearest" if mode == "nearest" else "bilinear",
        padding_mode="border" if fill == "border" else "zeros",
        align_corners=False,
    )
    return (looked_up if low is None else looked_up + low).to(dtype)
