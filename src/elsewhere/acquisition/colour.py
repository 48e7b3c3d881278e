"""Colour of RGB images: camera-like jitter, and stain in histology."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import Between, Mechanism, Parameters, extent, lead, to_unit
from elsewhere.errors import SettingsError

LUMA = (0.299, 0.587, 0.114)
"""Weight of red, green and blue in brightness (ITU-R BT.601)."""

STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical density of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston 2001)."""


def colour_jitter(
    image: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor, tint: Tensor
) -> Tensor:
    """Change colour by one linear map of RGB an image: turn the hue, saturate, tint, brighten, then stretch contrast.

    Unlike a trip through HSV the hue is turned about the grey axis, which has a gradient everywhere. Nothing is
    clipped. Black is the image's lowest value over all channels.

    Args:
        image: (B, 3, *spatial).
        brightness: (B,) or (1,) factor; 1 changes nothing.
        contrast: (B,) or (1,) factor about the mean brightness; 1 changes nothing.
        saturation: (B,) or (1,) factor; 1 changes nothing, 0 gives grey.
        hue: (B,) or (1,) in turns; 0 changes nothing.
        tint: (B, 3) or (1, 3) factor of each channel; 1 changes nothing.

    Raises:
        SettingsError: not 3 channels.
    """
    _need_rgb(image, "colour_jitter")
    luma = torch.tensor(LUMA, device=image.device, dtype=image.dtype)
    saturation, hue = saturation.to(image)[:, None, None], hue.to(image)[:, None, None] * (2 * math.pi)
    identity = torch.eye(3, device=image.device, dtype=image.dtype)
    cross = identity.roll(1, 1) - identity.roll(-1, 1)
    turn = identity * hue.cos() + (1 - hue.cos()) / 3 - hue.sin() / math.sqrt(3) * cross
    saturate = identity * saturation + (1 - saturation) * luma
    gain = lead(brightness, image).view(-1, 1, 1) * tint.to(image)[:, :, None]
    matrix = (gain * (saturate @ turn)).expand(image.shape[0], 3, 3)
    low, _ = extent(image)
    colours = torch.bmm(matrix, (image - low).flatten(2)).view_as(image)
    contrast = lead(contrast, image)
    mean = (colours.flatten(2).mean(2) @ luma).view_as(low)
    return torch.addcmul(low + (1 - contrast) * mean, colours, contrast)


def stain(image: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Change the amount of each stain: haematoxylin, eosin and DAB, unmixed in optical density (Tellez et al. 2018).

    White, where no stain is, must be the image's highest value over all channels, and black its lowest; so this is
    for RGB images as decoded, or brought linearly to any other scale, the same for the three channels.

    Args:
        image: (B, 3, *spatial).
        gain: (B, 3) or (1, 3) factor of each stain; 1 changes nothing.
        offset: (B, 3) or (1, 3) added to each stain, in units of optical density (natural logarithm).

    Raises:
        SettingsError: not 3 channels.
    """
    _need_rgb(image, "stain")
    unit, low, span = to_unit(image)
    mix = torch.tensor(STAINS, device=image.device, dtype=image.dtype).T  # stains to RGB, on column vectors
    change = mix @ torch.diag_embed(gain.to(image)) @ torch.linalg.inv(mix)
    density = -unit.clamp_min(1e-6).log().flatten(2)
    shift = mix @ offset.to(image)[:, :, None]
    density = torch.bmm(change.expand(image.shape[0], 3, 3), density) + shift
    return torch.addcmul(low, (-density).exp().view_as(image), span)


def _need_rgb(image: Tensor, name: str) -> None:
    if image.shape[1] != 3:
        raise SettingsError(f"{name}: the image has {image.shape[1]} channels, wanted 3 (red, green, blue)")


@dataclass(frozen=True)
class ColourJitter(Mechanism):
    """Brightness, contrast, saturation, hue and tint (colour temperature) of RGB images."""

    brightness: Between = (0.8, 1.2)
    contrast: Between = (0.8, 1.2)
    saturation: Between = (0.7, 1.3)
    hue: Between = (-0.05, 0.05)
    tint: Between = (0.9, 1.1)
    limits: ClassVar = {
        "brightness": (0, math.inf),
        "contrast": (0, math.inf),
        "saturation": (0, math.inf),
        "hue": (-0.5, 0.5),
        "tint": (0, math.inf),
    }

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`brightness`, `contrast`, `saturation`, `hue` (B,), `tint` (B, 3)."""
        drawn = {name: self.uniform(name, shape[:1], generator) for name in self.limits if name != "tint"}
        return {**drawn, "tint": self.uniform("tint", (shape[0], 3), generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `colour_jitter`."""
        return colour_jitter(image, **parameters)


@dataclass(frozen=True)
class Stain(Mechanism):
    """Amounts of haematoxylin, eosin and DAB in histology; each stain's `gain` and `offset` are drawn apart."""

    gain: Between = (0.8, 1.2)
    offset: Between = (-0.1, 0.1)
    limits: ClassVar = {"gain": (0, math.inf), "offset": (-math.inf, math.inf)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`gain` (B, 3), `offset` (B, 3)."""
        return {name: self.uniform(name, (shape[0], 3), generator) for name in ("gain", "offset")}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `stain`."""
        return stain(image, parameters["gain"], parameters["offset"])
