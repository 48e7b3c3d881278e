"""Blur: a Gaussian along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from elsewhere.acquisition.mechanism import Between, Mechanism, Parameters, lead, per_axis

TRUNCATE = 4.0
"""The kernel ends at this many standard deviations, as in SciPy."""


def gaussian_blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur; beyond its edges the image goes on with its edge values.

    Args:
        image: (B, C, *spatial).
        sigma: standard deviation in pixels, (B,) or (1,) for all axes, (B, dims) or (1, dims) for each; 0 changes
            nothing.
    """
    sigma = per_axis(sigma, image)
    radii = (sigma.detach().amax(0) * TRUNCATE + 0.5).floor().long().tolist()
    # Padded once for all axes: going on with the edge values commutes with blurring along another axis.
    image = F.pad(image, [radius for radius in reversed(radii) for _ in range(2)], mode="replicate")
    kernels = gaussian_kernel(sigma, max(radii))
    for axis, radius in enumerate(radii):
        if radius > 0:
            kernel = kernels[:, axis].narrow(1, max(radii) - radius, 2 * radius + 1)
            # On a CPU a convolution with a kernel of its own for each image and channel is slow.
            by_shifts = image.device.type == "cpu" and radius <= 12
            image = (_sum_of_shifts if by_shifts else _convolve)(image, kernel, 2 + axis)
    return image


def _sum_of_shifts(image: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Each image with its symmetric kernel (B, 2 radius + 1) along an axis, which gets shorter by 2 radius."""
    radius = kernel.shape[1] // 2
    length = image.shape[axis] - 2 * radius
    weights = lead(kernel.T, image[None], 2)  # (2 radius + 1, B, 1, ...)
    total = image.narrow(axis, radius, length) * weights[radius]
    for step in range(1, radius + 1):
        pair = image.narrow(axis, radius - step, length) + image.narrow(axis, radius + step, length)
        total.addcmul_(pair, weights[radius + step])
    return total


def _convolve(image: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """As `_sum_of_shifts`, by one convolution with a group for each image and channel."""
    batch, channels, *spatial = image.shape
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(spatial) - 1]
    shape = [batch * channels, 1, *(1,) * len(spatial)]
    shape[axis] = -1
    kernels = kernel.repeat_interleave(channels, 0).view(shape)
    blurred = convolve(image.reshape(1, batch * channels, *spatial), kernels, groups=batch * channels)
    return blurred.view(batch, channels, *blurred.shape[2:])


def gaussian_kernel(sigma: Tensor, radius: int) -> Tensor:
    """Sampled Gaussians that sum to 1, (..., 2 radius + 1), each ended at its own `TRUNCATE` standard deviations."""
    offset = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype).abs()
    kernel = torch.exp(-0.5 * (offset / sigma.clamp_min(1e-3)[..., None]).square())
    kernel = kernel * (offset <= (sigma.detach() * TRUNCATE + 0.5).floor()[..., None])
    return kernel / kernel.sum(-1, keepdim=True)


@dataclass(frozen=True)
class GaussianBlur(Mechanism):
    """Gaussian blur, `sigma` in pixels; drawn once for all axes, or for each axis with `anisotropic`."""

    sigma: Between = (0.25, 1.5)
    anisotropic: bool = False
    limits: ClassVar = {"sigma": (0, math.inf)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`sigma` (B,), or (B, dims)."""
        size = (shape[0], len(shape) - 2) if self.anisotropic else shape[:1]
        return {"sigma": self.uniform("sigma", size, generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `gaussian_blur`."""
        return gaussian_blur(image, parameters["sigma"])
