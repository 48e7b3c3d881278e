"""The scores of several training runs at a site, and how much each patient bears on each of them.

From a jackknife over patients: m_s is the score of run s, m_s(-i) without patient i (and all of i's cases), and

    influence_si = sqrt((P_s - 1) / P_s) (m_s - m_s(-i)),    C = influence influence^T,

for the P_s patients of run s, 0 for the others. C_ss' estimates the covariance of two runs' scores when the patients of
the site are drawn anew and the runs stay: the model of Obuchowski and Rockette (1995, Communications in Statistics
24:285) for readers and cases, with training runs for readers. For a mean of one case a patient, C_ss is the usual
variance of a mean; with several cases a patient it is that of a ratio, each patient weighing by cases as in the table.

Scores of the same runs can be subtracted (a method minus the base it is paired with, held-out minus in-domain): the
patients that both share enter once, with the difference of their influences.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.checks import check
from elsewhere.evidence.judged import JudgedSets, Patients, name_of
from elsewhere.evidence.means import PatientSums
from elsewhere.evidence.swaps import RANKING
from elsewhere.tasks.classification_metrics import Metric

UNDEFINED_AT_MOST = 0.1
"""Share of resamples in which a metric may be undefined; above it the rest no longer stands for the site. One or two
patients of a class, of nine or more, are too few."""

ROUNDING = 1e-12
"""Of the score: the same cases summed in another order."""


@dataclass(frozen=True)
class RunScores:
    """Scores of S training runs.

    Attributes:
        values: (S,) of each run; NaN where undefined.
        influence: (S, P), see above; NaN where a run has one patient, or no score without this one, and for everybody
            where a metric would be undefined in more than `UNDEFINED_AT_MOST` of the resamples of its patients.
        names: (P,) the patients; the same name is the same person.
        cases: (P,) cases of each.
        of_cases: the score is a mean over cases, so that one more patient moves it by what a patient weighs.
    """

    values: NDArray[np.float64]
    influence: NDArray[np.float64]
    names: tuple[Hashable, ...]
    cases: NDArray[np.int64]
    of_cases: bool = False

    @property
    def n_runs(self) -> int:
        """Training runs."""
        return len(self.values)

    @property
    def n_patients(self) -> int:
        """Patients of any run."""
        return len(self.names)

    @property
    def n_cases(self) -> int:
        """Their cases."""
        return int(self.cases.sum())

    @property
    def value(self) -> float:
        """Mean over runs."""
        return float(self.values.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over runs; NaN for one."""
        return float(self.values.std(ddof=1)) if self.n_runs > 1 else float("nan")

    def __sub__(self, other: RunScores) -> RunScores:
        """The difference run by run.

        Raises:
            SettingsError: not as many runs.
        """
        check(self.n_runs == other.n_runs, f"scores of {self.n_runs} runs need as many beside them", other.n_runs)
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        mine, theirs = aligned(self, names), aligned(other, names)
        return RunScores(
            self.values - other.values,
            mine.influence - theirs.influence,
            names,
            np.maximum(mine.cases, theirs.cases),  # the same cases twice, or none in one of them
        )


def mean_scores(values: NDArray[Any], patients: Patients) -> RunScores:
    """Scores that are means over cases (Dice of each case, or differences of Dice).

    Args:
        values: (S, N) or (N,), S runs; NaN where a case is undefined or none of the run's (the in-domain test
            patients differ by seed).
        patients: (N,) who each case is of.

    Raises:
        SettingsError: the shapes do not fit.
    """
    means = PatientSums.of(values, patients)
    runs = means.scores(np.ones((1, means.n_patients)))[:, 0]
    influence = _influence(runs, means.without_each_patient(), means.counts > 0)
    return RunScores(runs, influence, means.names, means.cases, of_cases=True)


def set_scores(
    probabilities: NDArray[Any],
    target: NDArray[Any],
    patients: Patients,
    metric: str | Metric,
    *,
    groups: NDArray[Any] | None = None,
) -> RunScores:
    """Scores of a set of cases (AUROC, F1, ECE, ...).

    Args:
        probabilities: (S, N, K) or (N, K); where a run's row has a NaN the case is none of its own.
        target: (N,) class indices.
        patients: (N,) who each case is of.
        metric: a name in `elsewhere.tasks.classification_metrics.METRICS`, or a function like those.
        groups: as in `intervals.set_interval`.

    Raises:
        SettingsError: no such metric, or the shapes do not fit.
        ValueError: probabilities and target do not fit.
    """
    return scores_of(JudgedSets.of(probabilities, target, patients, metric, groups))


def scores_of(sets: JudgedSets) -> RunScores:
    """Scores of sets that have been put together."""
    runs = sets.scores(np.ones((1, sets.n_patients)))[:, 0]
    present = np.zeros((len(sets.models), sets.n_patients), dtype=bool)
    for run, parts in enumerate(sets.models):
        for _, _, own in parts:
            present[run, own] = True
    influence = _influence(runs, sets.without_each_patient(), present)
    if _undefined(sets) > UNDEFINED_AT_MOST:
        influence[:] = np.nan
    return RunScores(runs, influence, sets.names, sets.cases, name_of(sets.metric) == "accuracy")


def aligned(scores: RunScores, names: tuple[Hashable, ...]) -> RunScores:
    """The same scores with a column for each of these patients; those who are no run's have no influence."""
    at = {name: i for i, name in enumerate(names)}
    columns = np.array([at[name] for name in scores.names], dtype=np.int64)
    influence, cases = np.zeros((scores.n_runs, len(names))), np.zeros(len(names), dtype=np.int64)
    influence[:, columns], cases[columns] = scores.influence, scores.cases
    return RunScores(scores.values, influence, names, cases, scores.of_cases)


def _undefined(sets: JudgedSets) -> float:
    """Share of resamples of the patients in which a class has no case, and a metric that ranks is undefined."""
    if name_of(sets.metric) not in RANKING or not sets.n_patients:
        return 0.0
    patients = (sets.classes > 0).sum(0)
    return float(((1 - patients / sets.n_patients) ** sets.n_patients).max())


def _influence(
    runs: NDArray[np.float64], without: NDArray[np.float64], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    n = present.sum(1, keepdims=True)
    shrink = np.sqrt(np.where(n > 1, (n - 1) / np.maximum(n, 1), np.nan))
    change = runs[:, None] - without
    change[np.abs(change) <= ROUNDING * np.abs(runs[:, None])] = 0.0
    return np.where(present, shrink * change, 0.0)
