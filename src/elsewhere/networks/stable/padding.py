"""Images of any size for networks that halve: continued by reflection, and cut back."""

from __future__ import annotations

import torch
from torch import Tensor


def reflect_to(image: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Continue each axis at its end until it is a multiple, by reflection that repeats the last voxel.

    At the end only, so that the grid on which a network halves begins at the corner of the image. An axis shorter
    than what is added is reflected to and fro, one of a single voxel repeated. Written so that `torch.jit.trace` and
    the export to ONNX keep it right for other sizes than that of the example.

    Args:
        image: (N, C, *spatial).
        multiple: of voxels.
        least: multiples along each axis at least.
    """
    if multiple == 1 and least == 1:
        return image
    for axis in range(2, image.ndim):
        size = image.shape[axis]
        wanted = _at_least((size + multiple - 1) // multiple, least) * multiple  # ONNX has no floor of -size / multiple
        if not isinstance(size, Tensor) and wanted == size:  # in a trace it is one, and the answer no constant
            continue
        place = torch.arange(wanted, device=image.device) % (2 * size)
        image = image.index_select(axis, torch.where(place < size, place, 2 * size - 1 - place))
    return image


def cut_to(image: Tensor, like: Tensor) -> Tensor:
    """The corner of `image` (N, F, *spatial) that has the spatial size of `like`."""
    for axis in range(2, image.ndim):
        image = image[(slice(None),) * axis + (slice(0, like.shape[axis]),)]
    return image


def _at_least(value: int, least: int) -> int:
    if isinstance(value, Tensor):  # max() would choose once and for all in a trace
        return value.clamp(min=least)
    return max(value, least)
