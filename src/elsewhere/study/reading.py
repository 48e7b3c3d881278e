"""Reading one file, whatever its format: images (C, *spatial), labels and maps (*spatial), and where they lie.

Formats: PNG, JPEG, BMP, GIF, WebP (`raster`); TIFF (`raster`); NIfTI (`nifti`); DICOM files and series folders, DICOM
SEG and RTSTRUCT as labels (`dicom`, `structures`). A path may end in `#SELECTION`: one series of a DICOM folder
(`ct#1.2.840...`), the segments or ROIs of a SEG or RTSTRUCT that are the label (`rtss.dcm#1,4`), or one channel of a
NIfTI file of four axes, counted from 0 (`brain.nii.gz#2`).

Whatever goes wrong with a file is a `StudyError` of one sentence that names it. No message holds a DICOM header's
patient name or number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry, Picture
from elsewhere.study.config import MaskPlace
from elsewhere.study.palette import Colours, colours_of

PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pnm")
TIFFS = (".tif", ".tiff")
PALETTES = (".png", ".gif", ".bmp", ".webp")
NIFTIS = (".nii", ".nii.gz")
DICOMS = (".dcm", ".dicom", ".ima")

NEARLY_WHOLE = 1e-3
"""A mask's value this near a whole number is that number: headers that scale, and float files, miss it (our choice)."""

MOST_LOSSLESS = 16
"""A JPEG mask with more values than this has been blurred by its compression (our choice)."""
LOSSY = "JPEG compression blurs the values of a mask; save masks as PNG"

T = TypeVar("T")


class GridError(StudyError):
    """Two files of one case do not lie on one grid: other size, spacing or affine.

    Attributes:
        found, wanted: the two clauses ("is 512x512", "is 584x565").
    """

    def __init__(self, message: str, found: str, wanted: str) -> None:
        super().__init__(message)
        self.found, self.wanted = found, wanted

    def __reduce__(self) -> tuple[type[GridError], tuple[str, str, str]]:
        return type(self), (str(self), self.found, self.wanted)


def file_format(path: Path) -> str:
    """Name the format of `path`: "photograph", "tiff", "nifti" or "dicom".

    Raises:
        StudyError: nothing is there, it is empty, or no reader knows it.
    """
    place = split_selection(path)[0]
    name = place.name.lower()
    if place.is_dir():
        return "dicom"
    try:
        with place.open("rb") as file:
            head = file.read(132)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: there is no such file{backslash_hint(path)}") from error
    except OSError as error:
        raise StudyError(f"{path}: cannot be opened ({error.strerror or error})") from error
    if not head:
        raise StudyError(f"{path}: the file is empty (0 bytes)")
    if name.endswith(NIFTIS):
        return "nifti"
    if name.endswith(DICOMS) or head[128:132] == b"DICM":
        return "dicom"
    if name.endswith(TIFFS):
        return "tiff"
    if name.endswith(PHOTOGRAPHS):
        return "photograph"
    raise StudyError(f"{path}: unknown format; wanted PNG, JPEG, TIFF, NIfTI (.nii, .nii.gz) or DICOM")


def has_preamble(path: Path) -> bool:
    """Tell a DICOM file, whatever its name: "DICM" stands at byte 128."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def backslash_hint(path: Path) -> str:
    """Say what to do about a path of Windows on a system whose folders are separated by slashes."""
    return "; separate folders by / instead of \\" if "\\" in path.name else ""


def is_lossy(path: Path) -> bool:
    """Tell whether the format of `path` does not keep the values of a mask."""
    return path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")


def split_selection(path: Path) -> tuple[Path, str | None]:
    """Split `folder#SeriesUID` into the folder and the selection, unless a file of that very name exists."""
    place, mark, selection = path.name.rpartition("#")
    if not mark or not place or path.exists():
        return path, None
    return path.with_name(place), selection


def read_image(paths: Mapping[str, Path]) -> Picture:
    """Read the input channels of one case.

    Args:
        paths: file of each channel, in channel order. An RGB file has three channels.

    Returns:
        (C, *spatial), in the type of the file (the smallest type that holds all, where several files differ).

    Raises:
        StudyError: a file cannot be read.
        GridError: the files differ in size, spacing or affine.
    """
    first: tuple[Path, Geometry] | None = None
    arrays = []
    for path in paths.values():
        array, geometry = _decode(path, as_label=False)
        arrays.append(array)
        if first is None:
            first = path, geometry
        elif difference := grid_difference(geometry, first[1]):
            message = f"{path}: {difference[0]}, its fellow channel '{first[0].name}' {difference[1]}"
            raise GridError(message, *difference)
    if first is None:
        raise StudyError("a case without an image; wanted at least one channel")
    if len(arrays) == 1:
        return Picture(arrays[0], first[1])
    joined = np.concatenate(arrays)
    if joined.dtype == np.float64 and all(a.dtype != np.float64 for a in arrays):
        joined = joined.astype(np.float32)
    return Picture(joined, first[1])


def read_label(path: Path, reference: Geometry | None = None, place: MaskPlace = "header") -> Picture:
    """Read a mask as the integers that are in the file.

    Args:
        path: a mask in any format, a DICOM SEG or an RTSTRUCT. For images with a palette see `palette`.
        reference: where the image of the case lies. SEG and RTSTRUCT are put on this grid (an RTSTRUCT needs it); any
            other mask must lie on it already.
        place: "voxels": a mask lies on `reference` whatever its header says, if only it has as many voxels.

    Returns:
        (*spatial) integers; `geometry` is the file's, or `reference` for SEG and RTSTRUCT.

    Raises:
        StudyError: unreadable; colours, several channels, or values that are not whole numbers.
        GridError: `reference` is given and the mask lies elsewhere.
    """
    picture = _structures(path, reference)
    if picture is None:
        array, geometry = _decode(path, as_label=True)
        values, notes = _whole_numbers(path, _one_channel(path, array, "a mask"))
        picture = Picture(values, geometry, notes)
    if place == "voxels" and reference is not None and picture.geometry.shape == reference.shape:
        return replace(picture, geometry=reference)
    _require_grid(path, "label", picture.geometry, reference)
    return picture


def read_map(path: Path, reference: Geometry | None = None) -> Picture:
    """Read a per-case map (a field-of-view mask, a causal mask) as (*spatial) float32, values as in the file.

    Raises:
        StudyError: unreadable, or several channels that differ.
        GridError: `reference` is given and the map lies elsewhere.
    """
    array, geometry = _decode(path, as_label=False)
    picture = Picture(_one_channel(path, array, "a map").astype(np.float32), geometry)
    _require_grid(path, "map", geometry, reference)
    return picture


def read_label_values(path: Path, reference: Geometry | None = None) -> set[int]:
    """Read which values a mask holds (of a SEG or RTSTRUCT without `reference`: which it declares, and 0)."""
    if reference is None and file_format(path) == "dicom":
        from elsewhere.study.structures import declared_values

        declared = _guard(path, "DICOM", lambda: declared_values(*split_selection(path)))
        if declared is not None:
            return declared
    return label_values(read_label(path, reference).array)


def read_colours(path: Path) -> Colours:
    """The colours behind the values of a mask; empty where its file has no palette, or a grey one.

    Raises:
        StudyError: unreadable.
    """
    if not path.name.lower().endswith((*PALETTES, *TIFFS)):
        return {}
    return _guard(path, "an image", lambda: colours_of(path))


def label_values(array: NDArray[Any]) -> set[int]:
    """List the values that an integer array holds."""
    if array.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(array.ravel(), minlength=256)).tolist())
    return {int(value) for value in np.unique(array)}


def grid_difference(one: Geometry, other: Geometry) -> tuple[str, str] | None:
    """Say how two grids differ, as a pair of clauses ("is 512x512", "is 584x565"), or None where they agree.

    Affines agree when no corner of the volume moves by more than a tenth of a voxel, spacings within 1 % (our choice;
    files store both in single precision). What only one of the two knows is not compared.
    """
    if one.shape != other.shape:
        return f"is {size(one.shape)}", f"is {size(other.shape)}"
    if one.spacing is not None and other.spacing is not None and not np.allclose(one.spacing, other.spacing, rtol=1e-2):
        return f"has spacing {_numbers(one.spacing)} mm", f"has {_numbers(other.spacing)} mm"
    if one.affine is not None and other.affine is not None and not (one.unplaced or other.unplaced):
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in one.shape], [1])).reshape(4, -1)
        moved = float(np.linalg.norm((one.affine - other.affine) @ corners, axis=0).max())
        if moved > 0.1 * min(one.spacing or (1.0,)):
            return f"has an affine that lies up to {moved:.3g} mm elsewhere", "lies where its own affine says"
    return None


def size(shape: tuple[int, ...]) -> str:
    """`584x565`: rows x columns in 2D, i x j x k in 3D."""
    return "x".join(str(n) for n in shape)


def _numbers(values: tuple[float, ...]) -> str:
    return "x".join(f"{value:.4g}" for value in values)


def _require_grid(path: Path, what: str, found: Geometry, reference: Geometry | None) -> None:
    difference = grid_difference(found, reference) if reference is not None else None
    if difference:
        raise GridError(f"{path}: the {what} {difference[0]}, its image {difference[1]}", *difference)


def _one_channel(path: Path, array: NDArray[Any], what: str) -> NDArray[Any]:
    """(C, *spatial) to (*spatial), where all channels say the same."""
    if any(not np.array_equal(array[0], channel) for channel in array[1:]):
        where = np.argwhere((array != array[:1]).any(axis=0))[0]
        colour = tuple(array[(slice(None), *where)].tolist())
        raise StudyError(
            f"{path}: {len(array)} channels that differ (as {colour} at {tuple(where.tolist())}); wanted {what} of one "
            "channel"
        )
    channel: NDArray[Any] = array[0]
    return channel


def _whole_numbers(path: Path, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The integers that an array means, and a note where it was not quite these."""
    if array.dtype.kind in "iu":
        return array, ()
    whole = np.rint(array)
    off = np.abs(array - whole)
    wrong = array[~(off <= NEARLY_WHOLE)]  # NaN is near nothing
    if wrong.size:
        raise StudyError(f"{path}: value {wrong.flat[0]:.9g} in a mask ({wrong.size} such); wanted whole numbers")
    if np.abs(whole).max(initial=0) > 2**31 - 1:
        raise StudyError(f"{path}: value {whole.flat[np.abs(whole).argmax()]:.6g} in a mask; wanted class values")
    most = float(off.max(initial=0))
    notes = (f"values are up to {most:.1g} off whole numbers, and were rounded",) if most else ()
    return whole.astype(np.int32), notes


def _structures(path: Path, reference: Geometry | None) -> Picture | None:
    """A DICOM SEG or RTSTRUCT on the grid of `reference`; None where `path` is neither."""
    if file_format(path) != "dicom":
        return None
    from elsewhere.study.structures import decode_structures

    return _guard(path, "DICOM", lambda: decode_structures(*split_selection(path), reference))


def _decode(path: Path, *, as_label: bool) -> tuple[NDArray[Any], Geometry]:
    """(C, *spatial) of any format."""
    kind = file_format(path)
    if kind == "photograph":
        from elsewhere.study.raster import decode_photograph

        return _guard(path, "an image", lambda: decode_photograph(path, as_label=as_label))
    if kind == "tiff":
        from elsewhere.study.raster import decode_tiff

        return _guard(path, "TIFF", lambda: decode_tiff(path, as_label=as_label))
    if kind == "nifti":
        from elsewhere.study.nifti import decode_nifti

        return _guard(path, "NIfTI", lambda: decode_nifti(*split_selection(path)))
    from elsewhere.study.dicom import decode_dicom

    return _guard(path, "DICOM", lambda: decode_dicom(*split_selection(path)))


def _guard(path: Path, kind: str, decode: Callable[[], T]) -> T:
    """Run a decoder; whatever a library raises on a broken file becomes one sentence."""
    try:
        return decode()
    except StudyError:
        raise
    except MemoryError as error:
        raise StudyError(f"{path}: too large for the memory of this machine; cut it in parts") from error
    except Exception as error:  # decoders raise anything on corrupt input
        # What pydicom says may quote the header, hence a patient; elsewhere the library's own words help.
        said = " ".join(str(error).split()) or type(error).__name__
        reason = "" if kind == "DICOM" or path.name in said else f" ({said[:160]})"
        raise StudyError(f"{path}: cannot be read as {kind}; it is truncated or corrupt{reason}") from error
