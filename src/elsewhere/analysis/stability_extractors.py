"""The representations that are compared, as they are named on a command line; intensities and a control always are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from elsewhere.errors import SettingsError
from elsewhere.networks import stable

IMAGE = "image"

POSITION = "position"
"""In the table, what a representation reaches that knows where in its window a voxel lies, and nothing of the image."""

WAVELENGTHS = (16, 32, 64)
"""Voxels, of `Position` (our choice)."""


class Intensities(stable.Extractor):
    """The image itself, as the representation that all others are compared with."""

    def __init__(self, dims: int) -> None:
        super().__init__(IMAGE, dims, 1)

    def extract(self, image: Tensor) -> Tensor:
        """(N, 1, *spatial), as it comes."""
        return image


class Position(stable.Extractor):
    """The place in the window alone: a control, which must not look stable.

    Sine and cosine of the voxel's index along each axis, counted from the window's first voxel, of each of the
    `WAVELENGTHS`: smooth, so alike in neighbouring voxels, and different for all places of a window.
    """

    def __init__(self, dims: int) -> None:
        super().__init__(POSITION, dims, 2 * dims * len(WAVELENGTHS))

    def extract(self, image: Tensor) -> Tensor:
        """(N, 2 * dims * wavelengths, *spatial)."""
        waves = []
        for axis in range(2, image.ndim):
            place = torch.arange(image.shape[axis], dtype=image.dtype, device=image.device)
            place = place.reshape([-1 if a == axis else 1 for a in range(1, image.ndim)])  # (1, *spatial), to expand
            for length in WAVELENGTHS:
                angle = 2 * math.pi / length * place
                waves += [angle.sin(), angle.cos()]
        return torch.cat([wave.expand(image.shape[0], 1, *image.shape[2:]) for wave in waves], dim=1)


def named_extractors(text: str, dims: int, trust: bool = False) -> dict[str, stable.Extractor]:
    """Extractors of `mind,elsewhere-3d=FILE,package.module:Class`, by the name that tables show.

    A name that comes with several files is told apart by them: `elsewhere-3d:first`, `elsewhere-3d:second`.

    Args:
        text: names by comma, each with a file of weights where wanted.
        dims: of the images.
        trust: import paths may be imported, which runs their code.

    Raises:
        SettingsError: no name, one named twice, or what `stable.build` raises.
        ModelError: weights that are missing, damaged or of another layout.
    """
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    pairs = [pair for pair in pairs if pair[0] not in (IMAGE, POSITION) or pair[2]]
    often = Counter(name for name, _, _ in pairs)
    found: dict[str, stable.Extractor] = {}
    for name, given, file in pairs:
        if not name or (given and not file):
            raise SettingsError(f"--extractors {text!r}: wanted NAME or NAME=FILE, by comma, such as mind")
        label = f"{name}:{Path(file).stem}" if often[name] > 1 and file else name
        if label in found:
            raise SettingsError(f"--extractors {text!r}: {label} is named twice; name it once")
        found[label] = stable.build(name, dims, weights=file or None, trust=trust)
    return found


def with_controls(extractors: Mapping[str, stable.Extractor], dims: int) -> dict[str, stable.Extractor]:
    """The image's own intensities first, then the extractors, then `Position`.

    Raises:
        SettingsError: one is of other dimensions.
    """
    for label, extractor in extractors.items():
        if extractor.dims != dims:
            raise SettingsError(f"extractor {label} is for {extractor.dims}D images, those of the study are {dims}D")
    own = {label: extractor for label, extractor in extractors.items() if label not in (IMAGE, POSITION)}
    return {IMAGE: Intensities(dims), **own, POSITION: Position(dims)}
