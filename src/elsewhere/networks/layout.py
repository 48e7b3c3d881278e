"""How weights lie in memory."""

from __future__ import annotations

import torch
from torch import nn

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def channels_last(module: nn.Module, dims: int) -> None:
    """Let the weights of convolutions lie with their channels last, in place; what they compute then does, too.

    A frozen extractor within the module is no exception.

    Args:
        module: of any device.
        dims: 2 or 3, the dimensions of its convolutions; others stay as they are.
    """
    for parameter in module.parameters():
        if parameter.ndim == dims + 2:
            parameter.data = parameter.data.to(memory_format=FORMATS[dims])  # `contiguous` leaves one channel as it is
