"""Anatomies without a plan: random ensembles of regions, bodies, shells, sheets and tubes, for pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from elsewhere.acquisition.anatomy import Anatomy
from elsewhere.acquisition.anatomy_shapes import blob, smooth_noise, smooth_shapes
from elsewhere.acquisition.mechanism import draw_uniform, parse_probability, parse_range
from elsewhere.errors import SettingsError

SHEET, TUBE = 0.12, 0.35
"""Half width of a sheet and radius of a tube, in standard deviations of the noise that draws them (our choice)."""


@dataclass(frozen=True)
class ShapeEnsemble(Anatomy):
    """Many structures at once, one over the other, each with a label of its own (our choice of shapes throughout).

    First the image is divided into `regions` smooth regions; over them lie `blobs` perturbed ellipsoids of all sizes,
    large before small, each with a shell around it that is another structure; then sheets, where a smooth noise is
    near 0, and tubes, where two are. With probability `body` all of it lies in a body, with background (label 0)
    around. How many regions and how fine is drawn once for a batch, all else for each sample. The idea of such
    ensembles is that of Dey et al. (ICLR 2025); the shapes are not theirs.

    Attributes:
        regions: (fewest, most) of the smooth division.
        detail: (coarsest, finest) of its features along each axis.
        blobs: ellipsoids of a sample.
        radius: of the ellipsoids, as fractions of half the image, drawn uniformly in the logarithm.
        sheets, tubes: of a sample.
        body: share of the samples with background around.
    """

    regions: tuple[int, int] = (4, 16)
    detail: tuple[int, int] = (2, 8)
    blobs: int = 10
    radius: tuple[float, float] = (0.08, 0.6)
    sheets: int = 1
    tubes: int = 2
    body: float = 0.4

    def __post_init__(self) -> None:
        parse_range("ShapeEnsemble: regions", self.regions, (1, 1000))
        parse_range("ShapeEnsemble: detail", self.detail, (1, 1000))
        parse_range("ShapeEnsemble: radius", self.radius, (1e-3, 1e3))
        parse_probability("ShapeEnsemble: body", self.body)
        if min(self.blobs, self.sheets, self.tubes) < 0:
            raise SettingsError(
                f"ShapeEnsemble: {self.blobs} blobs, {self.sheets} sheets and {self.tubes} tubes; wanted 0 or more"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """background, the regions, then what lies over them; not every anatomy has all of them."""
        over = [f"{part} {i}" for i in range(1, self.blobs + 1) for part in ("shell", "blob")]
        thin = [f"sheet {i}" for i in range(1, self.sheets + 1)] + [f"tube {i}" for i in range(1, self.tubes + 1)]
        return ("background", *(f"region {i}" for i in range(1, self.regions[1] + 1)), *over, *thin)

    def draw(self, shape: Sequence[int], generator: torch.Generator, lesion: Tensor | None = None) -> Tensor:
        """See `Anatomy.draw`; `lesion` is not used, there is none."""
        n, *spatial = (int(s) for s in shape)
        dims, device = len(spatial), generator.device

        def whole(between: tuple[int, int]) -> int:
            return int(torch.randint(between[0], between[1] + 1, (1,), generator=generator, device=device))

        def noise() -> Tensor:
            return smooth_noise((n, *spatial), whole(self.detail), generator)

        labels = 1 + smooth_shapes((n, *spatial), whole(self.regions), whole(self.detail), generator)
        value = self.regions[1] + 1
        sizes = draw_uniform((n, self.blobs), self.radius, generator, log=True).sort(1, descending=True).values
        for i in range(self.blobs):
            centre = draw_uniform((n, dims), (-1, 1), generator)
            radius = sizes[:, i, None] * draw_uniform((n, dims), (0.6, 1.4), generator)
            angle = draw_uniform((n, 1 if dims == 2 else 3), (-180, 180), generator)
            bumps, shell = noise(), draw_uniform((n, 1), (0.5, 0.95), generator)
            for part in (radius, radius * shell):
                labels[blob(spatial, centre, part, angle, 0.4, bumps)] = value
                value += 1
        for _ in range(self.sheets):
            labels[noise().abs() < SHEET] = value
            value += 1
        for _ in range(self.tubes):
            detail = whole(self.detail)
            first, second = (smooth_noise((n, *spatial), detail, generator) for _ in range(2))
            labels[(first.square() + second.square()).sqrt() < TUBE] = value
            value += 1
        radius = draw_uniform((n, dims), (0.6, 1.1), generator)
        centre = draw_uniform((n, dims), (-0.2, 0.2), generator)
        inside = blob(spatial, centre, radius, torch.zeros(n, 1 if dims == 2 else 3, device=device), 0.25, noise())
        lonely = torch.rand(n, generator=generator, device=device) < self.body
        labels[~inside & lonely.view(-1, *[1] * dims)] = 0
        return labels
