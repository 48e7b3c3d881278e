"""A trained network with some of its input channels removed: what it says of a case without each of them.

A removed channel is 0 everywhere. That is what dropout puts in the place of a dropped channel in training; it is also
the mean of a channel that is normalised image by image (features under `norm: instance`, images under `image-zscore`).
The channels that stay are as they were: nothing is scaled up, as nothing is in a model that is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elsewhere.analysis.sensitivity_table import ALL_FEATURES, ALL_IMAGE, FEATURE, IMAGE
from elsewhere.errors import ModelError
from elsewhere.methods import Method
from elsewhere.study.case import StoredCase
from elsewhere.study.resample import to_original
from elsewhere.tasks import predict
from elsewhere.training.model_io import Deployed

MOST_NUMBERS = 2**26
"""Logits of all removals that are run at once (256 MB): more removals of a large volume are run one after the other."""

MOST_AT_ONCE = 8
"""Removals that are run at once, whatever the size of the image: more is no quicker (our choice)."""


@dataclass(frozen=True)
class Removal:
    """Some of a network's input channels.

    Attributes:
        name: of the channel (`flair`, `mind 3`, or `flair: mind 3` where an image has several), or of all of a kind.
        kind: `IMAGE`, `FEATURE`, `ALL_IMAGE` or `ALL_FEATURES`.
        channels: their places among those that the network takes.
    """

    name: str
    kind: str
    channels: tuple[int, ...]


def removals(method: Method, channels: Sequence[str]) -> list[Removal]:
    """What can be removed of what a method's network takes: each channel, and all of either kind where there are both.

    Args:
        method: with `stable` (`methods.dropgen.StableFeatures`) where its network takes features too.
        channels: names of the image's channels.
    """
    stable = getattr(method, "stable", None)
    with_image = stable is None or stable.image
    image = [Removal(name, IMAGE, (i,)) for i, name in enumerate(channels if with_image else ())]
    names: list[str] = []
    if stable is not None:
        own = [f"{stable.extractor.name} {i + 1}" for i in range(stable.extractor.features)]
        several = len(channels) > 1
        names = [f"{channel}: {name}" if several else name for channel in channels for name in own]
    features = [Removal(name, FEATURE, (len(image) + i,)) for i, name in enumerate(names)]
    found = [*image, *features]
    for all_of, some, others in ((ALL_IMAGE, image, features), (ALL_FEATURES, features, image)):
        if len(some) > 1 and others:
            found.append(Removal(all_of, all_of, tuple(place for one in some for place in one.channels)))
    return found


def kept(some: Sequence[Removal]) -> Tensor:
    """(1 + R, C) of 0 and 1: a row of ones for the network as it is, then one for each removal."""
    n = 1 + max(place for one in some for place in one.channels)
    rows = torch.ones(1 + len(some), n)
    for row, one in enumerate(some, start=1):
        rows[row, list(one.channels)] = 0
    return rows


def answers(
    model: Deployed, stored: StoredCase, keep: Tensor, *, overlap: float, device: torch.device
) -> Iterator[NDArray[Any]]:
    """What a model says of a case, once for every row of `keep`; features are extracted once for several of them.

    Args:
        model: its method gives its network the channels in one call.
        stored: the case, on the grid of the model's preprocessing.
        keep: (R, C) factors of the network's input channels.
        overlap: of the sliding window.
        device: of the model.

    Yields:
        probabilities: (K, *spatial of the file) float32 for segmentation, (K,) float64 for classification.

    Raises:
        ModelError: the network takes another number of channels.
    """
    image = model.preprocessing.normalise(torch.from_numpy(np.array(stored.image)), stored)[None].to(device)
    segments = model.task.kind == "segmentation"
    numbers = model.task.n_outputs * (image[0, 0].numel() if segments else 1)
    at_once = max(1, min(MOST_AT_ONCE, MOST_NUMBERS // numbers))
    for some in torch.split(keep.to(device), at_once):
        again = image.expand(len(some), *image.shape[1:])
        with torch.inference_mode(), _masked(model, some) as masked:
            if not segments:
                logits: Tensor = masked(again)
                found = logits.cpu().double().softmax(dim=1)
            else:
                found = predict(
                    masked,
                    again,
                    model.patch_size,
                    model.task.n_outputs,
                    overlap=overlap,
                    multiple_of=model.multiple_of,
                ).cpu()
        for one in found:
            yield to_original(one.numpy(), stored) if segments else one.numpy()


@contextmanager
def _masked(model: Deployed, keep: Tensor) -> Iterator[nn.Module]:
    """A module that takes R times the same image and answers each time with other channels; weights are not touched."""
    n_channels = keep.shape[1]

    def mask(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        channels: Tensor = inputs[0]
        if channels.shape[1] != n_channels:
            raise ModelError(
                f"method {model.config['method']}: its network takes {channels.shape[1]} channels, and {n_channels} of "
                "them have a name: channels can be removed of methods whose network takes the image, or `stable`'s "
                "image and features"
            )
        return (channels * keep.view(*keep.shape, *(1,) * (channels.ndim - 2)), *inputs[1:])

    hook = model.method.network.register_forward_pre_hook(mask)
    try:
        yield _Once(model)
    finally:
        hook.remove()


class _Once(nn.Module):
    """Gives the model the first of images that are all the same: what is before its network is computed once."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image[:1])
        return logits
