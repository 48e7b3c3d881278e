"""Simulated sites whose true score is known: patients and training runs are drawn, the truth is over both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Drawn:
    """What a benchmark would have of a site: scores (S, N) of cases, or probabilities (S, N, 2) and target (N,)."""

    patients: Array
    values: Array | None = None
    probabilities: Array | None = None
    target: Array | None = None


@dataclass(frozen=True)
class World:
    """`draw(generator, seeds, patients)`, and the expected score over both."""

    draw: Callable[[np.random.Generator, int, int], Drawn]
    truth: float
    metric: str = "mean"


def crossed(luck: float, noise: float = 1.0) -> World:
    """Normal. Patients of variance 1, what a run does to a patient of variance noise^2, and runs whose variance is
    `luck` times that which patients give to the mean of one run's scores."""

    def draw(generator: np.random.Generator, seeds: int, patients: int) -> Drawn:
        runs = generator.normal(size=(seeds, 1)) * np.sqrt(luck * (1 + noise**2) / patients)
        values = generator.normal(size=patients) + runs + noise * generator.normal(size=(seeds, patients))
        return Drawn(np.arange(patients), values)

    return World(draw, 0.0)


def dice(luck: float = 0.02) -> World:
    """Like Dice: patients skewed, Beta(8, 2); runs of standard deviation `luck`; worse patients vary more by run."""

    def draw(generator: np.random.Generator, seeds: int, patients: int) -> Drawn:
        skill = generator.beta(8, 2, size=patients)
        noise = generator.normal(size=(seeds, patients)) * 0.3 * (1 - skill)
        return Drawn(np.arange(patients), skill + luck * generator.normal(size=(seeds, 1)) + noise)

    return World(draw, 0.8)


def several_cases(luck: float = 0.3) -> World:
    """1 + Poisson(2) cases a patient, alike within a patient; patients with more cases score higher."""

    def draw(generator: np.random.Generator, seeds: int, patients: int) -> Drawn:
        n = 1 + generator.poisson(2, size=patients)
        owner = np.repeat(np.arange(patients), n)
        of_patient = generator.normal(size=patients) + 0.3 * (n - 3)
        of_case = generator.normal(size=len(owner)) * 0.5
        of_run = luck * generator.normal(size=(seeds, 1))
        return Drawn(owner, of_patient[owner] + of_case + of_run + 0.7 * generator.normal(size=(seeds, len(owner))))

    # The mean over cases: E[n 0.3 (n - 3)] / E[n], with var(n) = 2.
    return World(draw, 0.3 * 2 / 3)


def own_patients(luck: float = 0.3, share: float = 0.4) -> World:
    """The in-domain test: each seed has its own share of the patients, NaN for the others."""

    def draw(generator: np.random.Generator, seeds: int, patients: int) -> Drawn:
        values = generator.normal(size=patients) + luck * generator.normal(size=(seeds, 1))
        values = values + 0.5 * generator.normal(size=(seeds, patients))
        for row in values:
            row[generator.permutation(patients)[round(share * patients) :]] = np.nan
        return Drawn(np.arange(patients), values)

    return World(draw, 0.0)


def classified(true_auroc: float, metric: str = "auroc", luck: float = 0.3, positives: float = 0.4) -> World:
    """Scores of two classes, binormal; runs differ in how far they set the classes apart."""
    patient, noise = 1.0, 0.5
    width = np.sqrt(2 * (patient**2 + noise**2) + luck**2)
    apart = float(stats.norm.ppf(true_auroc)) * width

    def draw(generator: np.random.Generator, seeds: int, patients: int) -> Drawn:
        target = (np.arange(patients) < round(positives * patients)).astype(int)
        of_patient = patient * generator.normal(size=patients)
        far = apart + luck * generator.normal(size=(seeds, 1))
        score = of_patient + noise * generator.normal(size=(seeds, patients)) + (target - 0.5) * far
        p = 1 / (1 + np.exp(-score))
        return Drawn(np.arange(patients), probabilities=np.stack([1 - p, p], -1), target=target)

    # Accuracy: score and class of the same sign, far / 2 away from 0.
    half = stats.norm.cdf(apart / 2 / np.sqrt(patient**2 + noise**2 + luck**2 / 4))
    return World(draw, true_auroc if metric == "auroc" else float(half), metric)
