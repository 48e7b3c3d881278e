"""The same pixels twice: exact digests, perceptual hashes, and finding near duplicates among very many images.

Medical images of one kind look alike: the fields of view of fundus photographs, the rib cages of chest radiographs.
So near duplicates are found in three steps of rising cost. (1) A 128-bit difference hash of an 8x8 image; pairs that
share one of its eight 16-bit bands and differ in few bits are candidates (every pair of up to seven bits is found, by
the pigeonhole principle). (2) The correlation of 32x32 thumbnails whose local mean and contrast are removed, so that
what all images of the kind share counts little. (3) The same at 64x64, from the files again.

The numbers were chosen on `cxr`, `retina-vessels` and `polyps` of ../shared/data: at step 3 the most alike images of
different people reach 0.79 (fundus) and 0.77 (chest), while an image and its JPEG of quality 40, its copy at 60 % size,
or its copy with gamma 1.4 have at least 0.90, and with noise of 3 % of the range at least 0.84. Crops, flips and
rotations are not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
FINE_SIDE = 64
BLOCK = 4
BITS = 12
"""Most bits of 128 in which the hashes of near duplicates differ."""
LIKENESS = 0.75
"""Least correlation of near duplicates at 32x32."""
FINE_LIKENESS = 0.85
"""Least correlation of near duplicates at 64x64."""
CANDIDATES = 300_000
"""Most pairs whose thumbnails are compared."""
WINDOW = 256
"""Within a bucket of one band, each image is compared with so many that follow it in the order of the hash."""


def digest(array: NDArray[Any]) -> bytes:
    """Hash shape, type and pixels: 16 bytes, the same for the same image whatever its file format."""
    hasher = hashlib.blake2b(f"{array.shape} {array.dtype.str}".encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(array).data)
    return hasher.digest()


def flat_view(image: NDArray[Any]) -> NDArray[np.float32]:
    """(C, *spatial) to a grey 2D view, the mean over channels; of a volume a mosaic of four slices (last axis)."""
    if image.ndim == 4:
        at = [int(image.shape[-1] * part) for part in (0.2, 0.4, 0.6, 0.8)]
        one, two, three, four = (image[..., k] for k in at)
        image = np.concatenate([np.concatenate([one, two], axis=-1), np.concatenate([three, four], axis=-1)], axis=-2)
    grey: NDArray[np.float32] = image.mean(axis=0, dtype=np.float32)
    return np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)


def shrink(view: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(rows, columns) to (side, side) by block means; a shorter axis repeats its pixels."""
    for axis in (0, 1):
        length = view.shape[axis]
        edges = np.arange(side + 1) * length // side
        counts = np.maximum(np.diff(edges), 1).astype(np.float32)
        view = np.add.reduceat(view, edges[:-1], axis=axis) / (counts[:, None] if axis == 0 else counts)
    return view


def locally_normalised(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """(side, side) to a unit vector: less the mean of each block of 4x4, over its standard deviation.

    A quarter of the whole image's deviation is added to the divisor, so that noise in flat blocks stays small.
    """
    side = len(small)
    blocks = small.reshape(side // BLOCK, BLOCK, side // BLOCK, BLOCK)
    residual = blocks - blocks.mean(axis=(1, 3), keepdims=True)
    residual = residual / max(float(np.abs(residual).max()), 1e-12)  # squares of huge values would overflow
    spread = np.sqrt((residual**2).mean(axis=(1, 3), keepdims=True))
    vector = (residual / (spread + 0.25 * residual.std() + 1e-12)).ravel()
    unit: NDArray[np.float32] = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
    return unit


def difference_hash(small: NDArray[np.float32]) -> NDArray[np.uint64]:
    """128 bits (two uint64) of whether each of 8x8 block means exceeds its neighbour to the left, and above."""
    side = len(small) // 8
    coarse = small.reshape(8, side, 8, side).mean(axis=(1, 3))
    bits = np.concatenate([(coarse > np.roll(coarse, 1, axis=axis)).ravel() for axis in (1, 0)])
    return np.packbits(bits).view(np.uint64)


def fingerprint(image: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int8]]:
    """Hash (2,) and thumbnail (1024,) int8 of an image (C, *spatial); the thumbnail's entries are scaled to 127."""
    small = shrink(flat_view(image), SIDE)
    vector = locally_normalised(small)
    top = max(float(np.abs(vector).max()), 1e-12)
    return difference_hash(small), np.rint(vector * (127 / top)).astype(np.int8)


def fine_vector(image: NDArray[Any]) -> NDArray[np.float32]:
    """The unit vector whose products decide (step 3)."""
    return locally_normalised(shrink(flat_view(image), FINE_SIDE))


def near_pairs(
    hashes: NDArray[np.uint64], thumbnails: NDArray[np.int8]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], bool]:
    """Find pairs of images that may be near duplicates.

    Memory is of the order of n; time of n times the size of the buckets, at most `WINDOW`.

    Args:
        hashes: (n, 2).
        thumbnails: (n, 1024).

    Returns:
        First and second index (first < second) of each pair, its correlation at 32x32, and whether the search is
        complete: not so where more than `CANDIDATES` pairs had hashes alike (the frames of a long film), of which the
        likeliest were taken.
    """
    found = [np.zeros((0, 3))]
    left_over = CANDIDATES
    for one, two in _neighbours(hashes):
        close = np.bitwise_count(hashes[one] ^ hashes[two]).sum(axis=1) <= BITS
        one, two = np.minimum(one, two)[close][:left_over], np.maximum(one, two)[close][:left_over]
        left_over -= len(one)
        for start in range(0, len(one), 16384):  # a thumbnail as float32 is 4 KB
            a, b = one[start : start + 16384], two[start : start + 16384]
            left, right = thumbnails[a].astype(np.float32), thumbnails[b].astype(np.float32)
            norm = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
            likeness = np.einsum("ij,ij->i", left, right) / np.maximum(norm, 1e-12)
            found.append(np.column_stack([a, b, likeness])[likeness >= LIKENESS])
        if not left_over:
            break
    pairs = np.unique(np.concatenate(found), axis=0)
    indices = pairs[:, :2].astype(np.intp)
    return indices[:, 0], indices[:, 1], pairs[:, 2].astype(np.float32), left_over > 0


def _neighbours(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs that share a band, the nearest in the order of the hash first; a pair may come once a band."""
    bands = hashes.view(np.uint16)
    columns = range(bands.shape[1])
    orders = [np.lexsort((hashes[:, 1], hashes[:, 0], bands[:, band])) for band in columns]
    alive = set(columns)
    for offset in range(1, min(WINDOW, len(hashes) - 1) + 1):
        for band in sorted(alive):
            keys = bands[orders[band], band]
            same = np.flatnonzero(keys[:-offset] == keys[offset:])
            if len(same):
                yield orders[band][same], orders[band][same + offset]
            else:
                alive.discard(band)
