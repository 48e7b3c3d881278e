"""`length.json`: was ERM trained long enough? What longer trainings gained on validation, and the verdict.

A cosine schedule that ends at 0 flattens every validation curve at its end, so a flat end says nothing about a longer
training. Two trainings of different length do: `elsewhere benchmark STUDY --steps N,2N` (`length_run`) makes both for
every fold and seed, and this file holds their scores on the validation patients of the development sites.

**The gain** from a length to the next is the mean over (fold, seed) pairs of the difference of the selected models'
validation scores. Its 95 % interval is Student's t over the pairs: about other trainings (split, weights, order,
augmentation) in these folds of this study, and about no other study. Folds share most of their development patients,
and those of a seed their validation patients, so the pairs are not independent and the interval may be too narrow.

**The verdict** (our choice) asks whether a gain is worth the training, which is `WORTH` = 0.01 here:

- "pays": the interval's lower limit is above 0, and the mean gain is at least 0.01;
- "does not pay": the interval's upper limit is below 0.01;
- "not told": anything else, and whatever has fewer than two pairs.

Nothing here needs torch, and reading needs nothing heavy at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from elsewhere.benchmark.record import reading
from elsewhere.files import write_text

LENGTH = "length.json"

WORTH = 0.01
"""Gain of the validation score from which a longer training is worth it (our choice)."""

PAYS, DOES_NOT, NOT_TOLD = "pays", "does not pay", "not told"


@dataclass(frozen=True)
class Training:
    """ERM, trained on a fold with a seed for a number of steps.

    Attributes:
        held_out: name of the fold.
        seed: of the training.
        steps: that were asked for.
        identity: of the run; the same as in a benchmark of that many steps.
        selected: validation score of the selected model (`source-val`); NaN where there is none.
        selected_step: where it was found; None where there is none.
        last: validation score after the last step; NaN where there is none.
    """

    held_out: str
    seed: int
    steps: int
    identity: str
    selected: float
    selected_step: int | None
    last: float


@dataclass(frozen=True)
class Gain:
    """What a longer training gained on validation; see the module for the interval and the verdict.

    Attributes:
        shorter, longer: steps.
        mean, lo, hi: of the selected models' scores; limits are NaN below two pairs.
        last: mean difference of the scores after the last step, in which no choice among validations has a part.
        n: (fold, seed) pairs.
        verdict: "pays", "does not pay" or "not told".
    """

    shorter: int
    longer: int
    mean: float
    lo: float
    hi: float
    last: float
    n: int
    verdict: str


@dataclass(frozen=True)
class Length:
    """Whether length still pays.

    Attributes:
        study: its name.
        metric: of the validation score, such as "dice".
        steps: the lengths that were compared, rising.
        pairs: (fold, seed) pairs that were asked for; gains have fewer where a training failed or has no score.
        trainings: that were made, by fold, seed and length.
        gains: from each length to the next.
    """

    study: str
    metric: str
    steps: tuple[int, ...]
    pairs: int
    trainings: tuple[Training, ...]
    gains: tuple[Gain, ...]

    @property
    def verdict(self) -> str:
        """On the last doubling, or whatever the last two lengths are: does more than the last but one pay?"""
        return self.gains[-1].verdict

    @property
    def enough(self) -> int | None:
        """The shortest length from which on no longer one paid; None where the verdict is another."""
        found = None
        for gain in reversed(self.gains):
            if gain.verdict != DOES_NOT:
                break
            found = gain.shorter
        return found

    def beyond(self, steps: int) -> Gain | None:
        """The gain from a length to the next, which says whether it is too short; None where none longer was tried."""
        return next((gain for gain in self.gains if gain.shorter == steps), None)

    def up_to(self, steps: int) -> Gain | None:
        """The gain to a length from the one before."""
        return next((gain for gain in self.gains if gain.longer == steps), None)

    def about(self, identities: Iterable[str]) -> bool:
        """Some of these runs are among its trainings: it speaks of their data, settings and length."""
        return not {one.identity for one in self.trainings}.isdisjoint(identities)

    @property
    def sentence(self) -> str:
        """All of it in a sentence, for people."""
        told = " and ".join(f"{gain_said(gain)} from {gain.shorter} to {gain.longer} steps" for gain in self.gains)
        folds = len({one.held_out for one in self.trainings})
        seeds = len({one.seed for one in self.trainings})
        least = min(gain.n for gain in self.gains)
        behind = f"{folds} fold{'s' * (folds != 1)} x {seeds} seed{'s' * (seeds != 1)}"
        behind += f", {least} of {self.pairs} pairs" if least < self.pairs else ""
        return f"ERM gains {told} on validation ({behind}): {self._advice()}"

    def _advice(self) -> str:
        last = self.gains[-1]
        if last.verdict == PAYS:
            return "length still pays; train longer before comparing methods"
        if last.verdict == DOES_NOT:
            return f"length does not pay beyond {self.enough} steps, by a gain of {WORTH:g} or more"
        if last.n < 2:
            return f"not told from {last.n} pair{'s' * (last.n != 1)} of trainings; ask for more seeds or folds"
        return (
            f"not told whether length pays: a gain of {WORTH:g} is neither shown nor ruled out; more seeds would tell"
        )


def gain_said(gain: Gain) -> str:
    """`+0.047 [0.040, 0.054]`, or `+0.047 [no interval]`."""
    if math.isnan(gain.mean):
        return "an unknown amount"
    limits = "no interval" if math.isnan(gain.lo) else f"{gain.lo:.3f}, {gain.hi:.3f}"
    return f"{gain.mean:+.3f} [{limits}]"


def compare(study: str, metric: str, steps: Sequence[int], pairs: int, trainings: Sequence[Training]) -> Length:
    """The gains from each length to the next, with verdicts.

    Args:
        study, metric: as of `Length`.
        steps: two or more lengths, rising.
        pairs: (fold, seed) pairs that were asked for.
        trainings: those that were made.
    """
    by_length = {n: {(one.held_out, one.seed): one for one in trainings if one.steps == n} for n in steps}
    gains = []
    for shorter, longer in pairwise(steps):
        both = by_length[shorter].keys() & by_length[longer].keys()
        compared = [(by_length[shorter][key], by_length[longer][key]) for key in sorted(both)]
        known = [b.selected - a.selected for a, b in compared if math.isfinite(b.selected - a.selected)]
        last = [b.last - a.last for a, b in compared if math.isfinite(b.last - a.last)]
        mean, lo, hi = _t_interval(known)
        at_last = sum(last) / len(last) if last else math.nan
        gains.append(Gain(shorter, longer, mean, lo, hi, at_last, len(known), judge(mean, lo, hi)))
    return Length(study, metric, tuple(steps), pairs, tuple(trainings), tuple(gains))


def judge(mean: float, lo: float, hi: float) -> str:
    """The verdict on a gain and its interval (NaN: there is none): the rule of this module, our choice."""
    if lo > 0 and mean >= WORTH:
        return PAYS
    if hi < WORTH:
        return DOES_NOT
    return NOT_TOLD


def _t_interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % limits by Student's t; NaN where there are too few."""
    n = len(differences)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = sum(differences) / n
    if n == 1:
        return mean, math.nan, math.nan
    from scipy.special import stdtrit  # late: who reads needs no quantile

    spread = math.sqrt(sum((one - mean) ** 2 for one in differences) / (n - 1) / n)
    half = float(stdtrit(n - 1, 0.975)) * spread
    return mean, mean - half, mean + half


def write_length(folder: Path, length: Length) -> None:
    """Write `length.json` atomically.

    Raises:
        RunError: it cannot be written.
    """
    plain = {**asdict(length), "verdict": length.verdict, "sentence": length.sentence}
    write_text(folder / LENGTH, json.dumps(_nulls(plain), indent=1, ensure_ascii=False))


def read_length(folder: Path | str) -> Length | None:
    """What `length.json` in a benchmark's folder says; None where nobody asked.

    Raises:
        RunError: it is damaged.
    """
    path = Path(folder) / LENGTH
    if not path.is_file():
        return None
    with reading(path, "delete it and run the same 'elsewhere benchmark' command again to write it anew"):
        found = json.loads(path.read_text(encoding="utf-8"))
        return Length(
            study=str(found["study"]),
            metric=str(found["metric"]),
            steps=tuple(int(n) for n in found["steps"]),
            pairs=int(found["pairs"]),
            trainings=tuple(Training(**_nans(one, "selected", "last")) for one in found["trainings"]),
            gains=tuple(Gain(**_nans(one, "mean", "lo", "hi", "last")) for one in found["gains"]),
        )


def _nulls(plain: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(plain, dict):
        return {key: _nulls(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_nulls(value) for value in plain]
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _nans(plain: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**plain, **{name: math.nan if plain[name] is None else float(plain[name]) for name in names}}
