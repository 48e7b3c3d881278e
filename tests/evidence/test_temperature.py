from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from elsewhere.evidence.temperature import BOUNDS, fit_temperature, negative_log_likelihood, scaled


def drawn(n: int, k: int, truth: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `truth` times too large, and targets."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, k)) * 2
    target = (softmax(logits, 1).cumsum(1) < generator.random((n, 1))).sum(1)
    return logits * truth, np.minimum(target, k - 1)


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(k: int, truth: float) -> None:
    logits, target = drawn(20000, k, truth)
    assert fit_temperature(logits, target) == pytest.approx(truth, rel=0.05)
    assert fit_temperature(log_softmax(logits, 1), target) == pytest.approx(fit_temperature(logits, target), rel=1e-4)


def test_it_is_where_the_likelihood_is_largest() -> None:
    logits, target = drawn(200, 3, 3.0)
    p = softmax(logits, 1)

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature, 1)[np.arange(200), target]).mean())

    wanted = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    found = fit_temperature(np.log(p), target)
    assert found == pytest.approx(wanted.x, rel=1e-3)
    assert negative_log_likelihood(p, target, found) == pytest.approx(wanted.fun, rel=1e-6)
    assert negative_log_likelihood(p, target) == pytest.approx(loss(1.0))


def test_weights_are_repetitions() -> None:
    logits, target = drawn(60, 3, 2.0)
    times = np.random.default_rng(1).integers(0, 4, 60)
    repeated = fit_temperature(np.repeat(logits, times, 0), np.repeat(target, times))
    assert fit_temperature(logits, target, times) == pytest.approx(repeated, rel=1e-5)


def test_where_every_label_is_right_the_model_stays_as_it_is() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    assert fit_temperature(logits, np.array([0, 1, 0])) == 1
    assert fit_temperature(logits[:1], np.array([0])) == 1


def test_it_ends_at_the_bounds() -> None:
    assert fit_temperature(np.array([[5.0, 0.0]] * 4), np.array([1, 1, 1, 0])) == BOUNDS[1]
    nearly = np.array([[0.001, 0.0]] * 999 + [[0.0, 0.001]])
    assert fit_temperature(nearly, np.zeros(1000)) == BOUNDS[0]


def test_a_probability_of_zero_does_not_decide_alone() -> None:
    logits, target = drawn(5000, 2, 1.0)
    p = softmax(logits, 1)
    p[0] = np.eye(2)[1 - target[0]]
    with np.errstate(divide="ignore"):
        found = fit_temperature(np.log(p), target)
    assert found == pytest.approx(1, abs=0.3)
    assert np.isfinite(negative_log_likelihood(p, target, found))


def test_scaled_divides_the_logits() -> None:
    logits, _ = drawn(50, 4, 1.0)
    assert scaled(softmax(logits, 1), 2.5) == pytest.approx(softmax(logits / 2.5, 1))
    volume = np.moveaxis(softmax(logits, 1).reshape(5, 10, 4), -1, 0).astype(np.float32)
    found = scaled(volume, 0.7, axis=0)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.moveaxis(softmax(logits / 0.7, 1).reshape(5, 10, 4), -1, 0), abs=1e-6)
    assert (found.argmax(0) == volume.argmax(0)).all()


def test_scaled_keeps_certainty_and_one_keeps_everything() -> None:
    certain = np.array([[1.0, 0.0], [0.25, 0.75]], np.float32)
    assert scaled(certain, 1.0) is not certain
    assert (scaled(certain, 1.0) == certain).all()
    assert scaled(certain, 0.5)[0] == pytest.approx([1, 0])
    assert np.isfinite(scaled(certain, 10.0)).all()


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        scaled(np.ones((1, 2)) / 2, wrong)


def test_rows_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(N, K\)"):
        fit_temperature(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="positive weight"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(ValueError, match="without NaN"):
        fit_temperature(np.full((2, 2), np.nan), np.zeros(2))
