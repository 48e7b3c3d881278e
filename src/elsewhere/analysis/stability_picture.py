"""One case as each extractor sees it under each acquisition, in colours: what is stable keeps its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from elsewhere.analysis.stability_extractors import IMAGE
from elsewhere.analysis.stability_material import View
from elsewhere.analysis.stability_windows import Window
from elsewhere.files import atomic

TILE, GAP, LINE, MARGIN = 180, 6, 20, 110

CUT = (2, 98)
"""Percentiles of a colour that become its darkest and its brightest."""


@dataclass(frozen=True)
class Shown:
    """The middle slice of one view.

    Attributes:
        name: of the acquisition.
        real: a file of the study, not drawn.
        body: (rows, columns) bool.
        features: (F, rows, columns) of each extractor.
    """

    name: str
    real: bool
    body: NDArray[np.bool_]
    features: Mapping[str, NDArray[np.float32]]


def shown_slice(name: str, view: View, window: Window, features: Mapping[str, Tensor], *, real: bool) -> Shown:
    """The middle slice of the case across the last axis, turned as viewers show an axial slice; a 2D image whole.

    Args:
        name: of the acquisition.
        view: the case.
        window: the part of it that is seen; the middle slice of the case lies in every window.
        features: (F, *size) of each extractor in that window, under that acquisition.
        real: not drawn.
    """
    index = view.body.shape[-1] // 2 - window.start[-1]
    body = _slice(window.cut(view.body).numpy(), 3, index)
    return Shown(name, real, body, {k: _slice(f.float().cpu().numpy(), 4, index) for k, f in features.items()})


def draw_stability(shown: Sequence[Shown], out: Path) -> Path:
    """Write a PNG: a row for each acquisition, those of the study first; a column for the image and each extractor.

    A drawn acquisition is seen in a window of its own, so its row is shifted against the first.

    Of an extractor the first three principal components over the body in all rows together are red, green and blue,
    with the same scale in every row. Features are standardised row by row, as in the numbers. Air is black.

    Raises:
        RunError: `out` cannot be written.
    """
    rows = sorted(shown, key=lambda one: not one.real)
    columns = list(rows[0].features)
    font = ImageFont.load_default(13)
    heights = [_size(row)[1] for row in rows]
    wide = max(_size(row)[0] for row in rows) + GAP
    width = MARGIN + wide * len(columns)
    sheet = Image.new("RGB", (width, LINE + sum(height + GAP for height in heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, column in enumerate(columns):
        left = MARGIN + number * wide
        pen.text((left, 2), column[:26], fill="black", font=font)
        colours = _grey(rows) if column == IMAGE else _components(rows, column)
        for index, (row, colour) in enumerate(zip(rows, colours, strict=True)):
            top = LINE + sum(height + GAP for height in heights[:index])
            tile = Image.fromarray((255 * colour).astype(np.uint8)).resize(_size(row), Image.Resampling.NEAREST)
            sheet.paste(tile, (left, top))
            if number == 0:
                pen.text((4, top + 4), row.name[:18], fill="black", font=font)
    with atomic(out) as temporary:
        sheet.save(temporary, format="PNG")
    return out


def _slice(array: NDArray[Any], volume: int, index: int) -> NDArray[Any]:
    """(..., *spatial) to (..., rows, columns): of an array with as many axes as a `volume` has here, one slice."""
    return np.ascontiguousarray(np.rot90(array[..., index], axes=(-2, -1))) if array.ndim == volume else array


def _size(row: Shown) -> tuple[int, int]:
    """Width and height of a tile, the longest side `TILE`."""
    height, width = row.body.shape
    return max(1, round(TILE * width / max(height, width))), max(1, round(TILE * height / max(height, width)))


def _grey(rows: Sequence[Shown]) -> list[NDArray[np.float64]]:
    """Intensities (rows, columns, 3) in [0, 1], each view by itself; three channels are taken for colours."""
    pictures = []
    for row in rows:
        image = row.features[IMAGE].astype(np.float64)
        image = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
        pictures.append(np.moveaxis(_stretched(image, image[:, row.body]), 0, -1))
    return pictures


def _components(rows: Sequence[Shown], column: str) -> list[NDArray[np.float64]]:
    """Three principal components (rows, columns, 3) in [0, 1]; air is 0."""
    values = [_standardised(row.features[column][:, row.body]) for row in rows]
    every = np.concatenate(values, axis=1)
    _, axes = np.linalg.eigh(every @ every.T / every.shape[1])
    axes = axes[:, ::-1][:, :3]  # largest first
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    least = np.percentile(axes.T @ every, CUT, axis=1)
    pictures = []
    for row, value in zip(rows, values, strict=True):
        scaled = (axes.T @ value - least[0][:, None]) / np.maximum(least[1] - least[0], 1e-12)[:, None]
        picture = np.zeros((*row.body.shape, 3))
        picture[row.body] = 0.5  # of fewer than three channels the other colours say nothing
        picture[row.body, : scaled.shape[0]] = scaled.clip(0, 1).T
        pictures.append(picture)
    return pictures


def _standardised(values: NDArray[Any]) -> NDArray[np.float64]:
    """(F, n), each channel with mean 0 and variance 1."""
    values = values.astype(np.float64)
    deviation = values.std(axis=1, keepdims=True)
    moved: NDArray[np.float64] = (values - values.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    return moved


def _stretched(image: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """To [0, 1] by the percentiles of what lies in the body."""
    low, high = np.percentile(inside, CUT) if inside.size else (image.min(), image.max())
    stretched: NDArray[np.float64] = ((image - low) / max(high - low, 1e-12)).clip(0, 1)
    return stretched
