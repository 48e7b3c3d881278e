"""The representations that are compared, as they are named on a command line; intensities are always one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from elsewhere.errors import SettingsError
from elsewhere.networks import stable

IMAGE = "image"


class Intensities(stable.Extractor):
    """The image itself, as the representation that all others are compared with."""

    def __init__(self, dims: int) -> None:
        super().__init__(IMAGE, dims, 1)

    def extract(self, image: Tensor) -> Tensor:
        """(N, 1, *spatial), as it comes."""
        return image


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
    pairs = [pair for pair in pairs if pair[0] != IMAGE or pair[2]]
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


def with_image(extractors: Mapping[str, stable.Extractor], dims: int) -> dict[str, stable.Extractor]:
    """The image's own intensities first, then the extractors.

    Raises:
        SettingsError: one is of other dimensions.
    """
    for label, extractor in extractors.items():
        if extractor.dims != dims:
            raise SettingsError(f"extractor {label} is for {extractor.dims}D images, those of the study are {dims}D")
    return {IMAGE: Intensities(dims), **{k: v for k, v in extractors.items() if k != IMAGE}}
