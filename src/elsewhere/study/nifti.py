"""NIfTI files: native integers, spacing in mm, affine to RAS+ mm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry

BYTES = 2**34
"""Most bytes of one decoded volume; a header that claims more is taken for corrupt (our choice)."""

_UNITS_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


def decode_nifti(path: Path, selection: str | None = None) -> tuple[NDArray[Any], Geometry]:
    """Decode a NIfTI file to (C, *spatial) in the file's own axes i, j, k.

    Axes after the third are channels (length one is dropped); with a `selection` such as "2" only that one is given.
    A volume of one slice is 2D: its axes i and j become columns and rows, so that the array is (rows, columns) as for
    a photograph. Values that the header scales become float32; all others keep their type.

    Raises:
        StudyError: complex values, time and channel axes both longer than one, no axis longer than one, an affine that
            is not finite or not invertible, or no such channel.
    """
    import nibabel as nib

    file = nib.load(path)
    shape = tuple(int(n) for n in file.shape)
    if int(np.prod(shape, dtype=object)) * file.get_data_dtype().itemsize > BYTES:
        raise StudyError(f"{path}: the header claims {'x'.join(map(str, shape))} voxels, more than are decoded")
    scaled = (getattr(file.dataobj, "slope", 1.0), getattr(file.dataobj, "inter", 0.0)) != (1.0, 0.0)
    array: NDArray[Any] = np.asarray(file.dataobj if selection is None else _channel(path, file, selection))
    if array.dtype.names is not None:  # RGB and RGBA voxels
        array = np.stack([array[name] for name in "RGB"], axis=-1)
    if array.dtype.kind == "c":
        raise StudyError(f"{path}: complex values; wanted magnitude images")
    if scaled:
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array.reshape(array.shape + (1,) * (3 - array.ndim))
    extra = [int(n) for n in np.shape(array)[3:] if n > 1]
    if len(extra) > 1:
        raise StudyError(f"{path}: shape {'x'.join(map(str, array.shape))}; wanted three axes, or three and channels")
    array = np.moveaxis(array.reshape(*array.shape[:3], extra[0] if extra else 1), -1, 0)
    unit = _UNITS_MM[file.header.get_xyzt_units()[0]] if hasattr(file.header, "get_xyzt_units") else 1.0
    matrix, placed = _affine(file)
    affine = np.diag([unit, unit, unit, 1.0]) @ matrix
    spacing = tuple(float(s) for s in np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))
    if not _spans(affine):
        raise StudyError(
            f"{path}: the affine is not invertible; wanted voxel axes that span the space (sform or qform)"
        )
    if array.shape[3] == 1:
        flat = np.ascontiguousarray(array[..., 0].transpose(0, 2, 1))
        return flat, Geometry(flat.shape[1:], (spacing[1], spacing[0]))
    array = np.ascontiguousarray(array)
    return array, Geometry(array.shape[1:], spacing, affine, unplaced=not placed)


def _affine(file: Any) -> tuple[NDArray[np.float64], bool]:
    """The affine to RAS+, and whether the file says it: with sform_code and qform_code 0 nibabel makes one up.

    A sform that spans no space gives way to a qform that does, as in ITK.
    """
    header = file.header
    if not hasattr(header, "get_sform"):
        return np.asarray(file.affine, dtype=np.float64), True
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is not None and qform is not None and not _spans(sform):
        return np.asarray(qform, dtype=np.float64), True
    return np.asarray(file.affine, dtype=np.float64), sform is not None or qform is not None


def _spans(affine: NDArray[np.floating[Any]]) -> bool:
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6 * np.prod(spacing))


def _channel(path: Path, file: Any, selection: str) -> Any:
    """One channel of an opened file, (i, j, k); the others are not kept in memory."""
    extra = [int(n) for n in file.shape[3:]]
    n = int(np.prod(extra, dtype=object))
    if sum(length > 1 for length in extra) > 1:
        return file.dataobj  # the caller says what is wrong with the axes
    if not selection.isdecimal() or int(selection) >= n:
        one = "a single channel, 0" if n == 1 else f"the channels 0 to {n - 1}"
        raise StudyError(f"{path}#{selection}: there is no channel '{selection}'; the file has {one}")
    return file.dataobj[(..., *(int(selection) if length > 1 else 0 for length in extra))]
