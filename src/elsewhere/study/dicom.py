"""DICOM: one file, or the slices of a series in a folder, as one image in mm.

A series becomes (C, columns, rows, slices) with an affine to RAS+ mm: the axes that ITK and SimpleITK give its NIfTI,
so that a mask drawn on the series in 3D Slicer or ITK-SNAP lies on the same grid. A single slice is 2D:
(C, rows, columns). Only the tags named here are read: a patient's name or number never enters the process.
"""

from __future__ import annotations

import filecmp
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry

NOT_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC")
"""Modalities that lie beside an image series without being one."""

_PIXEL_TAGS = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
_PLACE_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_STRUCTURE_TAGS = [
    *("SegmentSequence", "SegmentationType", "MaximumFractionalValue"),
    *("StructureSetROISequence", "ROIContourSequence"),
]


@dataclass(frozen=True)
class Slice:
    """One plane of pixels: `pixels` (C, rows, columns) after rescaling; the rest in LPS mm, None where not given."""

    pixels: NDArray[Any]
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None


def read_tags(path: Path, *, pixels: bool = True) -> Any:
    """Read a file's tags that say what is in the image and where it lies, and nothing of whose it is.

    Raises:
        StudyError: `path` is not a DICOM file.
    """
    tags = [*_PLACE_TAGS, *_STRUCTURE_TAGS, *_PIXEL_TAGS]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings may quote a value of the header
            return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags)
    except InvalidDicomError as error:
        raise StudyError(f"{path}: not a DICOM file (no 'DICM' at byte 128); wanted DICOM Part 10") from error
    except EOFError as error:
        raise StudyError(f"{path}: the DICOM file is truncated") from error


def decode_dicom(path: Path, series: str | None = None) -> tuple[NDArray[Any], Geometry]:
    """Decode a DICOM file, or the image series of a folder.

    Slices are sorted by their position along the normal. Rescale slope and intercept are applied (integers stay
    integers where they can), or the modality LUT that stands in their place; MONOCHROME1 is inverted within the range
    of the stored bits (of the LUT's), colours become RGB.

    Args:
        path: a file, or the folder of a series. Files of a folder that are not DICOM are passed over, and so are
            objects that are not images (SEG, RTSTRUCT, SR, ...) and copies of an instance.
        series: SeriesInstanceUID, where the folder holds several image series.

    Raises:
        StudyError: no or several series, a slice missing, twice or turned, or pixels that cannot be decoded.
    """
    return decode_files([path] if path.is_file() else _series_files(path, series), path)


def decode_files(files: Sequence[Path], path: Path) -> tuple[NDArray[Any], Geometry]:
    """Decode the files of one series, wherever they lie; see `decode_dicom`.

    Args:
        files: in any order.
        path: what messages about the series as a whole call it.
    """
    slices = [plane for file in files for plane in _planes(file)]
    if len(slices) == 1:
        plane = slices[0]
        return plane.pixels, Geometry(plane.pixels.shape[1:], plane.spacing)
    return _stack(path, slices)


def _series_files(folder: Path, series: str | None) -> list[Path]:
    """List the files of the one image series of `folder`, or of the one that is named."""
    found: dict[str, list[Path]] = {}
    seen: dict[tuple[str, str], Path] = {}
    for file in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        try:
            tags = read_tags(file, pixels=False)
        except StudyError:
            if file.suffix.lower() in (".dcm", ".dicom", ".ima"):
                raise
            continue
        if "Rows" in tags and tags.get("Modality") not in NOT_IMAGES:
            key = instance_key(file, tags)
            other = seen.setdefault(key, file)
            if other != file and (key[1] or filecmp.cmp(other, file, shallow=False)):
                continue  # a copy
            found.setdefault(str(tags.get("SeriesInstanceUID", "without a SeriesInstanceUID")), []).append(file)
    if not found:
        raise StudyError(f"{folder}: no DICOM image in this folder; wanted the slices of one series")
    names = ", ".join(f"{uid} ({len(files)} files)" for uid, files in sorted(found.items()))
    if series is not None and series not in found:
        raise StudyError(f"{folder}: no series {series}; there are {names}")
    if series is None and len(found) > 1:
        raise StudyError(f"{folder}: {len(found)} series: {names}; name one as '{folder.name}#SERIES'")
    return found[series] if series is not None else next(iter(found.values()))


def instance_key(file: Path, tags: Any) -> tuple[str, str]:
    """The same for copies of an instance: its SOPInstanceUID (a hash of the file where it has none), and its position.

    The position is part of it, because anonymisers give all slices of a series one UID.
    """
    uid = str(tags.get("SOPInstanceUID", ""))
    if not uid:
        with file.open("rb") as opened:
            uid = f"sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()}"
    return uid, str(tags.get("ImagePositionPatient", ""))


def _planes(file: Path) -> list[Slice]:
    """Decode every plane of one file; a multi-frame file has one per frame."""
    tags = read_tags(file)
    if "Rows" not in tags:
        raise StudyError(f"{file}: a DICOM object of modality {tags.get('Modality', 'unknown')}; wanted an image")
    pixels = decode_pixels(file, tags)
    shared = functional_group(tags.get("SharedFunctionalGroupsSequence"))
    per_frame = tags.get("PerFrameFunctionalGroupsSequence") or [None] * len(pixels)
    if len(per_frame) != len(pixels):
        raise StudyError(f"{file}: {len(pixels)} frames but {len(per_frame)} positions of frames")
    planes = []
    for frame, own in zip(pixels, per_frame, strict=True):
        groups = (own, *shared, tags)
        slope, intercept = (
            None if _modality_lut(tags) else find(groups, "PixelValueTransformationSequence", name)
            for name in ("RescaleSlope", "RescaleIntercept")
        )
        spacing = find(groups, "PixelMeasuresSequence", "PixelSpacing") or tags.get("ImagerPixelSpacing")
        position = find(groups, "PlanePositionSequence", "ImagePositionPatient")
        orientation = find(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
        planes.append(
            Slice(
                _rescale(frame, slope, intercept),
                np.array(position, dtype=np.float64) if position else None,
                np.array(orientation, dtype=np.float64) if orientation else None,
                (float(spacing[0]), float(spacing[1])) if spacing else None,
            )
        )
    return planes


def functional_group(sequence: Any) -> tuple[Any, ...]:
    """Give the one item of the shared functional groups, if any, as a tuple."""
    return tuple(sequence)[:1] if sequence else ()


def find(groups: Sequence[Any], sequence: str, name: str) -> Any:
    """Find a value in functional groups (within `sequence`), or in the tags of the file itself."""
    for group in groups:
        if group is None:
            continue
        if sequence in group and group[sequence].value and name in group[sequence].value[0]:
            return group[sequence].value[0].get(name)
        if name in group:
            return group.get(name)
    return None


def decode_pixels(file: Path, tags: Any) -> NDArray[Any]:
    """(frames, C, rows, columns) as stored, but a modality LUT applied, MONOCHROME1 inverted and colours in RGB.

    Raises:
        StudyError: there are no pixels, or no decoder for their transfer syntax.
    """
    if not any(name in tags for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise StudyError(f"{file}: the DICOM file has no pixels; it is truncated, or was sent without them")
    photometric = str(tags.PhotometricInterpretation)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored: NDArray[Any] = _jpeg_frames(tags) if _of_grey_jpeg(tags) else pixel_array(tags)
            if photometric == "PALETTE COLOR":
                stored = apply_color_lut(stored, tags)
            elif lut := _modality_lut(tags):
                stored = _through(lut[0], stored, signed=bool(int(tags.PixelRepresentation)))
    except Exception as error:
        syntax = tags.file_meta.TransferSyntaxUID.name
        raise StudyError(
            f"{file}: the pixels cannot be decoded (transfer syntax {syntax}); the file is corrupt, or needs a decoder "
            "that is not installed: see pylibjpeg and python-gdcm"
        ) from error
    frames = int(tags.get("NumberOfFrames") or 1)
    colour = photometric == "PALETTE COLOR" or int(tags.get("SamplesPerPixel", 1)) > 1
    array = stored.reshape(frames, int(tags.Rows), int(tags.Columns), 3 if colour else 1)
    array = np.ascontiguousarray(np.moveaxis(array, -1, 1))
    if photometric == "MONOCHROME1":
        lut = _modality_lut(tags)
        bits = int(lut[0].LUTDescriptor[2]) if lut else int(tags.BitsStored)
        array = -1 - array if not lut and int(tags.PixelRepresentation) else (2**bits - 1) - array
        array = array.astype(stored.dtype)
    return array


def _of_grey_jpeg(tags: Any) -> bool:
    """One sample a pixel, in a syntax that pydicom leaves to plugins that are not installed."""
    syntax = tags.file_meta.TransferSyntaxUID
    deep = syntax == JPEGExtended12Bit and int(tags.BitsStored) > 8
    return int(tags.get("SamplesPerPixel", 1)) == 1 and (deep or syntax in (JPEGLossless, JPEGLosslessSV1))


def _jpeg_frames(tags: Any) -> NDArray[Any]:
    """(frames, rows, columns) of one sample a pixel, by imagecodecs, which needs no further plugin."""
    import imagecodecs

    decode = (
        imagecodecs.jpeg_decode if tags.file_meta.TransferSyntaxUID == JPEGExtended12Bit else imagecodecs.ljpeg_decode
    )
    frames = generate_frames(tags.PixelData, number_of_frames=int(tags.get("NumberOfFrames") or 1))
    stored = np.stack([np.asarray(decode(frame)) for frame in frames])
    if int(tags.PixelRepresentation):  # two's complement in the stored bits
        free = 8 * stored.dtype.itemsize - int(tags.BitsStored)
        stored = (stored << free).view(f"i{stored.dtype.itemsize}") >> free
    return stored


def _modality_lut(tags: Any) -> Any:
    """The table from stored to meant values, as a sequence of one item; None where there is none."""
    return tags.get("ModalityLUTSequence") or None


def _through(lut: Any, stored: NDArray[Any], *, signed: bool) -> NDArray[np.uint16]:
    """Values of the table for stored ones; those beyond its ends have its end values (DICOM PS3.3 C.11.1.1.1)."""
    n, first, _ = map(int, lut.LUTDescriptor)
    n = n or 2**16
    if signed and first >= 2**15:
        first -= 2**16
    data = lut.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * n else np.dtype("<u2"))
    table = np.asarray(data, np.uint16)[:n]
    return table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]


def _rescale(pixels: NDArray[Any], slope: Any, intercept: Any) -> NDArray[Any]:
    """Apply slope and intercept; whole numbers give int16 where that holds them, else int32; others float32."""
    times, plus = float(1 if slope is None else slope), float(intercept or 0)
    if (times, plus) == (1.0, 0.0):
        return pixels
    if times.is_integer() and plus.is_integer() and pixels.dtype.kind in "iu":
        whole = pixels.astype(np.int64) * int(times) + int(plus)
        # Never narrower than int16, so that the slices of one CT agree whatever they show.
        return whole.astype(np.int16 if np.abs(whole).max(initial=0) < 2**15 else np.int32)
    return (pixels.astype(np.float64) * times + plus).astype(np.float32)


def _stack(path: Path, slices: list[Slice]) -> tuple[NDArray[Any], Geometry]:
    """Sort slices along their normal into (C, columns, rows, slices), checking that they make a regular volume."""
    placed = [(s, s.position, s.orientation) for s in slices if s.position is not None and s.orientation is not None]
    first = slices[0]
    if len(placed) < len(slices) or first.orientation is None or first.spacing is None:
        raise StudyError(
            f"{path}: {len(slices)} slices or frames of which {len(slices) - len(placed)} have no position (a film, or "
            "tags removed); wanted a volume, or one image a file"
        )
    for plane, _, orientation in placed:
        if plane.pixels.shape != first.pixels.shape:
            raise StudyError(
                f"{path}: slices of {first.pixels.shape[1:]} and of {plane.pixels.shape[1:]} in one series"
            )
        if not np.allclose(orientation, first.orientation, atol=1e-3):
            raise StudyError(f"{path}: slices of several orientations (a localizer?); wanted parallel slices")
        if plane.spacing is None or not np.allclose(plane.spacing, first.spacing, rtol=1e-3):
            raise StudyError(f"{path}: slices with pixel spacing {first.spacing} and {plane.spacing} mm in one series")
    across, down = first.orientation[:3], first.orientation[3:]
    normal = np.cross(across, down)
    placed.sort(key=lambda entry: float(entry[1] @ normal))
    origins = np.array([position for _, position, _ in placed])
    _require_regular(path, origins @ normal)
    _require_straight(path, origins, normal, min(first.spacing))
    step = (origins[-1] - origins[0]) / (len(origins) - 1)
    affine = np.eye(4)
    affine[:3, 0] = across * first.spacing[1]
    affine[:3, 1] = down * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origins[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS to RAS
    array = np.stack([plane.pixels for plane, _, _ in placed], axis=-1).transpose(0, 2, 1, 3)
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    return np.ascontiguousarray(array), Geometry(array.shape[1:], spacing, affine)


def _require_regular(path: Path, heights: NDArray[np.float64]) -> None:
    """Check that sorted slice positions (mm along the normal) are one step apart, within 5 % of it (our choice)."""
    gaps = np.diff(heights)
    if (gaps < 1e-3).any():
        where = heights[int(np.argmin(gaps))]
        raise StudyError(f"{path}: two slices at {where:.2f} mm (echoes, time points?); wanted one slice a position")
    step = float(np.median(gaps)) if len(gaps) > 2 else float(gaps.min())
    wide = int(np.argmax(gaps))
    if gaps[wide] > 1.5 * step:
        missing = round(float(gaps[wide]) / step) - 1
        raise StudyError(
            f"{path}: {max(missing, 1)} slice{'s' if missing > 1 else ''} missing between {heights[wide]:.2f} and "
            f"{heights[wide + 1]:.2f} mm along the normal; the other slices are {step:.2f} mm apart"
        )
    if np.abs(gaps - step).max() > 0.05 * step:
        raise StudyError(f"{path}: slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; wanted equal steps")


def _require_straight(path: Path, origins: NDArray[np.float64], normal: NDArray[np.float64], spacing: float) -> None:
    """Check that the corners of sorted slices lie in one line, to half a pixel (our choice); a tilt is a line too."""
    heights = origins @ normal
    share = (heights - heights[0]) / (heights[-1] - heights[0])
    off = np.linalg.norm(origins - origins[0] - share[:, None] * (origins[-1] - origins[0]), axis=1)
    if off.max() > 0.5 * spacing:
        raise StudyError(
            f"{path}: the slices lie sideways of each other, by {off.max():.2f} mm at {heights[off.argmax()]:.2f} mm "
            "along the normal; wanted slices in one line"
        )
