"""Optimisers with the recipe's settings, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch.optim import SGD, AdamW, Optimizer

from elsewhere.errors import SettingsError
from elsewhere.training.settings import Settings

CHANGES = ("optimizer", "learning_rate", "momentum", "weight_decay")


def factory(settings: Settings) -> Callable[..., Optimizer]:
    """`make(parameters, **changes)`; a method changes `optimizer`, `learning_rate`, `momentum` or `weight_decay`."""

    def make(parameters: Any, **changes: Any) -> Optimizer:
        unknown = sorted(set(changes) - set(CHANGES))
        if unknown:
            raise SettingsError(f"an optimiser has no setting {unknown[0]!r}; it has: {', '.join(CHANGES)}")
        chosen = settings.model_copy(update=changes)
        given = list(parameters)
        if chosen.optimizer == "adamw":
            return AdamW(given, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
        return SGD(
            given,
            lr=chosen.learning_rate,
            momentum=chosen.momentum,
            weight_decay=chosen.weight_decay,
            nesterov=chosen.momentum > 0,
        )

    return make


def share(step: int, total: int, warmup: float) -> float:
    """The learning rate of a step as a share of the highest: linear warm-up, then half a cosine down to 0.

    Args:
        step: from 0.
        total: steps of the training.
        warmup: share of them.
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def remember_rates(optimizers: Iterable[Optimizer]) -> None:
    """Note each group's highest learning rate in it, where `set_rates` finds it (also after a resume)."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])


def set_rates(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set each group's learning rate to `factor` times its highest."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
