"""The two propositions behind DropGen, on a world whose answer is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from elsewhere.methods.dropgen import ChannelDropout
from reference.dropgen_theory import moments, risk_gradient, stationary

N, NOISE = 4, 1.0


def accuracy(weights: np.ndarray, gain: float, noise: float) -> float:
    """Share of right signs, from a normal distribution: w.x given y is normal."""
    signal = weights[0] * gain + weights[1:].sum()
    return float(norm.cdf(signal / np.sqrt((weights[0] * noise) ** 2 + NOISE**2 * (weights[1:] ** 2).sum())))


def test_without_dropout_the_image_alone_is_stationary_and_with_it_is_not() -> None:
    """Proposition 1."""
    second, cross = moments(1.0, 0.0, N, NOISE)
    image_alone = np.array([1.0] + [0.0] * N)
    assert np.abs(risk_gradient(second, cross, 0.0, image_alone)).max() == 0
    p = 0.75
    # Of the image's own weight 1 the best under dropout would be 1 - p; what it leaves, the stable inputs want.
    own = np.array([1 - p] + [0.0] * N)
    gradient = risk_gradient(second, cross, p, own)
    assert abs(gradient[0]) < 1e-12
    np.testing.assert_allclose(gradient[1:], -p)
    assert (stationary(second, cross, p)[1:] > 0.05).all()


@pytest.mark.parametrize("p", [0.25, 0.75])
def test_training_under_our_dropout_ends_at_the_closed_form(p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    dropout = ChannelDropout(p)
    weights = torch.tensor([1.0] + [0.0] * N, requires_grad=True)
    optimizer, mean, steps = torch.optim.SGD([weights], lr=0.02), torch.zeros(1 + N), 1500
    for step in range(steps):
        y = torch.randint(0, 2, (512,), generator=generator).float() * 2 - 1
        inputs = torch.cat([y[:, None], y[:, None] + NOISE * torch.randn(512, N, generator=generator)], dim=1)
        loss = (y - dropout(inputs, generator) @ weights).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean += weights.detach() / (steps // 2) * (step >= steps // 2)
    np.testing.assert_allclose(mean.numpy(), stationary(*moments(1.0, 0.0, N, NOISE), p), atol=0.01)


def test_both_under_dropout_pass_the_ceiling_of_the_stable_inputs_elsewhere() -> None:
    """Proposition 2, and where it ends: an image that is reversed elsewhere costs what it gave."""
    second, cross = moments(1.0, 0.0, N, NOISE)
    stable = np.array([0.0, *stationary(second[1:, 1:], cross[1:], 0.0)])
    ceiling = accuracy(stable, 0.5, 0.5)
    assert ceiling == pytest.approx(norm.cdf(2.0))  # sqrt(4) standard deviations, in any environment
    assert accuracy(stationary(second, cross, 0.75), 0.5, 0.5) > ceiling + 0.005
    image = np.array([1.0] + [0.0] * N)
    assert accuracy(image, 0.5, 0.5) < ceiling - 0.1
    assert accuracy(stationary(second, cross, 0.75), -0.5, 0.5) < ceiling


def test_however_much_is_dropped_the_image_keeps_the_weight_it_earns_alone() -> None:
    """As p goes to 1 the weights go to those of each input alone; only a dropout of its own takes the image out."""
    second, cross = moments(1.0, 0.0, N, NOISE)
    weights = stationary(second, cross, 0.9999)
    np.testing.assert_allclose(
        weights[0] / weights[1], (cross[0] / second[0, 0]) / (cross[1] / second[1, 1]), rtol=1e-2
    )
    own = stationary(second, cross, [0.99] + [0.75] * N)
    assert own[0] / own[1] < 0.2 < 1.9 < weights[0] / weights[1]
