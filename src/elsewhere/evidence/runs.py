"""Intervals for a method at a site: other patients and other training runs would have given another score.

**Estimand.** `THIS_METHOD`, "this method at this site": the expected score over patients like those of the site and
over training runs of the method (seeds). The mean of S runs' scores over P patients varies by both.

**Decomposition** (Obuchowski and Rockette 1995). With m_s the score of run s and C the covariance that its patients
give to the scores (`run_scores`), the variance of the mean over runs has two parts:

- `own`, what each run has for itself: the luck of its training, and what patients do to this run alone. It shows in the
  runs' scores: sum (m_s - mean)^2 / (S - 1) / S, with S - 1 degrees of freedom.
- `shared`, what patients do to all runs alike: the mean of C_ss' over s != s' (0 if that is negative), with P - 1.

In a balanced table with one case a patient these are MS_runs / (S P) and (MS_patients - MS_rest) / (S P) of the two-way
analysis of variance.

**Interval.** Each part has its own t:

    half width^2 = t(S - 1)^2 own + t(P - 1)^2 shared,    at least t(P - 1)^2 x the variance by patients alone.

This is Banerjee's (1961, Sankhya A 23:359) form, which holds at least its level for sums of independent mean squares,
if these are normal, whatever their ratio. `shared` is a difference of such, so that here is no theorem but simulation:
docs/explanation/intervals.md. It is wide with two runs (t(1) = 12.7), and that is the point: one
Satterthwaite t for the sum, the usual choice, is narrower but holds the truth in only 88 % of cases where two runs
differ much more than patients do.

Where a score has bounds (AUROC: 0 and 1) the interval is taken on the logit scale between them, half width by the delta
method at the mean over runs: symmetric limits reach beyond the bounds and hold too little near them (an AUROC of 0.95
of 30 patients: 87 %). At a bound there is no interval. Where the score is a mean over cases (Dice, accuracy) one more
patient at the bound widens each limit, as for these models (`bounded`): an interval for the method knows no more of
failures that no patient shows.

With one run there is no interval either: what another run would give cannot be seen.

**p.** The interval turned round: twice the tail at which it would end at 0, so that p <= 0.05 exactly where the 95 %
interval (without bounds) excludes 0. Where runs do not vary it is the t-test on patients, and where patients do not
matter the t-test on runs. `claims` corrects it for the tests of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from elsewhere.evidence import bounded
from elsewhere.evidence.checks import check
from elsewhere.evidence.estimands import THIS_METHOD
from elsewhere.evidence.intervals import NO_VARIATION, UNDEFINED_WITHOUT, Interval
from elsewhere.evidence.judged import Patients, name_of
from elsewhere.evidence.run_scores import RunScores, aligned, mean_scores, set_scores
from elsewhere.tasks.classification_metrics import Metric

ONE_RUN = "one training run: what another would give cannot be seen"
ONE_PATIENT = "one patient: nothing to compare with"

LEAST_TAIL = 1e-12
"""Tails below are not told apart."""


@dataclass(frozen=True)
class Parts:
    """The variance of a mean score, in parts.

    Attributes:
        own: of what each training run has for itself; NaN with one run.
        own_df: its degrees of freedom.
        shared: of what patients do to all runs alike; not below 0, NaN like `patients`.
        patients: of the mean by patients alone, runs as they are; NaN where a site has one patient.
        patients_df: degrees of freedom of `shared` and `patients`.
        private: what patients do to single runs, as it shows in `own`; the rest of `own` is the luck of training.
    """

    own: float
    own_df: float
    shared: float
    patients: float
    patients_df: float
    private: float

    @property
    def variance(self) -> float:
        """Of the mean over runs; by patients alone where there is one run."""
        return self.patients if np.isnan(self.own) else float(np.maximum(self.own + self.shared, self.patients))

    def half_width(self, tail: float) -> float:
        """Of the interval that leaves `tail` on each side."""
        runs, patients = quantile(tail, self.own_df) ** 2, quantile(tail, self.patients_df) ** 2
        return float(np.sqrt(max(runs * self.own + patients * self.shared, patients * self.patients)))

    def p(self, value: float) -> float:
        """Two-sided p for a mean of 0 where `value` was found; NaN where there is no interval."""
        if math.isnan(value) or math.isnan(self.own) or math.isnan(self.patients) or not self.patients > 0:
            return float("nan")

        def beyond(log_tail: float) -> float:
            return self.half_width(math.exp(log_tail)) - abs(value)

        least, most = math.log(LEAST_TAIL), math.log(0.5)
        if beyond(least) <= 0:
            return 2 * LEAST_TAIL
        return 2 * math.exp(optimize.brentq(beyond, least, most, xtol=1e-10)) if value else 1.0


def method_interval(
    values: NDArray[Any],
    patients: Patients,
    level: float = 0.95,
    *,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Interval of a mean over cases (Dice, HD95, ... of each case), for the method.

    Args:
        values: (S, N), S training runs; NaN where a case is undefined or none of the run's.
        patients: (N,) who each case is of.
        level: in (0, 1).
        bounds: the least and largest possible score, where the interval should stay between them; (0, inf) for a
            distance.

    Returns:
        the mean over runs of the mean over cases, and its interval; `error` is the standard error.

    Raises:
        SettingsError: shapes or level make no sense.
    """
    return interval_of(mean_scores(values, patients), level, bounds=bounds)


def method_set_interval(
    probabilities: NDArray[Any],
    target: NDArray[Any],
    patients: Patients,
    metric: str | Metric,
    groups: NDArray[Any] | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of a metric of a set of cases (AUROC, F1, ECE, ...), for the method.

    The named metrics lie between 0 and 1 (the Brier score of several classes, a sum over them, between 0 and 2), and so
    do their intervals.

    Args:
        probabilities: (S, N, K); where a run's row has a NaN the case is none of its own.
        target: (N,) class indices.
        patients: (N,) who each case is of.
        metric: a name in `elsewhere.tasks.classification_metrics.METRICS`, or a function like those.
        groups: as in `intervals.set_interval`.
        level: in (0, 1).

    Raises:
        SettingsError: no such metric; shapes or level make no sense.
        ValueError: probabilities and target do not fit.
    """
    scores = set_scores(probabilities, target, patients, metric, groups=groups)
    name, several = name_of(metric), np.shape(probabilities)[-1] > 2
    return interval_of(scores, level, bounds=(0.0, 2.0 if name == "brier" and several else 1.0) if name else None)


def interval_of(scores: RunScores, level: float = 0.95, *, bounds: tuple[float, float] | None = None) -> Interval:
    """Interval of the mean over runs, for the method; see `method_interval`."""
    return interval_over({"": scores}, level, bounds=bounds)


def interval_over(
    scores: Mapping[Any, RunScores], level: float = 0.95, *, bounds: tuple[float, float] | None = None
) -> Interval:
    """Interval of the plain mean over these sites (or folds) of a method's scores, for the method.

    Runs of different folds are taken as different draws, also where they have the same seed: they differ in their
    training data. A patient who is in several folds (the in-domain tests) is one patient.

    Args:
        scores: of each site.
        level: in (0, 1).
        bounds: the least and largest possible score, where the interval should stay between them.
    """
    check(0 < level < 1, "level must be between 0 and 1", level)
    check(len(scores) > 0, "there must be a site", len(scores))
    parts, cases = decompose(list(scores.values()))
    value = float(np.mean([one.value for one in scores.values()]))
    nan, n_patients = float("nan"), int((cases > 0).sum())

    def without(reason: str, error: float | None = None) -> Interval:
        return Interval(value, nan, nan, int(cases.sum()), n_patients, reason, THIS_METHOD, error)

    if not len(cases):
        return without("no case")
    if np.isnan(value):
        return without("undefined for these cases")
    if min(one.n_patients for one in scores.values()) < 2:
        return without(ONE_PATIENT)
    if np.isnan(parts.patients):
        return without(UNDEFINED_WITHOUT)
    if parts.patients == 0:
        return without(NO_VARIATION)
    error = float(np.sqrt(parts.variance))
    if np.isnan(parts.own):
        return without(ONE_RUN, error)
    if bounds is not None and not bounds[0] < value < bounds[1]:
        return without(f"at a bound, {value:g}: too few patients to tell how sure it is", error)
    tail, n_cases, doubt = (1 - level) / 2, int(cases.sum()), None
    lo, hi = _limits(value, parts.half_width(tail), bounds)
    if bounds is not None and np.isfinite(bounds).all() and all(one.of_cases for one in scores.values()):
        moves = _one_more(list(scores.values()), n_patients, tail, bounds)
        lo, hi = bounded.widened(value, (lo, hi), moves, bounds)
        doubt = bounded.doubt(value, (lo, hi), moves, n_patients, bounds)
    return Interval(value, lo, hi, n_cases, n_patients, None, THIS_METHOD, error, doubt)


def _one_more(
    scores: Sequence[RunScores], n_patients: int, tail: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """How far a patient more at each site moves the mean over sites; together where sites share patients."""
    moves = np.array([bounded.one_more(one.value, one.n_patients, tail, bounds) for one in scores])
    apart = sum(one.n_patients for one in scores) == n_patients
    below, above = (np.linalg.norm(moves, axis=0) if apart else moves.sum(axis=0)) / len(scores)
    return float(below), float(above)


def decompose(scores: Sequence[RunScores]) -> tuple[Parts, NDArray[np.int64]]:
    """The variance of the plain mean over sites of the means over runs, and (P,) cases of each patient.

    Over several sites the degrees of freedom are Satterthwaite's.
    """
    names = tuple(dict.fromkeys(name for one in scores for name in one.names))
    lined = [aligned(one, names) for one in scores]
    k = len(scores)
    together = np.sum([one.influence.mean(0) for one in lined], axis=0) / k
    patients = float(together @ together)
    own = np.array([_own(one) for one in lined]) / k**2
    private = np.array([_private(one) for one in lined]) / k**2
    alone = np.array([float((one.influence.mean(0) ** 2).sum()) for one in lined]) / k**2
    parts = Parts(
        float(own.sum()),
        _degrees(own, np.array([one.n_runs - 1 for one in scores])),
        float(np.maximum(0.0, patients - private.sum())),  # unlike max(), NaN stays
        patients,
        _degrees(alone, np.array([one.n_patients - 1 for one in scores])),
        float(private.sum()),
    )
    return parts, np.max([one.cases for one in lined], axis=0)


def _limits(value: float, half: float, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Limits about the value; between bounds on the logit scale; without an upper one cut at the lower."""
    if bounds is None:
        return value - half, value + half
    if np.isinf(bounds[1]):
        return max(bounds[0], value - half), value + half
    return bounded.between(value, half, bounds)


def quantile(tail: float, df: float) -> float:
    """Upper quantile of t; NaN without degrees of freedom."""
    return float(-special.stdtrit(df, tail)) if df > 0 else float("nan")


def _own(scores: RunScores) -> float:
    """Variance of the mean over runs that shows in the runs' scores."""
    return scores.spread**2 / scores.n_runs


def _private(scores: RunScores) -> float:
    """What patients do to single runs, as it shows in `_own`: (mean of C_ss - mean of C_ss', s != s') / S."""
    if scores.n_runs == 1:
        return 0.0
    rest = scores.influence - scores.influence.mean(0)
    return float((rest**2).sum()) / (scores.n_runs - 1) / scores.n_runs


def _degrees(parts: NDArray[np.float64], df: NDArray[np.int64]) -> float:
    """Satterthwaite's, of a sum of mean squares."""
    if len(parts) == 1 or not parts.sum() > 0:
        return float(df.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(parts.sum() ** 2 / np.nansum(parts**2 / df))
