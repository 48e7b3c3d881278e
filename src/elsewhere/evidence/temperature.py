"""Temperature scaling: one number that makes a model's probabilities less, or more, extreme (Guo et al. 2017).

Logits are divided by T, so probabilities become p^(1/T), made to add up to 1 again: T > 1 for a model that is too sure.
The label, and every ranking by max p among two classes, stay as they are. T minimises the negative log likelihood on
the calibration patients. From a segmentation's probabilities, restored to the grid of the file, log p stands for the
logits: up to a constant it is the same.

Nothing makes a temperature that fits the development sites fit another one: the report shows calibration at the
held-out site both ways.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

BOUNDS = (0.1, 10.0)
"""T is looked for in here (our choice); beyond it a model is not badly calibrated but wrong, and T is the bound."""

LEAST = float(np.finfo(np.float32).tiny)
"""A probability of 0 is taken for this: no logit of a float32 network says less, and log 0 would decide alone."""


def fit_temperature(
    log_probabilities: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None = None
) -> float:
    """The temperature that makes the targets likeliest.

    The likelihood is log-concave in 1/T, so there is one optimum, found where its slope is 0. Where every label is
    right (without a tie) there is none, since likelihood only grows as T falls; so few errors say nothing of how often
    errors occur, and T is 1, the model as it is (our choice).

    Args:
        log_probabilities: (N, K), or logits, of cases or of voxels; -inf is `log(LEAST)`.
        target: (N,) class indices.
        weights: (N,) of each row, such as 1 / rows of its patient; None for ones.

    Returns:
        T in BOUNDS.

    Raises:
        ValueError: the shapes do not fit, there is no row of positive weight, or a number is NaN.
    """
    logits = np.asarray(log_probabilities, dtype=np.float64)
    y = np.asarray(target).astype(np.int64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if logits.ndim != 2 or y.shape != logits.shape[:1] or w.shape != y.shape:
        raise ValueError(f"log_probabilities must be (N, K), target (N,); found {logits.shape} and {y.shape}")
    if not (w >= 0).all() or not w.sum() > 0 or np.isnan(logits).any():
        raise ValueError("a temperature needs rows of positive weight, without NaN")
    # Shifted first: only differences between classes matter, and then LEAST means the same for logits.
    logits = np.maximum(logits - logits.max(axis=1, keepdims=True), np.log(LEAST))[w > 0]
    y, w = y[w > 0], w[w > 0]
    right = np.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    others = np.where(np.arange(logits.shape[1]) == y[:, None], -np.inf, logits)
    if (others.max(axis=1) < right).all():
        return 1.0

    def slope(inverse: float) -> float:
        """Of the negative log likelihood, by 1 / T."""
        expected = (softmax(inverse * logits, axis=1) * logits).sum(axis=1)
        return float(w @ (expected - right))

    sharp, flat = 1 / BOUNDS[0], 1 / BOUNDS[1]
    if slope(sharp) <= 0:
        return BOUNDS[0]
    if slope(flat) >= 0:
        return BOUNDS[1]
    return 1 / float(brentq(slope, flat, sharp, xtol=1e-6))


def scaled(probabilities: NDArray[Any], temperature: float, axis: int = -1) -> NDArray[Any]:
    """Probabilities at a temperature.

    Args:
        probabilities: (..., K), or any shape with the classes along `axis` (0 for (K, *spatial)).
        temperature: positive; 1 returns the probabilities as they are.
        axis: of the classes.

    Returns:
        the same shape; float32 stays float32, all else is float64.

    Raises:
        ValueError: the temperature is not a positive number.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"a temperature must be positive, found {temperature}")
    given = np.asarray(probabilities)
    kind = np.float32 if given.dtype == np.float32 else np.float64
    if temperature == 1:
        return given.astype(kind)
    p: NDArray[Any] = np.maximum(given, LEAST, dtype=kind)
    np.log(p, out=p)
    p /= kind(temperature)
    p -= p.max(axis=axis, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=axis, keepdims=True)
    return p


def negative_log_likelihood(probabilities: NDArray[Any], target: NDArray[Any], temperature: float = 1) -> float:
    """Mean over rows of -log p(target) at a temperature.

    Args:
        probabilities: (N, K).
        target: (N,) class indices.
        temperature: of the model.

    Returns:
        in nats; NaN without a row.
    """
    logits = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST)) / temperature
    if not len(logits):
        return float("nan")
    of_target = np.take_along_axis(logits, np.asarray(target).astype(np.int64)[:, None], axis=1)[:, 0]
    return float(np.mean(logsumexp(logits, axis=1) - of_target))
