"""Findings: what must be known of a held-out site whatever the method: who is there, and what a trivial answer gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from elsewhere.evidence.findings_material import HELD_OUT, HOME, Judged, Material
from elsewhere.evidence.trivial import Trivial, trivial_at

_NOT_A_NAME = re.compile(r"[^0-9a-z]+")


@dataclass(frozen=True)
class SiteAt:
    """A held-out site.

    Attributes:
        held_out: which.
        n_cases, n_patients: that were judged.
        one_class: the class of all its cases; "" where there are several, or for a segmentation.
        files_as_patients: see there.
        trivial: what the best trivial answer scores on its cases.
    """

    held_out: str
    n_cases: int
    n_patients: int
    one_class: str = ""
    files_as_patients: bool = False
    trivial: Trivial = field(default_factory=Trivial)


def site_at(material: Material, held_out: str, splits: Mapping[str, Judged], metric: str) -> SiteAt:
    """What is known of a site from the cases that one method's models judged there.

    Args:
        material: of the folder.
        held_out: the site.
        splits: its cases by split, with their histograms.
        metric: of the table.
    """
    here = splits[HELD_OUT]
    target = here.target
    alone = target is not None and len(set(target.tolist())) == 1
    return SiteAt(
        held_out,
        len(here.cases),
        here.n_patients,
        _class_name(here.classes, int(target[0])) if alone and target is not None else "",
        not _described(material) and files_as_patients(here.cases, here.patients),
        trivial_at(here, metric, material.classes, material.class_counts(held_out), splits.get(HOME)),
    )


def files_as_patients(cases: NDArray[Any], patients: NDArray[Any]) -> bool:
    """Every case has a patient of its own who is called like its file: nobody said who is one person.

    That is what a manifest without a column `patient` and `elsewhere study new` without `--patient-rule` make. A study
    that numbers its files by patient looks the same, and then all is well; so nothing is said where the manifest has
    covariates, for whoever knows the age of a patient knows who is one.
    """
    if len(cases) < 2 or len(set(patients)) < len(cases):
        return False
    stems = [_called(str(case).rsplit("/", 1)[-1]) for case in cases]
    return all(stem and _called(who).endswith(stem) for stem, who in zip(stems, patients, strict=True))


def _described(material: Material) -> bool:
    return material.covariates is not None and bool(set(material.covariates.columns) - {"label"})


def _called(name: object) -> str:
    return _NOT_A_NAME.sub("", str(name).lower())


def _class_name(classes: Sequence[str], index: int) -> str:
    return classes[index] if index < len(classes) else str(index)
