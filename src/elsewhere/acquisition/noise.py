"""Noise: Gaussian, Rician (magnitude MR), and Poisson-like (photon counting)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import Between, Mechanism, Parameters, draw_normal, extent, lead, to_unit


def gaussian_noise(image: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Add noise of the same strength everywhere.

    Args:
        image: (B, C, *spatial).
        sigma: (B,) or (1,), standard deviation as a fraction of the image's range.
        noise: standard normal numbers, of the image's shape or (1, C, *spatial).
    """
    _, span = extent(image)
    return torch.addcmul(image, noise.to(image), lead(sigma, image) * span)


def rician_noise(image: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Magnitude of the image, as a real signal above its lowest value, plus complex Gaussian noise (Gudbjartsson 1995).

    Args:
        image: (B, C, *spatial).
        sigma: (B,) or (1,), standard deviation of each of the two parts, as a fraction of the image's range.
        noise: standard normal numbers (B, 2, C, *spatial), or with a batch of 1: real and imaginary part.
    """
    low, span = extent(image)
    sigma = lead(sigma, image) * span
    real, imaginary = noise.to(image).unbind(1)
    # The tiny number keeps the slope of the root finite where the signal is exactly 0.
    power = (image - low + sigma * real).square() + (sigma * imaginary).square()
    return low + (power + torch.finfo(image.dtype).tiny).sqrt()


def poisson_noise(image: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Noise whose variance is proportional to the signal above the image's lowest value.

    The Gaussian limit of photon counting, which unlike counting has a gradient: 1 / sigma^2 photons at full intensity.

    Args:
        image: (B, C, *spatial).
        sigma: (B,) or (1,), standard deviation at the image's highest value, as a fraction of its range.
        noise: standard normal numbers, of the image's shape or (1, C, *spatial).
    """
    unit, _, span = to_unit(image)
    return torch.addcmul(image, noise.to(image) * unit.clamp_min(1e-12).sqrt(), lead(sigma, image) * span)


@dataclass(frozen=True)
class _NormalField(Mechanism):
    """What Gaussian and photon noise share: a strength, and a field of standard normal numbers, new for each image."""

    sigma: Between = (0.0, 0.1)
    limits: ClassVar = {"sigma": (0, math.inf)}
    fresh: ClassVar = frozenset({"noise"})

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`sigma` (B,), `noise` (B, C, *spatial)."""
        return {"sigma": self.uniform("sigma", shape[:1], generator), "noise": draw_normal(shape, generator)}


@dataclass(frozen=True)
class GaussianNoise(_NormalField):
    """Gaussian noise; `sigma` is a fraction of the image's range."""

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `gaussian_noise`."""
        return gaussian_noise(image, parameters["sigma"], parameters["noise"])


@dataclass(frozen=True)
class RicianNoise(Mechanism):
    """Rician noise; `sigma` is a fraction of the image's range."""

    sigma: Between = (0.0, 0.1)
    limits: ClassVar = {"sigma": (0, math.inf)}
    fresh: ClassVar = frozenset({"noise"})

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`sigma` (B,), `noise` (B, 2, C, *spatial)."""
        noise = draw_normal((shape[0], 2, *shape[1:]), generator)
        return {"sigma": self.uniform("sigma", shape[:1], generator), "noise": noise}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `rician_noise`."""
        return rician_noise(image, parameters["sigma"], parameters["noise"])


@dataclass(frozen=True)
class PoissonNoise(_NormalField):
    """Photon noise; `sigma` is its strength at full intensity, as a fraction of the image's range."""

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `poisson_noise`."""
        return poisson_noise(image, parameters["sigma"], parameters["noise"])
