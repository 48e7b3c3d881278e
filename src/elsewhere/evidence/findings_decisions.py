"""Findings: what thresholds chosen on the calibration patients do at the held-out site, and which lesions are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.bounded import WHOLE
from elsewhere.evidence.findings_material import CALIBRATION, HELD_OUT, HOME, Judged
from elsewhere.evidence.intervals import Interval, patient_interval
from elsewhere.evidence.operating import (
    choose_dice_threshold,
    choose_threshold,
    detection,
    dice_at,
    operating_point,
    voxel_operating_point,
)

RULES = ("youden", "sensitivity:0.9")
"""How thresholds are chosen on the calibration patients of a classification."""

DICE_RULE = "mean Dice"
"""How they are chosen for a segmentation."""

LESIONS = "lesions_true:"


@dataclass(frozen=True)
class DecisionAt:
    """A method at a held-out site, with thresholds chosen on the calibration patients of its own runs.

    Attributes:
        method, held_out: which.
        rule: how the thresholds were chosen.
        positive: the class that is called positive against all others; "foreground" for voxels.
        thresholds: of each seed's model; NaN where its calibration patients allow none.
        prevalence: share of positive cases (voxels) at the held-out site.
        away: sensitivity, specificity, ppv and npv at the held-out site, at its own prevalence.
        home: the same in the in-domain test; empty where there is none.
        at_prevalence: ppv and npv at the held-out site at the prevalence that was asked for; empty where none was.
        dice, dice_at_half: segmentation: mean over cases of the Dice of all foreground as one, above the threshold and
            above 0.5; None otherwise.
    """

    method: str
    held_out: str
    rule: str
    positive: str
    thresholds: tuple[float, ...]
    prevalence: float
    away: Mapping[str, Interval]
    home: Mapping[str, Interval]
    at_prevalence: Mapping[str, Interval]
    dice: Interval | None = None
    dice_at_half: Interval | None = None


@dataclass(frozen=True)
class DetectionAt:
    """Lesions of a class at a held-out site: share found, and number a case that is missed, false and true."""

    method: str
    held_out: str
    lesion: str
    found: Mapping[str, Interval]


def decisions_at(
    method: str, held_out: str, splits: Mapping[str, Judged], classes: Sequence[str], prevalence: float | None
) -> list[DecisionAt]:
    """What thresholds do; empty where there are no calibration patients of every run.

    Args:
        method, held_out: which.
        splits: the cases.
        classes: of the task; with two, the second is the positive one, otherwise each against the others.
        prevalence: at which predictive values are given besides; None for none.
    """
    away, calibration = splits[HELD_OUT], splits.get(CALIBRATION)
    if calibration is None or not len(calibration.cases) or not set(away.seeds) <= set(calibration.seeds):
        return []
    calibration = calibration.of_seeds(away.seeds)
    home = splits.get(HOME)
    home = home.of_seeds(away.seeds) if home is not None and set(away.seeds) <= set(home.seeds) else None
    if away.probabilities is None:
        return _of_voxels(method, held_out, calibration, away, home)
    places = [1] if len(away.classes) == 2 else range(len(away.classes))
    found = []
    for place in places:
        for rule in RULES:
            limits = np.array([_threshold(calibration, model, place, rule) for model in range(len(away.seeds))])
            if np.isnan(limits).all():
                continue
            score, positive = _scores(away, place)
            at_home = {} if home is None else operating_point(*_scores(home, place), home.patients, limits)
            given = {}
            if prevalence is not None:
                there = operating_point(score, positive, away.patients, limits, prevalence)
                given = {name: there[name] for name in ("ppv", "npv")}
            found.append(
                DecisionAt(
                    method,
                    held_out,
                    rule,
                    classes[place] if len(classes) == len(away.classes) else away.classes[place],
                    tuple(map(float, limits)),
                    float(positive.mean()),
                    operating_point(score, positive, away.patients, limits),
                    at_home,
                    given,
                )
            )
    return found


def detection_at(method: str, held_out: str, splits: Mapping[str, Judged]) -> list[DetectionAt]:
    """Lesions found, missed and invented, class by class; empty where they were not counted."""
    away, found = splits[HELD_OUT], []
    for name in away.numbers:
        lesion = name.removeprefix(LESIONS)
        parts = [away.numbers.get(f"lesions_{part}:{lesion}") for part in ("true", "found", "false")]
        if not name.startswith(LESIONS) or any(part is None or np.isnan(part).all() for part in parts):
            continue
        true, hits, false = (part for part in parts if part is not None)
        found.append(DetectionAt(method, held_out, lesion, detection(true, hits, false, away.patients)))
    return found


def _scores(judged: Judged, place: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(S, N) probability of a class, and (N,) whether it is the true one."""
    assert judged.probabilities is not None
    assert judged.target is not None
    return judged.probabilities[:, :, place], judged.target == place


def _threshold(calibration: Judged, model: int, place: int, rule: str) -> float:
    score, positive = _scores(calibration, place)
    own = calibration.seen[model]
    return choose_threshold(score[model, own], positive[own], calibration.patients[own], rule)


def _of_voxels(method: str, held_out: str, calibration: Judged, away: Judged, home: Judged | None) -> list[DecisionAt]:
    names = "foreground_true", "foreground_false"
    if any(name not in judged.histograms for judged in (calibration, away) for name in names):
        return []
    limits = []
    for model in range(len(away.seeds)):
        voxels = sum(calibration.histograms[name][model].sum(axis=1) for name in names)
        own = calibration.seen[model] & (np.asarray(voxels) > 0)
        true, false = (calibration.histograms[name][model, own] for name in names)
        limits.append(choose_dice_threshold(true, false, calibration.patients[own]))
    at = np.array(limits)
    if np.isnan(at).any():
        return []
    true, false = (away.histograms[name] for name in names)
    written = (true.sum(axis=2) + false.sum(axis=2)) > 0

    def dice(thresholds: Sequence[float]) -> Interval:
        values = np.stack([dice_at(t, f, limit) for t, f, limit in zip(true, false, thresholds, strict=True)])
        return patient_interval(np.where(written, values, np.nan), away.patients, bounds=WHOLE)

    at_home: dict[str, Interval] = {}
    if home is not None and all(name in home.histograms for name in names):
        true_home, false_home = (home.histograms[name] for name in names)
        at_home = voxel_operating_point(true_home, false_home, home.patients, at)
    return [
        DecisionAt(
            method,
            held_out,
            DICE_RULE,
            "foreground",
            tuple(limits),
            float(true.sum() / max(float(true.sum() + false.sum()), 1.0)),
            voxel_operating_point(true, false, away.patients, at),
            at_home,
            {},
            dice(limits),
            dice([0.5] * len(limits)),
        )
    ]
