"""Sliding windows over an image: MONAI's windows, weights and averages, with less memory beside the network.

Where MONAI's `sliding_window_inference` holds a map of how much weight each voxel gets, beside the logits, from the
first window to the last, that map is made here at the end and in slabs: the memory that a prediction needs at most is
while a window is in the network. There an image may be as its file has it, and each window is normalised by itself. The
numbers are the same, of one image bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIGMA = 0.125
"""Of the Gaussian weights, in patches: as nnU-Net and MONAI."""

Place = tuple[slice, ...]


def slide(
    model: nn.Module,
    image: Tensor,
    patch: Sequence[int],
    overlap: float,
    at_once: int,
    device: torch.device,
    normalise: Callable[[Tensor], Tensor] | None = None,
    n_outputs: int | None = None,
) -> Tensor | None:
    """Logits of an image, averaged over windows with Gaussian weights.

    Args:
        model: (B, C, *patch) to logits (B, K, *patch).
        image: (B, C, *spatial). An axis shorter than the patch is padded with 0, symmetrically.
        patch: voxels of a window per axis.
        overlap: of neighbouring windows, in [0, 1).
        at_once: windows run at a time.
        device: where the windows are summed up.
        normalise: voxel by voxel, what the model is to see of the image; None: the image as it is.
        n_outputs: K, where it is known: then there is room for the sum before the network makes holes in the memory.

    Returns:
        (B, K, *spatial) float32 on `device`; None where the model gives (B, K), and there is nothing to average.
    """
    from monai.data.utils import compute_importance_map, dense_patch_slices

    n_images, spatial = len(image), tuple(image.shape[2:])
    missing = [max(p - n, 0) for n, p in zip(spatial, patch, strict=True)]
    before = [m // 2 for m in missing]
    if any(missing):
        if normalise is not None:  # what is padded with 0 is the normalised image
            image, normalise = normalise(image), None
        pads = [p for b, m in zip(reversed(before), reversed(missing), strict=True) for p in (b, m - b)]
        image = functional.pad(image, pads)
    size = tuple(image.shape[2:])
    steps = tuple(p if p == n else max(1, int(p * (1 - overlap))) for n, p in zip(size, patch, strict=True))
    places: list[Place] = dense_patch_slices(size, patch, steps)
    weight = compute_importance_map(tuple(patch), mode="gaussian", sigma_scale=SIGMA, device=image.device)
    total = None if n_outputs is None else torch.zeros((n_images, n_outputs, *size), device=device)
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        seen = [image[_everything(place)] for place in some]
        if normalise is not None:
            seen = [normalise(window) for window in seen]
        logits = model(seen[0] if len(seen) == 1 else torch.cat(seen)).float()
        if logits.ndim == 2:
            return None
        if total is None or total.shape[1] != logits.shape[1]:  # of the first window only
            total = torch.zeros((n_images, logits.shape[1], *size), device=device)
        for place, one in zip(some, (logits * weight).to(device).split(n_images), strict=True):
            total[_everything(place)] += one
        del seen, logits, one  # not beside the activations of the next windows
    assert total is not None
    _divide(total, places, weight.to(device))
    for axis, (b, n) in enumerate(zip(before, spatial, strict=True), start=2):
        total = total.narrow(axis, b, n)
    return total


def _everything(place: Place) -> tuple[Any, ...]:
    """Index of a window in (B, C, *spatial)."""
    return (slice(None), slice(None), *place)


def _divide(total: Tensor, places: Sequence[Place], weight: Tensor) -> None:
    """Divide (B, K, *spatial) by the sum of the weights of all windows, in place, slab by slab of the first axis."""
    edges = sorted({edge for place in places for edge in (place[0].start, place[0].stop)})
    for first, last in pairwise(edges):
        sum_of_weights = torch.zeros((last - first, *total.shape[3:]), device=total.device)
        for place in places:
            start = place[0].start
            if start <= first and last <= place[0].stop:
                sum_of_weights[(slice(None), *place[1:])] += weight[first - start : last - start]
        total[:, :, first:last] /= sum_of_weights
