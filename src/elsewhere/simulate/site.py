"""A simulated hospital, and how one of its images comes about."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from elsewhere.acquisition import Scanner
from elsewhere.acquisition.anatomy import Anatomy, render
from elsewhere.acquisition.geometry import Spatial
from elsewhere.errors import StudyError

POSE = Spatial(
    affine_probability=1.0, rotation=(-6, 6), scale=(0.97, 1.03), elastic_probability=1.0, elastic_magnitude=(0.0, 0.02)
)
"""How a patient lies differently from one image to the next (our choice)."""


def seed_of(*parts: object) -> int:
    """A seed for the thing that `parts` name, so that what is drawn for it depends on nothing else."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:7], "big")


@dataclass(frozen=True)
class SimulatedSite:
    """A hospital: who is imaged there, and with what.

    Attributes:
        name: letters, digits, `_` and `-`; it goes into file names.
        scanner: a scanner, or a distribution of scanners from which the site gets its own. Either way what
            `Mechanism.fresh` names (noise) is drawn anew for each image, and all else is the same for all of them.
        n_patients: how many.
        prevalence: share of patients with a lesion, 0 to 1; exact, up to rounding to whole patients.
        images_per_patient: images of the same anatomy, each in a slightly different pose.
        age: mean and standard deviation in years.
    """

    name: str
    scanner: Scanner
    n_patients: int = 24
    prevalence: float = 0.75
    images_per_patient: int = 1
    age: tuple[float, float] = (60.0, 12.0)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise StudyError(f"site {self.name!r}: a site's name is made of letters, digits, '_' and '-'")
        if not 0 <= self.prevalence <= 1:
            raise StudyError(f"site {self.name}: prevalence is {self.prevalence}, wanted a share from 0 to 1")
        if self.n_patients < 1 or self.images_per_patient < 1:
            raise StudyError(
                f"site {self.name}: n_patients is {self.n_patients} and images_per_patient {self.images_per_patient}, "
                "wanted at least 1 of each"
            )

    def own_scanner(self, seed: int, *, channels: int, dims: int) -> Scanner:
        """The scanner that stands in this site, its parameters fixed."""
        generator = torch.Generator().manual_seed(seed_of(seed, self.name, "scanner"))
        return self.scanner.site(generator, channels=channels, dims=dims)

    def lesions(self, seed: int) -> list[bool]:
        """Who of the patients has a lesion."""
        has = np.arange(self.n_patients) < round(self.prevalence * self.n_patients)
        shuffled = np.random.default_rng(seed_of(seed, self.name, "lesions")).permutation(has)
        return [bool(yes) for yes in shuffled]


@dataclass(frozen=True)
class Appearance:
    """What the tissues look like before any scanner, on a scale from 0 to 1.

    Attributes:
        intensities: of each of the anatomy's classes: a number (grey) or three (RGB).
        spread: standard deviation of each between patients.
        texture: standard deviation within a tissue, as a fraction of its intensity.
        detail: features of the coarse part of the texture along each axis.
    """

    intensities: tuple[float | tuple[float, float, float], ...] = (0.02, 0.28, 0.46, 0.72, 0.70)
    spread: float = 0.03
    texture: float = 0.08
    detail: int = 24

    def table(self) -> Tensor:
        """(1, K, C) intensities."""
        values = torch.tensor(self.intensities, dtype=torch.float32)
        return values.reshape(1, len(self.intensities), -1)


@dataclass(frozen=True)
class SimulatedCase:
    """An image, (C, *spatial) float32, and the anatomy in it, (*spatial) int64."""

    image: Tensor
    labels: Tensor


def simulate_patient(
    site: SimulatedSite,
    scanner: Scanner,
    patient: int,
    lesion: bool,
    anatomy: Anatomy,
    appearance: Appearance,
    spatial: tuple[int, ...],
    seed: int,
) -> list[SimulatedCase]:
    """All images of one patient, taken by the site's own `scanner` (see `SimulatedSite.own_scanner`)."""
    body = torch.Generator().manual_seed(seed_of(seed, site.name, patient, "anatomy"))
    labels = anatomy.draw((1, *spatial), body, torch.tensor([lesion]))
    table = appearance.table()
    table = table + appearance.spread * torch.randn(table.shape, generator=body)
    cases = []
    for number in range(site.images_per_patient):
        generator = torch.Generator().manual_seed(seed_of(seed, site.name, patient, "image", number))
        seen = labels
        if number:
            moved = POSE(labels[:, None].float(), generator, labels).target
            assert moved is not None
            seen = moved
        clean = render(seen, table.clamp_min(0), generator, texture=appearance.texture, detail=appearance.detail)
        cases.append(SimulatedCase(scanner(clean, generator)[0], seen[0]))
    return cases
