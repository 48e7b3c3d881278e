"""Plain re-derivations of classification metrics, from pairs of cases and from bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def auroc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Share of (positive, negative) pairs in the right order, ties half."""
    wins = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
    return float(np.mean(wins)) if wins else float("nan")


def ece(confidence: NDArray[Any], correct: NDArray[Any], n_bins: int = 15) -> float:
    """Guo et al. 2017, equation 3."""
    total = 0.0
    for i in range(n_bins):
        inside = (confidence > i / n_bins) & (confidence <= (i + 1) / n_bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total
