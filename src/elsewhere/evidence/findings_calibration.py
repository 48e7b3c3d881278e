"""Findings: calibration at each held-out site, before and after the run's temperature, and what conformal sets hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.calibration import debiased_ece, foreground_brier, label_bins, reliability, voxel_bins
from elsewhere.evidence.conformal import (
    Coverage,
    MaskCoverage,
    coverage,
    fit_label_sets,
    fit_outer_mask,
    mask_coverage,
    sets,
)
from elsewhere.evidence.findings_material import CALIBRATION, HELD_OUT, HOME, Judged
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.temperature import scaled

RESAMPLES = 300
"""Of the intervals here: three for each method and site, and a page is no place to wait."""

LEVEL, MISSED = 0.9, 0.1
"""Share of patients that sets promise to hold; share of a patient's foreground that an outer mask may leave outside."""

FOREGROUND = ("foreground_true", "foreground_false")
"""Voxels by P(not background)."""

Fitted = Mapping[int, Mapping[str, Any]]
"""By seed, what the run fitted on its calibration patients."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Points of the bins that hold answers: mean confidence, share of right answers with its limits, share of all."""

    confidence: tuple[float, ...]
    right: tuple[float, ...]
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    weight: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationAt:
    """A method at a held-out site.

    Attributes:
        method, held_out: which.
        curve: reliability as the model is; `scaled_curve` after the temperature, None where there is none.
        ece, scaled_ece: debiased, at the held-out site.
        home_ece: debiased, as the model is, in the in-domain test; None where there is none.
        brier: mean over cases (over voxels of P(not background), for segmentation); NaN where it was not written.
        temperatures: of each seed's run.
        calibration_patients: fewest over the seeds' runs.
        reason: why there is no temperature, or None.
    """

    method: str
    held_out: str
    curve: ReliabilityCurve
    scaled_curve: ReliabilityCurve | None
    ece: Interval
    scaled_ece: Interval | None
    home_ece: Interval | None
    brier: float
    temperatures: tuple[float, ...]
    calibration_patients: int
    reason: str | None


@dataclass(frozen=True)
class ConformalAt:
    """What split-conformal prediction of a method's runs held at a held-out site and at home.

    Attributes:
        method, held_out: which.
        kind: "label sets" or "outer masks".
        level: share of patients that was promised, were they exchangeable with the calibration patients.
        away, home: share of patients that was found; home None where there is none.
        size: mean size at the held-out site: classes in a set, or share of the image in the mask.
        calibration_patients: fewest over the seeds' runs.
        reason: why the sets are everything (in some run), or None.
    """

    method: str
    held_out: str
    kind: str
    level: float
    away: Interval
    home: Interval | None
    size: Interval
    calibration_patients: int
    reason: str | None


def calibration_at(method: str, held_out: str, splits: Mapping[str, Judged], fitted: Fitted) -> CalibrationAt | None:
    """How well calibrated a method's models are; None where nothing was written that could tell."""
    away = splits[HELD_OUT]
    bins = _bins(away)
    if bins is None:
        return None
    temperatures = tuple(float(of["temperature"]) for of in fitted.values() if of.get("temperature") is not None)
    after = _scaled(away, fitted)
    home = _bins(splits[HOME]) if HOME in splits else None
    # A run may have a temperature and lack something else, such as a threshold of its outlier score.
    reasons = [str(of["reason"]) for of in fitted.values() if of.get("temperature") is None and of.get("reason")]
    sizes = [int(of["n_patients"]) for of in fitted.values() if of.get("n_patients") is not None]
    return CalibrationAt(
        method,
        held_out,
        _curve(bins, away),
        None if after is None else _curve(after, away),
        debiased_ece(bins, away.patients, n_boot=RESAMPLES),
        None if after is None else debiased_ece(after, away.patients, n_boot=RESAMPLES),
        None if home is None else debiased_ece(home, splits[HOME].patients, n_boot=RESAMPLES),
        _brier(away),
        temperatures,
        min(sizes, default=0),
        reasons[0] if reasons else None,
    )


def conformal_at(method: str, held_out: str, splits: Mapping[str, Judged]) -> ConformalAt | None:
    """Fit sets on each run's calibration patients, and see what they hold; None where there is nothing to fit on."""
    if CALIBRATION not in splits or not len(splits[CALIBRATION].cases):
        return None
    if splits[HELD_OUT].probabilities is not None:
        return _label_sets(method, held_out, splits)
    if _has_foreground(splits[CALIBRATION]) and _has_foreground(splits[HELD_OUT]):
        return _outer_masks(method, held_out, splits)
    return None


def _bins(judged: Judged) -> NDArray[np.float64] | None:
    """(S, N, 3, B) sums by confidence; cases that are none of a model's own are 0."""
    if judged.probabilities is not None and judged.target is not None:
        return _of_labels(judged.probabilities, judged.target, judged.seen)
    return _of_voxels(judged, "bin")


def _scaled(judged: Judged, fitted: Fitted) -> NDArray[np.float64] | None:
    """The same after each run's temperature; None unless every run has one."""
    if judged.probabilities is not None and judged.target is not None:
        temperatures = [(fitted.get(seed) or {}).get("temperature") for seed in judged.seeds]
        if not temperatures or any(t is None for t in temperatures):
            return None
        after = np.stack([scaled(p, float(t)) for p, t in zip(judged.probabilities, temperatures, strict=True) if t])
        return _of_labels(after, judged.target, judged.seen)
    bins = _of_voxels(judged, "scaled")
    if bins is None or not bins[judged.seen.any(axis=1), :, 0].any(axis=(1, 2)).all():
        return None
    return bins


def _of_labels(
    probabilities: NDArray[np.float64], target: NDArray[np.int64], seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    filled = np.where(seen[:, :, None], probabilities, 1 / probabilities.shape[2])
    return np.asarray(label_bins(filled, target) * seen[:, :, None, None])


def _of_voxels(judged: Judged, name: str) -> NDArray[np.float64] | None:
    parts = [judged.histograms.get(f"{name}_{part}") for part in ("count", "confidence", "right")]
    if any(part is None for part in parts) or not np.any(parts[0]):
        return None
    return np.stack([voxel_bins(*of_model) for of_model in zip(*parts, strict=True)])


def _curve(bins: NDArray[np.float64], judged: Judged) -> ReliabilityCurve:
    found = reliability(bins, judged.patients)
    some = found.weight > 0
    columns = (found.confidence, found.right, found.lo, found.hi, found.weight)
    return ReliabilityCurve(*(tuple(np.round(column[some], 5).tolist()) for column in columns))


def _has_foreground(judged: Judged) -> bool:
    return all(name in judged.histograms for name in FOREGROUND)


def _brier(judged: Judged) -> float:
    values = judged.values("brier") if judged.probabilities is not None else None
    if values is None and _has_foreground(judged):
        true, false = (judged.histograms[name] for name in FOREGROUND)
        values = np.stack([foreground_brier(*of_model) for of_model in zip(true, false, strict=True)])
    return float("nan") if values is None or np.isnan(values).all() else float(np.nanmean(values))


def _label_sets(method: str, held_out: str, splits: Mapping[str, Judged]) -> ConformalAt | None:
    calibration, seeds = splits[CALIBRATION], splits[HELD_OUT].seeds
    rules = []
    for seed in seeds:
        if seed not in calibration.seeds:
            return None
        own = calibration.of_seeds([seed])
        own = own.only(own.seen[0])
        assert own.probabilities is not None
        assert own.target is not None
        rules.append(fit_label_sets(own.probabilities[0], own.target, own.patients, LEVEL))

    def held(split: str) -> Coverage:
        judged = splits[split].of_seeds(seeds)
        assert judged.probabilities is not None
        of_cases = np.stack([sets(p, rule) for p, rule in zip(judged.probabilities, rules, strict=True)])
        return coverage(of_cases, np.asarray(judged.target), judged.patients)

    away = held(HELD_OUT)
    home = held(HOME) if HOME in splits and set(seeds) <= set(splits[HOME].seeds) else None
    reason = next((rule.reason for rule in rules if rule.reason), None)
    return ConformalAt(
        method,
        held_out,
        "label sets",
        LEVEL,
        away.patients,
        None if home is None else home.patients,
        away.size,
        min(rule.n_patients for rule in rules),
        reason,
    )


def _outer_masks(method: str, held_out: str, splits: Mapping[str, Judged]) -> ConformalAt | None:
    calibration, seeds = splits[CALIBRATION], splits[HELD_OUT].seeds
    rules = []
    for seed in seeds:
        if seed not in calibration.seeds:
            return None
        own = calibration.of_seeds([seed])
        own = own.only(own.seen[0])
        rules.append(fit_outer_mask(own.histograms["foreground_true"][0], own.patients, LEVEL, MISSED))

    def held(split: str) -> MaskCoverage:
        judged = splits[split].of_seeds(seeds)
        true, false = (judged.histograms[name] for name in FOREGROUND)
        return mask_coverage(true, false, judged.patients, rules)

    away, home = held(HELD_OUT), None
    if HOME in splits and set(seeds) <= set(splits[HOME].seeds) and _has_foreground(splits[HOME]):
        home = held(HOME)
    return ConformalAt(
        method,
        held_out,
        "outer masks",
        LEVEL,
        away.patients,
        None if home is None else home.patients,
        away.size,
        min(rule.n_patients for rule in rules),
        next((rule.reason for rule in rules if rule.reason), None),
    )
