"""Where a pretraining runs."""

from __future__ import annotations

import torch

from elsewhere.errors import SettingsError
from elsewhere.training.bfloat16 import check_bfloat16


def choose_device(name: str, precision: str, dims: int) -> torch.device:
    """The device of a setting, with its bfloat16 convolutions checked where they will be used.

    Raises:
        SettingsError: there is no GPU.
        RunError: its bfloat16 convolutions are wrong.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "device=cuda: torch finds no GPU here; use --recipe cpu, or --set device=cpu precision=32-true"
        )
    device = torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
    if precision == "bf16-mixed":
        check_bfloat16(device, dims)
    return device
