"""Contours of an RTSTRUCT, filled on the planes of an image.

A structure is drawn as closed outlines in parallel planes, which need not be those of the image. Outlines of one plane
are combined by the even-odd rule, so that one within another is a hole. Then each slice of the image takes what lies
in the nearest plane within half a slice of it (two planes equally near: what lies in either). Where planes are farther
apart than slices, the slices between two planes are interpolated by the mean of the two signed distances, weighted by
nearness (Raya and Udupa 1990, IEEE TMI 9:32). A gap of more than 1.5 times the usual distance of the structure's planes
stays a gap: there the structure ends and begins again (our choice).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from elsewhere.errors import StudyError

Mask = NDArray[np.bool_]

SAME_PLANE = 0.05
"""Slices; outlines whose heights differ by less were drawn in one plane."""

WIDEST = 1.5
"""Gaps up to this many times the usual distance of a structure's planes are interpolated."""


def fill_contours(
    path: Path, tags: Any, to_voxels: NDArray[np.floating[Any]], shape: tuple[int, ...]
) -> tuple[dict[int, Mask], list[str]]:
    """A mask for each ROI of an RTSTRUCT.

    Args:
        path: the file, for messages.
        tags: of the file.
        to_voxels: (4, 4) from patient mm (LPS) to voxel indices.
        shape: of the image.

    Returns:
        masks of `shape` by ROI number, and what a person should know: structures that are cut at the image's end.

    Raises:
        StudyError: an outline that lies in no plane of the image, or a structure wholly outside.
    """
    masks = {int(roi.ROINumber): np.zeros(shape, dtype=bool) for roi in tags.get("StructureSetROISequence") or []}
    notes = []
    for roi in tags.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        mask = masks.setdefault(number, np.zeros(shape, dtype=bool))
        by_axis: dict[int, list[tuple[float, NDArray[np.float64]]]] = defaultdict(list)
        beyond = total = 0
        for contour in roi.get("ContourSequence") or []:
            if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                continue  # points and open lines enclose nothing
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            if len(points) < 3:
                continue
            voxels = (to_voxels @ np.column_stack([points, np.ones(len(points))]).T)[:3].T
            axis = int(np.ptp(voxels, axis=0).argmin())
            if np.ptp(voxels[:, axis]) > 0.1:
                raise StudyError(f"{path}: a contour of ROI {number} is not in a plane of its image")
            total += 1
            beyond += bool(((voxels < -0.5) | (voxels > np.array(shape) - 0.5)).any())
            by_axis[axis].append((float(voxels[:, axis].mean()), np.delete(voxels, axis, axis=1)))
        for axis, outlines in by_axis.items():
            filled, gap = fill_planes(outlines, shape[axis], shape[:axis] + shape[axis + 1 :])
            mask |= np.moveaxis(filled, 0, axis)
            if gap > WIDEST:
                notes.append(f"ROI {number} is drawn in two planes, {gap:.3g} slices apart; between them it is empty")
        if beyond and not mask.any():
            raise StudyError(f"{path}: ROI {number} lies outside its image; is it of another series?")
        if beyond:
            notes.append(f"{beyond} of {total} contours of ROI {number} reach beyond the image and are cut there")
    return masks, notes


def fill_planes(
    outlines: list[tuple[float, NDArray[np.float64]]], n_slices: int, shape: tuple[int, ...]
) -> tuple[Mask, float]:
    """Fill the outlines of one structure.

    Args:
        outlines: height in slices, and (n, 2) vertices in pixels, of each.
        n_slices: of the image along the normal.
        shape: of a slice.

    Returns:
        (n_slices, *shape); and, where there are just two planes, so that nobody knows whether they belong together,
        how many slices they are apart (else 0).
    """
    heights, planes = _planes(outlines, shape)
    out = np.zeros((n_slices, *shape), dtype=bool)
    slices = np.floor(np.round(heights, 3) + 0.5)  # a plane half way between two slices belongs to the upper one
    usual = float(np.median(np.diff(heights))) if len(heights) > 2 else 0.0
    signed = lru_cache(maxsize=2)(lambda plane: _signed(planes[plane]))
    for index in range(n_slices):
        mine = np.flatnonzero(slices == index)
        if len(mine):
            away = np.abs(heights[mine] - index)
            out[index] = np.any([planes[i] for i in mine[away <= away.min() + 1e-3]], axis=0)
            continue
        after = int(np.searchsorted(heights, index))
        if not 0 < after < len(heights):
            continue
        low, high = heights[after - 1], heights[after]
        if high - low <= WIDEST * usual:
            share = (index - low) / (high - low)
            out[index] = (1 - share) * signed(after - 1) + share * signed(after) < 0
    return out, float(heights[1] - heights[0]) if len(heights) == 2 else 0.0


def _planes(
    outlines: list[tuple[float, NDArray[np.float64]]], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], list[Mask]]:
    """Heights in rising order, and what is inside the outlines of each: by the even-odd rule."""
    heights: list[float] = []
    planes: list[Mask] = []
    for height, outline in sorted(outlines, key=lambda one: one[0]):
        filled = fill_polygon(outline, shape)
        if heights and height - heights[-1] < SAME_PLANE:
            planes[-1] = planes[-1] ^ filled
        else:
            heights.append(height)
            planes.append(filled)
    return np.array(heights), planes


def _signed(mask: Mask) -> NDArray[np.float64]:
    """Distance to the border in pixels: below 0 inside; far above 0 everywhere for an empty mask."""
    if not mask.any():
        return np.full(mask.shape, float(sum(mask.shape)))
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    return np.asarray(np.where(mask, 0.5 - inside, outside - 0.5))


def fill_polygon(outline: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Fill a closed polygon by the even-odd rule.

    Args:
        outline: (n, 2) vertices in pixels along the two axes; pixel centres are at whole numbers.
        shape: of the mask.

    Returns:
        `shape`, true where the centre of the pixel lies inside.
    """
    mask = np.zeros(shape, dtype=bool)
    first = max(int(np.ceil(outline[:, 0].min())), 0)
    last = min(int(np.floor(outline[:, 0].max())), shape[0] - 1)
    following = np.roll(outline, -1, axis=0)
    columns = np.arange(shape[1])
    for row in range(first, last + 1):
        # An edge crosses the row if just one of its ends lies at or below: each vertex counts once.
        crossing = (outline[:, 0] <= row) != (following[:, 0] <= row)
        a, b = outline[crossing], following[crossing]
        at = np.sort(a[:, 1] + (row - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))
        mask[row] = np.searchsorted(at, columns) % 2 == 1
    return mask
