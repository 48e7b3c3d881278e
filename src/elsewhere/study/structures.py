"""Labels that DICOM keeps apart from the image: SEG (voxels) and RTSTRUCT (contours), put on the image's grid.

The value of a voxel is the number of its segment or ROI. Where structures overlap, the larger is painted first and the
smaller over it, so that a lesion within an organ is kept (our choice: a label has one value a voxel). A selection
`file.dcm#3,5` paints only those numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry, Picture
from elsewhere.study.contours import fill_contours
from elsewhere.study.dicom import decode_pixels, find, functional_group, read_tags

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def decode_structures(path: Path, selection: str | None, reference: Geometry | None) -> Picture | None:
    """Paint the segments of a SEG, or fill the contours of an RTSTRUCT, on the grid of `reference`.

    Args:
        path: the DICOM file, or a folder with nothing else in it.
        selection: comma-separated segment or ROI numbers; None: all.
        reference: the image's grid, 3D with an affine. A SEG can do without: it then lies on its own grid.

    Returns:
        (*spatial) uint8 or uint16 on `reference`; None where the file is neither SEG nor RTSTRUCT.

    Raises:
        StudyError: no reference for contours, frames or contours that do not lie on its planes, unknown numbers.
    """
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        if len(files) != 1:
            return None
        path = files[0]
    tags = read_tags(path)
    kind = tags.get("Modality")
    if kind not in ("SEG", "RTSTRUCT"):
        return None
    if kind == "RTSTRUCT" and reference is None:
        raise StudyError(f"{path}: contours (RTSTRUCT) have no grid of their own; wanted the image they were drawn on")
    grid = reference if reference is not None else _own_grid(path, tags)
    if grid.affine is None or grid.unplaced:
        raise StudyError(f"{path}: a {kind} label needs an image with an affine (a DICOM series or NIfTI in 3D)")
    notes: list[str] = []
    if kind == "SEG":
        masks = _segments(path, tags, grid)
    else:
        masks, notes = fill_contours(path, tags, np.linalg.inv(grid.affine) @ LPS_TO_RAS, grid.shape)
    chosen = _select(path, masks, selection)
    label = np.zeros(grid.shape, dtype=np.uint8 if max(chosen, default=0) < 256 else np.uint16)
    for number in sorted(chosen, key=lambda n: (-int(chosen[n].sum()), n)):
        label[chosen[number]] = number
    return Picture(label, grid, tuple(notes))


def declared_values(path: Path, selection: str | None) -> set[int] | None:
    """Say which values a SEG or RTSTRUCT declares, and 0; None where the file is neither."""
    if path.is_dir():
        return None
    tags = read_tags(path, pixels=False)
    if tags.get("Modality") == "SEG":
        numbers = {int(segment.SegmentNumber) for segment in tags.SegmentSequence}
    elif tags.get("Modality") == "RTSTRUCT":
        numbers = {int(roi.ROINumber) for roi in tags.StructureSetROISequence}
    else:
        return None
    return {0} | set(_select(path, dict.fromkeys(numbers, np.zeros(0, dtype=bool)), selection))


def _select(path: Path, masks: dict[int, NDArray[np.bool_]], selection: str | None) -> dict[int, NDArray[np.bool_]]:
    if selection is None:
        return masks
    try:
        wanted = [int(part) for part in selection.split(",")]
    except ValueError as error:
        raise StudyError(f"{path}: '#{selection}' is not a list of segment or ROI numbers, as in '#1,4'") from error
    if absent := [n for n in wanted if n not in masks]:
        raise StudyError(f"{path}: no structure number {absent[0]}; there are {', '.join(map(str, sorted(masks)))}")
    return {n: masks[n] for n in wanted}


def _frame_affines(path: Path, tags: Any) -> tuple[list[int], list[NDArray[np.float64]]]:
    """Segment number, and the affine (column, row, normal, origin; RAS mm) of each frame of a SEG."""
    shared = functional_group(tags.get("SharedFunctionalGroupsSequence"))
    numbers, affines = [], []
    for own in tags.get("PerFrameFunctionalGroupsSequence") or []:
        groups = (own, *shared)
        position = find(groups, "PlanePositionSequence", "ImagePositionPatient")
        orientation = find(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = find(groups, "PixelMeasuresSequence", "PixelSpacing")
        if not (position and orientation and spacing):
            raise StudyError(f"{path}: a segmentation frame without position, orientation or pixel spacing")
        between = find(groups, "PixelMeasuresSequence", "SpacingBetweenSlices")
        thickness = find(groups, "PixelMeasuresSequence", "SliceThickness")
        across, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
        affine = np.eye(4)
        affine[:3, 0] = across * float(spacing[1])
        affine[:3, 1] = down * float(spacing[0])
        affine[:3, 2] = np.cross(across, down) * float(between or thickness or 1.0)
        affine[:3, 3] = position
        numbers.append(int(find(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber") or 0))
        affines.append(LPS_TO_RAS @ affine)
    if not affines:
        raise StudyError(f"{path}: a segmentation without frames that say where they lie")
    return numbers, affines


def _own_grid(path: Path, tags: Any) -> Geometry:
    """Make the smallest grid that holds all frames of a SEG, for reading one without its image."""
    affines = _frame_affines(path, tags)[1]
    normal = affines[0][:3, 2] / np.linalg.norm(affines[0][:3, 2])
    heights = np.array([affine[:3, 3] @ normal for affine in affines])
    levels = np.unique(np.round(heights, 3))
    step = float(np.diff(levels).min()) if len(levels) > 1 else float(np.linalg.norm(affines[0][:3, 2]))
    affine = affines[int(heights.argmin())].copy()
    affine[:3, 2] = normal * step
    shape = (int(tags.Columns), int(tags.Rows), round(float(np.ptp(levels)) / step) + 1)
    return Geometry(shape, tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0)), affine)


def _segments(path: Path, tags: Any, grid: Geometry) -> dict[int, NDArray[np.bool_]]:
    """A mask on `grid` for each segment; fractional segments are cut at one half."""
    numbers, affines = _frame_affines(path, tags)
    pixels = decode_pixels(path, tags)[:, 0].transpose(0, 2, 1)  # (frames, columns, rows)
    kind = str(tags.get("SegmentationType", "BINARY"))
    declared = [int(segment.SegmentNumber) for segment in tags.SegmentSequence]
    masks = {n: np.zeros(grid.shape, dtype=bool) for n in declared if n > 0}
    threshold = 0.5 * float(tags.get("MaximumFractionalValue") or 1) if kind == "FRACTIONAL" else 0.5
    for frame, number, affine in zip(pixels, numbers, affines, strict=True):
        if not frame.any():
            continue
        voxels = np.argwhere(frame)
        values = frame[tuple(voxels.T)]
        places = _voxels_of(path, affine, voxels, grid)
        if kind == "LABELMAP":
            for value in np.unique(values):
                masks[int(value)][tuple(places[values == value].T)] = True
        else:
            masks[number][tuple(places[values >= threshold].T)] = True
    return masks


def _voxels_of(path: Path, affine: NDArray[np.float64], pixels: NDArray[Any], grid: Geometry) -> NDArray[np.intp]:
    """Voxels (n, 3) of `grid` under the (n, 2) pixels of a frame, which must lie on its voxel centres."""
    assert grid.affine is not None
    flat = np.column_stack([pixels, np.zeros(len(pixels)), np.ones(len(pixels))])
    exact = (np.linalg.inv(grid.affine) @ affine @ flat.T)[:3].T
    places: NDArray[np.intp] = np.rint(exact).astype(np.intp)
    off = float(np.abs(exact - places).max())
    if off > 0.1:
        raise StudyError(f"{path}: frames lie {off:.2f} voxels off the image's grid; resample the segmentation to it")
    if (places < 0).any() or (places >= np.array(grid.shape)).any():
        raise StudyError(f"{path}: the segmentation reaches outside its image; is it of another series?")
    return places
