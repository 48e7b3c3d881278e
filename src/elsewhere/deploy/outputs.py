"""Masks and probabilities on the grid of their input: PNG of an image, NIfTI of a volume, DICOM SEG of DICOM.

A stack of TIFF pages gives a stack of TIFF pages: it has no axes in space that a NIfTI file could name. Headers are
written anew: of a NIfTI file only the grid is kept, for its free text and extensions may name a patient.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.deploy.case_names import file_name
from elsewhere.deploy.inputs import MASKS, Input
from elsewhere.deploy.labelling import Labelling
from elsewhere.errors import RunError
from elsewhere.files import atomic
from elsewhere.study.case import Geometry
from elsewhere.study.reading import file_format, split_selection


def output_path(found: Input, geometry: Geometry, kind: str) -> str:
    """Where the mask or the probabilities of a case go, relative to the folder of a prediction.

    Args:
        found: the input.
        geometry: of its file.
        kind: MASKS or PROBABILITIES.
    """
    if found.dicom and kind == MASKS:
        suffix = ".dcm"
    elif geometry.affine is not None or (not found.dicom and _format(found) == "nifti"):
        suffix = ".nii.gz"
    else:
        suffix = ".png" if kind == MASKS and len(geometry.shape) == 2 else ".tif"
    return f"{kind}/{file_name(found.case)}{suffix}"


def write_mask(path: Path, found: Input, labels: NDArray[Any], geometry: Geometry, labelling: Labelling) -> None:
    """Write class indices (*spatial of the file) as what `output_path` chose; complete or not at all.

    Raises:
        RunError: the disk is full, a value does not fit the format, or no DICOM SEG can be made of the headers.
    """
    if path.suffix == ".dcm":
        from elsewhere.deploy.dicom_seg import write_segmentation
        from elsewhere.deploy.dicom_series import series_at

        series = found.series or series_at(next(iter(found.images.values())))
        write_segmentation(path, labels, geometry, series, labelling, found.case)
        return
    values = mask_values(labels, labelling)
    if path.name.endswith(".nii.gz"):
        _write_nifti(path, values, geometry, found)
    elif path.suffix == ".png":
        _write_png(path, values, labelling)
    else:
        _write_tiff(path, np.moveaxis(values, -1, 0), geometry)


def write_probabilities(path: Path, found: Input, probabilities: NDArray[np.float32], geometry: Geometry) -> None:
    """Write (K, *spatial of the file) float32: NIfTI with the classes along the fourth axis, or a TIFF page a class.

    The pages of a TIFF stack are (classes, slices), in ImageJ's order.

    Raises:
        RunError: the disk is full.
    """
    if path.name.endswith(".nii.gz"):
        classes_last = np.moveaxis(probabilities, 0, -1)
        _write_nifti(path, classes_last, geometry, found)
    else:
        pages = probabilities if probabilities.ndim == 3 else np.moveaxis(probabilities, -1, 1)
        _write_tiff(path, pages, geometry)


def mask_values(labels: NDArray[Any], labelling: Labelling) -> NDArray[Any]:
    """Class indices to the values of mask files, in the smallest type that holds them all."""
    table = np.array(labelling.values)
    if table.min() < 0:
        dtype: Any = np.int16 if np.abs(table).max() < 2**15 else np.int32
    else:
        dtype = np.uint8 if table.max() < 2**8 else np.uint16 if table.max() < 2**16 else np.int32
    if labels.dtype == dtype and np.array_equal(table, np.arange(len(table))):
        return labels
    values: NDArray[Any] = table.astype(dtype)[labels]
    return values


def _write_nifti(path: Path, values: NDArray[Any], geometry: Geometry, found: Input) -> None:
    """(*spatial) or (*spatial, K), on the grid of the file: its own affine, codes and units where it is a NIfTI."""
    import nibabel as nib

    nifti = not found.dicom and _format(found) == "nifti"
    source = nib.load(split_selection(next(iter(found.images.values())))[0]) if nifti else None
    if source is not None and len(geometry.shape) == 2:  # read as rows and columns; in the file i, j, k
        values = np.swapaxes(values, 0, 1)[:, :, None]
    image = nib.Nifti1Image(values, geometry.affine if source is None else source.affine)
    if source is None:
        image.header.set_xyzt_units("mm")
    elif hasattr(source.header, "get_xyzt_units"):
        image.header.set_xyzt_units(source.header.get_xyzt_units()[0])
        for take, give in ((source.get_sform, image.set_sform), (source.get_qform, image.set_qform)):
            affine, code = take(coded=True)
            give(affine, code)  # without a code: no affine
    # Level 1: of masks nearly as small as level 9, and much faster. No name and no time: equal masks, equal bytes.
    with atomic(path) as temporary, temporary.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
        image.to_stream(file)


def _write_png(path: Path, values: NDArray[Any], labelling: Labelling) -> None:
    from PIL import Image

    if values.dtype not in (np.uint8, np.uint16):
        raise RunError(f"{path}: the class values {labelling.values} do not fit a PNG; wanted 0 to 65535")
    with atomic(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")


def _write_tiff(path: Path, pages: NDArray[Any], geometry: Geometry) -> None:
    """(..., rows, columns), one page each."""
    import tifffile

    spacing: dict[str, Any] = {}
    if geometry.spacing is not None:  # pages a centimetre, as `study.raster` reads them
        spacing = {"resolution": (10 / geometry.spacing[1], 10 / geometry.spacing[0]), "resolutionunit": "CENTIMETER"}
    with atomic(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.ascontiguousarray(pages),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
            **spacing,
        )


def _format(found: Input) -> str:
    return file_format(next(iter(found.images.values())))


def volume_ml(count: int, geometry: Geometry) -> float | None:
    """Millilitres of some voxels; None where the file does not say how large a voxel is, or is 2D."""
    if geometry.spacing is None or len(geometry.shape) != 3:
        return None
    if geometry.affine is not None:  # slices need not be stacked along their normal
        voxel = abs(float(np.linalg.det(geometry.affine[:3, :3])))
    else:
        voxel = float(np.prod(geometry.spacing))
    return count * voxel / 1000


def class_counts(labels: NDArray[Any], n_classes: int) -> Sequence[int]:
    """Voxels of each class."""
    counts: list[int] = np.bincount(labels.reshape(-1), minlength=n_classes).tolist()
    return counts
