"""A widened network on some of its input channels, the others being zero: what would be multiplied by 0 is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from elsewhere.networks.widen import answers_alike


def narrowed(network: nn.Module, layers: Sequence[str], image: Tensor, channels: Tensor) -> Any:
    """What `network` answers for an image whose other channels are zero, up to rounding.

    The layers that take the image take these channels alone, with their weights for them; the gradient of the other
    weights is 0, as it would be.

    Args:
        network: image (B, C, *spatial) to anything.
        layers: names of all convolutions that take the image (`widen`).
        image: (B, K, *spatial), the channels that are there.
        channels: (K,), their numbers.
    """
    names = [f"{layer}.weight" for layer in layers]
    weights = {name: network.get_parameter(name).index_select(1, channels) for name in names}
    return functional_call(network, weights, (image,))


def may_be_narrowed(network: nn.Module, layers: Sequence[str], dims: int) -> bool:
    """It takes fewer channels as `narrowed` gives them; some networks count them. Nothing is computed."""
    return answers_alike(
        network, _Narrowed(network, layers), network.get_parameter(f"{layers[0]}.weight").shape[1], dims
    )


class _Narrowed(nn.Module):
    """On its first channel."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network, self.layers = network, layers

    def forward(self, image: Tensor) -> Any:
        return narrowed(self.network, self.layers, image[:, :1], image.new_zeros(1).long())
