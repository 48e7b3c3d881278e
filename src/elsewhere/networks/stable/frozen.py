"""A network as an extractor: its intensities, its sizes, its memory layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from elsewhere.errors import SettingsError
from elsewhere.networks.layout import channels_last
from elsewhere.networks.stable.normalise import unit_norm
from elsewhere.networks.stable.padding import cut_to, reflect_to
from elsewhere.networks.stable.protocol import Extractor
from elsewhere.networks.stable.scaling import SCALINGS, scale

OUTPUTS = ("none", "voxel")


class FrozenNetwork(Extractor):
    """A network of one channel in, frozen: scaled intensities, any size, features of the image's size.

    Runs under autocast where the caller does; its features come back in the dtype of the image all the same. In 2D its
    weights lie in memory with the channels last, which took a quarter less time on a CPU; in 3D they are as they come,
    since it depends on the network whether that is faster; `to(memory_format=torch.channels_last_3d)` changes it.

    Args:
        name: of the extractor.
        network: (N, 1, *spatial) to (N, features, *spatial); frozen here.
        dims, features: see `Extractor`.
        scaling: of the intensities, see `scaling.scale`.
        output: "voxel" for features of norm 1 at each voxel, "none".
        multiple, least: sizes that the network takes: multiples of `multiple` voxels, `least` multiples or more. Others
            are continued by reflection, and the features cut back.
        layout: see `Extractor`.

    Raises:
        SettingsError: another word.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        dims: int,
        features: int,
        *,
        scaling: str = "minmax",
        output: str = "none",
        multiple: int = 1,
        least: int = 1,
        layout: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, dims, features, layout)
        for key, word, allowed in (("scaling", scaling, SCALINGS), ("output", output, OUTPUTS)):
            if word not in allowed:
                raise SettingsError(f"extractor {name}: {key} must be one of {', '.join(allowed)}, found {word!r}")
        self.scaling, self.output, self.multiple, self.least = scaling, output, multiple, least
        if dims == 2:
            channels_last(network, dims)
        self.network = network
        self.requires_grad_(False)
        self.train(False)

    def extract(self, image: Tensor) -> Tensor:
        """Features (N, features, *spatial) of images (N, 1, *spatial)."""
        ready = reflect_to(scale(image, self.scaling), self.multiple, self.least)
        parameter = next((p for p in self.network.parameters() if p.is_floating_point()), ready)
        features = cut_to(self.network(ready.to(parameter.dtype)), image).to(image.dtype)
        return unit_norm(features) if self.output == "voxel" else features
