"""How unlike the development data a case is: three distances, one score, and a flag that keeps its level.

The distances (see `nearness.Cloud`) are in units of their own. Their logarithms are standardised by what they are for
calibration patients, whom the network has not seen; the score of a case is the largest of the three. The flag is a
conformal test: of new patients who are like the calibration patients, at most the stated share is flagged (for
exchangeable patients; at another hospital they are not, which is what the flag is for).

Our choices, of which the level does not depend: the logarithm; the largest of three; that the variance of few
calibration patients is drawn towards that among training cases (`PRIOR`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elsewhere.deploy.nearness import Cloud, grouped_distances
from elsewhere.errors import ModelError
from elsewhere.files import atomic

LEVEL = 0.05
"""Share of patients like the calibration patients that may be flagged."""

FEWEST = 2
"""Calibration patients below which there is no threshold: each is judged by the others."""

PRIOR = 4.0
"""So many calibration patients is the spread among training cases worth."""

LEAST_SPREAD = 0.02
"""Standard deviation of a log distance below which it is not believed: 2 % of the distance."""

_NEAREST = 1e-6


@dataclass(frozen=True)
class Outlier:
    """How unlike the development data one case is; higher is less like it.

    Attributes:
        outlier: the largest of the three distances below, each standardised (standard deviations of the logarithm
            among calibration patients, from their mean).
        mahalanobis, knn, input: the distances as they are; NaN where one is not known.
        unlike: the flag; None where there is no threshold.
    """

    outlier: float
    mahalanobis: float
    knn: float
    input: float
    unlike: bool | None


@dataclass(frozen=True, eq=False)
class DevelopmentStatistics:
    """What is remembered of the development data.

    Attributes:
        cloud: training cases.
        usual: (2, 3) mean and variance of the log distances among training cases, each seen by the other patients.
        centre, spread: (3,) mean and standard deviation by which log distances are standardised.
        scores: (n,) score of each calibration patient, standardised by the others, sorted.
        threshold: a case with a higher score is flagged; None without enough calibration patients.
        level: the share that was asked for.
        level_reached: the share that the threshold stands for; None where there is none.
        reason: one sentence where there is no threshold, or one at another level than asked; else None.
    """

    cloud: Cloud
    usual: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    scores: NDArray[np.float64]
    threshold: float | None = None
    level: float = LEVEL
    level_reached: float | None = None
    reason: str | None = "there is no threshold without calibration patients"

    @classmethod
    def fit(
        cls, features: ArrayLike, inputs: ArrayLike, patients: Sequence[str], tolerance: ArrayLike = 0.0
    ) -> DevelopmentStatistics:
        """Remember training cases.

        Args:
            features: (N, D), D may be 0; cases that are not finite are left out.
            inputs: (N, P) of `input_statistics`; NaN is "not known".
            patients: (N,) names: no patient is judged by his or her own cases.
            tolerance: (P,) changes of the inputs that are none, see `input_tolerance`.
        """
        features, inputs = np.asarray(features, np.float64), np.asarray(inputs, np.float64)
        cloud = Cloud.fit(features, inputs, tolerance)
        log = _log(grouped_distances(features, inputs, patients, tolerance))
        usual = _mean_and_variance(log, list(patients))
        centre, spread = _standard(usual, np.zeros((0, 3)), [])
        return cls(cloud, usual, centre, spread, np.zeros(0))

    def calibrate(
        self, features: ArrayLike, inputs: ArrayLike, patients: Sequence[str], level: float = LEVEL
    ) -> DevelopmentStatistics:
        """Standardise by calibration patients, and find the threshold.

        Each patient's score is that of the case least like the development data, standardised by the other patients.
        With n patients the threshold is the k-th largest score, k the most for which k / (n + 1) is at most the
        level; with n too small for that, the largest, whose level is 1 / (n + 1).

        Args:
            features, inputs: (M, D) and (M, P) of the calibration cases.
            patients: (M,) names.
            level: share of like patients that may be flagged.

        Returns:
            New statistics; these stay as they are.
        """
        log = _log(self.cloud.distances(np.asarray(features, np.float64), np.asarray(inputs, np.float64)))
        who = np.array(list(patients), dtype=object)
        names = sorted(set(patients))
        scores = []
        for name in names:
            others = who != name
            centre, spread = _standard(self.usual, log[others], list(who[others]))
            scores.append(float(_largest((log[~others] - centre) / spread).max()))
        centre, spread = _standard(self.usual, log, list(patients))
        found = np.sort(np.array(scores, np.float64))
        n = len(names)
        if n < FEWEST:
            few = "a single calibration patient" if n else "calibration patients"
            reason = f"there is no threshold {'from' if n else 'without'} {few}"
            return replace(
                self, centre=centre, spread=spread, scores=found, threshold=None, level=level, level_reached=None,
                reason=reason,
            )  # fmt: skip
        k = math.floor(level * (n + 1) + 1e-9)
        too_few = None
        if k < 1:
            needed = math.ceil(1 / level - 1e-9) - 1
            too_few = (
                f"{n} calibration patients are too few for a level of {level:g} ({needed} are needed): the threshold "
                f"is their largest score, its level {1 / (n + 1):.2g}"
            )
        k = max(k, 1)
        return replace(
            self, centre=centre, spread=spread, scores=found, threshold=float(found[-k]), level=level,
            level_reached=k / (n + 1), reason=too_few,
        )  # fmt: skip

    def score(self, features: ArrayLike, inputs: ArrayLike) -> Outlier:
        """Judge one case by its features (D,) and input statistics (P,).

        Features that are not finite, where those of the development were, are infinitely far away.
        """
        distances = self.cloud.distances(np.asarray(features, np.float64)[None], np.asarray(inputs, np.float64)[None])[
            0
        ]
        score = float(_largest((_log(distances) - self.centre) / self.spread))
        unlike = None if self.threshold is None else bool(score > self.threshold)
        return Outlier(score, float(distances[0]), float(distances[1]), float(distances[2]), unlike)

    def p_value(self, outlier: float) -> float:
        """(1 + calibration patients with this score or a higher one) / (n + 1); 1 without calibration patients."""
        return float((1 + (self.scores >= outlier).sum()) / (len(self.scores) + 1))

    def save(self, path: Path) -> None:
        """Write one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        from safetensors.numpy import save

        arrays = {f"cloud.{field.name}": np.asarray(getattr(self.cloud, field.name)) for field in fields(Cloud)}
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        arrays |= {name: np.array(value, np.float64) for name, value in numbers.items() if value is not None}
        # One key: safetensors writes several in no order of their own, and the same statistics are the same bytes.
        about = {"about": json.dumps({"format": 1, "reason": self.reason})}
        with atomic(path) as temporary:
            temporary.write_bytes(save({k: np.array(v, order="C") for k, v in arrays.items()}, about))

    @classmethod
    def load(cls, path: Path) -> DevelopmentStatistics:
        """Read what `save` wrote, bit for bit.

        Raises:
            ModelError: no such file, or it is damaged or of another kind.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as opened:
                about: dict[str, Any] = json.loads((opened.metadata() or {}).get("about", "{}"))
                names = opened.keys()
                arrays: dict[str, NDArray[Any]] = {name: opened.get_tensor(name) for name in names}
            if about.get("format") != 1:
                raise ValueError(f"format {about.get('format')}")
            cloud = Cloud(**{field.name: arrays[f"cloud.{field.name}"] for field in fields(Cloud)})
            numbers = {name: float(arrays[name]) if name in arrays else None for name in _NUMBERS}
            return cls(cloud, **{name: arrays[name] for name in _ARRAYS}, **numbers, reason=about.get("reason"))  # type: ignore[arg-type]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path}: no development statistics that can be read ({type(error).__name__}: {error})"
            ) from error


_ARRAYS = ("usual", "centre", "spread", "scores")
_NUMBERS = ("threshold", "level", "level_reached")


def _log(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(distances, _NEAREST))  # NaN stays NaN


def _largest(standardised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis, NaN left out; where all are NaN nothing is known: 0, as usual as can be."""
    known = np.where(np.isnan(standardised), -np.inf, standardised).max(axis=-1)
    return np.where(np.isnan(standardised).all(axis=-1), 0.0, known)


def _mean_and_variance(log: NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.float64]:
    """(2, 3) of (n, 3) log distances, each patient counting alike; distances that are not finite do not count."""
    count = {name: list(patients).count(name) for name in set(patients)}
    weight = np.array([1 / count[name] for name in patients])[:, None] * np.isfinite(log)
    total = weight.sum(axis=0)
    known = np.where(np.isfinite(log), log, 0.0)
    mean = np.divide((weight * known).sum(axis=0), total, out=np.zeros(3), where=total > 0)
    squares = (weight * (known - mean) ** 2).sum(axis=0)
    return np.stack([mean, np.divide(squares, total - 1, out=np.zeros(3), where=total > 1.5)])


def _standard(
    usual: NDArray[np.float64], log: NDArray[np.float64], patients: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of log distances among calibration patients; with none, among training cases.

    The variance of training cases counts as that of `PRIOR` more patients, as in a scaled inverse chi-squared prior.
    """
    n = len(set(patients))
    if n == 0:
        return usual[0], np.maximum(np.sqrt(usual[1]), LEAST_SPREAD)
    mean, variance = _mean_and_variance(log, patients)
    pooled = (PRIOR * usual[1] + (n - 1) * variance) / (PRIOR + n - 1)
    # Of a new patient from the mean of n: without the last factor, those judged by n - 1 others would look farther.
    return mean, np.maximum(np.sqrt(pooled), LEAST_SPREAD) * math.sqrt(1 + 1 / n)
