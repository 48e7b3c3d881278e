"""What a training is at a step: all that changes, what a checkpoint keeps, and what a caller is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elsewhere.errors import RunError


@dataclass(frozen=True)
class Progress:
    """Told to the caller about ten times a second at most, and at every validation.

    Attributes:
        step, total: optimiser steps done and to do.
        loss: of the last steps that were logged; NaN before the first.
        score: of the last validation; None before the first.
        seconds_left: from the speed so far, validations included; None before the first step is done.
    """

    step: int
    total: int
    loss: float
    score: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        models: folder of the model of each selection rule: "last", "source-val" (where there are validation cases),
            "oracle" (where it was asked for).
        steps: that were made; fewer than asked for after early stopping.
        best_step: of "source-val".
        scores: (step, validation score) of every validation.
        notes: sentences that the run should show: no validation cases, a damaged checkpoint.
    """

    models: Mapping[str, Path]
    steps: int
    best_step: int | None
    scores: Sequence[tuple[int, float]]
    notes: Sequence[str]


@dataclass
class Best:
    """The best model of one rule so far: its score, its step, and the file of its weights beside the checkpoints."""

    score: float = -math.inf
    step: int | None = None
    file: str | None = None


@dataclass
class State:
    """What changes in a training besides weights and optimisers."""

    step: int = 0
    scores: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, Best] = field(default_factory=dict)
    without_better: int = 0
    stopped: bool = False
    log_bytes: int = 0

    def plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "step": self.step,
            "scores": [list(pair) for pair in self.scores],
            "best": {rule: [best.score, best.step, best.file] for rule, best in self.best.items()},
            "without_better": self.without_better,
            "stopped": self.stopped,
            "log_bytes": self.log_bytes,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> State:
        """Back from `plain`."""
        return cls(
            step=plain["step"],
            scores=[(step, score) for step, score in plain["scores"]],
            best={rule: Best(*values) for rule, values in plain["best"].items()},
            without_better=plain["without_better"],
            stopped=plain["stopped"],
            log_bytes=plain["log_bytes"],
        )


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """A checkpoint goes on only with what it was made with.

    Raises:
        RunError: it is of another method, seed, setting or set of cases; the first difference is named.
    """
    for key in sorted(set(found) | set(wanted)):
        if found.get(key) != wanted.get(key):
            raise RunError(
                f"{folder}: the training begun here had {key}={found.get(key)!r}, now it is {wanted.get(key)!r}; "
                "choose another folder, or remove this one to begin anew"
            )
