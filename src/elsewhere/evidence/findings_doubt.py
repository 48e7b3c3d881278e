"""Findings: does the model know when it is lost? Confidence and outlier scores against the errors that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.findings_material import HELD_OUT, HOME, Judged
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.selective import error_auroc, mean_curve, rank_correlation, risk_coverage
from elsewhere.evidence.shares import share

NAN = float("nan")

RESAMPLES = 300

POINTS = 40
"""Of a drawn curve."""

WORST_AT_HOME = 0.1
"""A segmentation counts as wrong where its Dice is among the lowest such share of ERM's cases at home (our choice)."""

LEAST_BOUND = 0.01
"""It is not lower: where a tenth of the cases at home are missed altogether, such cases are wrong, and not none."""

WITHOUT_HOME = 0.5
"""The bound where there is no home."""

OUTLIERS = ("outlier", "outlier:mahalanobis", "outlier:knn", "outlier:input")


@dataclass(frozen=True)
class RiskCurve:
    """Risk of the share of cases that are kept, surest first, and the areas that it lies between."""

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float
    area_of_random: float
    area_of_perfect: float


@dataclass(frozen=True)
class DoubtAt:
    """A method's models at a held-out site.

    Attributes:
        method, held_out: which.
        wrong: share of cases that count as wrong, mean over models.
        by_confidence: risk kept by confidence; None where none was written.
        by_outlier: risk kept by the outlier score; None where none was written.
        errors: AUROC with which a score finds the wrong cases: `confidence` (turned), `outlier`, and its parts.
        correlation: Spearman's of the confidence with Dice, for segmentation; None otherwise.
        flagged, flagged_home: share of cases flagged as unlike the development data, at the site and at home; None
            where no threshold could be made.
    """

    method: str
    held_out: str
    wrong: float
    by_confidence: RiskCurve | None
    by_outlier: RiskCurve | None
    errors: Mapping[str, Interval]
    correlation: Interval | None
    flagged: Interval | None
    flagged_home: Interval | None


def wrong_below(at_home: Iterable[Judged]) -> float:
    """The Dice below which a case counts as wrong, to two digits: from the in-domain tests of ERM."""
    values = [found[~np.isnan(found)] for judged in at_home if (found := judged.numbers.get("dice")) is not None]
    known = np.concatenate(values) if values else np.zeros(0)
    return max(round(float(np.quantile(known, WORST_AT_HOME)), 2), LEAST_BOUND) if len(known) else WITHOUT_HOME


def doubt_at(method: str, held_out: str, splits: Mapping[str, Judged], bound: float) -> DoubtAt | None:
    """How well confidence and outlier scores find the errors; None where neither was written.

    Args:
        method, held_out: which.
        splits: the cases.
        bound: of `wrong_below`; nothing for classification.
    """
    away = splits[HELD_OUT]
    confidence, outlier = confidence_of(away), away.numbers.get("outlier")
    outlier = None if outlier is None or np.isnan(outlier).all() else outlier
    quality = away.values("accuracy") if away.probabilities is not None else away.numbers.get("dice")
    if quality is None or (confidence is None and outlier is None):
        return None
    wrong = np.where(np.isnan(quality), np.nan, quality < (bound if away.probabilities is None else 0.5))
    found: dict[str, Interval] = {}
    if confidence is not None:
        found["confidence"] = error_auroc(-confidence, wrong, away.patients, n_boot=RESAMPLES)
    for name in OUTLIERS:
        scores = away.numbers.get(name)
        if scores is None or np.isnan(scores).all():
            continue
        if name == OUTLIERS[0]:
            found[name] = error_auroc(scores, wrong, away.patients, n_boot=RESAMPLES)
        else:
            value = error_auroc(scores, wrong, away.patients, n_boot=1)
            found[name] = replace(value, lo=NAN, hi=NAN, reason="a part of the outlier score, shown without")
    correlation = None
    if away.probabilities is None and confidence is not None:
        correlation = rank_correlation(confidence, quality, away.patients, n_boot=RESAMPLES)
    return DoubtAt(
        method,
        held_out,
        float(np.nanmean(wrong)) if not np.isnan(wrong).all() else float("nan"),
        _curve(confidence, 1 - quality),
        _curve(None if outlier is None else -outlier, 1 - quality),
        found,
        correlation,
        _flagged(away),
        _flagged(splits[HOME]) if HOME in splits else None,
    )


def confidence_of(judged: Judged) -> NDArray[np.float64] | None:
    """(S, N) as written, or the probability of the label; None where there is neither."""
    written = judged.numbers.get("confidence")
    if written is not None and not np.isnan(written).all():
        return written
    return None if judged.probabilities is None else np.asarray(judged.probabilities.max(axis=2))


def _curve(confidence: NDArray[np.float64] | None, risk: NDArray[np.float64]) -> RiskCurve | None:
    if confidence is None:
        return None
    found = mean_curve([risk_coverage(*model) for model in zip(confidence, risk, strict=True)], POINTS)
    return RiskCurve(
        tuple(np.round(found.coverage, 4).tolist()),
        tuple(np.round(found.risk, 5).tolist()),
        found.area,
        found.area_of_random,
        found.area_of_perfect,
    )


def _flagged(judged: Judged) -> Interval | None:
    unlike = judged.numbers.get("unlike")
    if unlike is None or np.isnan(unlike).all():
        return None
    known = ~np.isnan(unlike)
    return share(np.where(known, unlike, 0), known, judged.patients).interval()
