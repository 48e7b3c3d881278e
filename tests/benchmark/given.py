"""Small studies and the predictions of somebody else's model for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark import tiny
from elsewhere.study.study import Study, open_study

SIX = {"A": 6, "B": 6}


def masks_study(folder: Path, values: tuple[int, int] = (0, 1)) -> Study:
    """Discs as in `tiny`; the masks hold `values`."""
    tiny.segmentation(folder, SIX)
    if values != (0, 1):
        for path in (folder / "masks").iterdir():
            tiny.save(path, np.where(pixels(path), values[1], values[0]))
    return open_study(folder)


def labels_study(folder: Path, classes: tuple[str, ...] = ("dark", "light")) -> Study:
    return open_study(tiny.classification(folder, SIX, {"A": classes, "B": classes}))


def pixels(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image)


def shifted(truth: NDArray[np.uint8], by: int = 2) -> NDArray[np.uint8]:
    """A prediction: the truth, moved by some pixels."""
    return np.roll(truth, by, axis=1)


def predicted(study: Study, folder: Path, foreground: int = 1, names: str = "stem") -> Path:
    """A mask a case, moved by two pixels; named by the mask's stem, or by the case's id with its folders."""
    for case in study.cases:
        assert isinstance(case.label, Path)
        name = case.label.stem if names == "stem" else case.id
        tiny.save(folder / f"{name}.png", shifted((pixels(case.label) > 0).astype(np.uint8)) * foreground)
    return folder
