"""PNG, JPEG, TIFF and the other formats of photographs, decoded without losing bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry
from elsewhere.study.palette import grey_values, numbers_and_palette

PIXELS = 2**29
"""Most pixels of one photograph that are decoded; more is taken for a decompression bomb (our choice)."""

_UNITS_MM = {"mm": 1.0, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "nm": 1e-6, "m": 1e3}


def decode_photograph(path: Path, *, as_label: bool) -> tuple[NDArray[Any], Geometry]:
    """Decode PNG, JPEG, BMP and what else Pillow knows, to (C, rows, columns).

    The orientation tag (EXIF) of the file is applied, to images, labels and maps alike: what comes out is what a
    viewer shows. A mask drawn on the pixels as stored, beside an image with such a tag, will therefore not match; save
    the image once without the tag. Transparency is dropped; a palette is expanded to RGB (to one channel where all of
    its colours are grey); of a label with colours the stored numbers are the values (see `palette`). 16 bits a channel
    are kept.

    Raises:
        StudyError: the image has more than `PIXELS` pixels, or it is an animation.
    """
    with Image.open(path) as image:
        if image.width * image.height > PIXELS:
            raise StudyError(
                f"{path}: {image.height}x{image.width} pixels, more than the {PIXELS} that are decoded; cut it in tiles"
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format in ("GIF", "PNG", "WEBP"):
            raise StudyError(f"{path}: an animation of {frames} frames; wanted one image, so save each frame by itself")
        if image.format == "PNG" and _deep_colour(path):
            array = _decode_deep_png(path)
            return array, Geometry(array.shape[1:])
        upright = ImageOps.exif_transpose(image)
        pixels = np.array(_to_plain_mode(upright, as_label=as_label))
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    array = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return array, Geometry(array.shape[1:])


def _to_plain_mode(image: Image.Image, *, as_label: bool) -> Image.Image:
    """Bring Pillow's modes down to one grey channel (any depth) or RGB."""
    mode = image.mode
    if mode in ("P", "PA") and as_label:
        numbers, palette = numbers_and_palette(image)
        grey = grey_values(numbers, palette)
        return Image.fromarray(numbers if grey is None else grey)
    if mode in ("P", "PA"):
        colour = image.convert("RGB")
        red, green, blue = (np.asarray(channel) for channel in colour.split())
        return colour.getchannel(0) if np.array_equal(red, green) and np.array_equal(green, blue) else colour
    if mode in ("LA", "La"):
        return image.getchannel(0)
    if mode in ("1", "L", "RGB", "F") or mode.startswith("I"):
        return image
    return image.convert("RGB")


def _deep_colour(path: Path) -> bool:
    """Tell a PNG of 16 bits a channel with colour or transparency, which Pillow would cut to 8 bits."""
    with path.open("rb") as file:
        header = file.read(26)
    return len(header) == 26 and header[24] == 16 and header[25] in (2, 4, 6)


def _decode_deep_png(path: Path) -> NDArray[Any]:
    """(C, rows, columns) uint16, without the alpha channel."""
    import imagecodecs

    pixels: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
    channels = 1 if pixels.shape[-1] == 2 else 3
    return np.ascontiguousarray(np.moveaxis(pixels[..., :channels], -1, 0))


def decode_tiff(path: Path, *, as_label: bool) -> tuple[NDArray[Any], Geometry]:
    """Decode the first series of a TIFF to (C, rows, columns), or (C, rows, columns, pages) for a stack.

    Pages of one size are a stack: a 3D image with its slices along the last axis, as in NIfTI. Samples (RGB) and the C
    axis of ImageJ and OME files are channels; a fourth sample is transparency and dropped. Spacing is taken from OME's
    physical sizes, from ImageJ's unit, or from a resolution in centimetres; dots per inch are a printer's business and
    ignored (our choice). Palettes are as in `decode_photograph`; where white is stored as 0, black becomes 0.

    Raises:
        StudyError: several time points, or more than `PIXELS` pixels.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        page = tiff.pages[0]
        axes: str = series.axes
        if int(np.prod(series.shape)) > 4 * PIXELS:
            raise StudyError(f"{path}: {_by(series.shape)} values, more than are decoded; cut it in tiles")
        array: NDArray[Any] = series.asarray()
        photometric = int(page.photometric)
        palette = page.colormap
        white = 2 ** int(page.bitspersample) - 1 if photometric == 0 else 0
        spacing = _tiff_spacing(tiff, page)
    for position in reversed(range(len(axes))):  # axes of length one say nothing, but for rows and columns
        if array.shape[position] == 1 and axes[position] not in "YX":
            array, axes = np.squeeze(array, position), axes[:position] + axes[position + 1 :]
    if "T" in axes:
        raise StudyError(f"{path}: {array.shape[axes.index('T')]} time points; wanted one image, or a stack of slices")
    channel = next((a for a in "SC" if a in axes), None)
    stack = [a for a in axes if a not in ("Y", "X", channel)]
    if len(stack) > 1 or not {"Y", "X"} <= set(axes):
        raise StudyError(f"{path}: a TIFF with axes {axes} ({_by(array.shape)}); wanted one image or one stack")
    order = [*([channel] if channel else []), "Y", "X", *stack]
    array = np.transpose(array, [axes.index(a) for a in order])
    if channel is None:
        array = array[None]
    if channel == "S" and array.shape[0] in (2, 4):
        array = array[: array.shape[0] - 1]
    if photometric == 3 and palette is not None and array.shape[0] == 1:
        colours = np.asarray(palette)
        grey = grey_values(array, colours.T) if as_label else None
        if not as_label:
            array = colours[:, array[0]]
        elif grey is not None:
            array = grey
    if photometric == 0 and array.dtype.kind in "bu":  # white is zero
        array = ~array if array.dtype == bool else np.asarray(white - array, array.dtype)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    array = np.ascontiguousarray(array)
    ndim = array.ndim - 1
    return array, Geometry(array.shape[1:], spacing[:ndim] if spacing and len(spacing) >= ndim else None)


def _tiff_spacing(tiff: Any, page: Any) -> tuple[float, ...] | None:
    """(rows, columns[, slices]) in mm, or None where the file does not say."""
    if tiff.is_ome and tiff.ome_metadata:
        from xml.etree import ElementTree

        pixels = next((e for e in ElementTree.fromstring(tiff.ome_metadata).iter() if e.tag.endswith("Pixels")), None)
        sizes = []
        for axis in "YXZ" if pixels is not None else "":
            assert pixels is not None
            size, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
            if size is None or unit not in _UNITS_MM:
                break
            sizes.append(float(size) * _UNITS_MM[unit])
        return tuple(sizes) if len(sizes) >= 2 else None
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    per_unit = []
    for name in ("YResolution", "XResolution"):
        numerator, denominator = tags[name].value
        if numerator <= 0 or denominator <= 0:
            return None
        per_unit.append(denominator / numerator)
    if tiff.is_imagej and tiff.imagej_metadata:
        unit = str(tiff.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ")
        if unit not in _UNITS_MM:
            return None
        depth = tiff.imagej_metadata.get("spacing")
        lengths = [*per_unit, *([float(depth)] if depth else [])]
        return tuple(length * _UNITS_MM[unit] for length in lengths)
    centimetres = "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == 3
    return (per_unit[0] * 10.0, per_unit[1] * 10.0) if centimetres else None


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)
