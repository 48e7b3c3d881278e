"""Convolutions that leave out input channels in which there is nothing but zeros, while they train on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


def leave_out_zeros(layer: _ConvNd) -> None:
    """Let a convolution look for channels that are 0 in the whole batch, and compute without them; in place.

    Answers and gradients stay the same up to rounding: such a channel adds nothing, and the gradient of its weights is
    0. It looks in training mode on a CPU and where no gradient goes to the input (there such a channel has one); on a
    GPU looking would be waiting. Of plain `nn.Conv2d` and `nn.Conv3d` alone; other layers stay as they are.
    """
    if type(layer) is nn.Conv2d:
        layer.__class__ = SparseConv2d
    elif type(layer) is nn.Conv3d:
        layer.__class__ = SparseConv3d


class SparseConv2d(nn.Conv2d):
    """See `leave_out_zeros`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found: Tensor = super()._conv_forward(*_without_zeros(self, input, weight), bias)
        return found


class SparseConv3d(nn.Conv3d):
    """See `leave_out_zeros`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found: Tensor = super()._conv_forward(*_without_zeros(self, input, weight), bias)
        return found


def _without_zeros(layer: _ConvNd, image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Input and weights on the channels that are there."""
    idle = not layer.training or image.requires_grad or image.device.type != "cpu" or image.ndim != weight.ndim
    if idle or torch.compiler.is_compiling():
        return image, weight
    there = _channels_there(image)
    if len(there) in (0, image.shape[1]):
        return image, weight
    return image.index_select(1, there), weight.index_select(1, there)


def _channels_there(image: Tensor) -> Tensor:
    """Numbers of the channels that are not 0 everywhere; what is no number is not 0."""
    there = [number for number in range(image.shape[1]) if int(image[:, number].count_nonzero())]
    return torch.tensor(there, dtype=torch.long)
