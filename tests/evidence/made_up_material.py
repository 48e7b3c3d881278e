"""Cases, as a folder would give them, made of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from elsewhere.evidence.bounded import bounds_of_case
from elsewhere.evidence.findings_material import HELD_OUT, Judged, metric_of
from elsewhere.evidence.intervals import patient_interval, set_interval

RULE = "source-val"

COLUMNS = ["method", "held_out", "seed", "selection", "split", "class", "metric", "value", "lo", "hi"]


def segmentation(
    dice: np.ndarray, site: str = "A", patients: list[str] | None = None, first: int = 0, **numbers: Any
) -> Judged:
    """(S, N) Dice; NaN where a model did not judge the case."""
    table = np.atleast_2d(np.asarray(dice, dtype=float))
    n = table.shape[1]
    names = [f"{site}{first + i}" for i in range(n)]
    return Judged(
        np.array(names, dtype=object),
        np.array(patients or names, dtype=object),
        np.array([site] * n, dtype=object),
        tuple(range(len(table))),
        ~np.isnan(table),
        np.zeros(table.shape, dtype=np.int64),
        {"dice": table, **numbers},
    )


def classification(
    positive: np.ndarray, target: np.ndarray, site: str = "A", patients: list[str] | None = None, first: int = 0
) -> Judged:
    """(S, N) probability of class 1 of two; NaN where a model did not judge the case."""
    p = np.atleast_2d(np.asarray(positive, dtype=float))
    n = p.shape[1]
    names = [f"{site}{first + i}" for i in range(n)]
    return Judged(
        np.array(names, dtype=object),
        np.array(patients or names, dtype=object),
        np.array([site] * n, dtype=object),
        tuple(range(len(p))),
        ~np.isnan(p),
        np.zeros(p.shape, dtype=np.int64),
        {},
        {},
        ("healthy", "ill"),
        np.stack([1 - p, p], axis=2),
        np.asarray(target, dtype=np.int64),
    )


@dataclass
class InMemory:
    """A `Material`; its results.csv is computed from the cases."""

    cases: Mapping[tuple[str, str], Mapping[str, Judged]]
    task: str = "segmentation"
    study: str = "s"
    classes: tuple[str, ...] = ("background", "lesion")
    covariates: pd.DataFrame | None = None
    fits: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    evaluation: bool = False
    metrics_missing: tuple[str, ...] = ()
    metric: str | None = None
    development: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def results(self) -> pd.DataFrame:
        rows = []
        for (method, site), splits in self.cases.items():
            for split in ("held-out", "in-domain"):
                if split in splits:
                    rows += self._rows({"method": method, "held_out": site, "split": split}, splits[split])
        return pd.DataFrame(rows, columns=None if rows else COLUMNS)

    def _rows(self, key: dict[str, str], judged: Judged) -> list[dict[str, Any]]:
        metric = self.metric or metric_of(self.task, None, self.metrics_missing)
        rows = []
        for seed, some in [
            *((str(s), [i]) for i, s in enumerate(judged.seeds)),
            ("all", list(range(len(judged.seeds)))),
        ]:
            if judged.probabilities is None:
                scores, bounds = judged.numbers[metric][some], bounds_of_case(metric)
                if bounds is not None:
                    scores = np.clip(scores, *bounds)  # some are made with normal noise
                found = patient_interval(scores, judged.patients, n_boot=200, bounds=bounds)
            else:
                assert judged.target is not None
                found = set_interval(judged.probabilities[some], judged.target, judged.patients, metric, n_boot=200)
            row = {"seed": seed, "selection": RULE, "class": "all", "metric": metric, "value": found.value}
            sizes = {"n_cases": found.n_cases, "n_patients": found.n_patients}
            rows.append({**key, **row, "lo": found.lo, "hi": found.hi, **sizes})
        return rows

    def methods(self, selection: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(method for method, _ in self.cases))

    def held_out(self, selection: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(site for _, site in self.cases))

    def class_counts(self, held_out: str) -> tuple[int, ...] | None:
        return self.development.get(held_out)

    def judged(self, selection: str, method: str, held_out: str) -> Mapping[str, Judged]:
        return self.cases.get((method, held_out), {})

    def fitted(self, selection: str, method: str, held_out: str) -> Mapping[int, Mapping[str, Any]]:
        return self.fits


def only_held_out(tables: Mapping[tuple[str, str], Judged]) -> dict[tuple[str, str], dict[str, Judged]]:
    """Cases without home."""
    return {key: {HELD_OUT: judged} for key, judged in tables.items()}
