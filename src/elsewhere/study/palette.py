"""Masks whose file has a palette: what a pixel means is its colour, and the stored number only points to it.

Where all colours of a mask are grey, the grey values are the mask's values, as a viewer shows them: a program is free
to store white as number 0. Where there are colours, the stored numbers are taken for the values, which is right only if
all masks of a study agree on them: `disagreement` says where they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colours = Mapping[int, tuple[int, int, int]]
"""Colour of each stored number that occurs in a mask."""

PALETTE_REMEDY = "save all masks with one palette, or as grey images whose values are the classes"


def grey_values(numbers: NDArray[Any], palette: NDArray[Any]) -> NDArray[Any] | None:
    """The grey value of each pixel; None where a colour that occurs is not grey.

    Args:
        numbers: stored numbers, of any shape.
        palette: (K, 3) colours.
    """
    used = palette[np.unique(numbers)]
    if (used != used[:, :1]).any():
        return None
    grey: NDArray[Any] = palette[:, 0][numbers]
    return grey


def colours_of(path: Path) -> Colours:
    """The colours behind the stored numbers of a mask; empty where these need none, or the colours are grey.

    Raises:
        OSError: the file cannot be read.
    """
    found = _numbers_and_palette(path)
    if found is None or grey_values(*found) is not None:
        return {}
    numbers, palette = found
    return {int(n): (int(palette[n][0]), int(palette[n][1]), int(palette[n][2])) for n in np.unique(numbers)}


def disagreement(masks: Iterable[tuple[str, Colours]]) -> tuple[str, str] | None:
    """The first mask whose palette does not fit those before it, and why; None where all agree.

    Two palettes agree where a number that both use has one colour, and a colour that both use one number.

    Args:
        masks: name and colours of each.
    """
    colour_of: dict[int, tuple[tuple[int, int, int], str]] = {}
    number_of: dict[tuple[int, int, int], tuple[int, str]] = {}
    for name, colours in masks:
        for number, colour in sorted(colours.items()):
            other, first = colour_of.setdefault(number, (colour, name))
            if other != colour:
                return name, f"palettes differ: value {number} is {_named(colour)}, but {_named(other)} in {first}"
            same, first = number_of.setdefault(colour, (number, name))
            if same != number:
                return name, f"palettes differ: {_named(colour)} is value {number}, but {same} in {first}"
    return None


def _named(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _numbers_and_palette(path: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if path.name.lower().endswith((".tif", ".tiff")):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            if int(page.photometric) != 3 or page.colormap is None:
                return None
            return tiff.asarray(), np.asarray(page.colormap).T >> 8
    from PIL import Image

    with Image.open(path) as image:
        if image.mode not in ("P", "PA"):
            return None
        return numbers_and_palette(image)


def numbers_and_palette(image: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Stored numbers, and colours (256, 3), of a Pillow image of mode P or PA."""
    numbers = np.asarray(image if image.mode == "P" else image.getchannel(0))
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    return numbers, palette
