"""Example cases as pictures: the image, the outline of the truth and of what was predicted, as a data URI."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE = 288
"""Shorter images are enlarged to about this, so that outlines stay thin."""

TRUTH, PREDICTION = (0, 230, 255), (255, 64, 255)
"""Cyan and magenta: neither is in tissue, and their brightness tells them apart for those who do not see the hue."""


def picture(npz: Path) -> str:
    """`data:image/png;base64,...` of what `benchmark.examples` wrote."""
    with np.load(npz, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    image = arrays["image"]
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    factor = max(1, round(SIDE / max(rgb.shape[:2])))
    large = np.asarray(
        Image.fromarray(rgb).resize((rgb.shape[1] * factor, rgb.shape[0] * factor), Image.Resampling.BILINEAR)
    ).copy()
    outlines = "truth" in arrays
    if outlines:
        large[outline(arrays["truth"], factor)] = TRUTH
        large[outline(arrays["prediction"], factor)] = PREDICTION
    return _data_uri(large, outlines or image.shape[2] == 3)


def outline(labels: NDArray[Any], factor: int) -> NDArray[np.bool_]:
    """(H, W) class indices to (H * factor, W * factor): the inner edge of every class, one or two pixels wide."""
    large = np.kron(labels, np.ones((factor, factor), dtype=labels.dtype))
    thin = ndimage.minimum_filter(large, size=3) != ndimage.maximum_filter(large, size=3)
    return np.asarray(thin & (large > 0))


def _data_uri(image: NDArray[np.uint8], colour: bool) -> str:
    buffer = io.BytesIO()
    shown = Image.fromarray(image)
    if not colour:
        shown = shown.convert("L")
    elif shown.width * shown.height > 0:
        shown = shown.quantize(128)  # a third of the bytes, and nobody sees it at this size
    shown.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
