"""What every extractor of stable features is: frozen, any image size, each image channel for itself."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from elsewhere.errors import SettingsError


class Extractor(nn.Module, ABC):
    """A frozen image (B, C, *spatial) to features (B, C * features, *spatial).

    Each channel of each image is seen alone (our choice: extractors know images of one channel), those of the first
    channel come first; so the features of an image do not depend on what else is in the batch. Any spatial size is
    taken. There is no gradient, neither to the image nor to the weights, and `train()` leaves it in evaluation mode:
    what is put inside another module stays as it was loaded.

    Attributes:
        name: as `build` knows it.
        dims: 2 or 3.
        features: channels that it makes of one image channel.
        layout: options with which `build(name, dims, load=False, **layout)` makes it again, without its weights.
    """

    def __init__(self, name: str, dims: int, features: int, layout: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise SettingsError(f"extractor {name}: an image has 2 or 3 dimensions, not {dims}")
        self.name, self.dims, self.features = name, dims, features
        self.layout = dict(layout or {})
        self.train(False)

    @abstractmethod
    def extract(self, image: Tensor) -> Tensor:
        """Features (N, features, *spatial) of images (N, 1, *spatial), float32 or float64."""

    def forward(self, image: Tensor) -> Tensor:
        """Features (B, C * features, *spatial) of images (B, C, *spatial), in the dtype of the images.

        Raises:
            SettingsError: images of other dimensions, or of whole numbers.
        """
        if image.ndim != self.dims + 2 or not image.is_floating_point():
            raise SettingsError(
                f"extractor {self.name}: wanted floating-point images (B, C, *spatial) with {self.dims} axes of "
                f"space, found {str(image.dtype).removeprefix('torch.')} of shape {list(image.shape)}"
            )
        space = image.shape[2:]
        with torch.no_grad():
            # float16 and bfloat16 are too coarse for differences of intensities, and to scale them.
            alone = image.reshape(-1, 1, *space)
            features = self.extract(alone if alone.dtype == torch.float64 else alone.float())
            return features.reshape(image.shape[0], -1, *space).to(image.dtype)

    @property
    def weights_hash(self) -> str:
        """SHA-256 of all weights, in hexadecimal; "" where there are none.

        Of names, types, shapes and values as they are used, not of a file: it is the same whichever kind of file they
        came from, and in a saved model.
        """
        state = self.state_dict()
        if not state:
            return ""
        digest = hashlib.sha256()
        for key in sorted(state):
            value = state[key].detach().cpu().contiguous()
            digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def train(self, mode: bool = True) -> Extractor:
        """Stays in evaluation mode."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Extractor:
        """Stays without gradients."""
        return super().requires_grad_(False)
