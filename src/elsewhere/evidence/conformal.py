"""Split-conformal prediction in patients: sets of labels, and outer masks, that rarely miss the truth.

From the calibration patients comes a threshold such that, for one more patient *exchangeable with them*, the answer
holds the truth with probability at least `level` (Vovk et al. 2005; Angelopoulos and Bates 2023, Sec. 1). Units are
patients: a patient has one score, the worst of its cases, and the promise is about all cases of a patient at once. With
n patients the threshold is the k-th smallest score, k = ceil((n + 1) level); with too few (fewer than
level / (1 - level): 9 for 90 %, 19 for 95 %) no threshold can promise that, the set is everything, and says so.

The promise does NOT carry to a held-out site: its patients are not exchangeable with those of the development sites,
and that is what the benchmark is about. `coverage` and `mask_coverage` tell what was found there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check
from elsewhere.evidence.intervals import Interval, patient_interval
from elsewhere.evidence.judged import Patients, owners
from elsewhere.evidence.shares import share, sums_by_patient
from elsewhere.tasks.classification_metrics import checked

EVERY_CLASS, WHOLE_IMAGE = "every class is in every set", "the mask is the whole image"


@dataclass(frozen=True)
class LabelSets:
    """A fitted rule: the set of a case is the classes with 1 - p <= threshold, and always the label.

    Attributes:
        threshold: in [0, 1]; 1 is every class.
        level: that was asked for.
        n_patients: calibration patients.
        reason: None, or why the set is everything.
    """

    threshold: float
    level: float
    n_patients: int
    reason: str | None = None


@dataclass(frozen=True)
class OuterMask:
    """A fitted rule: the outer mask of a case is where P(not background) >= threshold.

    Attributes:
        threshold: in [0, 1), a whole number of bins; 0 is the whole image.
        level: that was asked for, share of patients.
        missed: share of a patient's true foreground that may lie outside.
        n_patients: calibration patients that have any foreground; the others say nothing of what is missed.
        reason: None, or why the mask is the whole image.
    """

    threshold: float
    level: float
    missed: float
    n_patients: int
    reason: str | None = None


@dataclass(frozen=True)
class Coverage:
    """What sets of labels held at a site.

    Attributes:
        patients: share of patients all of whose sets hold the truth; what the level promises.
        cases: share of sets that hold the truth.
        size: mean number of classes in a set.
    """

    patients: Interval
    cases: Interval
    size: Interval


@dataclass(frozen=True)
class MaskCoverage:
    """What outer masks held at a site.

    Attributes:
        patients: share of patients with foreground of whose foreground no more than `missed` lies outside.
        size: mean share of the image that the mask takes, over cases.
        truth: mean share of the image that is foreground, to compare with.
    """

    patients: Interval
    size: Interval
    truth: Interval


def fit_label_sets(
    probabilities: NDArray[Any], target: NDArray[Any], patients: Patients, level: float = 0.9
) -> LabelSets:
    """Fit sets of labels on calibration patients.

    Args:
        probabilities: (N, K); after temperature scaling or before, but alike when used.
        target: (N,) class indices.
        patients: (N,) who each case is of.
        level: share of patients, in (0, 1).

    Raises:
        SettingsError: the level is out of range, or there is not one patient a case.
        ValueError: probabilities and target do not fit.
    """
    p, y = checked(probabilities, target)
    misses = 1 - p[np.arange(len(y)), y]
    scores = _worst(np.where(np.isnan(misses), 1.0, misses), patients)  # no answer is the worst one
    rank, reason = _rank(len(scores), level, EVERY_CLASS)
    threshold = 1.0 if rank is None else float(np.sort(scores)[rank - 1])
    if rank is not None and threshold >= 1:
        reason = f"of {len(scores)} calibration patients {(scores >= 1).sum()} have a case whose class was given no "
        reason += f"probability at all: {EVERY_CLASS}"
    return LabelSets(threshold, level, len(scores), reason)


def sets(probabilities: NDArray[Any], fitted: LabelSets) -> NDArray[np.bool_]:
    """The set of each case.

    Args:
        probabilities: (..., K).
        fitted: the rule.

    Returns:
        (..., K) bool; the most probable class is always in (our choice: an empty set tells a person nothing, and with
        it coverage only grows). The row of a case with NaN is empty: it is none of this model's own.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if fitted.threshold >= 1:
        return np.broadcast_to(~np.isnan(p).any(axis=-1, keepdims=True), p.shape).copy()
    # Written as in the fit: 1 - p <= threshold and p >= 1 - threshold differ in the last bit.
    inside = 1 - p <= fitted.threshold
    return np.asarray((inside | (p == p.max(axis=-1, keepdims=True))) & ~np.isnan(p).any(axis=-1, keepdims=True))


def coverage(of_cases: NDArray[Any], target: NDArray[Any], patients: Patients, level: float = 0.95) -> Coverage:
    """How often sets hold the truth, with intervals over patients.

    Args:
        of_cases: (N, K) or (S, N, K) bool, from `sets`; S models, each with its own rule.
        target: (N,) class indices.
        patients: (N,) who each case is of.
        level: of the intervals.
    """
    table = np.asarray(of_cases, dtype=bool)
    table = table[None] if table.ndim == 2 else table
    y = np.asarray(target).astype(np.int64)
    check(table.ndim == 3 and y.shape == table.shape[1:2], "there must be one target a case", y.shape)
    known = np.asarray(table.any(axis=2))
    held = table[:, np.arange(len(y)), y]
    names, owner = owners(patients, len(y))
    seen, failed = (sums_by_patient(part, owner, len(names)) > 0 for part in (known, known & ~held))
    return Coverage(
        patients=share(seen & ~failed, seen, names).interval(level),
        cases=share(held & known, known, patients).interval(level),
        size=patient_interval(np.where(known, table.sum(axis=2), np.nan), patients, n_boot=1000, level=level),
    )


def fit_outer_mask(
    foreground_true: NDArray[Any], patients: Patients, level: float = 0.9, missed: float = 0.1
) -> OuterMask:
    """Fit the outer mask on calibration patients.

    Args:
        foreground_true: (N, B) voxels that are truly foreground, by P(not background) in B equal bins from 0 to 1.
        patients: (N,) who each case is of.
        level: share of patients, in (0, 1).
        missed: share of a patient's true foreground that may lie outside, in [0, 1).

    Raises:
        SettingsError: level or share are out of range, or there is not one patient a case.
    """
    check(0 <= missed < 1, "missed must be at least 0 and below 1", missed)
    table = np.asarray(foreground_true, dtype=np.float64)
    check(table.ndim == 2, "foreground_true must be (cases, bins)", table.shape)
    names, owner = owners(patients, len(table))
    by_patient = _by_patient(table[None], owner, len(names))[0]
    by_patient = by_patient[by_patient.sum(axis=1) > 0]
    n_bins = by_patient.shape[1]
    # Of bin i all below is lost at the threshold i / B: the highest that loses little enough, of each patient.
    highest = (_outside(by_patient) <= missed).sum(axis=1) - 1
    rank, reason = _rank(len(highest), level, WHOLE_IMAGE)
    threshold = 0.0 if rank is None else float(np.sort(highest)[len(highest) - rank]) / n_bins
    if rank is not None and threshold == 0:
        reason = f"of {len(highest)} calibration patients {(highest == 0).sum()} have more of their foreground below a "
        reason += f"probability of {1 / n_bins:g} than may lie outside: {WHOLE_IMAGE}"
    return OuterMask(threshold, level, missed, len(highest), reason)


def mask_coverage(
    foreground_true: NDArray[Any],
    foreground_false: NDArray[Any],
    patients: Patients,
    fitted: OuterMask | Sequence[OuterMask],
    level: float = 0.95,
) -> MaskCoverage:
    """How often outer masks hold the truth, and how large they are.

    Args:
        foreground_true: (N, B) as `fit_outer_mask`'s, or (S, N, B), S models; all 0 in both for a case that is none of
            a model's own.
        foreground_false: likewise, voxels that are truly background.
        patients: (N,) who each case is of.
        fitted: the rule, or (S,) one for each model.
        level: of the intervals.
    """
    true, false = (np.asarray(part, dtype=np.float64) for part in (foreground_true, foreground_false))
    true, false = (part[None] if part.ndim == 2 else part for part in (true, false))
    rules = [fitted] * len(true) if isinstance(fitted, OuterMask) else list(fitted)
    check(len(rules) == len(true), f"there must be one rule, or one for each of {len(true)} models", len(rules))
    names, owner = owners(patients, true.shape[1])
    by_patient = _by_patient(true, owner, len(names))
    has = by_patient.sum(axis=2) > 0
    starts = [round(rule.threshold * true.shape[2]) for rule in rules]
    held = np.stack(
        [_outside(of)[:, start] <= rule.missed for of, start, rule in zip(by_patient, starts, rules, strict=True)]
    )
    both = true + false
    image = both.sum(axis=2)
    image[image == 0] = np.nan  # none of the model's own
    inside = np.stack([of[:, start:].sum(axis=1) for of, start in zip(both, starts, strict=True)])
    return MaskCoverage(
        patients=share(has & held, has, names).interval(level),
        size=patient_interval(inside / image, patients, n_boot=1000, level=level),
        truth=patient_interval(true.sum(axis=2) / image, patients, n_boot=1000, level=level),
    )


def patients_needed(level: float) -> int:
    """The fewest calibration patients with which a level can be promised."""
    return math.ceil(level / (1 - level) - 1e-9)


def _rank(n: int, level: float, else_is: str) -> tuple[int | None, str | None]:
    """Which of n sorted scores is the threshold, or None and why not."""
    check(0 < level < 1, "level must be between 0 and 1", level)
    rank = math.ceil((n + 1) * level - 1e-9)
    if rank <= n:
        return rank, None
    return None, f"{n} calibration patients, {100 * level:g} % needs {patients_needed(level)}: {else_is}"


def _worst(scores: NDArray[np.float64], patients: Patients) -> NDArray[np.float64]:
    """(P,) the largest score of each patient."""
    names, owner = owners(patients, len(scores))
    largest: NDArray[np.float64] = np.full(len(names), -np.inf)
    np.maximum.at(largest, owner, scores)
    return largest


def _by_patient(histograms: NDArray[np.float64], owner: NDArray[np.int64], n_patients: int) -> NDArray[np.float64]:
    """(S, N, B) to (S, P, B), sums over each patient's cases."""
    sums = np.zeros((len(histograms), n_patients, histograms.shape[2]))
    for of_model, given in zip(sums, histograms, strict=True):
        np.add.at(of_model, owner, given)
    return sums


def _outside(by_patient: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, B) share of the foreground that lies below each bin; 0 where there is none."""
    below = np.cumsum(by_patient, axis=1) - by_patient
    return np.asarray(below / np.maximum(by_patient.sum(axis=1, keepdims=True), 1))
