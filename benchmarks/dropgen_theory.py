"""Both propositions behind DropGen, seen in a world that is small enough to know: the numbers of
docs/explanation/dropgen.md.

    python benchmarks/dropgen_theory.py

A label y is +1 or -1. Four stable inputs are y plus noise, the same in every environment. One unstable input, the
image, is gain * y plus noise, and gain and noise are the environment's. Where the model is trained the image is exact.
A linear model learns by gradient descent on squared loss under `ChannelDropout`; how often is the sign right elsewhere?
"""

from __future__ import annotations

import torch
from torch import Tensor

from elsewhere.methods.dropgen import ChannelDropout

N_STABLE, STABLE_NOISE = 4, 1.0
TRAINED = (1.0, 0.0)
ENVIRONMENTS = {
    "as trained": TRAINED,
    "noisier": (1.0, 1.0),
    "weaker": (0.5, 0.5),
    "uninformative": (0.0, 1.0),
    "reversed": (-0.5, 0.5),
}
"""Gain and noise of the unstable input."""


def draw(n: int, gain: float, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (n, 1 + N_STABLE), the unstable one first, and labels (n,)."""
    y = torch.randint(0, 2, (n,), generator=generator).float() * 2 - 1
    unstable = gain * y + noise * torch.randn(n, generator=generator)
    stable = y[:, None] + STABLE_NOISE * torch.randn(n, N_STABLE, generator=generator)
    return torch.cat([unstable[:, None], stable], dim=1), y


def train(
    p: float, columns: slice = slice(None), p_image: float | None = None, steps: int = 4000, seed: int = 0
) -> Tensor:
    """Weights after stochastic gradient descent from (1, 0, ...), where the image alone already answers everything.

    The mean of the second half of the steps, so that what the draws of dropout leave to chance averages out.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(1 + N_STABLE)
    start[0] = 1.0
    weights = start[columns].clone().requires_grad_()
    dropout = ChannelDropout(p, first=1, p_first=p_image)
    optimizer = torch.optim.SGD([weights], lr=0.01)
    mean = torch.zeros_like(weights)
    for step in range(steps):
        inputs, y = draw(256, *TRAINED, generator)
        loss = (y - dropout(inputs[:, columns], generator) @ weights).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= steps // 2:
            mean += weights.detach() / (steps - steps // 2)
    return mean


def right(weights: Tensor, columns: slice, environment: tuple[float, float], n: int = 1_000_000) -> float:
    """Share of new cases of an environment whose sign is right."""
    inputs, y = draw(n, *environment, torch.Generator().manual_seed(1))
    return float(((inputs[:, columns] @ weights) * y > 0).float().mean())


def main() -> None:
    """Print the table."""
    everything, stable = slice(None), slice(1, None)
    models = {
        "image alone": (train(0.0, slice(0, 1)), slice(0, 1)),
        "stable inputs alone": (train(0.0, stable), stable),
        **{f"both, p = {p}": (train(p), everything) for p in (0.0, 0.25, 0.5, 0.75)},
        "both, p = 0.75, of the image 0.95": (train(0.75, p_image=0.95), everything),
    }
    print("| trained on | weight of the image | of each stable input | " + " | ".join(ENVIRONMENTS) + " |")
    print("|" + "---|" * (3 + len(ENVIRONMENTS)))
    for name, (weights, columns) in models.items():
        image = f"{weights[0]:.3f}" if columns != stable else "-"
        rest = weights if columns == stable else weights[1:]
        shares = " | ".join(f"{right(weights, columns, e):.3f}" for e in ENVIRONMENTS.values())
        print(f"| {name} | {image} | {f'{rest.mean():.3f}' if len(rest) else '-'} | {shares} |")


if __name__ == "__main__":
    main()
