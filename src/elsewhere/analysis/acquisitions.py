"""Acquisitions under which a representation is looked at: one mechanism at a time, and a whole drawn scanner."""

from __future__ import annotations

import hashlib

import torch

from elsewhere.acquisition import BiasField, Curve, GaussianBlur, GaussianNoise, Invert, Resolution, Scanner
from elsewhere.errors import SettingsError

HOME = "home"
"""The acquisition that a case came with."""

SCANNER = "scanner"
"""The acquisition in which all mechanisms come together."""


def drawn_acquisitions(strength: float = 1.0) -> dict[str, Scanner]:
    """The acquisitions by name, in the order of the tables.

    One mechanism each, always on, its strength fixed so that draws differ in what they do and not in how much (our
    choice of strengths, at 1 about what separates two scanners or two sequences):

    | name | what | at strength s |
    |---|---|---|
    | curve | a rising curve of contrast, drawn | exp(s * normal) between 5 knots |
    | inversion | bright becomes dark | the whole range, whatever s |
    | bias | a smooth field, drawn | its logarithm at the points of a cubic spline is normal, deviation 0.4 s; at a voxel (151/315)^(dims/2) of that, 0.19 s in 2D and 0.13 s in 3D |
    | noise | Gaussian | deviation 5 % of the image's range times s |
    | blur | Gaussian | deviation 1 s voxels |
    | resolution | thick slices along one axis, drawn | 1 + 2 s voxels thick |
    | scanner | a curve that falls half of the time, a bias field, then blur and lost resolution, each half of the time, and noise | as above |

    Args:
        strength: above 0.

    Raises:
        SettingsError: it is not.
    """  # noqa: E501
    if not 0 < strength <= 10:
        raise SettingsError(f"strength of the acquisitions is {strength}, wanted a number above 0, 10 at most")
    curve, bias, noise = Curve(strength), BiasField(0.4 * strength), GaussianNoise(0.05 * strength)
    blur, resolution = GaussianBlur(strength), Resolution(1 + 2 * strength)
    alone = {
        "curve": curve, "inversion": Invert(), "bias": bias, "noise": noise, "blur": blur, "resolution": resolution,
    }  # fmt: skip
    whole = Scanner([Curve(strength, invert=0.5), bias, (blur, 0.5), (resolution, 0.5), noise])
    return {**{name: Scanner([mechanism]) for name, mechanism in alone.items()}, SCANNER: whole}


def generator_of(*key: object) -> torch.Generator:
    """A generator that depends on `key` alone: a case has the same draws whatever else is looked at."""
    return torch.Generator().manual_seed(seed_of(*key))


def seed_of(*key: object) -> int:
    """The seed of `generator_of`, from 0 to 2^63 - 1."""
    digest = hashlib.sha256("\n".join(str(part) for part in key).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
