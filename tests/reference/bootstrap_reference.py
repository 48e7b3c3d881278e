"""The patient bootstrap as one would tell it: draw patients, gather their cases, score, repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from elsewhere.tasks.classification_metrics import score_classification


def draws(patients: Any, n_boot: int, seed: int) -> Iterator[list[int]]:
    """Indices of the cases of each resample; patients are numbered as they are first met."""
    names = list(dict.fromkeys(list(patients)))
    generator = np.random.default_rng(seed)
    for _ in range(n_boot):
        times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)))
        drawn = [name for name, n in zip(names, times, strict=True) for _ in range(n)]
        yield [i for name in drawn for i, patient in enumerate(patients) if patient == name]


def resample(score: Callable[[list[int]], float], patients: Any, n_boot: int, seed: int) -> np.ndarray:
    return np.array([score(cases) for cases in draws(patients, n_boot, seed)])


def resampled_mean(values: np.ndarray, patients: Any, n_boot: int, seed: int) -> np.ndarray:
    """(n_boot,) mean over models of the mean over cases."""
    return resample(lambda cases: float(np.mean([np.nanmean(v[cases]) for v in values])), patients, n_boot, seed)


def resampled_metric(p: np.ndarray, y: np.ndarray, patients: Any, metric: str, n_boot: int, seed: int) -> np.ndarray:
    """(n_boot,) mean over models of a metric of the drawn set."""

    def score(cases: list[int]) -> float:
        return float(np.mean([score_classification(q[cases], y[cases])[metric] for q in p]))

    return resample(score, patients, n_boot, seed)
