"""The cases on which representations are compared: which, how they are preprocessed, and what part of each is seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from elsewhere.analysis.acquisitions import generator_of, seed_of
from elsewhere.analysis.stability_windows import CROP, Window, home_window, wanted_room
from elsewhere.errors import SettingsError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case, StoredCase
from elsewhere.study.decode import Schema
from elsewhere.study.preprocessing import Preprocessing, decide, take_fingerprint
from elsewhere.study.reading import grid_difference
from elsewhere.study.store import Store
from elsewhere.study.study import Study

AIR = 0.1
"""A voxel this part of the way from the 1st to the 99th percentile of its image, or below, is no body."""

LEAST_BODY = 0.02
"""Where less than this part of an image is body, all of it is taken for body."""


@dataclass(frozen=True)
class View:
    """One case, ready to be looked at.

    Attributes:
        case: the row.
        image: (C, *spatial) float32, preprocessed as for training, cut to the crop, in which the windows lie.
        body: (*spatial) bool.
        label: (*spatial) class indices; None where the case has no mask.
        spacing: mm per axis, None where unknown.
        grid: cases of a patient with the same number lie on the same grid and have the same crop.
        home: the window in which the case is seen as it is, the same for all cases of that grid.
    """

    case: Case
    image: Tensor
    body: Tensor
    label: NDArray[Any] | None
    spacing: tuple[float, ...] | None
    grid: int
    home: Window


class Material:
    """The chosen cases of a study, read through its cache and preprocessed as for training.

    What preprocessing takes from a study (spacing, intensities) it takes from the chosen cases alone; no other image
    is opened.

    Args:
        study: opened.
        cases: patients at most, see `choose`.
        sites: the only ones looked at; None: all.
        seed: which patients, and where their windows lie.
        cache: where decoded cases are kept.

    Attributes:
        patients: the chosen cases, patient by patient.
        sites: with a chosen case, sorted.
        preprocessing: of all of them.

    Raises:
        StudyError: no such site, or a case that cannot be read.
        SettingsError: no case at all.
    """

    def __init__(self, study: Study, cases: int, sites: Sequence[str] | None, seed: int, cache: Cache) -> None:
        self.patients = choose(study, cases, sites, seed)
        chosen = list(chain.from_iterable(self.patients))
        self.sites = tuple(sorted({case.site for case in chosen}))
        schema = Schema.of(study)
        found = Store(cache, schema, chosen)
        entries = (found.decoded(case.id) for case in chosen)
        fingerprint = take_fingerprint(entries, len(chosen), [0] * len(study.classes))
        n_channels = len(fingerprint.channels)
        self.preprocessing: Preprocessing = decide(
            study.config,
            fingerprint,
            task=study.task,
            dims=study.dims,
            channels=study.channels if len(study.channels) == n_channels else tuple(map(str, range(n_channels))),
        )
        self._seed = seed
        self._store = Store(cache, schema, chosen, n_channels, self.preprocessing.size, self.preprocessing.spacing)

    def views(self, cases: Sequence[Case]) -> list[View]:
        """The cases of one patient; those on one grid are cut alike."""
        stored = [self._store.load(case.id) for case in cases]
        grids: list[list[StoredCase]] = []
        views: list[View] = []
        for one in stored:
            same = next((g for g in grids if grid_difference(one.geometry, g[0].geometry) is None), None)
            if same is None:
                grids.append([one])
            else:
                same.append(one)
        for number, group in enumerate(grids):
            spacing = group[0].geometry.spacing
            box = crop_box(group[0].geometry.shape, [_mask(one) for one in group], spacing)
            shape = [part.stop - part.start for part in box]
            home = home_window(shape, spacing, generator_of(self._seed, cases[0].patient, number, "home"))
            views += [self._view(one, box, number, home) for one in group]
        return sorted(views, key=lambda view: view.case.site)

    def _view(self, stored: StoredCase, box: tuple[slice, ...], grid: int, home: Window) -> View:
        image = self.preprocessing.normalise(torch.from_numpy(np.array(stored.image[(slice(None), *box)])), stored)
        mask = _mask(stored)
        label = None if mask is None else np.array(mask[box])
        return View(stored.case, image, body(image, label), label, stored.geometry.spacing, grid, home)


def choose(study: Study, patients: int, sites: Sequence[str] | None, seed: int) -> list[list[Case]]:
    """The cases of so many patients at most, patient by patient.

    Of each patient one case a site, the first with a label. Those who were imaged at several sites go first: they show
    what a real change of acquisition does; the others are taken from the sites in turn. Within a site the order is
    that of a hash, so that the first of many are those of few.

    Raises:
        StudyError: no such site.
        SettingsError: fewer than one patient.
    """
    if patients < 1:
        raise SettingsError(f"cases is {patients}, wanted at least 1 patient to look at")
    by_patient: dict[str, dict[str, Case]] = {}
    for case in study.of_site(*(sites or study.sites)):
        seen = by_patient.setdefault(case.patient, {})
        if case.site not in seen or (seen[case.site].label is None and case.label is not None):
            seen[case.site] = case
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient in sorted(by_patient, key=lambda name: seed_of(seed, name)):
        groups.setdefault(tuple(sorted(by_patient[patient])), []).append(patient)
    order: list[str] = []
    for number in sorted({len(key) for key in groups}, reverse=True):
        order += _in_turn(groups[key] for key in sorted(groups) if len(key) == number)
    return [list(by_patient[patient].values()) for patient in order[:patients]]


def crop_box(
    shape: Sequence[int], masks: Sequence[NDArray[Any] | None], spacing: Sequence[float] | None = None
) -> tuple[slice, ...]:
    """The part of a grid in which windows are cut: `CROP` voxels an axis and the room that a shift takes.

    Around the middle of all masks' foreground; without a mask, or where it is empty, the middle of the grid. Shorter
    axes are taken whole.
    """
    foreground = [mask != 0 for mask in masks if mask is not None and mask.any()]
    box = []
    for axis, (size, more) in enumerate(zip(shape, wanted_room(len(shape), spacing), strict=True)):
        most = CROP[len(shape)] + more
        middle = size / 2
        if foreground:
            others = tuple(a for a in range(len(shape)) if a != axis)
            hit = np.flatnonzero(np.any([mask.any(axis=others) for mask in foreground], axis=0))
            middle = (hit[0] + hit[-1] + 1) / 2
        start = min(max(0, round(middle - most / 2)), max(0, size - most))
        box.append(slice(start, min(size, start + most)))
    return tuple(box)


def body(image: Tensor, label: NDArray[Any] | None = None) -> Tensor:
    """(*spatial) bool: what is no air, holes filled, with all labelled foreground (our choice, see `AIR`).

    Args:
        image: (C, *spatial); channels are averaged.
        label: (*spatial) class indices.
    """
    grey = image.mean(0).numpy()
    low, high = np.percentile(grey, [1, 99])
    inside = grey > low + AIR * (high - low)
    if inside.ndim == 3:  # in each slice of a volume: cavities that are open along its axis count as body too
        inside = np.stack([ndimage.binary_fill_holes(part) for part in np.moveaxis(inside, -1, 0)], axis=-1)
    else:
        inside = ndimage.binary_fill_holes(inside)
    if inside.mean() < LEAST_BODY:
        inside = np.ones_like(inside)
    return torch.from_numpy(inside if label is None else inside | (label != 0))


def _mask(stored: StoredCase) -> NDArray[Any] | None:
    return stored.label if isinstance(stored.label, np.ndarray) else None


def _in_turn(lists: Iterable[list[str]]) -> list[str]:
    return [name for row in zip_longest(*lists) for name in row if name is not None]
