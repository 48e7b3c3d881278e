"""Objectives re-derived in plain NumPy, case by case, from the papers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vrex(losses: NDArray[np.float64], site: NDArray[np.int64], weight: float) -> float:
    """Mean loss + weight x population variance of the sites' mean losses (Krueger et al. 2021, Eq. 8)."""
    risks = [float(np.mean([loss for loss, s in zip(losses, site, strict=True) if s == e])) for e in sorted(set(site))]
    centre = sum(risks) / len(risks)
    return float(np.mean(losses)) + weight * sum((r - centre) ** 2 for r in risks) / len(risks)


def jensen_shannon(p_logits: NDArray[np.float64], q_logits: NDArray[np.float64]) -> float:
    """Mean over positions of the Jensen-Shannon divergence in nats; logits (N, K)."""
    total = 0.0
    for a, b in zip(p_logits, q_logits, strict=True):
        p, q = np.exp(a - a.max()), np.exp(b - b.max())
        p, q = p / p.sum(), q / q.sum()
        m = (p + q) / 2
        total += 0.5 * float(np.sum(p * np.log(p / m))) + 0.5 * float(np.sum(q * np.log(q / m)))
    return total / len(p_logits)
