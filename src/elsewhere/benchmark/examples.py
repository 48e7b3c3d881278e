"""Cases to look at: the best, the median and the worst of a run, as small pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.evaluate import PROBABILITY, Judged
from elsewhere.files import atomic, write_text
from elsewhere.study.resample import canonical_geometry, resize, resize_label, to_canonical

LARGE, SMALL, MANY = 384, 160, 60
"""Longest side of a picture in pixels: of few cases, of more than MANY."""


@dataclass(frozen=True)
class Thumbnail:
    """One slice of a case: image (H, W, 1 or 3) uint8, truth and prediction (H, W) or None."""

    case: str
    score: float
    caption: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8] | None


def thumbnail(judged: Judged, primary: str, classes: tuple[str, ...], side: int) -> Thumbnail:
    """The slice of a case that shows most of the truth, or its middle."""
    image = np.asarray(judged.stored.image)
    case = judged.stored.case.id
    geometry = judged.stored.geometry
    spacing = geometry.spacing or (1.0,) * len(geometry.shape)
    rows, columns = spacing if len(spacing) == 2 else (spacing[1], spacing[0])
    if isinstance(judged.truth, int):
        truth, said = classes[judged.truth], classes[int(judged.prediction)]
        sure = float(judged.record[PROBABILITY + truth])
        flat = image if image.ndim == 3 else _slice(image, image.shape[-1] // 2)
        caption = f"truth {truth}, predicted {said} (p({truth}) = {sure:.2f})"
        return Thumbnail(case, sure, caption, _picture(flat, side, rows / columns), None, None)
    score = judged.scores.get(("all", primary), float("nan"))
    # Labels lie on the file's grid, the image on the cache's: bring all three to the latter's axes and shape.
    truth_here, said_here = (
        resize_label(to_canonical(np.asarray(array).astype(np.uint8), judged.stored.original)[0], geometry.shape)
        if canonical_geometry(judged.stored.original).shape != geometry.shape
        else to_canonical(np.asarray(array).astype(np.uint8), judged.stored.original)[0]
        for array in (judged.truth, judged.prediction)
    )
    if truth_here.ndim == 3:
        shown = (truth_here > 0).sum(axis=(0, 1))
        index = int(shown.argmax()) if shown.any() else truth_here.shape[-1] // 2
        image, truth_here, said_here = (_slice(a, index) for a in (image, truth_here, said_here))
    small = _picture(image, side, rows / columns)
    shape = small.shape[:2]
    return Thumbnail(case, score, "", small, resize_label(truth_here, shape), resize_label(said_here, shape))


def choose(thumbnails: list[Thumbnail]) -> dict[str, Thumbnail]:
    """Best, median and worst by score; fewer where there are fewer cases."""
    ranked = sorted((t for t in thumbnails if np.isfinite(t.score)), key=lambda t: (-t.score, t.case))
    if not ranked:
        return {}
    places = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    return {name: ranked[place] for place, name in places.items()}


def save(chosen: dict[str, Thumbnail], folder: Path, common: dict[str, Any]) -> None:
    """Write `examples/NAME.npz` and `examples/examples.json`."""
    listed = []
    for name, one in chosen.items():
        arrays: dict[str, Any] = {"image": one.image, "truth": one.truth, "prediction": one.prediction}
        with atomic(folder / f"{name}.npz") as temporary, temporary.open("wb") as opened:
            np.savez_compressed(opened, **{key: value for key, value in arrays.items() if value is not None})
        listed.append({**common, "name": name, "case": one.case, "score": one.score, "caption": one.caption})
    write_text(folder / "examples.json", json.dumps(listed, indent=1))


def side_for(n_cases: int) -> int:
    """All thumbnails of a run are in memory until the best and the worst are known: smaller where there are many."""
    return LARGE if n_cases <= MANY else SMALL


def _slice(volume: NDArray[Any], index: int) -> NDArray[Any]:
    """(..., R, A, S) to (..., H, W), radiology's way up: rows to posterior, columns to the patient's left."""
    return volume[..., index].swapaxes(-1, -2)[..., ::-1, ::-1]


def _picture(image: NDArray[Any], side: int, aspect: float) -> NDArray[np.uint8]:
    """(C, H, W) of any intensities to (H, W, 1 or 3), darkest 0.5 % black and brightest 0.5 % white.

    `aspect` is the height of a pixel over its width; those of the picture are squares.
    """
    channels = image if image.shape[0] == 3 else image[:1]
    height, width = channels.shape[1:]
    height, width = height * max(1.0, aspect), width * max(1.0, 1 / aspect)
    factor = min(1.0, side / max(height, width))
    shape = (max(1, round(height * factor)), max(1, round(width * factor)))
    values = resize(np.asarray(channels), shape).astype(np.float32)
    if image.dtype != np.uint8:
        low, high = np.nanpercentile(values, [0.5, 99.5])
        values = (values - low) / max(float(high - low), 1e-6) * 255
    return np.ascontiguousarray(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8).transpose(1, 2, 0))
