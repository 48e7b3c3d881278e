"""Fields over the image: MR bias field, uneven light, vignetting, specular highlights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import (
    Between,
    Mechanism,
    Parameters,
    draw_normal,
    draw_uniform,
    extent,
    lead,
    positions,
)
from elsewhere.acquisition.smooth import spline_field
from elsewhere.errors import SettingsError


def multiply(image: Tensor, field: Tensor) -> Tensor:
    """The image's signal above its lowest value, times a field that broadcasts with it."""
    low, _ = extent(image)
    return low + (image - low) * field


def bias_field(image: Tensor, control: Tensor) -> Tensor:
    """Multiply the signal by the exponential of a smooth field.

    Args:
        image: (B, C, *spatial).
        control: (B, 1, *lattice) or (1, 1, *lattice), more than 3 points an axis: the field's logarithm at the control
            points of a cubic B-spline over the image. 0 changes nothing.
    """
    return multiply(image, spline_field(control.to(image), image.shape[2:]).exp())


def uneven_light(image: Tensor, slope: Tensor) -> Tensor:
    """Light from one side: multiply the signal by 1 + slope . r, r from -1 to 1 along each axis; never below 0.

    Args:
        image: (B, C, *spatial).
        slope: (B, dims) or (1, dims); 0 changes nothing.
    """
    shape = (-1, *(1,) * (image.ndim - 1))
    field = torch.ones((), device=image.device, dtype=image.dtype)
    for axis, line in enumerate(positions(image.shape[2:], image)):
        field = field + slope[:, axis].to(image).view(shape) * line
    return multiply(image, field.clamp_min(0))


def vignette(image: Tensor, strength: Tensor, centre: Tensor) -> Tensor:
    """Darken towards the corners: multiply the signal by 1 - strength * r^2, never below 0.

    Args:
        image: (B, C, *spatial).
        strength: (B,) or (1,): the part of the light lost in the corners of a centred vignette; 0 changes nothing.
        centre: (B, dims) or (1, dims), from -1 to 1 along each axis.
    """
    shape = (-1, *(1,) * (image.ndim - 1))
    loss = lead(strength, image) / (image.ndim - 2)
    field = torch.ones((), device=image.device, dtype=image.dtype)
    for axis, line in enumerate(positions(image.shape[2:], image)):
        field = field - loss * (line - centre[:, axis].to(image).view(shape)).square()
    return multiply(image, field.clamp_min(0))


def specular(image: Tensor, centre: Tensor, radius: Tensor, strength: Tensor) -> Tensor:
    """Highlights: Gaussian spots in which the image fades to its own highest value.

    Args:
        image: (B, C, *spatial).
        centre: (B, K, dims) or (1, K, dims), from -1 to 1 along each axis.
        radius: (B, K) or (1, K), standard deviation of each spot, as a fraction of half the image's first axis.
        strength: (B, K) or (1, K), from 0 (nothing) to 1 (the middle of the spot is as bright as the image gets).
    """
    centre, radius = centre.to(image), radius.to(image).clamp_min(1e-6)
    shape = (*centre.shape[:2], *(1,) * (image.ndim - 2))
    spot = strength.to(image).view(shape)
    for axis, line in enumerate(positions(image.shape[2:], image)):
        sharpness = image.shape[2 + axis] / image.shape[2] / radius.view(shape)
        spot = spot * torch.exp(-0.5 * ((line - centre[:, :, axis].view(shape)) * sharpness).square())
    low, span = extent(image)
    return torch.lerp(image, (low + span).expand_as(image), 1 - (1 - spot).prod(1, keepdim=True))


@dataclass(frozen=True)
class BiasField(Mechanism):
    """Smooth multiplicative field; the logarithm at its control points is normal with deviation `strength`."""

    strength: Between = (0.0, 0.5)
    points: int = 5
    limits: ClassVar = {"strength": (0, 10)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points < 4:
            raise SettingsError(f"BiasField: points is {self.points}, wanted at least 4 (cubic splines)")

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`control` (B, 1, points, ..., points)."""
        dims = len(shape) - 2
        strength = self.uniform("strength", (shape[0], *(1,) * (dims + 1)), generator)
        return {"control": strength * draw_normal((shape[0], 1, *(self.points,) * dims), generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `bias_field`."""
        return bias_field(image, parameters["control"])


@dataclass(frozen=True)
class Illumination(Mechanism):
    """Light from one side, its direction drawn anew: the signal changes by +-`strength` across the image."""

    strength: Between = (0.0, 0.4)
    limits: ClassVar = {"strength": (0, math.inf)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`slope` (B, dims)."""
        direction = draw_normal((shape[0], len(shape) - 2), generator)
        direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return {"slope": self.uniform("strength", (shape[0], 1), generator) * direction}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `uneven_light`."""
        return uneven_light(image, parameters["slope"])


@dataclass(frozen=True)
class Vignette(Mechanism):
    """Darkening towards the corners, about a centre up to `shift` from the middle along each axis."""

    strength: Between = (0.0, 0.6)
    shift: Between = (-0.2, 0.2)
    limits: ClassVar = {"strength": (0, math.inf), "shift": (-1, 1)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`strength` (B,), `centre` (B, dims)."""
        strength = self.uniform("strength", shape[:1], generator)
        return {"strength": strength, "centre": self.uniform("shift", (shape[0], len(shape) - 2), generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `vignette`."""
        return vignette(image, parameters["strength"], parameters["centre"])


@dataclass(frozen=True)
class Specular(Mechanism):
    """Specular highlights, `spots` an image, as of a light on wet tissue. Every parameter is of one image."""

    strength: Between = (0.3, 1.0)
    radius: Between = (0.02, 0.1)
    spots: int = 4
    limits: ClassVar = {"strength": (0, 1), "radius": (0, math.inf)}
    fresh: ClassVar = frozenset({"centre", "radius", "strength"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spots < 1:
            raise SettingsError(f"Specular: spots is {self.spots}, wanted at least 1")

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`centre` (B, spots, dims), `radius` (B, spots), `strength` (B, spots)."""
        size = (shape[0], self.spots)
        return {
            "centre": draw_uniform((*size, len(shape) - 2), (-1, 1), generator),
            "radius": self.uniform("radius", size, generator),
            "strength": self.uniform("strength", size, generator),
        }

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `specular`."""
        return specular(image, parameters["centre"], parameters["radius"], parameters["strength"])
