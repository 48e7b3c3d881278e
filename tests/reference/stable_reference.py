"""Stable features re-derived slowly in NumPy and SciPy, from their definitions; images are (*spatial) float64."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]


def mind_ssc(image: Array, radius: int, dilation: int) -> dict[frozenset[tuple[int, ...]], Array]:
    """Voxel by voxel; each unordered pair of neighbours (in units of the dilation) to its feature map."""
    dims = image.ndim
    unit = np.eye(dims, dtype=int)
    neighbours = [tuple(int(v) for v in sign * unit[axis]) for axis in range(dims) for sign in (1, -1)]
    pairs = [
        (p, q)
        for p, q in itertools.combinations(neighbours, 2)
        if sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) == 2
    ]
    box = list(itertools.product(range(-radius, radius + 1), repeat=dims))

    def value(place: Array) -> float:
        return float(image[tuple(np.clip(place, 0, np.array(image.shape) - 1))])

    distance = np.zeros((len(pairs), *image.shape))
    for voxel in np.ndindex(image.shape):
        for k, (p, q) in enumerate(pairs):
            here, there = np.array(voxel) + dilation * np.array(p), np.array(voxel) + dilation * np.array(q)
            distance[(k, *voxel)] = np.mean([(value(here + u) - value(there + u)) ** 2 for u in np.array(box)])
    distance -= distance.min(axis=0)
    noise = distance.mean(axis=0)
    noise = np.clip(noise, 1e-3 * noise.mean(), 1e3 * noise.mean())
    features = np.exp(-distance / noise)
    return {frozenset(pair): features[k] for k, pair in enumerate(pairs)}


def unet(
    state: Mapping[str, Array], image: Array, downs: int, norm: str, pooling: str, upsampling: str, eps: float
) -> Array:
    """A U-Net (features, *spatial) from a state dict in anatomix's numbering, written without a list of layers."""

    def convolve(x: Array, index: int) -> Array:
        weight = state[f"model.{index}.weight"]
        out = np.array(
            [sum(ndimage.correlate(c, k, mode="mirror") for c, k in zip(x, kernels, strict=True)) for kernels in weight]
        )
        bias = state.get(f"model.{index}.bias")
        return out if bias is None else out + bias.reshape(-1, *(1,) * (x.ndim - 1))

    def block(x: Array, index: int) -> Array:
        x = convolve(x, index)
        wide = (-1, *(1,) * (x.ndim - 1))
        if norm == "batch":
            named = {k: state[f"model.{index + 1}.{k}"].reshape(wide) for k in ("weight", "bias")}
            mean, var = (state[f"model.{index + 1}.running_{k}"].reshape(wide) for k in ("mean", "var"))
            x = (x - mean) / np.sqrt(var + eps) * named["weight"] + named["bias"]
        else:
            space = tuple(range(1, x.ndim))
            x = (x - x.mean(space, keepdims=True)) / np.sqrt(x.var(space, keepdims=True) + eps)
        return np.maximum(x, 0)

    def pool(x: Array) -> Array:
        for axis in range(1, x.ndim):
            parts = np.stack(np.split(x, x.shape[axis] // 2, axis=axis))
            x = np.moveaxis(parts.max(axis + 1) if pooling == "max" else parts.mean(axis + 1), 0, axis)
        return x

    def double(x: Array) -> Array:
        for axis in range(1, x.ndim):
            if upsampling == "nearest":
                x = np.repeat(x, 2, axis=axis)
            else:
                n = x.shape[axis]
                place = (np.arange(2 * n) + 0.5) / 2 - 0.5
                x = np.apply_along_axis(lambda line, n=n, place=place: np.interp(place, np.arange(n), line), axis, x)
        return x

    x = block(image[None], 0)
    skips = []
    for level in range(downs):  # conv norm relu, conv norm relu, pool: seven numbers a level
        x = block(block(x, 3 + 7 * level), 6 + 7 * level)
        skips.append(x)
        x = pool(x)
    bottom = 3 + 7 * downs
    x = block(block(x, bottom), bottom + 3)
    for level in range(downs):
        up = bottom + 6 + 7 * level
        x = block(block(np.concatenate([skips.pop(), double(x)]), up + 1), up + 4)
    return convolve(x, bottom + 6 + 7 * downs)
