"""The stationary point of squared loss under channel dropout, in closed form.

Dropout with inverted scaling multiplies each input by m of mean 1 and variance p / (1 - p), independently. So
E (y - sum m_i w_i x_i)^2 = E (y - w.x)^2 + p / (1 - p) sum w_i^2 E x_i^2, a ridge, whose one minimum solves
(E x x^T + diag(p / (1 - p) E x_i^2)) w = E x y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def moments(gain: float, noise: float, n_stable: int, stable_noise: float) -> tuple[Array, Array]:
    """E x x^T and E x y of x = (gain y + noise e, y + stable_noise e_1, ...), y = +-1 with equal chances."""
    slope = np.array([gain] + [1.0] * n_stable)
    second = np.outer(slope, slope) + np.diag([noise**2] + [stable_noise**2] * n_stable)
    return second, slope


def stationary(second: Array, cross: Array, p: float | Sequence[float]) -> Array:
    """Weights of the minimum; `p` of all inputs, or of each."""
    variance = np.broadcast_to(np.asarray(p, float) / (1 - np.asarray(p, float)), cross.shape)
    weights: Array = np.linalg.solve(second + np.diag(variance * np.diag(second)), cross)
    return weights


def risk_gradient(second: Array, cross: Array, p: float, weights: Array) -> Array:
    """Of half the expected loss under dropout."""
    found: Array = (second + np.diag(p / (1 - p) * np.diag(second))) @ weights - cross
    return found
