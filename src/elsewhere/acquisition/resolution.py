"""Resolution: thick slices and coarse pixels, brought back to the image's own grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import Between, Mechanism, Parameters, per_axis
from elsewhere.errors import SettingsError

Axes = Literal["one", "each", "all"]


def resolution_loss(image: Tensor, factor: Tensor) -> Tensor:
    """Average over coarse voxels along each axis (partial volume), then interpolate linearly back.

    Coarse voxels lie side by side from the first edge of the image; the last may reach over the other edge, where it
    averages what there is.

    Args:
        image: (B, C, *spatial).
        factor: size of the coarse voxels in voxels, at least 1 and not necessarily whole; (B,) or (1,) for all axes,
            (B, dims) or (1, dims) for each. 1 changes nothing.
    """
    factor = per_axis(factor, image)
    coarse = (factor.detach() > 1).any(0).tolist()
    for axis, needed in enumerate(coarse):
        if needed:
            size = image.shape[2 + axis]
            matrix = resolution_matrix(factor[:, axis], size).transpose(1, 2)
            lines = image.movedim(2 + axis, -1)
            image = torch.bmm(lines.flatten(1, -2), matrix).view(lines.shape).movedim(-1, 2 + axis)
    return image.contiguous()


def resolution_matrix(factor: Tensor, size: int) -> Tensor:
    """What `resolution_loss` does to one axis of `size` voxels, as matrices (B, size, size) from factors (B,)."""
    width = factor[:, None, None]
    number = torch.arange(size, device=factor.device, dtype=factor.dtype)
    last = torch.ceil(size / factor.detach()).clamp(1, size)[:, None, None] - 1
    cell, voxel = number[:, None], number[None, :]
    overlap = (torch.minimum((cell + 1) * width, voxel + 1) - torch.maximum(cell * width, voxel)).clamp_min(0)
    overlap = overlap * (cell <= last)
    average = overlap / overlap.sum(2, keepdim=True).clamp_min(torch.finfo(factor.dtype).tiny)
    place = torch.minimum(((number[:, None] + 0.5) / width - 0.5).clamp_min(0), last)
    return torch.bmm((1 - (place - number[None, :]).abs()).clamp_min(0), average)


@dataclass(frozen=True)
class Resolution(Mechanism):
    """Loss of resolution by `factor`, along `axes`: "one" axis at random (thick slices), "each" its own, or "all"."""

    factor: Between = (1.0, 4.0)
    axes: Axes = "one"
    limits: ClassVar = {"factor": (1, math.inf)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes not in ("one", "each", "all"):
            raise SettingsError(f"Resolution: axes is {self.axes!r}, wanted 'one', 'each' or 'all'")

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`factor` (B, dims)."""
        dims = len(shape) - 2
        factor = self.uniform("factor", (shape[0], dims if self.axes == "each" else 1), generator)
        if self.axes == "one":
            axis = torch.randint(dims, (shape[0], 1), generator=generator, device=generator.device)
            chosen = torch.arange(dims, device=generator.device) == axis
            return {"factor": torch.where(chosen, factor, torch.ones_like(factor))}
        return {"factor": factor.expand(-1, dims).contiguous()}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `resolution_loss`."""
        return resolution_loss(image, parameters["factor"])
