"""Textbook forms, in loops, of what `elsewhere.evidence` computes in tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def mean_squares(values: np.ndarray) -> tuple[float, float, float]:
    """Two-way analysis of variance of (runs, patients) without replication: mean squares of runs, patients, rest."""
    s, p = values.shape
    grand = values.mean()
    runs = sum(p * (values[i].mean() - grand) ** 2 for i in range(s)) / (s - 1)
    patients = sum(s * (values[:, j].mean() - grand) ** 2 for j in range(p)) / (p - 1)
    rest = sum(
        (values[i, j] - values[i].mean() - values[:, j].mean() + grand) ** 2 for i in range(s) for j in range(p)
    ) / ((s - 1) * (p - 1))
    return float(runs), float(patients), float(rest)


def leave_one_out(score: Callable[[list[int]], float], patients: Sequence[Any]) -> np.ndarray:
    """Score of the cases of all other patients, for each patient in the order in which they are met."""
    names = list(dict.fromkeys(patients))
    return np.array([score([i for i, owner in enumerate(patients) if owner != name]) for name in names])


def delong_variance(score: np.ndarray, target: np.ndarray) -> float:
    """DeLong, DeLong and Clarke-Pearson (1988): variance of an AUROC from placement values."""
    x, y = score[target == 1], score[target == 0]
    above = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    return float(above.mean(1).var(ddof=1) / len(x) + above.mean(0).var(ddof=1) / len(y))


def closed_testing(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values by their definition: the largest Bonferroni p of all families that hold the test."""
    m = range(len(p))
    families = [some for size in range(1, len(p) + 1) for some in itertools.combinations(m, size)]
    return np.array([max(min(1.0, len(some) * min(p[i] for i in some)) for some in families if k in some) for k in m])


def swapped_differences(
    score: Callable[[np.ndarray], float], method: np.ndarray, base: np.ndarray, patients: Sequence[Any]
) -> np.ndarray:
    """The difference for every way to swap the two methods' (S, N, ...) answers patient by patient.

    Args:
        score: maps (N, ...) answers of a model to its score.
    """
    names = list(dict.fromkeys(patients))
    found = []
    for swaps in itertools.product([False, True], repeat=len(names)):
        turned = np.array([dict(zip(names, swaps, strict=True))[owner] for owner in patients])
        one, two = method.copy(), base.copy()
        one[:, turned], two[:, turned] = base[:, turned], method[:, turned]
        found.append(np.mean([score(a) - score(b) for a, b in zip(one, two, strict=True)]))
    return np.array(found)


def prediction_by_draws(values: np.ndarray, error: float, n: int, seed: int) -> np.ndarray:
    """(n,) draws of a new site's score where all sites have one error: tau^2 = (sum of squares / u - error^2)+."""
    generator = np.random.default_rng(seed)
    k = len(values)
    tau2 = np.maximum(k * values.var() / generator.chisquare(k - 1, n) - error**2, 0)
    return values.mean() + generator.normal(size=n) * np.sqrt(tau2 + (tau2 + error**2) / k)


def limits_with_one_more(values: np.ndarray, patients: Sequence[Any], quantile: float) -> tuple[float, float]:
    """Limits of the mean over (S,) models of the mean over (N,) cases of scores from 0 to 1, at 95 %.

    Half width quantile x standard error over odds' slope, then in quadrature what happens to the score when one patient
    with an average number of cases, all 0 (or all 1), is put to the others.
    """

    def score(cases: Sequence[int], more: float = 0.0, number: float = 0.0) -> float:
        means = []
        for row in values:
            known = [row[i] for i in cases if not np.isnan(row[i])]
            share = number * len(known)
            means.append((sum(known) + more * share) / (len(known) + share))
        return float(np.mean(means))

    everybody, n = range(len(patients)), len(set(patients))
    v = score(everybody)
    jackknife = [v - without for without in leave_one_out(score, patients)]
    error = np.sqrt((n - 1) / n * sum(d**2 for d in jackknife))
    step = np.exp(quantile * error / (v * (1 - v)))
    odds = v / (1 - v)
    below = v - odds / step / (1 + odds / step), v - score(everybody, 0.0, 1 / n)
    above = odds * step / (1 + odds * step) - v, score(everybody, 1.0, 1 / n) - v
    return v - float(np.sqrt(below[0] ** 2 + below[1] ** 2)), v + float(np.sqrt(above[0] ** 2 + above[1] ** 2))
