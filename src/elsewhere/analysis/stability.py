"""How stable representations are under a change of acquisition, and how well they still tell structures apart.

`stability` measures, on the cases of a study and for each extractor, the image's own intensities being the first:

1. *alikeness*: how alike the features of a case are to those of the same case under a drawn acquisition;
2. *correspondence*: how often the nearest neighbour of a voxel's features in the other view is that voxel;
3. *probe*: how well a linear classifier of voxels, trained on other patients' images as they are, finds the structures
   in images of another acquisition;

and the same between real sites or sequences: 1 and 2 where a patient has several on one grid, 3 everywhere. This is
what figure 5 of Diaz et al. (2026, arXiv 2604.02564) shows in pictures, as numbers. A representation that is constant
would be perfectly alike, and useless: 1 says nothing without 2 and 3.

The two views of 1 and 2 are windows of the case that lie elsewhere, see `stability_windows`: what only knows where in
its window a voxel lies is not stable, and the control `position` shows that the numbers see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from elsewhere.acquisition import Scanner
from elsewhere.analysis.acquisitions import HOME, drawn_acquisitions, generator_of, seed_of
from elsewhere.analysis.stability_extractors import POSITION, with_controls
from elsewhere.analysis.stability_material import Material, View
from elsewhere.analysis.stability_measures import CHANCE
from elsewhere.analysis.stability_picture import Shown, shown_slice
from elsewhere.analysis.stability_probe import Sample, probe_rows, probe_voxels
from elsewhere.analysis.stability_windows import Meeting, Window, core, displaced, in_window
from elsewhere.errors import SettingsError
from elsewhere.networks.stable import Extractor
from elsewhere.study.cache import Cache
from elsewhere.study.study import Progress, Study

COLUMNS = ["extractor", "measure", "acquisition", "patient", "value"]

ALIKENESS, CORRESPONDENCE = "alikeness", "correspondence"

ALL = "all drawn"
"""The mean over the drawn acquisitions: one number to choose by."""


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
        a row for each extractor, measure, acquisition and patient; the extractor "chance" is what no knowledge gives,
        "position" what knowledge of nothing but the place in the window does.
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
    everything = with_controls(extractors, study.dims)
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
            home = dict(self._seen(view.home.cut(view.image)))
            self._count()
            kept.append(home)
            if first:
                name = HOME if len(views) == 1 else view.case.site
                self.shown.append(shown_slice(name, view, view.home, _pictured(home), real=True))
            self._drawn(view, home, first and view is views[0])
        for number, other in enumerate(views):
            before = [(one, kept[n]) for n, one in enumerate(views[:number]) if one.grid == other.grid]
            self._pairs(before, other)

    def _drawn(self, view: View, home: Mapping[str, Tensor], show: bool) -> None:
        """One case against itself under each drawn acquisition, in another window."""
        self._sample(view, HOME, view.home, home)
        for name, scanner in self.scanners.items():
            for draw in range(self.draws):
                image = scanner(view.image[None], generator_of(self.seed, view.case.id, name, draw))[0]
                window, meeting = self._meeting(view, view.body, name, draw)
                seen: dict[str, Tensor] = {}
                for label, features in self._seen(window.cut(image)):
                    if show and draw == 0:
                        seen[label] = features
                    self._compare(label, name, view.case.patient, home[label], features, meeting)
                    self._sample(view, name, window, {label: features})
                self._count()
                if show and draw == 0:
                    self.shown.append(shown_slice(name, view, window, _pictured(seen), real=False))

    def _pairs(self, before: Sequence[tuple[View, Mapping[str, Tensor]]], other: View) -> None:
        """One patient at several sites, on one grid: the last of them, in another window, against those before."""
        pairs = [(one, home, one.body & other.body) for one, home in before]
        pairs = [(one, home, inside) for one, home, inside in pairs if inside.any()]
        if not pairs:
            return
        met = [(one, home, *self._meeting(other, inside, "real")) for one, home, inside in pairs]
        for label, features in self._seen(met[0][2].cut(other.image)):
            for one, home, _, meeting in met:
                name = f"{one.case.site} to {other.case.site}"
                self._compare(label, name, one.case.patient, home[label], features, meeting)

    def _meeting(self, view: View, inside: Tensor, *key: object) -> tuple[Window, Meeting]:
        """A window away from that in which the case was seen as it is, by `key`, and what the two share."""
        generator = generator_of(self.seed, view.case.id, *key, "window")
        window = displaced(view.home, view.body.shape, generator)
        return window, Meeting(view.home, window, inside, view.spacing, generator, self.device)

    def _compare(
        self, label: str, acquisition: str, patient: str, one: Tensor, other: Tensor, meeting: Meeting
    ) -> None:
        alike, share = meeting.compare(one, other)
        self.rows.append((label, ALIKENESS, acquisition, patient, alike))
        self.rows.append((label, CORRESPONDENCE, acquisition, patient, share))
        if label == next(iter(self.extractors)):
            self.rows.append((CHANCE, CORRESPONDENCE, acquisition, patient, meeting.chance))

    def _sample(self, view: View, name: str, window: Window, seen: Mapping[str, Tensor]) -> None:
        """Voxels for the probe, of what every window of the case shows: the same under all acquisitions."""
        if view.label is None:
            return
        common = core(view.body.shape, view.spacing)
        inside = common.cut(view.body)
        if not inside.any():
            return
        places, target = probe_voxels(common.cut(view.label), inside, seed_of(self.seed, view.case.id))
        where = tuple(inside.nonzero()[torch.from_numpy(places)].T.to(self.device))
        for label, features in seen.items():
            values = common.within(window).cut(features)[(slice(None), *where)].T.cpu().numpy().astype(np.float64)
            self.samples.append(Sample(label, view.case.patient, view.case.site, name, values, target))

    def _seen(self, image: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Features (F, *size) of a window (C, *size), standardised in it, extractor by extractor."""
        for label, extractor in self.extractors.items():
            yield label, in_window(extractor(image[None].contiguous().to(self.device))[0])

    def _count(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _pictured(seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the control: the place in the window is no picture of the case."""
    return {label: features for label, features in seen.items() if label != POSITION}
