"""A method beside another (usually `erm`), on the same cases and with the same seeds.

Runs are paired by seed: a seed's two runs share the split of the patients, and the difference is taken within.

Of one difference three things are said, and they answer three questions:

- `models_lo`, `models_hi` (`THESE_MODELS`): how large is it for these very models? Patients resampled; for shares of a
  set (AUROC, F1, ...) from the two scores' own intervals and their correlation (`effective`).
- `p`: could it be no difference at all, of these models on patients like these? Patients swapped (`permutation`).
- `lo`, `hi` (`THIS_METHOD`): how large is it for the methods, had they been trained again? Patients and runs (`runs`).
  `p_method` is the same interval turned round: could it be no difference at all, of the methods?

**Probability of being better.** `better` is the probability that one further run of the method scores better than one
further run of the base, trained with the same new seed, on as many further patients of this site. It is read off the
decomposition of `runs`: a further difference is d + noise, whose variance is that of the estimate, own + shared, and
that of a further run on further patients, S own + shared; each part has its own t as in the interval, and the
probability is 1 - tail where the one-sided prediction limit meets 0. Few seeds or patients pull it to 0.5. It is no
p-value, and no probability that the method is better on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from elsewhere.evidence.checks import check
from elsewhere.evidence.effective import MOST, degrees, difference_limits, share_limits, worth_in_models
from elsewhere.evidence.intervals import NO_VARIATION, UNDEFINED_WITHOUT, Interval, patient_interval, resampled
from elsewhere.evidence.judged import JudgedSets, Patients, metric_of, name_of
from elsewhere.evidence.means import PatientSums
from elsewhere.evidence.permutation import BEYOND_SLOW, Permutation, sign_flip, swap, swaps_for
from elsewhere.evidence.run_scores import RunScores, mean_scores, scores_of
from elsewhere.evidence.runs import Parts, decompose, interval_of, quantile
from elsewhere.evidence.swaps import RANKING, SUMS, contributions, side_by_side
from elsewhere.tasks.classification_metrics import HIGHER_IS_BETTER, Metric

RESAMPLES = 1000


@dataclass(frozen=True)
class Comparison:
    """A difference, method minus base.

    Attributes:
        difference: mean over seeds; NaN where undefined.
        lo, hi: for these methods at this site; NaN where there is none, `reason` says why.
        p_method: two-sided, for these methods; not above 1 - level exactly where `lo` and `hi` exclude 0, NaN where
            there are none. Not yet corrected: `claims.corrected` over all that are looked at.
        parts: of the variance of the difference.
        models_lo, models_hi: for these models at this site; NaN where there is none.
        p: two-sided, not yet corrected: `holm` over all that are looked at.
        n_permutations: behind p.
        exact: whether these were all.
        better: probability of being better, see above; NaN with one seed.
        n_patients, n_cases, n_seeds: behind the difference.
        reason: None, or why something of this is missing, or cannot be had with so few patients.
    """

    difference: float
    lo: float
    hi: float
    models_lo: float
    models_hi: float
    p: float
    n_permutations: int
    exact: bool
    better: float
    n_patients: int
    n_cases: int
    n_seeds: int
    p_method: float
    parts: Parts
    reason: str | None = None


def compare(
    method: NDArray[Any],
    base: NDArray[Any],
    patients: Patients,
    *,
    hypotheses: int = 1,
    level: float = 0.95,
    seed: int = 0,
    higher_is_better: bool = True,
    n_boot: int = RESAMPLES,
) -> Comparison:
    """Compare means over cases (Dice, HD95, ... of each case).

    Args:
        method, base: (S, N), S seeds on the same cases; where one is NaN the case is left out of that seed for both.
        patients: (N,) who each case is of.
        hypotheses: how many p-values Holm's correction will be over: so many more swaps are drawn.
        level: of the intervals; 1 - level is the level of the tests.
        seed: of resamples and swaps.
        higher_is_better: of the score; turns `better`, not the difference.
        n_boot: resamples of the interval for these models.

    Raises:
        SettingsError: shapes or options make no sense.
    """
    one, two = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (method, base))
    check(one.shape == two.shape, f"base must be like method, {one.shape}", two.shape)
    values = one - two
    sums = PatientSums.of(values, patients)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = (sums.sums / sums.counts.sum(1, keepdims=True)).mean(0)
    return _comparison(
        mean_scores(values, patients),
        patient_interval(values, patients, n_boot=n_boot, level=level, seed=seed),
        lambda: sign_flip(parts, swaps_for(hypotheses, level), seed),
        hypotheses,
        level,
        higher_is_better,
    )


def compare_sets(
    probabilities_method: NDArray[Any],
    probabilities_base: NDArray[Any],
    target: NDArray[Any],
    patients: Patients,
    metric: str | Metric,
    *,
    hypotheses: int = 1,
    level: float = 0.95,
    seed: int = 0,
    higher_is_better: bool | None = None,
    by_rank: bool | None = None,
    groups: NDArray[Any] | None = None,
    n_boot: int = RESAMPLES,
) -> Comparison:
    """Compare a metric of a set of cases (AUROC, F1, ECE, ...).

    Args:
        probabilities_method, probabilities_base: (S, N, K); where a row of one has a NaN the case is left out of that
            seed for both.
        target: (N,) class indices.
        patients: (N,) who each case is of.
        metric: a name in `elsewhere.tasks.classification_metrics.METRICS`, or a function like those.
        hypotheses, level, seed, n_boot: as in `compare`.
        higher_is_better: None for what is known of a named metric; turns `better`, not the difference.
        by_rank: swap ranks within a model in place of probabilities; None for metrics that rank.
        groups: (N,) or (S, N), as in `intervals.set_interval`: only cases of one group are ranked against each other,
            in both.

    Raises:
        SettingsError: no such metric; shapes or options make no sense.
        ValueError: probabilities and target do not fit.
    """
    metric_of(metric)
    one, two = (np.asarray(p, dtype=np.float64) for p in (probabilities_method, probabilities_base))
    check(one.shape == two.shape, f"probabilities_base must be like those of the method, {one.shape}", two.shape)
    left_out = np.asarray(np.isnan(one).any(-1) | np.isnan(two).any(-1))
    mine, theirs = (
        JudgedSets.of(np.where(left_out[..., None], np.nan, p), target, patients, metric, groups) for p in (one, two)
    )
    name = name_of(metric)
    rank = name in RANKING if by_rank is None else by_rank

    def test() -> Permutation:
        if name in SUMS:
            return sign_flip(contributions(mine, theirs, SUMS[name]), swaps_for(hypotheses, level), seed)
        difference, n = side_by_side(mine, theirs, by_rank=rank), swaps_for(hypotheses, level, BEYOND_SLOW)
        return swap(difference, mine.n_patients, n, seed, block=max(16, 2**19 // mine.n_cases))

    def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((mine.scores(weights) - theirs.scores(weights)).mean(axis=0))

    width, each = mine.n_cases, (scores_of(mine), scores_of(theirs))
    if name in MOST:
        models = _shares(mine, theirs, each, name, level)
    else:
        models = resampled(score, width, mine.n_patients, width, n_boot, level, seed, "expanded")
    return _comparison(
        each[0] - each[1],
        models,
        test,
        hypotheses,
        level,
        HIGHER_IS_BETTER.get(name, True) if higher_is_better is None else higher_is_better,
    )


def probability_of_being_better(scores: RunScores, *, higher_is_better: bool = True) -> float:
    """That one further pair of runs differs in favour of the method on as many further patients, see above.

    Args:
        scores: differences of paired runs.
        higher_is_better: of the score.

    Returns:
        a probability; NaN with one pair, or where the difference is undefined.
    """
    parts, _ = decompose([scores])
    if math.isnan(parts.own) or math.isnan(parts.patients) or math.isnan(scores.value):
        return float("nan")
    away = scores.value if higher_is_better else -scores.value
    own, shared = parts.own * (1 + scores.n_runs), 2 * parts.shared
    # A further run on further patients varies by at least what its patients do.
    least = parts.patients + float((scores.influence**2).sum()) / scores.n_runs

    def beyond(log_tail: float) -> float:
        runs, patients = (quantile(math.exp(log_tail), df) ** 2 for df in (parts.own_df, parts.patients_df))
        return max(runs * own + patients * shared, patients * least) - away**2

    if away == 0:
        return 0.5
    if max(own, shared, least) == 0:
        return float(away > 0)
    smallest = math.log(1e-9)
    tail = math.exp(optimize.brentq(beyond, smallest, math.log(0.5))) if beyond(smallest) > 0 else 1e-9
    return 1 - tail if away > 0 else tail


def _shares(
    mine: JudgedSets, theirs: JudgedSets, each: tuple[RunScores, RunScores], name: str, level: float
) -> Interval:
    """Interval of the difference of two shares of the same cases, for these models."""
    nan, values = float("nan"), (each[0].value, each[1].value)
    influence = each[0].influence.mean(0), each[1].influence.mean(0)
    reason = None
    if math.isnan(values[0] - values[1]):
        reason = "undefined for these cases"
    elif mine.n_patients < 2:
        reason = "one patient: nothing to resample"
    elif influence[0].any() and np.allclose(*influence, rtol=1e-9, atol=0):
        reason = NO_VARIATION  # every patient bears on the two alike
    elif np.isnan(influence).any():
        reason = UNDEFINED_WITHOUT
    lo, hi = nan, nan
    if reason is None:
        limits = [
            share_limits(
                sets,
                name,
                one.value,
                float(part @ part),
                degrees(sets, name, part),
                level,
                worth_in_models(one.influence),
            )
            for sets, one, part in zip((mine, theirs), each, influence, strict=True)
        ]
        lo, hi = difference_limits(values, (limits[0], limits[1]), influence)
    return Interval(values[0] - values[1], lo, hi, mine.n_cases, mine.n_patients, reason)


def _too_few(test: Permutation, n_patients: int, hypotheses: int, level: float) -> str | None:
    """Why no p, however large the difference, could have been found."""
    if not test.least * hypotheses > 1 - level + 1e-12:
        return None
    who = f"{n_patients} patients"
    if test.differ is not None and test.differ < n_patients:
        who = f"{test.differ} of {n_patients} patients differ"
    first = f", where Holm's correction of {hypotheses} tests begins at {(1 - level) / hypotheses:.2g}"
    return f"{who}: no p below {test.least:.3g} is possible" + (first if test.least <= 1 - level else "")


def _comparison(
    scores: RunScores,
    models: Interval,
    test: Callable[[], Permutation],
    hypotheses: int,
    level: float,
    higher_is_better: bool,
) -> Comparison:
    both = interval_of(scores, level)
    defined, (parts, _) = not math.isnan(both.value), decompose([scores])
    permutation = test() if defined else Permutation(float("nan"), 0, False)
    reason = both.reason or models.reason or _too_few(permutation, scores.n_patients, hypotheses, level)
    return Comparison(
        both.value,
        both.lo,
        both.hi,
        models.lo,
        models.hi,
        permutation.p,
        permutation.n,
        permutation.exact,
        probability_of_being_better(scores, higher_is_better=higher_is_better) if defined else float("nan"),
        scores.n_patients,
        scores.n_cases,
        scores.n_runs,
        float("nan") if math.isnan(both.lo) else parts.p(both.value),
        parts,
        reason,
    )
