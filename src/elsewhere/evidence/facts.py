"""What the first look must know of a folder beside its findings: runs, validation curves, length, repeated images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FALL = 0.05
"""How far a validation score ends below its start where it is said to have fallen (our choice)."""

FEWEST = 4
"""Validations that a curve needs before anything is said of it (our choice)."""

LAST = 0.25
"""Share of the validations that is the end of a curve."""

NOTHING_LEARNT = {"dice": 0.01, "auroc": 0.5}
"""Validation score that a model must pass once, or it has learnt nothing: what a trivial answer gets, or nearly."""


@dataclass(frozen=True)
class Curve:
    """The validation curves of a method in a fold.

    Attributes:
        method, held_out: which.
        runs: with a curve that is long enough.
        fell: of these, whose score ended below its start.
        learnt_nothing: of these, whose score was never above a trivial answer's.
    """

    method: str
    held_out: str
    runs: int
    fell: int
    learnt_nothing: int


@dataclass(frozen=True)
class Longer:
    """Whether a longer training pays, of `length.json`.

    Attributes:
        verdict: "pays", "does not pay" or "not told"; "" where nobody asked.
        gain: of the validation score, in words (`+0.047 [0.040, 0.054]`).
        steps: of the longer training.
    """

    verdict: str = ""
    gain: str = ""
    steps: int = 0


@dataclass(frozen=True)
class Facts:
    """Of a folder.

    Attributes:
        evaluation: predictions made elsewhere.
        planned, failed, waiting: runs.
        oracle: some models were selected by the held-out site.
        seen: by site, what the judged model saw of it in training; empty where nothing is known.
        elsewhere: of an evaluation: no site was seen.
        steps: of each training; 0 where not known.
        curves: of the trainings.
        longer: whether a longer training pays.
        at_two_sites: images with the same bytes at several sites.
        of_two_patients: images with the same bytes under several patients of one site.
    """

    evaluation: bool = False
    planned: int = 0
    failed: int = 0
    waiting: int = 0
    oracle: bool = False
    seen: Mapping[str, str] = field(default_factory=dict)
    elsewhere: bool = False
    steps: int = 0
    curves: tuple[Curve, ...] = ()
    longer: Longer = field(default_factory=Longer)
    at_two_sites: int = 0
    of_two_patients: int = 0


def curve(method: str, held_out: str, metric: str, scores: Sequence[Sequence[float]]) -> Curve:
    """Judge the validation curves of a method in a fold.

    Args:
        method, held_out: which.
        metric: of the validation score.
        scores: of each run, in the order of its steps; NaN where undefined.
    """
    known = [[one for one in run if not math.isnan(one)] for run in scores]
    known = [run for run in known if len(run) >= FEWEST]
    return Curve(
        method,
        held_out,
        len(known),
        sum(fell(run) for run in known),
        sum(learnt_nothing(run, metric) for run in known),
    )


def fell(scores: Sequence[float]) -> bool:
    """The mean of the last quarter of the validations is more than FALL below the first validation."""
    last = scores[-max(1, round(LAST * len(scores))) :]
    return sum(last) / len(last) < scores[0] - FALL


def learnt_nothing(scores: Sequence[float], metric: str) -> bool:
    """No validation was better than what needs no learning."""
    return max(scores) <= NOTHING_LEARNT.get(metric, -math.inf)
