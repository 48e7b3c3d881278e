"""Example cases drawn: the image, truth and prediction outlined on it, and where they differ.

The image is in the page once a view; what is drawn on it lies above it in layers with few colours, which cost little.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from elsewhere.benchmark.examples import View

SIDE = 320
"""Shorter images are enlarged to about this, so that outlines stay thin."""

FEW, LEAST = 120, 96
"""Of more views than FEW on a page each is made smaller, so that the page stays below 15 MB; never below LEAST."""

TRUTH, PREDICTION, CONFUSED = (0, 230, 255), (255, 64, 255), (255, 225, 60)
"""Cyan and magenta: neither is in tissue, and their brightness tells them apart for those who do not see the hue.
In the picture of the error: missed, false, and foreground of another class."""


@dataclass(frozen=True)
class Panel:
    """One of the pictures of a view: its name and the SVG."""

    name: str
    svg: Markup


def side_for(n_views: int) -> int:
    """Longest side in pixels where a page has so many views."""
    return SIDE if n_views <= FEW else max(LEAST, round(SIDE * math.sqrt(FEW / n_views)))


def panels(
    views: Mapping[str, View], about: str, numbers: Iterator[int] | None = None, side: int = SIDE
) -> list[Panel]:
    """The pictures of a case.

    Args:
        views: as `benchmark.examples.load_views` reads them.
        about: of which case they are, for those who cannot see them.
        numbers: gives the images of a page identifiers of their own.
        side: in pixels, about.
    """
    numbers = count() if numbers is None else numbers
    made = []
    for name, view in views.items():
        where = "" if name == "image" else f", {name}"
        image = _fitted(view.image, side)
        height, width = image.shape[:2]
        identifier = f"image{next(numbers)}"
        shown = f'<image id="{identifier}" width="{width}" height="{height}" href="{_jpeg(image)}"/>'
        again = f'<use href="#{identifier}"/>'
        made.append(Panel(f"image{where}", _svg(width, height, f"image{where}: {about}", shown)))
        if view.truth is None or view.prediction is None:
            continue
        masks = view.truth, view.prediction
        for what, layer in (("outlines", _outlines(*masks, (height, width))), ("error", _error(*masks))):
            size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
            above = f'<image {size} href="{_png(layer)}"/>'
            dim = ' opacity="0.55"' if what == "error" else ""
            below = f"<g{dim}>{again}</g>" if dim else again
            made.append(Panel(f"{what}{where}", _svg(width, height, f"{what}{where}: {about}", below + above)))
    return made


def outline(labels: NDArray[np.integer], factor: int) -> NDArray[np.bool_]:
    """(H, W) class indices to (H * factor, W * factor): the inner edge of every class, wider where enlarged."""
    large = np.kron(labels, np.ones((factor, factor), dtype=labels.dtype))
    size = 3 if factor == 1 else 5
    thin = ndimage.minimum_filter(large, size=size) != ndimage.maximum_filter(large, size=size)
    return np.asarray(thin & (large > 0))


def _outlines(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """0 nothing, 1 truth, 2 prediction; where both are the prediction is seen."""
    factor = max(1, round(max(shape) / max(truth.shape)))
    layer = outline(truth, factor).astype(np.uint8)
    layer[outline(prediction, factor)] = 2
    return layer


def _error(truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0 right, 1 missed, 2 false, 3 foreground of another class."""
    wrong = truth != prediction
    return np.select([wrong & (prediction == 0), wrong & (truth == 0), wrong], [1, 2, 3], 0).astype(np.uint8)


def _fitted(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Enlarged by a whole number, or made smaller, to `side` about."""
    height, width = image.shape[:2]
    longest = max(height, width)
    factor = max(1, round(side / longest)) if longest <= side else side / longest
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    shown = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.asarray(shown.resize(size, Image.Resampling.BILINEAR))


def _svg(width: int, height: int, label: str, content: str) -> Markup:
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{content}</svg>')


def _jpeg(image: NDArray[np.uint8]) -> str:
    return _uri(Image.fromarray(image), "jpeg", quality=85, subsampling=0, optimize=True)


def _png(layer: NDArray[np.uint8]) -> str:
    shown = Image.fromarray(layer)
    shown.putpalette([0, 0, 0, *TRUTH, *PREDICTION, *CONFUSED])
    return _uri(shown, "png", transparency=0, optimize=True, bits=2)


def _uri(image: Image.Image, kind: str, **how: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **how)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
