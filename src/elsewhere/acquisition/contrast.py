"""Contrast: gamma, monotone curves, inversion, gain and offset."""

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
    draw_coin,
    draw_normal,
    extent,
    lead,
    parse_probability,
    to_unit,
)
from elsewhere.errors import SettingsError


def gamma(image: Tensor, gamma: Tensor) -> Tensor:
    """Raise the image, brought to [0, 1] by its own range, to a power.

    Args:
        image: (B, C, *spatial).
        gamma: (B,) or (1,), positive; 1 changes nothing, above 1 darkens.
    """
    unit, low, span = to_unit(image)
    # Not exactly 0: there the slope of a power below 1 is infinite, and infinity times 0 is NaN.
    # Logarithm and exponential take less time than `pow`.
    power = unit.clamp_min_(torch.finfo(image.dtype).tiny).log_().mul_(lead(gamma, image)).exp_()
    return (power * span).add_(low)


def linear(image: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Stretch about the image's mean by `gain`, (B,) or (1,), then add `offset` times its range."""
    mean = image.mean(tuple(range(1, image.ndim)), keepdim=True)
    _, span = extent(image)
    shift, gain = lead(offset, image) * span, lead(gain, image)
    return torch.addcmul(mean * (1 - gain) + shift, image, gain)


def invert(image: Tensor, amount: Tensor | None = None) -> Tensor:
    """Swap bright and dark within the image's own range; `amount` (B,) fades between unchanged (0) and swapped (1)."""
    low, span = extent(image)
    swapped = 2 * low + span - image
    return swapped if amount is None else torch.lerp(image, swapped, lead(amount, image).expand_as(image))


def curve(image: Tensor, values: Tensor) -> Tensor:
    """A monotone cubic curve through evenly spaced knots of the intensity range (Fritsch and Butland 1984, "PCHIP").

    Args:
        image: (B, C, *spatial).
        values: (B, K) or (1, K), K >= 2: what the curve gives at intensity k / (K - 1) of the image's own range, as a
            fraction of that range; rising for a curve that keeps the order of intensities, falling for one that
            inverts it. Evenly spaced from 0 to 1 changes nothing.
    """
    unit, low, span = to_unit(image)
    values = values.to(image).expand(image.shape[0], -1)
    n = values.shape[1] - 1
    place = unit.flatten(1) * n
    piece = place.detach().floor().clamp_(0, n - 1)
    t = place - piece
    index = piece.long()
    c0, c1, c2, c3 = (c.gather(1, index) for c in _pchip(values))
    return torch.addcmul(low, (((c3 * t + c2) * t + c1) * t + c0).view_as(image), span)


def _pchip(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coefficients (B, K - 1) of 1, t, t^2, t^3 on each piece, t from 0 to 1 within it."""
    rise = values.diff(dim=1)
    if rise.shape[1] == 1:
        zero = torch.zeros_like(rise)
        return values[:, :-1], rise, zero, zero
    before, after = rise[:, :-1], rise[:, 1:]
    same = before * after > 0
    total = torch.where(same, before + after, torch.ones_like(before))
    inner = torch.where(same, 2 * before * after / total, torch.zeros_like(before))
    slope = torch.cat((_end(rise[:, 0], rise[:, 1])[:, None], inner, _end(rise[:, -1], rise[:, -2])[:, None]), dim=1)
    left, right = slope[:, :-1], slope[:, 1:]
    return values[:, :-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise


def _end(near: Tensor, far: Tensor) -> Tensor:
    """Slope at an end from the two rises next to it: three-point formula, limited so that the curve stays monotone."""
    slope = 1.5 * near - 0.5 * far
    slope = torch.where((near * far < 0) & (slope.abs() > 3 * near.abs()), 3 * near, slope)
    return torch.where(slope * near > 0, slope, torch.zeros_like(slope))


@dataclass(frozen=True)
class Gamma(Mechanism):
    """Gamma curve; the exponent is drawn uniformly in its logarithm, so that darkening and brightening are alike."""

    gamma: Between = (0.7, 1.5)
    limits: ClassVar = {"gamma": (1e-3, 1e3)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`gamma` (B,)."""
        return {"gamma": self.uniform("gamma", shape[:1], generator, log=True)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `gamma`."""
        return gamma(image, parameters["gamma"])


@dataclass(frozen=True)
class Linear(Mechanism):
    """Gain about the mean, and an offset as a fraction of the image's range."""

    gain: Between = (0.75, 1.25)
    offset: Between = (-0.1, 0.1)
    limits: ClassVar = {"gain": (0, math.inf), "offset": (-math.inf, math.inf)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`gain` (B,), `offset` (B,)."""
        return {name: self.uniform(name, shape[:1], generator) for name in ("gain", "offset")}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `linear`."""
        return linear(image, parameters["gain"], parameters["offset"])


@dataclass(frozen=True)
class Curve(Mechanism):
    """Random monotone contrast curve, falling with probability `invert`.

    Between `knots` evenly spaced intensities the curve rises by exp(strength * normal), scaled to reach from 0 to 1
    (our choice).
    """

    strength: Between = (0.0, 0.7)
    knots: int = 5
    invert: float = 0.0
    limits: ClassVar = {"strength": (0, 20)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.knots < 2:
            raise SettingsError(f"Curve: knots is {self.knots}, wanted at least 2")
        parse_probability("Curve: invert", self.invert)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`values` (B, knots)."""
        strength = self.uniform("strength", (shape[0], 1), generator)
        steps = (strength * draw_normal((shape[0], self.knots - 1), generator)).softmax(dim=1)
        values = torch.cat((torch.zeros_like(strength), steps.cumsum(dim=1)), dim=1)
        falling = draw_coin((shape[0], 1), self.invert, generator)
        return {"values": torch.where(falling > 0, 1 - values, values)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `curve`."""
        return curve(image, parameters["values"])


@dataclass(frozen=True)
class Invert(Mechanism):
    """Bright becomes dark and dark bright, as between T1 and T2 weighting or two display conventions."""

    amount: Between = 1.0
    limits: ClassVar = {"amount": (0, 1)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`amount` (B,)."""
        return {"amount": self.uniform("amount", shape[:1], generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `invert`."""
        return invert(image, parameters["amount"])
