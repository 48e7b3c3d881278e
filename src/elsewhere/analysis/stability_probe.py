"""The linear probe: structures found by a linear classifier of features, trained on other patients and elsewhere.

Patients are dealt into folds. Whoever is tested, under whatever acquisition and at whatever site, is tested by a probe
that was trained without him or her, so every patient gives a number and intervals are over all of them. A voxel is
called one of the structures that the patient's mask shows, and the level of chance is one over their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from elsewhere.analysis.acquisitions import HOME
from elsewhere.analysis.stability_measures import CHANCE, LinearProbe

PROBE, DROP = "probe", "probe drop"

FOLDS = 5
"""Groups of patients, as many as there are patients where those are fewer."""

PER_CLASS = 100
"""Voxels of each class that are taken of a view, at most."""

Row = tuple[str, str, str, str, float]


@dataclass(frozen=True)
class Sample:
    """Some voxels of one view through one extractor.

    Attributes:
        extractor, patient, site: names.
        acquisition: `HOME`, or that which was drawn.
        features: (N, F), standardised.
        target: (N,) class indices.
    """

    extractor: str
    patient: str
    site: str
    acquisition: str
    features: NDArray[np.float64]
    target: NDArray[np.int64]


def probe_voxels(label: NDArray[Any], inside: Tensor, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Up to `PER_CLASS` voxels of each class, background included, all within the body.

    Args:
        label: (*spatial) class indices.
        inside: (*spatial) bool, of n voxels.
        seed: of the choice.

    Returns:
        (N,) places in the list of the n voxels, and (N,) their classes.
    """
    target = label[inside.numpy()].astype(np.int64)
    rng = np.random.default_rng(seed)
    places = []
    for index in np.unique(target):
        there = np.flatnonzero(target == index)
        places.append(rng.choice(there, min(PER_CLASS, len(there)), replace=False))
    chosen = np.concatenate(places)
    return chosen, target[chosen]


def probe_rows(
    samples: Sequence[Sample], extractors: Sequence[str], sites: Sequence[str], task: str
) -> tuple[list[Row], tuple[str, ...]]:
    """Balanced accuracy of each patient's voxels, at home and elsewhere, and how much less it is there.

    At home and under drawn acquisitions: trained on the other patients' images as they are, of all sites. Between
    sites, where there are several: trained at one, tested there ("A at home") and at all others ("A to B+C").

    Args:
        samples: of all views.
        extractors: in the order of the table.
        sites: in order.
        task: of the study.

    Returns:
        rows (extractor, measure, acquisition, patient, value), and what was left out, in sentences.
    """
    if task != "segmentation":
        return [], ("linear probe: left out, for a study of whole-image classes has no structures to tell apart",)
    patients = sorted({sample.patient for sample in samples})
    if len(patients) < 2:
        return [], ("linear probe: left out, it needs masks of at least two patients",)
    if len({int(index) for sample in samples for index in np.unique(sample.target)}) < 2:
        return [], ("linear probe: left out, the masks show one class only",)
    fold = {patient: number % min(FOLDS, len(patients)) for number, patient in enumerate(patients)}
    rows: list[Row] = []
    for extractor in extractors:
        own = [sample for sample in samples if sample.extractor == extractor]
        chance = extractor == extractors[0]
        at_home = [sample for sample in own if sample.acquisition == HOME]
        rows += _tested(extractor, at_home, [(sample, sample.acquisition) for sample in own], fold, HOME, chance)
        for site in sites if len(sites) > 1 else ():
            others = "+".join(name for name in sites if name != site)
            home = f"{site} at home"
            there = [sample for sample in at_home if sample.site == site]
            named = [(s, home) for s in there]
            named += [(s, f"{site} to {others}") for s in at_home if s.site != site]
            rows += _tested(extractor, there, named, fold, home, chance)
    return rows, ()


def _tested(
    extractor: str,
    train: Sequence[Sample],
    test: Iterable[tuple[Sample, str]],
    fold: dict[str, int],
    home: str,
    chance: bool,
) -> list[Row]:
    """Rows of one extractor: trained on `train`, tested on samples that count as an acquisition each.

    `chance`: also rows of what guessing reaches.
    """
    probes: dict[int, LinearProbe | None] = {}
    for number in sorted(set(fold.values())):
        rest = [sample for sample in train if fold[sample.patient] != number]
        target = np.concatenate([sample.target for sample in rest]) if rest else np.zeros(0, np.int64)
        enough = len(np.unique(target)) > 1
        probes[number] = LinearProbe(np.concatenate([s.features for s in rest]), target) if enough else None
    found: dict[tuple[str, str], list[float]] = {}
    guessed: dict[tuple[str, str], list[float]] = {}
    for sample, acquisition in test:
        probe = probes[fold[sample.patient]]
        if probe is not None:
            score = probe.balanced_accuracy(sample.features, sample.target)
            found.setdefault((acquisition, sample.patient), []).append(score)
            asked = np.intersect1d(sample.target, probe.classes)
            guessed.setdefault((acquisition, sample.patient), []).append(1 / max(1, len(asked)))
    means = {key: float(np.mean(scores)) for key, scores in found.items() if np.isfinite(scores).all()}
    rows: list[Row] = [(extractor, PROBE, name, patient, score) for (name, patient), score in means.items()]
    for (name, patient), score in means.items():
        if name != home and (home, patient) in means:
            rows.append((extractor, DROP, name, patient, means[home, patient] - score))
    if chance:
        rows += [(CHANCE, PROBE, name, patient, float(np.mean(guessed[name, patient]))) for name, patient in means]
    return rows
