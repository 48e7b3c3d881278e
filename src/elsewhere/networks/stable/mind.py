"""MIND-SSC: what the surroundings of a voxel look like to each other, whatever the contrast."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.errors import SettingsError
from elsewhere.networks.stable.protocol import Extractor

CLAMP = (1e-3, 1e3)
"""Local noise is kept within these multiples of its mean over the image (our choice, that of public code too)."""

Offset = tuple[int, ...]


def neighbour_pairs(dims: int) -> list[tuple[Offset, Offset]]:
    """The pairs of direct neighbours that are sqrt(2) apart: 4 in 2D, 12 in 3D, in the order of the channels.

    Each pair stands beside its mirror image through the voxel.
    """
    pairs = []
    for i in range(dims):
        for j in range(i + 1, dims):
            for sign in (1, -1):
                first, second = _along(dims, i, 1), _along(dims, j, sign)
                pairs += [(first, second), (_minus(first), _minus(second))]
    return pairs


class Mind(Extractor):
    """Self-similarity context (Heinrich et al., MICCAI 2013): MIND (2012) without the voxel itself.

    For each pair of neighbours p, q of a voxel x, the patches around x + p and x + q are compared: D is the mean of
    their squared differences, d = D - the least D of the pairs, and the feature exp(-d / V), where V, the mean d of
    the pairs, stands for the noise at x. So an image a * I + b has the features of I, the largest feature of a voxel
    is 1, and a constant image has features of 1. Beyond its border an image goes on with its last voxel.

    Boxes as patches, d in the place of D and the clamp on V (see `CLAMP`) are our choice, and that of public
    implementations; the paper was not at hand.

    Args:
        dims: 2 or 3.
        radius: of the patches, 2 * radius + 1 voxels a side.
        dilation: voxels from x to its neighbours.

    Raises:
        SettingsError: a radius below 0, or a dilation below 1.
    """

    def __init__(self, dims: int, *, radius: int = 2, dilation: int = 2) -> None:
        if radius < 0 or dilation < 1:
            raise SettingsError(
                f"extractor mind: radius must be 0 or more and dilation 1 or more, found {radius} and {dilation}"
            )
        super().__init__("mind", dims, len(neighbour_pairs(dims)), {"radius": radius, "dilation": dilation})
        self.radius, self.dilation = radius, dilation

    def extract(self, image: Tensor) -> Tensor:
        """Features (N, 4 or 12, *spatial) of images (N, 1, *spatial), above 0 and at most 1."""
        features = self._distances(image)
        features -= features.amin(1, keepdim=True)
        noise = features.mean(1, keepdim=True)
        mean = noise.mean(tuple(range(1, noise.ndim)), keepdim=True)
        tiny = torch.finfo(noise.dtype).tiny  # a constant image: 0 / tiny, not 0 / 0
        noise = torch.minimum(torch.maximum(noise, (CLAMP[0] * mean).clamp_min(tiny)), CLAMP[1] * mean + tiny)
        return features.div_(noise).neg_().exp_()

    def _distances(self, image: Tensor) -> Tensor:
        """Sums of squared differences of patches (N, 4 or 12, *spatial); a mean's factor would cancel out.

        A pair (p, q) and its mirror image (-q, -p) have the same difference q - p, so that one filtered image serves
        both, read at x + p and at x - q.
        """
        margin = self.radius + self.dilation
        image = functional.pad(image, (margin, margin) * self.dims, mode="replicate")
        channels = []
        for p, q in neighbour_pairs(self.dims)[::2]:
            # Where the patches' centres x + p and x - q are, along each axis, and those of their partners.
            low = [self.dilation * min(a, -b) for a, b in zip(p, q, strict=True)]
            high = [self.dilation * max(a, -b) for a, b in zip(p, q, strict=True)]
            step = [self.dilation * (b - a) for a, b in zip(p, q, strict=True)]
            here = _window(image, margin, [n - self.radius for n in low], [n + self.radius for n in high])
            there = _window(
                image,
                margin,
                [n + s - self.radius for n, s in zip(low, step, strict=True)],
                [n + s + self.radius for n, s in zip(high, step, strict=True)],
            )
            energy = _box_sum((here - there).square_(), self.radius)
            for place in (p, _minus(q)):
                first = [self.dilation * a - n for a, n in zip(place, low, strict=True)]
                last = [self.dilation * a - n for a, n in zip(place, high, strict=True)]
                channels.append(_window(energy, 0, first, last))
        return torch.cat(channels, dim=1)


def _window(image: Tensor, margin: int, low: list[int], high: list[int]) -> Tensor:
    """The part of `image` whose axes begin at margin + low and end at their end - margin + high.

    By numbers that do not depend on the size of the image, which a trace would freeze.
    """
    parts = [slice(margin + a, b - margin or None) for a, b in zip(low, high, strict=True)]
    return image[(slice(None), slice(None), *parts)]


def _box_sum(image: Tensor, radius: int) -> Tensor:
    """Sum over a box of 2 * radius + 1 voxels a side, axis after axis; each axis gets shorter by 2 * radius."""
    for axis in range(2, image.ndim):
        lead = (slice(None),) * axis
        parts = [image[(*lead, slice(k, k - 2 * radius or None))] for k in range(2 * radius + 1)]
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        image = total
    return image


def _along(dims: int, axis: int, sign: int) -> Offset:
    return tuple(sign if a == axis else 0 for a in range(dims))


def _minus(offset: Offset) -> Offset:
    return tuple(-a for a in offset)
