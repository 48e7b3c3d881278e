"""Cases to look at: the best, the median and the worst of a run, as small pictures.

`examples/NAME.npz` holds `image` (H, W, 1 or 3) uint8 and, for segmentation, `truth` and `prediction` (H, W) class
indices. A volume is three orthogonal slices, each where most of the truth is: the axial one under these names, the
others under `image:coronal`, `truth:coronal`, ..., `prediction:sagittal`; `load_views` reads both kinds.
`examples/examples.json` lists them with case, score, caption and the names of the views.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from elsewhere.benchmark.sheets import PROBABILITY
from elsewhere.files import atomic, write_text
from elsewhere.study.resample import canonical_geometry, resize, resize_label, to_canonical

if TYPE_CHECKING:  # it brings torch, and a report, which reads pictures, does without
    from elsewhere.benchmark.scoring import Judged

LARGE, SLICE = 384, 192
"""Longest side in pixels: of an image, and of each of the three slices of a volume."""

AXES = {"axial": 2, "coronal": 1, "sagittal": 0}
"""Which of the axes R, A, S a slice is cut across."""


class Ranked(Protocol):
    """A case and how well it went."""

    @property
    def case(self) -> str:
        """Its id."""
        ...

    @property
    def score(self) -> float:
        """Higher is better."""
        ...


SomeRanked = TypeVar("SomeRanked", bound=Ranked)


@dataclass(frozen=True)
class Score:
    """A case and how well it went."""

    case: str
    score: float


@dataclass(frozen=True)
class View:
    """One picture: image (H, W, 1 or 3) uint8, truth and prediction (H, W) uint8 or None."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Thumbnail:
    """Pictures of a case: one called "image", or those of `AXES`."""

    case: str
    score: float
    caption: str
    views: dict[str, View]


def score_of(judged: Judged, primary: str, classes: Sequence[str]) -> float:
    """What cases are ranked by: the primary score of a segmentation, the probability of the true class."""
    if isinstance(judged.truth, int):
        return float(judged.record[PROBABILITY + classes[judged.truth]])
    return judged.scores.get(("all", primary), float("nan"))


def choose(cases: Iterable[SomeRanked]) -> dict[str, SomeRanked]:
    """Best, median and worst by score; fewer where there are fewer cases."""
    ranked = sorted((one for one in cases if np.isfinite(one.score)), key=lambda one: (-one.score, one.case))
    if not ranked:
        return {}
    places = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    return {name: ranked[place] for place, name in places.items()}


def thumbnail(judged: Judged, primary: str, classes: Sequence[str], side: int | None = None) -> Thumbnail:
    """Pictures of a case, at most `side` pixels each (LARGE or SLICE where None)."""
    case = judged.stored.case.id
    score = score_of(judged, primary, classes)
    if isinstance(judged.truth, int):
        truth, said = classes[judged.truth], classes[int(judged.prediction)]
        caption = f"truth {truth}, predicted {said} (p({truth}) = {score:.2f})"
        return Thumbnail(case, score, caption, _views(judged, None, None, side))
    # Labels lie on the file's grid, the image on the cache's: bring all three to the latter's axes and shape.
    truth_here, said_here = (_on_grid(judged, np.asarray(labels)) for labels in (judged.truth, judged.prediction))
    return Thumbnail(case, score, "", _views(judged, truth_here, said_here, side))


def save(chosen: dict[str, Thumbnail], folder: Path, common: dict[str, Any]) -> None:
    """Write `NAME.npz` of each, and `examples.json`, into `folder`."""
    listed = []
    for name, one in chosen.items():
        arrays = {}
        for number, (view, picture) in enumerate(one.views.items()):
            for key, array in vars(picture).items():
                if array is not None:
                    arrays[f"{key}:{view}" if number else key] = array
        with atomic(folder / f"{name}.npz") as temporary, temporary.open("wb") as opened:
            np.savez_compressed(opened, **arrays)
        about = {"name": name, "case": one.case, "score": one.score, "caption": one.caption}
        listed.append({**common, **about, "views": list(one.views)})
    write_text(folder / "examples.json", json.dumps(listed, indent=1))


def load_views(npz: Path) -> dict[str, View]:
    """Read what `save` wrote: the picture called "image", or those of `AXES`.

    Raises:
        OSError, ValueError, KeyError: the file is missing or damaged.
    """
    with np.load(npz, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    of_volume = any(":" in name for name in arrays)
    views = {}
    for number, view in enumerate(AXES if of_volume else ["image"]):
        end = f":{view}" if number else ""
        views[view] = View(arrays["image" + end], arrays.get("truth" + end), arrays.get("prediction" + end))
    return views


def _views(
    judged: Judged, truth: NDArray[np.uint8] | None, prediction: NDArray[np.uint8] | None, side: int | None
) -> dict[str, View]:
    image, geometry = np.asarray(judged.stored.image), judged.stored.geometry
    spacing = geometry.spacing or (1.0,) * len(geometry.shape)
    if len(geometry.shape) == 2:
        return {"image": _view(image, truth, prediction, spacing[0] / spacing[1], side or LARGE)}
    views = {}
    for name, axis in AXES.items():
        index = _fullest(truth, prediction, axis, geometry.shape[axis])
        true, said = (None if a is None else _slice(a, axis, index) for a in (truth, prediction))
        across, up = (s for i, s in enumerate(spacing) if i != axis)
        views[name] = _view(_slice(image, axis, index), true, said, up / across, side or SLICE)
    return views


def _view(
    image: NDArray[Any], truth: NDArray[np.uint8] | None, prediction: NDArray[np.uint8] | None, aspect: float, side: int
) -> View:
    small = _picture(image, side, aspect)
    true, said = (None if mask is None else resize_label(mask, small.shape[:2]) for mask in (truth, prediction))
    return View(small, true, said)


def _on_grid(judged: Judged, labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels of the file's grid and axes on those of the stored image."""
    turned = to_canonical(labels.astype(np.uint8), judged.stored.original)[0]
    shape = judged.stored.geometry.shape
    return turned if canonical_geometry(judged.stored.original).shape == shape else resize_label(turned, shape)


def _fullest(truth: NDArray[Any] | None, prediction: NDArray[Any] | None, axis: int, length: int) -> int:
    """The slice with most of the truth; without truth, of the prediction; the middle where there is neither."""
    for labels in (truth, prediction):
        if labels is not None and labels.any():
            others = tuple(i for i in range(labels.ndim) if i != axis)
            return int((labels > 0).sum(axis=others).argmax())
    return length // 2


def _slice(volume: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """(..., R, A, S) to (..., H, W), radiology's way up.

    Axial: anterior is up; coronal and sagittal: superior is up. The patient's left is right, anterior is left.
    """
    flat: NDArray[Any] = np.take(volume, index, axis=volume.ndim - 3 + axis)
    return flat.swapaxes(-1, -2)[..., ::-1, ::-1]


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
