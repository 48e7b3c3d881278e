"""Operating points: a threshold chosen on calibration patients, and what it does at a site.

A case is called positive where its score is at least the threshold. Thresholds are chosen on calibration patients, each
of whom weighs 1 however many cases it has, so that one patient with many images does not choose for all (our choice);
what a threshold does at a site counts cases, as all tables do, with intervals over patients (`evidence.shares`).

PPV and NPV depend on how common the finding is, and a site's test set is often not as the clinic is. At a prevalence
that the user gives they follow from sensitivity and specificity by Bayes' rule; the interval is that of
Jeffreys' draws of the two, each with the cases that its patients are worth, taken as independent (our choice).

None of this makes a threshold right for another site: a model whose scores shift there misses its sensitivity, which
is what the table is to show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check
from elsewhere.evidence.intervals import Interval, patient_interval
from elsewhere.evidence.judged import Patients, owners
from elsewhere.evidence.shares import Share, share

Array = NDArray[np.float64]
Points = dict[str, Interval]

DRAWS = 4000
"""Of sensitivity and specificity, for PPV and NPV at a given prevalence."""


def choose_threshold(score: NDArray[Any], positive: NDArray[Any], patients: Patients, rule: str = "youden") -> float:
    """A threshold on calibration patients.

    Args:
        score: (N,) higher is more likely positive.
        positive: (N,) bool.
        patients: (N,) who each case is of.
        rule: "youden", the largest sensitivity + specificity, of equal ones the lowest threshold (a missed finding
            is taken to be worse than a false one); "sensitivity:0.9", the highest threshold with a sensitivity of at
            least 0.9; "specificity:0.9", the lowest with a specificity of at least 0.9.

    Returns:
        one of the scores, or the next number above all of them where even the highest score is too common among
        negatives; NaN where there is no positive or no negative case.

    Raises:
        SettingsError: the rule is not one of these, or shapes differ.
    """
    name, wanted = _parsed(rule)
    values, found = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=bool)
    check(values.ndim == 1 and values.shape == found.shape, f"positive must be of shape {values.shape}", found.shape)
    weights = _patient_shares(patients, len(values))
    if not found.any() or found.all():
        return float("nan")
    # From the highest down: what is called positive at each distinct score, and above all at first.
    distinct, block = np.unique(-values, return_inverse=True)
    thresholds = np.r_[np.nextafter(values.max(), np.inf), -distinct]
    hits, false = (np.bincount(block, weights * part, len(distinct)) for part in (found, ~found))
    sensitivity = np.r_[0.0, np.cumsum(hits)] / hits.sum()
    specificity = 1 - np.r_[0.0, np.cumsum(false)] / false.sum()
    slack = 1e-9  # of sums of weights
    if name == "sensitivity":
        return float(thresholds[np.flatnonzero(sensitivity >= wanted - slack)[0]])
    if name == "specificity":
        return float(thresholds[np.flatnonzero(specificity >= wanted - slack)[-1]])
    index = sensitivity + specificity
    return float(thresholds[np.flatnonzero(index >= index.max() - slack)[-1]])


def operating_point(
    score: NDArray[Any],
    positive: NDArray[Any],
    patients: Patients,
    threshold: float | NDArray[Any],
    prevalence: float | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Points:
    """What a threshold does.

    Args:
        score: (N,) or (S, N), S models; NaN for a case that is none of a model's own.
        positive: (N,) bool.
        patients: (N,) who each case is of.
        threshold: one, or (S,) one for each model; NaN for a model without one, which is left out.
        prevalence: share of positives for PPV and NPV, in (0, 1); None for that of the cases.
        level: of the intervals.
        seed: of the draws at a given prevalence.

    Returns:
        `sensitivity`, `specificity`, `ppv` and `npv`, means over models; value NaN and a reason where there is no case
        to count (no positive case, or none called positive).

    Raises:
        SettingsError: shapes, level or prevalence make no sense.
    """
    values = np.atleast_2d(np.asarray(score, dtype=np.float64))
    found = np.asarray(positive, dtype=bool)
    check(values.ndim == 2 and found.shape == values.shape[1:], "there must be one truth a case", found.shape)
    at = np.asarray(threshold, dtype=np.float64)
    check(at.shape in ((), values.shape[:1]), "there must be one threshold, or one for each model", at.shape)
    limit = np.broadcast_to(at, values.shape[:1])[:, None]
    known = ~np.isnan(values) & ~np.isnan(limit)
    called = values >= limit
    hits, false = known & called & found, known & called & ~found
    left, missed = known & ~called & ~found, known & ~called & found
    return _points(hits, false, left, missed, patients, prevalence, level, seed)


def voxel_operating_point(
    foreground_true: NDArray[Any],
    foreground_false: NDArray[Any],
    patients: Patients,
    threshold: float | NDArray[Any],
    *,
    level: float = 0.95,
) -> Points:
    """What a threshold of P(not background) does to voxels, of all cases together; large images and lesions count most.

    Args:
        foreground_true: (N, B) or (S, N, B) voxels that are foreground, by P(not background) in B equal bins.
        foreground_false: likewise, voxels that are background.
        patients: (N,) who each case is of.
        threshold: one, or (S,) one for each model; taken as the next bin's edge.
        level: of the intervals.

    Returns:
        as `operating_point`.
    """
    true, false = (_histograms(part) for part in (foreground_true, foreground_false))
    limits = np.broadcast_to(np.asarray(threshold, dtype=np.float64), true.shape[:1])
    inside, outside = ([_above(part, t) for part, t in zip(parts, limits, strict=True)] for parts in (true, false))
    hits, false_hits = np.stack(inside), np.stack(outside)
    missed, left = true.sum(axis=2) - hits, false.sum(axis=2) - false_hits
    return _points(hits, false_hits, left, missed, patients, None, level, 0)


def choose_dice_threshold(foreground_true: NDArray[Any], foreground_false: NDArray[Any], patients: Patients) -> float:
    """The threshold of P(not background) with the largest mean Dice over calibration patients.

    Args:
        foreground_true: (N, B) voxels that are foreground, by P(not background) in B equal bins.
        foreground_false: (N, B) voxels that are background.
        patients: (N,) who each case is of; each weighs 1.

    Returns:
        an edge of a bin, above 0; of equal ones that nearest to 0.5; NaN without a case.
    """
    n_bins = np.shape(foreground_true)[-1]
    weights = _patient_shares(patients, len(foreground_true))
    if not len(weights):
        return float("nan")
    edges = np.arange(1, n_bins) / n_bins
    means = np.array([weights @ dice_at(foreground_true, foreground_false, edge) for edge in edges])
    best = np.flatnonzero(means >= means.max() - 1e-9)
    return float(edges[best[np.argmin(np.abs(edges[best] - 0.5))]])


def dice_at(foreground_true: NDArray[Any], foreground_false: NDArray[Any], threshold: float) -> Array:
    """Dice of the mask P(not background) >= threshold, of each case; 1 where truth and mask are empty.

    Args:
        foreground_true: (N, B) voxels that are foreground, by P(not background) in B equal bins.
        foreground_false: (N, B) voxels that are background.
        threshold: taken as the next bin's edge.

    Returns:
        (N,).
    """
    true, false = (np.asarray(part, dtype=np.float64) for part in (foreground_true, foreground_false))
    overlap = _above(true, threshold)
    size = true.sum(axis=-1) + overlap + _above(false, threshold)
    return np.asarray(np.divide(2 * overlap, size, out=np.ones(size.shape), where=size > 0))


def detection(
    true: NDArray[Any], found: NDArray[Any], false: NDArray[Any], patients: Patients, *, level: float = 0.95
) -> Points:
    """Lesions found, missed and invented (`tasks.lesions`).

    Args:
        true: (N,) or (S, N) lesions of each case, S models; NaN for a case that is none of a model's own.
        found: likewise, of these.
        false: likewise, invented.
        patients: (N,) who each case is of.
        level: of the intervals.

    Returns:
        `sensitivity`, share of all lesions that are found; `missed` and `false`, mean number a case; `true`, likewise.
    """
    n, hits, invented = (np.atleast_2d(np.asarray(part, dtype=np.float64)) for part in (true, found, false))
    known = ~np.isnan(n)
    sensitivity = share(np.where(known, hits, 0), np.where(known, n, 0), patients).interval(level)
    means = {"missed": n - hits, "false": invented, "true": n}
    return {
        "sensitivity": sensitivity,
        **{name: patient_interval(part, patients, n_boot=1000, level=level) for name, part in means.items()},
    }


def _points(
    hits: NDArray[Any],
    false: NDArray[Any],
    left: NDArray[Any],
    missed: NDArray[Any],
    patients: Patients,
    prevalence: float | None,
    level: float,
    seed: int,
) -> Points:
    """From true positives, false positives, true negatives and false negatives, each (S, N)."""
    hits, false, left, missed = (np.asarray(part, dtype=np.float64) for part in (hits, false, left, missed))
    sensitivity, specificity = share(hits, hits + missed, patients), share(left, left + false, patients)
    points = {"sensitivity": sensitivity.interval(level), "specificity": specificity.interval(level)}
    if prevalence is not None:
        check(0 < prevalence < 1, "prevalence must be between 0 and 1", prevalence)
        of_all = share(hits + missed, hits + missed + left + false, patients)
        n = (of_all.n_cases, of_all.n_patients)
        return points | _at_prevalence(sensitivity, specificity, n, prevalence, level, seed)
    points["ppv"] = share(hits, hits + false, patients).interval(level)
    points["npv"] = share(left, left + missed, patients).interval(level)
    return points


def _at_prevalence(
    sensitivity: Share, specificity: Share, n: tuple[int, int], prevalence: float, level: float, seed: int
) -> Points:
    """`n`: cases and patients, with and without the finding."""
    nan = float("nan")

    def bayes(a: Any, b: Any) -> dict[str, Any]:
        """PPV and NPV of sensitivity a and specificity b."""
        with np.errstate(invalid="ignore"):  # 0 / 0: no case would be called so
            true, false = np.asarray(a * prevalence), np.asarray((1 - b) * (1 - prevalence))
            left, missed = np.asarray(b * (1 - prevalence)), np.asarray((1 - a) * prevalence)
            return {"ppv": true / (true + false), "npv": left / (left + missed)}

    values = bayes(sensitivity.value, specificity.value)
    if np.isnan(sensitivity.effective + specificity.effective):
        few = "at least two patients with and two without the finding are needed"
        return {name: Interval(float(value), nan, nan, *n, few) for name, value in values.items()}
    generator = np.random.default_rng(seed)
    drawn = bayes(sensitivity.draws(DRAWS, generator), specificity.draws(DRAWS, generator))
    tail = (1 - level) / 2
    points = {}
    for name, value in values.items():
        if np.isnan(value):
            points[name] = Interval(nan, nan, nan, *n, "no case")
            continue
        lo, hi = np.quantile(drawn[name], [tail, 1 - tail])
        # A value of 0 or 1 lies outside the draws of Jeffreys' prior, which never reach them.
        points[name] = Interval(float(value), min(float(lo), value), max(float(hi), value), *n)
    return points


def _parsed(rule: str) -> tuple[str, float]:
    name, _, number = rule.partition(":")
    wanted = "the rule must be youden, sensitivity:0.9 or specificity:0.9 (any number above 0, at most 1)"
    if rule == "youden":
        return rule, 0.0
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    check(name in ("sensitivity", "specificity") and 0 < value <= 1, wanted, repr(rule))
    return name, value


def _patient_shares(patients: Patients, n_cases: int) -> Array:
    """(N,) 1 / cases of its patient."""
    _, owner = owners(patients, n_cases)
    return np.asarray(1 / np.bincount(owner)[owner] if n_cases else np.zeros(0))


def _histograms(part: NDArray[Any]) -> Array:
    table = np.asarray(part, dtype=np.float64)
    return table[None] if table.ndim == 2 else table


def _above(histograms: Array, threshold: float) -> Array:
    """(..., B) to (...): voxels at or above a threshold."""
    start = int(np.ceil(threshold * histograms.shape[-1] - 1e-9))
    return np.asarray(histograms[..., start:].sum(axis=-1))
