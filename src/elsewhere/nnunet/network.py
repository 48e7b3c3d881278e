"""What nnU-Net trains, saves and predicts with: an extractor, dropout of channels, and nnU-Net's own network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from elsewhere.methods.dropgen import ChannelDropout, StableFeatures
from elsewhere.networks import stable


class DropGenNetwork(nn.Module):
    """Preprocessed image in, logits out, as nnU-Net's own network; features and dropout are inside.

    In a state dict the keys of nnU-Net's network begin with `network.`, those of the extractor with
    `stable.extractor.` (none for one without weights); nothing else has weights.

    Args:
        network: takes the channels that come out of `stable`, and those behind the image's.
        features: image to image and features.
        dropout: of those channels, in training.
        images: channels of the image. Behind them, in the second stage of a cascade, come those of the first stage's
            segmentation: the extractor does not see them, and they are never dropped (our choice).
    """

    def __init__(self, network: nn.Module, features: StableFeatures, dropout: ChannelDropout, images: int) -> None:
        super().__init__()
        self.network, self.stable, self.dropout, self.images = network, features, dropout, images

    @property
    def decoder(self) -> Any:
        """nnU-Net's; its trainer switches deep supervision on and off there."""
        return self.network.decoder

    def forward(self, image: Tensor) -> Any:
        """(B, C, *spatial) to what nnU-Net's network gives: logits, or under deep supervision a list of them."""
        channels = self.dropout(self.stable(image[:, : self.images]))
        if image.shape[1] > self.images:
            channels = torch.cat([channels, image[:, self.images :]], dim=1)
        return self.network(channels)


def build(
    record: Mapping[str, Any], dims: int, images: int, channels: int, make: Callable[[int], nn.Module]
) -> DropGenNetwork:
    """The network of a record (`options.record`); the extractor's weights are still to be loaded.

    Args:
        record: of the model.
        dims: 2 or 3.
        images: channels of the image.
        channels: of the input, `images` or more.
        make: nnU-Net's network for a number of input channels. Built wide rather than widened: nnU-Net draws first
            weights by the number of inputs (He), which is what `networks.widen` imitates for a network that is there.

    Raises:
        SettingsError: an option out of range, or an extractor that is not for these dimensions.
    """
    layout = stable.own_options(record["extractor_options"])
    extractor = stable.build(record["extractor"], dims, load=False, **layout)
    features = StableFeatures(extractor, record["norm"], image=record["image"], scale=float(record["scale"]))
    first = images if record["image"] else 0
    dropout = ChannelDropout(record["p"], first=first, p_first=record["p_image"])
    return DropGenNetwork(make(channels - images + first + images * extractor.features), features, dropout, images)
