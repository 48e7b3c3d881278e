"""Anatomies: what is imaged, before any scanner. Label volumes of nested organs and lesions, in 2D and 3D.

Positions and sizes are fractions of the image: each axis runs from -1 to 1, so a shape keeps its look at any size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.acquisition.anatomy_shapes import blob, smooth_noise
from elsewhere.acquisition.blur import gaussian_blur
from elsewhere.acquisition.geometry import Spatial
from elsewhere.acquisition.mechanism import (
    Between,
    draw_normal,
    draw_uniform,
    parse_probability,
    parse_range,
)
from elsewhere.errors import SettingsError


@dataclass(frozen=True)
class Organ:
    """One organ, a perturbed ellipsoid within another.

    Attributes:
        name: of the organ.
        within: the organ that holds it, named earlier; None: the image.
        centre: place on each axis (the first D are used), from -1 to 1 across what holds it.
        wander: how far the centre moves from patient to patient along each axis, at most.
        radius: semi-axes, each drawn from this range, as fractions of those of what holds it.
        roughness: of its surface, 0 to 1.
        detail: bumps along each axis of the image.
    """

    name: str
    within: str | None = None
    centre: tuple[float, ...] = (0.0, 0.0, 0.0)
    wander: float = 0.0
    radius: Between = (0.7, 0.9)
    roughness: float = 0.2
    detail: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", parse_range(f"Organ {self.name}: radius", self.radius, (1e-3, 1e3)))
        parse_probability(f"Organ {self.name}: roughness", self.roughness)


@dataclass(frozen=True)
class Lesion:
    """A lesion that grows inside an organ.

    Attributes:
        within: name of the organ.
        radius: semi-axes, each drawn from this range, as fractions of half the image.
        number: (fewest, most) lesions of a patient who has any.
        roughness: of its surface, 0 to 1.
        detail: bumps along each axis of the image.
    """

    within: str
    radius: Between = (0.10, 0.18)
    number: tuple[int, int] = (1, 1)
    roughness: float = 0.4
    detail: int = 12

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", parse_range("Lesion: radius", self.radius, (1e-3, 1e3)))
        parse_probability("Lesion: roughness", self.roughness)
        if not 1 <= self.number[0] <= self.number[1]:
            raise SettingsError(f"Lesion: number is {self.number}, wanted (fewest, most) from 1 on")


def grow_lesion(
    labels: Tensor, organ: int, value: int, lesion: Lesion, on: Tensor, generator: torch.Generator
) -> Tensor:
    """`labels` (B, *spatial) with lesions of class `value` in the organ of class `organ`, where `on` (B,) says so.

    Each is centred well inside the organ where there is room, and never leaves it.

    Raises:
        SettingsError: an image that is to have a lesion has no such organ.
    """
    n, spatial = len(labels), tuple(labels.shape[1:])
    dims, device = len(spatial), generator.device
    inside = labels == organ
    result = labels.clone()
    lengths = torch.tensor(spatial, device=device)
    count = torch.randint(lesion.number[0], lesion.number[1] + 1, (n,), generator=generator, device=device)
    for which in range(lesion.number[1]):
        radius = draw_uniform((n, dims), _pair(lesion.radius), generator)
        angle = draw_uniform((n, 1 if dims == 2 else 3), (-90, 90), generator)
        bumps = smooth_noise((n, *spatial), lesion.detail, generator)
        chance = torch.rand(n, generator=generator, device=device).tolist()
        here = on.to(device) & (count > which)
        depth = max(1, round(0.75 * float(radius.mean()) * min(spatial) / 2))
        deep = _erode(inside, depth)
        centre = torch.zeros(n, dims, device=device)
        for i in here.nonzero()[:, 0].tolist():
            places = (deep[i] if bool(deep[i].any()) else inside[i]).nonzero()
            if not len(places):
                raise SettingsError(f"sample {i}: a lesion cannot grow in organ {organ}, which has no voxel here")
            centre[i] = (2 * places[int(chance[i] * len(places))] + 1) / lengths - 1
        mask = blob(spatial, centre, radius, angle, lesion.roughness, bumps)
        result[mask & inside & here.view(-1, *[1] * dims)] = value
    return result


def _erode(mask: Tensor, depth: int) -> Tensor:
    """Voxels (B, *spatial) further than `depth` (in the maximum norm) from all that is not `mask` and from the edge."""
    pool = functional.max_pool2d if mask.ndim == 3 else functional.max_pool3d
    outside = functional.pad((~mask).float()[:, None], [depth] * 2 * (mask.ndim - 1), value=1.0)
    eroded: Tensor = pool(outside, 2 * depth + 1, stride=1)[:, 0] == 0
    return eroded


def _pair(between: Between) -> tuple[float, float]:
    return between if isinstance(between, tuple) else (between, between)


@dataclass(frozen=True)
class Anatomy(ABC):
    """A distribution of label volumes; `classes` names their values, a lesion, where there is one, is the last."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the label values, in order."""

    @abstractmethod
    def draw(self, shape: Sequence[int], generator: torch.Generator, lesion: Tensor | None = None) -> Tensor:
        """Label volumes int64 of `shape` (B, *spatial); `lesion` (B,) bool says who has one (None: all)."""


BODY = Organ("body", None, radius=(0.78, 0.94), roughness=0.12, detail=3)
ORGAN = Organ("organ", "body", (0.0, -0.32, 0.0), 0.12, (0.45, 0.58), 0.3)
VESSEL = Organ("vessel", "body", (0.1, 0.5, 0.0), 0.12, (0.16, 0.26), 0.2)


@dataclass(frozen=True)
class NestedOrgans(Anatomy):
    """Organs within organs, and a lesion within one; later organs lie over earlier ones.

    The default is a body with an organ that may hold a lesion, and a vessel elsewhere that looks like one.

    Raises:
        SettingsError: an organ named twice, or held by one that is not named before it.
    """

    organs: tuple[Organ, ...] = (BODY, ORGAN, VESSEL)
    lesion: Lesion | None = field(default_factory=lambda: Lesion("organ"))

    def __post_init__(self) -> None:
        seen = ["background"]
        for organ in self.organs:
            if organ.name in seen or organ.name == "lesion":
                raise SettingsError(f"organ {organ.name!r}: the name is taken, wanted one of its own")
            if organ.within is not None and organ.within not in seen[1:]:
                raise SettingsError(f"organ {organ.name!r} lies within {organ.within!r}, which is not named before it")
            seen.append(organ.name)
        if self.lesion is not None and self.lesion.within not in seen[1:]:
            raise SettingsError(f"the lesion lies within {self.lesion.within!r}, wanted one of {', '.join(seen[1:])}")

    @property
    def classes(self) -> tuple[str, ...]:
        """background, the organs, lesion."""
        return ("background", *(organ.name for organ in self.organs), *(["lesion"] if self.lesion else []))

    def draw(self, shape: Sequence[int], generator: torch.Generator, lesion: Tensor | None = None) -> Tensor:
        """See `Anatomy.draw`."""
        n, *spatial = (int(s) for s in shape)
        dims, device = len(spatial), generator.device
        labels = torch.zeros(n, *spatial, dtype=torch.int64, device=device)
        everywhere = torch.ones(n, *spatial, dtype=torch.bool, device=device)
        whole = (everywhere, torch.zeros(n, dims, device=device), torch.ones(n, dims, device=device))
        drawn: dict[str | None, tuple[Tensor, Tensor, Tensor]] = {None: whole}
        for value, organ in enumerate(self.organs, start=1):
            holder, middle, reach = drawn[organ.within]
            place = torch.tensor(organ.centre[:dims], device=device)
            place = place + draw_uniform((n, dims), (-organ.wander, organ.wander), generator)
            centre = middle + place * reach
            radius = draw_uniform((n, dims), _pair(organ.radius), generator) * reach
            angle = draw_uniform((n, 1 if dims == 2 else 3), (-15, 15), generator)
            bumps = smooth_noise((n, *spatial), organ.detail, generator)
            mask = blob(spatial, centre, radius, angle, organ.roughness, bumps) & holder
            labels[mask] = value
            drawn[organ.name] = (mask, centre, radius)
        if self.lesion is not None:
            on = torch.ones(n, dtype=torch.bool) if lesion is None else lesion
            organ_value = self.classes.index(self.lesion.within)
            labels = grow_lesion(labels, organ_value, len(self.organs) + 1, self.lesion, on, generator)
        return labels


@dataclass(frozen=True, eq=False)
class GivenLabels(Anatomy):
    """Anatomies made of given label maps: one is picked for each sample, bent at random, and given a lesion.

    Attributes:
        labels: (N, *spatial) integers, all of one shape.
        names: of the label values, in order, 0 first.
        spatial: how a label map is bent; the default is a mild affine and elastic deformation.
        lesion: what grows in one of the organs.
    """

    labels: Tensor
    names: tuple[str, ...]
    spatial: Spatial = field(default_factory=lambda: Spatial(affine_probability=1.0, elastic_probability=1.0))
    lesion: Lesion | None = None

    def __post_init__(self) -> None:
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.names):
            raise SettingsError(
                f"label values go from {int(self.labels.min())} to {int(self.labels.max())}, but the names are for "
                f"0 to {len(self.names) - 1}"
            )
        if self.lesion is not None and self.lesion.within not in self.names[1:]:
            raise SettingsError(f"the lesion lies within {self.lesion.within!r}, wanted one of {self.names[1:]}")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names given, and lesion."""
        return (*self.names, *(["lesion"] if self.lesion else []))

    def draw(self, shape: Sequence[int], generator: torch.Generator, lesion: Tensor | None = None) -> Tensor:
        """See `Anatomy.draw`; maps of another shape are stretched to it first (nearest voxel)."""
        n, *spatial = (int(s) for s in shape)
        which = torch.randint(len(self.labels), (n,), generator=generator, device=generator.device)
        picked = self.labels.to(generator.device)[which].float()[:, None]
        picked = functional.interpolate(picked, tuple(spatial), mode="nearest-exact")
        labels = self.spatial(picked, generator, picked[:, 0].long()).target
        assert labels is not None
        if self.lesion is not None:
            on = torch.ones(n, dtype=torch.bool) if lesion is None else lesion
            organ = self.names.index(self.lesion.within)
            labels = grow_lesion(labels, organ, len(self.names), self.lesion, on, generator)
        return labels


def render(
    labels: Tensor,
    intensities: Tensor,
    generator: torch.Generator,
    *,
    texture: float | Tensor = 0.05,
    detail: int = 24,
    softness: float = 0.5,
) -> Tensor:
    """The image of an anatomy before any scanner: each tissue's intensity, with texture within it.

    Args:
        labels: (B, *spatial) int64, values below K.
        intensities: (B, K) or (1, K) for an image of one channel, (B, K, C) or (1, K, C) for one of C (3: RGB).
        generator: the only source of randomness (the texture's).
        texture: standard deviation of the texture as a fraction of the tissue's intensity; one number, or (K,).
        detail: features of the coarser half of the texture along each axis; the other half is white.
        softness: voxels over which tissues mix at their borders (partial volume; standard deviation of a blur).

    Returns:
        (B, C, *spatial) float32.
    """
    n, spatial = len(labels), tuple(labels.shape[1:])
    table = (intensities[..., None] if intensities.ndim == 2 else intensities).to(labels.device, torch.float32)
    table = table.expand(n, *table.shape[1:])
    if int(labels.max()) >= table.shape[1]:
        raise SettingsError(f"label {int(labels.max())} has no intensity: {table.shape[1]} were given")
    sample = torch.arange(n, device=labels.device).view(-1, *[1] * len(spatial))
    image = table[sample, labels].movedim(-1, 1)
    grain = (smooth_noise((n, *spatial), detail, generator) + draw_normal((n, *spatial), generator)) / 2**0.5
    amount = torch.as_tensor(texture, dtype=torch.float32).to(labels.device)
    amount = amount[labels] if amount.ndim else amount
    image = image * (1 + amount * grain.to(labels.device))[:, None]
    return gaussian_blur(image, torch.full((1,), softness)) if softness > 0 else image
