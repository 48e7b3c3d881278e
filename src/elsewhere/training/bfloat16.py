"""Whether a device can be trusted with convolutions in bfloat16, and whether they gain anything there."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.errors import RunError
from elsewhere.training.threads import one_thread

WORST = 0.03
"""Largest error of a bfloat16 convolution, as a fraction of the largest value; bfloat16 has 8 bits, about 0.004."""

SLOW = 1.25
"""A bfloat16 convolution that takes this many times as long as a float32 one is worth a word. Our choice."""


def check_bfloat16(device: torch.device, dims: int) -> None:
    """Compare a bfloat16 convolution with float32: some releases of cuDNN give wrong 3D ones (pytorch#163539).

    A forward pass of one layer, contiguous and with the channels last, which take different kernels.

    Raises:
        RunError: they differ by more than rounding.
    """
    image, kernel = (values.to(device, torch.bfloat16) for values in _layer(dims, 16))
    convolve = functional.conv2d if dims == 2 else functional.conv3d
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
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


def slow_bfloat16(precision: str, device: str, dims: int) -> str | None:
    """Say so where a training would be faster in float32: a processor without bfloat16 instructions imitates them.

    Times one layer on one thread, the best of five, some tens of milliseconds; a GPU is not asked.

    Args:
        precision, device: as the settings have them; "auto" is a GPU where torch sees one.
        dims: 2 or 3.

    Returns:
        A sentence, or None.
    """
    if precision != "bf16-mixed" or device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return None
    with one_thread():
        image, kernel = _layer(dims, 16 if dims == 3 else 64)
        ratio = _seconds(image.bfloat16(), kernel.bfloat16()) / _seconds(image, kernel)
    if ratio < SLOW:
        return None
    return (
        f"a bfloat16 convolution takes {ratio:.1f} times as long as a float32 one on this processor; "
        "precision=32-true would be faster"
    )


def _layer(dims: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 32, *(size,) * dims, generator=generator)
    return image, torch.randn(32, 32, *(3,) * dims, generator=generator)


def _seconds(image: Tensor, kernel: Tensor) -> float:
    convolve = functional.conv2d if image.ndim == 4 else functional.conv3d
    found = []
    for _ in range(5):
        begin = time.perf_counter()
        convolve(image, kernel, padding=1)
        found.append(time.perf_counter() - begin)
    return min(found)


def describe_device(device: torch.device) -> str:
    """In words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
