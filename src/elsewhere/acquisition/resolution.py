"""Resolution: thick slices and coarse pixels, brought back to the image's own grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
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
    largest = factor.detach().amax(0).tolist()
    for axis, most in enumerate(largest):
        if most > 1:
            index, weight = coarse_weights(factor[:, axis], image.shape[2 + axis], most)
            # Whole lines are added up: along the last axis that needs it transposed.
            lines = image.mT if 2 + axis == image.ndim - 1 else image
            lines = weighted_lines(lines, index, weight, min(2 + axis, image.ndim - 2))
            image = lines.mT if 2 + axis == image.ndim - 1 else lines
    return image.contiguous()


def coarse_weights(factor: Tensor, size: int, most: float) -> tuple[Tensor, Tensor]:
    """What `resolution_loss` does to one axis of `size` voxels: which voxels go into each, and how much of them.

    Args:
        factor: (B,), none above `most`.
        size: voxels along the axis.
        most: a number, which decides how many voxels are needed.

    Returns:
        index and weight (B, size, K): a voxel becomes the sum of weight times the voxels at index.
    """
    width = factor[:, None]
    number = torch.arange(size, device=factor.device, dtype=factor.dtype)
    last = torch.ceil(size / width.detach()).clamp(1, size) - 1
    place = torch.minimum(((number + 0.5) / width - 0.5).clamp_min(0), last)
    cell = place.detach().floor()  # each voxel lies between the centres of this coarse voxel and the next
    first = (cell * width.detach()).floor()
    voxel = first[..., None] + torch.arange(math.ceil(2 * most) + 1, device=factor.device)

    def share(cell: Tensor) -> Tensor:
        start, end = cell * width, ((cell + 1) * width).clamp_max(size)
        overlap = torch.minimum(end[..., None], voxel + 1) - torch.maximum(start[..., None], voxel)
        return overlap.clamp_min(0) / (end - start)[..., None]

    weight = torch.lerp(share(cell), share(torch.minimum(cell + 1, last)), (place - cell)[..., None])
    return voxel.clamp_max(size - 1).long(), weight


def weighted_lines(image: Tensor, index: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Sums of weighted lines of `image` (B, C, *spatial) along `axis`; index and weight (B, size, K)."""
    batch, size, number = index.shape
    before, after = image.shape[1:axis].numel(), image.shape[axis + 1 :].numel()
    lines = image.reshape(batch * before * size, after)
    start = torch.arange(batch * before, device=image.device).view(batch, before, 1, 1) * size
    return F.embedding_bag(
        (start + index[:, None]).view(-1, number),
        lines,
        per_sample_weights=weight[:, None].expand(-1, before, -1, -1).reshape(-1, number),
        mode="sum",
    ).view(image.shape)


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
