"""Two images of one anatomy: the same borders, nothing else in common, not even the window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from elsewhere.acquisition import (
    Anatomy,
    BiasField,
    Curve,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Gibbs,
    Resolution,
    RicianNoise,
    Scanner,
    crop,
    gaussian_blur,
    smooth_noise,
)
from elsewhere.acquisition.anatomy_ensemble import ShapeEnsemble
from elsewhere.acquisition.mechanism import draw_coin, draw_normal, draw_uniform
from elsewhere.training.pretrain.settings import PretrainSettings

AIR = 0.7
"""Share of the images in which the background is dark, as air is; in the others it is a tissue like any other."""

GRAIN = (0.0, 0.25)
"""How strong the fine structure within tissues is, at most, where the intensities of tissues go from 0 to 1."""

SPECKLE = (0.0, 0.08)
"""Likewise of white texture, which the views do not share."""

SOFTNESS = (0.3, 0.8)
"""Voxels over which tissues mix at their borders (partial volume)."""


def drawn_scanner(dims: int) -> Scanner:
    """The distribution of scanners (our choice): every mechanism of grey images that leaves anatomy in its place."""
    return Scanner(
        [
            (Curve((0.0, 1.0), invert=0.5), 0.5),
            (BiasField((0.0, 0.5)), 0.5),
            (Gamma((0.5, 2.0)), 0.3),
            (GaussianBlur((0.3, 1.2)), 0.3),
            (Resolution((1.0, 3.0), "one" if dims == 3 else "all"), 0.25),
            (Gibbs((0.5, 1.0)), 0.15),
            (RicianNoise((0.0, 0.1)), 0.3),
            (GaussianNoise((0.0, 0.1)), 0.5),
        ]
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """Two views of a batch of anatomies, and what both show.

    Attributes:
        images: (2, B, 1, *spatial) float32, the first and the second views.
        labels: (B, *overlap) int64, of what both show. Labels of different anatomies have nothing to do with each
            other.
        where: for each view, where along each axis the overlap begins in it.
    """

    images: Tensor
    labels: Tensor
    where: tuple[tuple[int, ...], tuple[int, ...]]

    def overlap(self, maps: Tensor) -> Tensor:
        """What both views show, (2 B, F, *overlap), of maps (2 B, F, *spatial) of the first and then the second."""
        parts = zip(maps.chunk(2), self.where, strict=True)
        return torch.cat([crop(part, begin, tuple(self.labels.shape[1:])) for part, begin in parts])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Draws anatomies, and two images of each.

    The two windows lie at different places of the anatomy. In the same window, how far it is to each border would be
    the easiest thing that two views have in common, and a network learns to say that and nothing of the image.

    Attributes:
        dims: 2 or 3.
        size: voxels a side of a window.
        shift: voxels that the windows lie apart along each axis, at most.
        akin: share of the anatomies whose tissues look the same in both views, so that only the scanners differ.
        ensemble: anatomies that need no data.
        given: anatomies from label maps, or None.
        share: of anatomies that are given, where there are any.
        scanner: of each image.
    """

    dims: int
    size: int
    shift: int
    akin: float
    ensemble: Anatomy
    given: Anatomy | None
    share: float
    scanner: Scanner

    @classmethod
    def make(cls, dims: int, settings: PretrainSettings, given: Anatomy | None) -> Pairs:
        """As settings say, with the default ensemble and scanners."""
        windows = settings.size, settings.shift, settings.akin
        return cls(dims, *windows, ShapeEnsemble(), given, settings.given, drawn_scanner(dims))

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """A batch, on the generator's device; its windows are the same for all anatomies."""
        labels = self._anatomies(batch, generator)
        clean = paint(labels, generator, self.akin)
        begins = torch.randint(self.shift + 1, (2, self.dims), generator=generator, device=generator.device)
        size = (self.size,) * self.dims
        seen = torch.cat([crop(part, b, size) for part, b in zip(clean.chunk(2), begins.tolist(), strict=True)])
        first = begins.amax(0)
        overlap = (begins.amin(0) + self.size - first).tolist()
        shared = crop(labels[:, None], first.tolist(), overlap)[:, 0]
        images = self.scanner(seen, generator, overwrite=True).view(2, batch, 1, *size)
        there, back = (tuple(begin) for begin in (first - begins).tolist())
        return Drawn(images, shared, (there, back))

    def _anatomies(self, batch: int, generator: torch.Generator) -> Tensor:
        spatial = (self.size + self.shift,) * self.dims
        chosen = torch.rand(batch, generator=generator, device=generator.device) < self.share
        given = int(chosen.sum()) if self.given is not None else 0
        parts = [self.given.draw((given, *spatial), generator)] if self.given is not None and given else []
        if given < batch:
            parts.append(self.ensemble.draw((batch - given, *spatial), generator))
        return torch.cat(parts)


def paint(labels: Tensor, generator: torch.Generator, akin: float = 0.0) -> Tensor:
    """Two images of each anatomy before any scanner; every tissue has an intensity of its own in each.

    Unlike `acquisition.render`, tissues have a fine structure that lies at the same place in both views, each time
    with another strength and sign, as vessels or folds that are too fine for a label: so places within a tissue can be
    told apart, by where something is and not by how bright it is.

    Args:
        labels: (B, *spatial) int64.
        generator: the only source of randomness.
        akin: share of the anatomies whose tissues, and what is within them, are the same in both views.

    Returns:
        (2 B, 1, *spatial) float32, the first views, then the second ones.
    """
    batch, spatial = len(labels), tuple(labels.shape[1:])
    n, classes = 2 * batch, int(labels.max()) + 1
    level = draw_uniform((n, classes), (0, 1), generator)
    contrast = draw_normal((n, classes), generator) * draw_uniform((n, 1), GRAIN, generator)
    air = draw_coin((n,), AIR, generator)
    level[:, 0] = torch.where(air > 0, 0.05 * level[:, 0], level[:, 0])
    contrast[:, 0] = torch.where(air > 0, 0, contrast[:, 0])
    same = draw_coin((batch, 1), akin, generator)
    for table in (level, contrast):
        table[batch:] = torch.lerp(table[batch:], table[:batch], same)
    coarsest, finest = max(2, min(spatial) // 12), max(3, min(spatial) // 3)
    detail = torch.randint(coarsest, finest + 1, (2,), generator=generator, device=generator.device).tolist()
    grain = torch.stack([smooth_noise((batch, *spatial), number, generator) for number in detail]).sum(0) / 2**0.5
    flat = labels.flatten(1).repeat(2, 1)
    image = level.gather(1, flat) + contrast.gather(1, flat) * grain.flatten(1).repeat(2, 1)
    image = image + draw_uniform((n, 1), SPECKLE, generator) * draw_normal(tuple(flat.shape), generator)
    softness = draw_uniform((n,), SOFTNESS, generator)
    return gaussian_blur(image.view(n, 1, *spatial), softness)
