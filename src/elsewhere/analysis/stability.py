"""How stable representations are under a change of acquisition, and how well they still tell structures apart.

`stability` measures, on the cases of a study and for each extractor, the image's own intensities being the first:

1. *alikeness*: how alike the features of a case are to those of the same case under a drawn acquisition;
2. *correspondence*: how often the nearest neighbour of a voxel's features in the other view is that voxel;
3. *probe*: how well a linear classifier of voxels, trained on other patients' images as they are, finds the structures
   in images of another acquisition;

and the same between real sites or sequences: 1 and 2 where a patient has several on one grid, 3 everywhere. This is
what figure 5 of Diaz et al. (2026, arXiv 2604.02564) shows in pictures, as numbers. A representation that is constant
would be perfectly alike, and useless: 1 says nothing without 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from elsewhere.acquisition import Scanner
from elsewhere.analysis.acquisitions import HOME, drawn_acquisitions, generator_of, seed_of
from elsewhere.analysis.stability_extractors import with_image
from elsewhere.analysis.stability_material import Material, View
from elsewhere.analysis.stability_measures import CHANCE, alikeness, correspondence, neighbours, standardised
from elsewhere.analysis.stability_picture import Shown, shown_slice
from elsewhere.analysis.stability_probe import Sample, probe_rows, probe_voxels
from elsewhere.errors import SettingsError
from elsewhere.networks.stable import Extractor
from elsewhere.study.cache import Cache
from elsewhere.study.study import Progress, Study

COLUMNS = ["extractor", "measure", "acquisition", "patient", "value"]

ALIKENESS, CORRESPONDENCE = "alikeness", "correspondence"

ALL = "all drawn"
"""The mean over the drawn acquisitions: one number to choose by."""

VOXELS = 1000
"""Voxels of a view among which a nearest neighbour is sought."""

TOLERANCE = 3.0
"""Millimetres (pixels, where the spacing is unknown) that still count as the same place."""


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        table: rows of `COLUMNS`; a value is the mean over the cases and draws of a patient.
        notes: what could not be measured, and why; and what is to be known of the choice of sites.
        shown: one case as each extractor sees it, for the picture.
        patients, cases: how many were looked at.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    shown: tuple[Shown, ...]
    patients: int
    cases: int


def stability(study: Study, extractors: Mapping[str, Extractor], **settings: Any) -> pd.DataFrame:
    """The numbers, in long form.

    Args:
        study: opened.
        extractors: by the name that the table shows; the image's intensities, "image", need not be among them.
        settings: see `measure`.

    Returns:
        a row for each extractor, measure, acquisition and patient; the extractor "chance" is what no knowledge gives.
    """
    return measure(study, extractors, **settings).table


def measure(
    study: Study,
    extractors: Mapping[str, Extractor],
    *,
    cases: int = 20,
    draws: int = 2,
    strength: float = 1.0,
    seed: int = 0,
    sites: Sequence[str] | None = None,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Look at some cases of a study through each extractor.

    The same voxels, draws and patients are taken for all extractors, and for a case they do not depend on which other
    cases are looked at. Extractors run on a GPU where there is one; everything is drawn on the CPU.

    Args:
        study: opened.
        extractors: by name.
        cases: patients at most, see `stability_material.choose`.
        draws: of each acquisition, for each case.
        strength: of the drawn acquisitions, see `drawn_acquisitions`.
        seed: of patients, draws and voxels.
        sites: the only ones that are opened; None: all.
        cache: of decoded cases; None: the user's.
        progress: called with (views looked at, views in all).

    Raises:
        SettingsError: a number that makes no sense, an extractor of other dimensions.
        StudyError: no such site, or a case that cannot be read.
    """
    if draws < 1:
        raise SettingsError(f"draws is {draws}, wanted 1 or more of each acquisition")
    scanners = drawn_acquisitions(strength)
    everything = with_image(extractors, study.dims)
    material = Material(study, cases, sites, seed, cache or Cache())
    n_cases = sum(map(len, material.patients))
    looks = _Looks(everything, scanners, draws, seed, progress, n_cases * (1 + draws * len(scanners)))
    with torch.no_grad():
        for patient in material.patients:
            looks.at(material.views(patient))
    rows, notes = probe_rows(looks.samples, list(everything), material.sites, study.task)
    table = pd.DataFrame([*looks.rows, *rows], columns=COLUMNS)
    table = table.groupby(COLUMNS[:-1], sort=False)["value"].mean().reset_index()
    table = pd.concat([table, _over(table, list(scanners))], ignore_index=True)
    notes = (*notes, *_test_sites(study, material.sites))
    return Measured(table, notes, tuple(looks.shown), len(material.patients), n_cases)


def _test_sites(study: Study, looked_at: Sequence[str]) -> tuple[str, ...]:
    """A sentence where sites were looked at on which a method is to be judged."""
    roles = study.config.roles
    test = sorted(set(roles.test) & set(looked_at)) if roles is not None else []
    if not test:
        return ()
    return (
        f"test sites of study.yaml were looked at: {', '.join(test)}; an extractor that is chosen by these numbers is "
        "chosen on test images (--sites names the sites to look at)",
    )


def _over(table: pd.DataFrame, acquisitions: Sequence[str]) -> pd.DataFrame:
    """Rows of `ALL`: each patient's mean over the drawn acquisitions, all of which count alike."""
    drawn = table[table["acquisition"].isin(acquisitions)]
    wide = drawn.pivot(index=["extractor", "measure", "patient"], columns="acquisition", values="value")
    means = wide.mean(axis=1, skipna=False).rename("value").reset_index()
    return means.assign(acquisition=ALL)[COLUMNS]


class _Looks:
    """What is seen of one patient after the other.

    Attributes:
        rows: of `COLUMNS`, several for one patient where there are several cases or draws.
        samples: voxels for the probe.
        shown: the first patient's views, for the picture.
    """

    def __init__(
        self,
        extractors: Mapping[str, Extractor],
        scanners: Mapping[str, Scanner],
        draws: int,
        seed: int,
        progress: Progress | None,
        total: int,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.extractors = {label: extractor.to(self.device) for label, extractor in extractors.items()}
        self.scanners, self.draws, self.seed = scanners, draws, seed
        self.rows: list[tuple[str, str, str, str, float]] = []
        self.samples: list[Sample] = []
        self.shown: list[Shown] = []
        self._progress, self._done, self._total = progress, 0, total

    def at(self, views: Sequence[View]) -> None:
        """Look at the cases of one patient, under each acquisition, and at each other."""
        first = not self.shown
        kept: list[dict[str, Tensor]] = []
        for view in views:
            home = dict(self._seen(view.image))
            kept.append(home)
            if first:
                name = HOME if len(views) == 1 else view.case.site
                self.shown.append(shown_slice(name, view, home, real=True))
            self._drawn(view, home, first and view is views[0])
        for number, one in enumerate(views):
            for other_number, other in enumerate(views[number + 1 :], number + 1):
                if one.grid == other.grid:
                    self._pair(one, other, kept[number], kept[other_number])

    def _drawn(self, view: View, home: Mapping[str, Tensor], show: bool) -> None:
        """One case against itself under each drawn acquisition."""
        inside = view.body
        flat = {label: standardised(features, inside.to(self.device)) for label, features in home.items()}
        voxels, near = self._places(view, inside)
        probed = None if view.label is None else probe_voxels(view.label, inside, seed_of(self.seed, view.case.id))
        self._sample(view, HOME, flat, probed)
        for name, scanner in self.scanners.items():
            for draw in range(self.draws):
                generator = generator_of(self.seed, view.case.id, name, draw)
                image = scanner(view.image[None], generator)[0]
                seen: dict[str, Tensor] = {}
                for label, features in self._seen(image):
                    if show and draw == 0:
                        seen[label] = features
                    other = standardised(features, inside.to(self.device))
                    self._compare(label, name, view.case.patient, flat[label], other, voxels, near)
                    if probed is not None:
                        self._sample(view, name, {label: other}, probed)
                if show and draw == 0:
                    self.shown.append(shown_slice(name, view, seen, real=False))

    def _pair(self, one: View, other: View, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        """One patient at two sites, on one grid."""
        inside = one.body & other.body
        if not inside.any():
            return
        voxels, near = self._places(one, inside)
        name = f"{one.case.site} to {other.case.site}"
        there = inside.to(self.device)
        for label in self.extractors:
            a, b = standardised(first[label], there), standardised(second[label], there)
            self._compare(label, name, one.case.patient, a, b, voxels, near)

    def _compare(
        self, label: str, acquisition: str, patient: str, one: Tensor, other: Tensor, voxels: Tensor, near: Tensor
    ) -> None:
        self.rows.append((label, ALIKENESS, acquisition, patient, alikeness(one, other)))
        share = correspondence(one[:, voxels], other[:, voxels], near)
        self.rows.append((label, CORRESPONDENCE, acquisition, patient, share))
        if label == next(iter(self.extractors)):
            self.rows.append((CHANCE, CORRESPONDENCE, acquisition, patient, float(near.double().mean())))

    def _places(self, view: View, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Which voxels of the body are compared, as places in its list, in random order; and which lie together."""
        where = inside.nonzero()
        order = torch.randperm(len(where), generator=generator_of(self.seed, view.case.id, "voxels"))[:VOXELS]
        return order.to(self.device), neighbours(where[order], view.spacing, TOLERANCE)

    def _sample(
        self, view: View, name: str, flat: Mapping[str, Tensor], probed: tuple[NDArray[Any], NDArray[Any]] | None
    ) -> None:
        if probed is None:
            return
        places, target = probed
        index = torch.from_numpy(places).to(self.device)
        for label, features in flat.items():
            values = features[:, index].T.cpu().numpy().astype(np.float64)
            self.samples.append(Sample(label, view.case.patient, view.case.site, name, values, target))

    def _seen(self, image: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Features (F, *spatial) of an image (C, *spatial), extractor by extractor."""
        for label, extractor in self.extractors.items():
            yield label, extractor(image[None].to(self.device))[0]
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
