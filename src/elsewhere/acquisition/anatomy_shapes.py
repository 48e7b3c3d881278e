"""Smooth random shapes: what anatomies are made of. Each axis runs from -1 to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from elsewhere.acquisition.geometry_grid import rotation_matrix
from elsewhere.acquisition.mechanism import draw_normal, positions
from elsewhere.acquisition.smooth import spline_field


def smooth_noise(shape: Sequence[int], detail: int, generator: torch.Generator) -> Tensor:
    """Smooth noise (B, *spatial) of mean 0 and variance about 1, with `detail` features along each axis."""
    n, *spatial = shape
    values = spline_field(draw_normal((n, 1, *[detail + 3] * len(spatial)), generator), spatial)[:, 0]
    # The squares of the four cubic weights add up to 151/315 on average over a span: the spline shrinks the variance.
    scaled: Tensor = values / math.pow(151 / 315, len(spatial) / 2)
    return scaled


def smooth_shapes(shape: Sequence[int], classes: int, detail: int, generator: torch.Generator) -> Tensor:
    """Label volumes (B, *spatial) int64 of shapes without a plan: at each voxel the largest of `classes` noises."""
    return torch.stack([smooth_noise(shape, detail, generator) for _ in range(classes)]).argmax(0)


def blob(
    spatial: Sequence[int], centre: Tensor, radius: Tensor, angle: Tensor, roughness: float, bumps: Tensor
) -> Tensor:
    """Masks (B, *spatial) of perturbed ellipsoids; the centre is always inside.

    Args:
        spatial: shape of the mask.
        centre: (B, D) in [-1, 1].
        radius: (B, D) semi-axes.
        angle: degrees, (B, 1) in 2D and (B, 3) in 3D.
        roughness: 0 to 1; by what part of its radius the surface goes up and down at most.
        bumps: (B, *spatial) smooth noise that does it.
    """
    axes = positions(spatial, centre)
    apart = [axis - middle.view(-1, *[1] * len(spatial)) for axis, middle in zip(axes, centre.T, strict=True)]
    turned = torch.einsum(
        "bij,jb...->ib...", rotation_matrix(angle), torch.stack([axis.expand(len(centre), *spatial) for axis in apart])
    )
    scaled = turned / radius.T.reshape(len(spatial), -1, *[1] * len(spatial))
    return scaled.square().sum(0).sqrt() < 1 + roughness * torch.tanh(bumps)
