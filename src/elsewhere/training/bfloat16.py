"""Whether a device can be trusted with convolutions in bfloat16."""

from __future__ import annotations

import torch
from torch.nn import functional

from elsewhere.errors import RunError

WORST = 0.03
"""Largest error of a bfloat16 convolution, as a fraction of the largest value; bfloat16 has 8 bits, about 0.004."""


def check_bfloat16(device: torch.device, dims: int) -> None:
    """Compare a bfloat16 convolution with float32: some releases of cuDNN give wrong 3D ones (pytorch#163539).

    A forward pass of one layer, contiguous and with the channels last, which take different kernels.

    Raises:
        RunError: they differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 32, *(16,) * dims, generator=generator).to(device, torch.bfloat16)
    kernel = torch.randn(32, 32, *(3,) * dims, generator=generator).to(device, torch.bfloat16)
    convolve, last = (
        (functional.conv2d, torch.channels_last) if dims == 2 else (functional.conv3d, torch.channels_last_3d)
    )
    right = convolve(image.float().cpu(), kernel.float().cpu(), padding=1)
    errors = [
        (convolve(image.to(memory_format=form), kernel.to(memory_format=form), padding=1).float().cpu() - right).abs()
        for form in (torch.contiguous_format, last)
    ]
    error = float(torch.stack(errors).max() / right.abs().max())
    if not error <= WORST:
        raise RunError(
            f"{describe_device(device)}: its bfloat16 {dims}D convolutions are wrong by {error:.2g} of the largest "
            f"value (torch {torch.__version__}, CUDA {torch.version.cuda}); use precision=32-true, or "
            "another torch"
        )


def describe_device(device: torch.device) -> str:
    """In words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
