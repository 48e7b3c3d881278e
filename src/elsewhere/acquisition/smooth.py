"""Smooth random fields: few control points, many voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import draw_uniform


def spline_field(control: Tensor, shape: Sequence[int], order: int = 3) -> Tensor:
    """Uniform B-spline through space, from a coarse lattice of control points.

    Args:
        control: (B, K, *lattice), more than `order` points along each axis.
        shape: spatial shape of the field.
        order: of the spline: 1 linear, 2 quadratic, 3 cubic.

    Returns:
        (B, K, *shape), within the range of the control points; a constant lattice gives that constant.
    """
    field = control
    for axis, size in enumerate(shape):
        basis = spline_basis(field.shape[2 + axis], size, order, field)
        field = torch.matmul(field.movedim(2 + axis, -1), basis.T).movedim(-1, 2 + axis)
    return field


def spline_basis(points: int, size: int, order: int, like: Tensor) -> Tensor:
    """Weight of each control point at each of `size` voxel centres spread over the lattice, (size, points)."""
    place = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size * (points - order)
    x = place[:, None] - torch.arange(-order, points, device=like.device, dtype=like.dtype)
    basis = ((x >= 0) & (x < 1)).to(like.dtype)
    for degree in range(1, order + 1):  # Cox and de Boor, all knots one apart
        x = x[:, : basis.shape[1] - 1]
        basis = (x * basis[:, :-1] + (degree + 1 - x) * basis[:, 1:]) / degree
    return basis


def random_blend_map(shape: Sequence[int], generator: torch.Generator, *, points: int = 4) -> Tensor:
    """A smooth random map from 0 to 1 for `smooth_blend`: (B, 1, *spatial), quadratic splines.

    Ouyang et al. 2021 put a control point every quarter of the image; `points` intervals an axis here. Each map is
    stretched to reach from 0 to 1.

    Args:
        shape: of the images, (B, C, *spatial).
        generator: the only source of randomness; the map is made on its device.
        points: spline intervals along each axis.
    """
    batch, _, *spatial = shape
    field = spline_field(draw_uniform((batch, 1, *(points + 2,) * len(spatial)), (0, 1), generator), spatial, order=2)
    low, high = torch.aminmax(field.flatten(1), dim=1)
    low, span = (v.view(-1, *(1,) * (len(spatial) + 1)) for v in (low, high - low))
    return (field - low) / span.clamp_min(torch.finfo(field.dtype).tiny)


def smooth_blend(view_a: Tensor, view_b: Tensor, blend: Tensor) -> Tensor:
    """`view_a` where the map (B, 1, *spatial) is 1, `view_b` where it is 0; all of the views' shape (B, C, *spatial).

    The interventional pseudo-correlation augmentation (IPA) of Ouyang et al. 2021 blends two GIN views so.
    """
    return torch.lerp(view_b, view_a, blend.to(view_a).expand_as(view_a))
