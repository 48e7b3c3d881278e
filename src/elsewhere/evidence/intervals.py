"""Intervals for the score of models at a site: other patients, the models as trained.

**Estimand.** `THESE_MODELS`, "these models at this site": the expected score, on patients like those of the site, of
the very models that were trained. What varies is which patients were sampled. Not in the interval: other seeds, other
training data, other sites. With several seeds' models the same patients are drawn for all, and the score is the mean of
the models' scores, so adding seeds does not narrow the interval as if they were patients.

Patients are drawn with replacement and bring all their cases along (a cluster bootstrap); a patient with more cases
weighs more, as in the table's mean over cases.

Two ways to read an interval off the resamples of a mean, or of any metric:

- "expanded" (default): percentiles at the levels Phi(+-t sqrt(n / (n - 1))), t of n - 1 degrees of freedom, for n
  patients (Hesterberg 2015, "What teachers should know about the bootstrap", expanded percentile interval). It undoes
  the narrowness of the bootstrap at few patients and tends to the plain percentiles at many.
- "percentile": plain percentiles, as in `scipy.stats.bootstrap(method="percentile")`; too narrow below about 30
  patients (at 8 patients a "95 %" interval of a mean holds the truth in 84 to 90 % of simulations, the
  expanded one in 93 to 96 %; at 4 patients 80 and 87 %).

Where all resamples agree (every patient scores alike) there is no interval: what others would do cannot be seen.

A mean of scores with bounds (the Dice of each case) does without resamples: t on the logit scale and one more patient
who fails outright (`bounded`). Resamples hold no failure that the patients do not show: where 5 % of good cases fail,
the expanded "95 %" interval of 12 patients holds the truth in about half of the simulations.

A share of a set (AUROC, accuracy, balanced accuracy, average precision, F1) has a third form, and this is the default:

- "wilson": Wilson's interval with as many cases as the set is worth by its variance over patients (`effective`). A
  bootstrap ends in a point, or near to one, where few patients are nearly all judged right: at 10 patients its "95 %"
  interval of an AUROC of 0.85 holds the truth in 80 % of simulations, this one in 99 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from elsewhere.evidence import bounded
from elsewhere.evidence.checks import check
from elsewhere.evidence.effective import MOST, degrees, share_limits, worth_in_models
from elsewhere.evidence.estimands import THESE_MODELS
from elsewhere.evidence.judged import JudgedSets, Patients, name_of
from elsewhere.evidence.means import PatientSums
from elsewhere.evidence.run_scores import ROUNDING, UNDEFINED_AT_MOST, mean_scores, scores_of
from elsewhere.tasks.classification_metrics import Metric

Method = Literal["expanded", "percentile"]

NO_VARIATION = "no patient changes the score: too few to tell how sure it is"

UNDEFINED_WITHOUT = "undefined without one or two of its patients"

MANY = 1000
"""Patients above which the variance of a set's score is of resamples and no more of leaving each patient out."""

BLOCK = 2**20
"""Weights in memory at a time (8 MiB; more is no quicker). The result does not depend on it."""

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps weights of patients (R, P) to scores (R,)."""

KEPT = 2**19
"""Weights of a set of resamples that is kept for the next interval (4 MiB, of at most 8 sets)."""


@dataclass(frozen=True)
class Interval:
    """A score and its interval.

    Attributes:
        value: on the cases as they are, mean over models.
        lo, hi: NaN where there is none, `reason` says why.
        n_cases: cases on which the score is defined.
        n_patients: their patients.
        reason: None, or why there is no interval.
        estimand: what the interval is about, see `elsewhere.evidence.estimands`.
        error: standard error, where the form of the interval has one.
        doubt: None, or why the interval may hold the truth less often than it says, see `bounded.doubt`.
    """

    value: float
    lo: float
    hi: float
    n_cases: int
    n_patients: int
    reason: str | None = None
    estimand: str = THESE_MODELS
    error: float | None = None
    doubt: str | None = None


def patient_interval(
    values: NDArray[Any],
    patients: Patients,
    *,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    method: Method = "expanded",
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Interval of a mean over cases (Dice, HD95, ... of each case).

    For the difference of two methods give the differences case by case, and no bounds.

    Args:
        values: (N,) or (S, N), S models on the same cases; NaN where undefined, left out of its model's mean.
        patients: (N,) who each case is of.
        n_boot: resamples.
        level: in (0, 1).
        seed: of the resamples.
        method: see above.
        bounds: worst and best score of a case that may fail outright, (0, 1) for Dice and IoU: the interval is then
            that of `bounded`, without resamples. None for scores without bounds, such as distances.

    Returns:
        the mean over models of the mean over cases, and its interval. A model without any defined case leaves the
        value NaN.

    Raises:
        SettingsError: shapes, level, number of resamples or method make no sense, or a score is not between the bounds.
    """
    if bounds is not None:
        return _between(values, patients, level, bounds)
    means = PatientSums.of(values, patients)

    def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(means.scores(weights).mean(axis=0))

    return resampled(score, means.n_cases, means.n_patients, means.n_patients, n_boot, level, seed, method)


def _between(values: NDArray[Any], patients: Patients, level: float, bounds: tuple[float, float]) -> Interval:
    check(0 < level < 1, "level must be between 0 and 1", level)
    table = np.asarray(values, dtype=np.float64)
    outside = table[(table < bounds[0] - ROUNDING) | (table > bounds[1] + ROUNDING)]
    check(not outside.size, f"scores must be between {bounds[0]:g} and {bounds[1]:g}", outside[:1].tolist())
    scores, nan = mean_scores(table, patients), float("nan")
    n, value = scores.n_patients, scores.value if scores.n_cases else float("nan")
    together = scores.influence.mean(0)
    error = float(np.sqrt(together @ together))
    reason = _no_interval(value, scores.n_cases, n)
    if reason is None and not error > 0:
        reason = UNDEFINED_WITHOUT if np.isnan(error) else NO_VARIATION
    if reason is not None:
        return Interval(value, nan, nan, scores.n_cases, n, reason)
    tail = (1 - level) / 2
    limits = bounded.between(value, float(-special.stdtrit(n - 1, tail)) * error, bounds)
    moves = bounded.one_more(value, n, tail, bounds)
    lo, hi = bounded.widened(value, limits, moves, bounds)
    doubt = bounded.doubt(value, (lo, hi), moves, n, bounds)
    return Interval(value, lo, hi, scores.n_cases, n, error=error, doubt=doubt)


def set_interval(
    probabilities: NDArray[Any],
    target: NDArray[Any],
    patients: Patients,
    metric: str | Metric,
    *,
    groups: NDArray[Any] | None = None,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    method: Method | Literal["wilson"] | None = None,
) -> Interval:
    """Interval of a metric of a set of cases (AUROC, F1, ECE, ...); the estimand is that of `patient_interval`.

    A resample in which the metric is undefined (one class only) is left out; where that happens in more than
    `UNDEFINED_AT_MOST` of them, or (by "wilson") would happen, there is no interval.

    Args:
        probabilities: (N, K) or (S, N, K), S models; where a model's row has a NaN the case is none of its own (the
            in-domain test of another seed).
        target: (N,) class indices.
        patients: (N,) who each case is of.
        metric: a name in `elsewhere.tasks.classification_metrics.METRICS`, or a function like those.
        groups: (N,) or (S, N), for a "model" that is several networks, each on cases of its own (a cross-validation):
            which network judged each case. The metric is then taken group by group, and averaged with the number of
            cases as weight over the groups in which it is defined: scores of two networks have no common scale, so a
            ranking of their cases in one line would be of networks as much as of cases.
        n_boot: resamples.
        level: in (0, 1).
        seed: of the resamples.
        method: see above; None for "wilson" where the metric is a share, else "expanded".

    Raises:
        SettingsError: no such metric; level, number of resamples or method make no sense.
        ValueError: probabilities and target do not fit.
    """
    name = name_of(metric)
    form = method or ("wilson" if name in MOST else "expanded")
    check(form != "wilson" or name in MOST, f"method wilson is for {', '.join(MOST)}", name or "another metric")
    sets = JudgedSets.of(probabilities, target, patients, metric, groups)

    def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(sets.scores(weights).mean(axis=0))

    if form == "wilson":
        return _of_share(sets, name, score, n_boot, level, seed)
    return resampled(score, sets.n_cases, sets.n_patients, sets.n_cases, n_boot, level, seed, form)


def _of_share(sets: JudgedSets, name: str, score: Score, n_boot: int, level: float, seed: int) -> Interval:
    check(0 < level < 1, "level must be between 0 and 1", level)
    check(n_boot >= 2, "n_boot must be at least 2", n_boot)
    value, reason = _value(score, sets.n_cases, sets.n_patients)
    influence, models, lo, hi = None, float(len(sets.models)), float("nan"), float("nan")
    if reason is None and sets.n_patients <= MANY:
        each = scores_of(sets).influence
        influence, models = each.mean(0), worth_in_models(each)
        variance = float(influence @ influence)
        reason = UNDEFINED_WITHOUT if np.isnan(variance) else None
    elif reason is None:
        scores, reason = _resamples(score, sets.n_patients, sets.n_cases, n_boot, seed)
        variance = float(np.nanvar(scores))
    if reason is None:
        lo, hi = share_limits(sets, name, value, variance, degrees(sets, name, influence), level, models)
    return Interval(value, lo, hi, sets.n_cases, sets.n_patients, reason)


def patient_weights(n_patients: int, n_boot: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(n_boot, n_patients), how often each patient is in each resample; rows add up to n_patients."""
    return generator.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=n_boot).astype(np.float64)


def drawn_weights(n_patients: int, n_boot: int, seed: int, rows: int) -> Iterable[NDArray[np.float64]]:
    """The resamples' weights in blocks of `rows`, to be read only.

    Thousands of intervals of a benchmark are over as many patients, and ask for the same draws: those are kept.
    """
    if n_patients * n_boot > KEPT:
        generator = np.random.default_rng(seed)
        return (patient_weights(n_patients, block, generator) for block in _blocks(n_boot, rows))
    return _kept_weights(n_patients, n_boot, seed, min(rows, n_boot))


@lru_cache(maxsize=8)
def _kept_weights(n_patients: int, n_boot: int, seed: int, rows: int) -> tuple[NDArray[np.float64], ...]:
    generator = np.random.default_rng(seed)
    made = tuple(patient_weights(n_patients, block, generator) for block in _blocks(n_boot, rows))
    for weights in made:
        weights.flags.writeable = False
    return made


def _blocks(n_boot: int, rows: int) -> list[int]:
    return [min(rows, n_boot - done) for done in range(0, n_boot, rows)]


def resampled(
    score: Score, n_cases: int, n_patients: int, width: int, n_boot: int, level: float, seed: int, method: Method
) -> Interval:
    """`score` maps patient weights (R, n_patients) to (R,); `width` is the row that it keeps in memory."""
    check(0 < level < 1, "level must be between 0 and 1", level)
    check(n_boot >= 1, "n_boot must be at least 1", n_boot)
    check(method in ("expanded", "percentile"), "method must be expanded or percentile", method)
    value, reason = _value(score, n_cases, n_patients)
    lo = hi = float("nan")
    if reason is None:
        scores, reason = _resamples(score, n_patients, width, n_boot, seed)
    if reason is None:
        lo, hi = map(float, np.quantile(scores[~np.isnan(scores)], percentile_levels(level, n_patients, method)))
        if hi - lo <= ROUNDING * max(abs(lo), abs(hi)):
            lo, hi, reason = float("nan"), float("nan"), NO_VARIATION
    return Interval(value, lo, hi, n_cases, n_patients, reason)


def _value(score: Score, n_cases: int, n_patients: int) -> tuple[float, str | None]:
    """The score of the cases as they are, and why it has no interval."""
    value = float(score(np.ones((1, n_patients)))[0]) if n_cases else float("nan")
    return value, _no_interval(value, n_cases, n_patients)


def _no_interval(value: float, n_cases: int, n_patients: int) -> str | None:
    """Why there is none, as far as the value and the numbers tell."""
    if n_cases == 0:
        return "no case"
    if np.isnan(value):
        return "undefined for these cases"
    return "one patient: nothing to resample" if n_patients == 1 else None


def _resamples(
    score: Score, n_patients: int, width: int, n_boot: int, seed: int
) -> tuple[NDArray[np.float64], str | None]:
    """Scores of the resamples, and why they make no interval."""
    rows = max(1, BLOCK // max(width, 1))
    scores = np.concatenate([score(weights) for weights in drawn_weights(n_patients, n_boot, seed, rows)])
    undefined = float(np.isnan(scores).mean())
    few = undefined > UNDEFINED_AT_MOST
    return scores, f"undefined in {100 * undefined:.0f} % of the resamples" if few else None


def percentile_levels(level: float, n: int, method: Method) -> tuple[float, float]:
    """At which quantiles of the resamples an interval of `level` ends, for n patients; see above."""
    tail = (1 - level) / 2
    if method == "expanded":
        tail = float(stats.norm.cdf(stats.t.ppf(tail, n - 1) * np.sqrt(n / (n - 1))))
    return tail, 1 - tail
