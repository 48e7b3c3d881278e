"""Does a longer training pay? What `length.json` says, or the command that finds out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elsewhere.benchmark.length import DOES_NOT, PAYS, WORTH, Gain, Length, Training, gain_said, read_length
from elsewhere.benchmark.loading import Loaded
from elsewhere.evidence.findings_material import NAMES
from elsewhere.report.blocks import Block, Cell, Heading, Row, Table, Text, number

TITLE = "Does a longer training pay?"


def blocks(loaded: Loaded) -> list[Block]:
    """The table of gains, and what they say of this benchmark; without one, what to run."""
    length = read_length(loaded.folder)
    own = [run.spec for run in loaded.runs if run.spec.fold.part is None]
    steps = int(own[0].settings["steps"])  # one number for all runs of a question
    if length is None:
        return [Heading(TITLE), Text([f"Not asked yet. {_command(steps)}"])]
    told, warns = "No run of this benchmark is among these trainings: their data, settings or lengths are others.", True
    if length.about(spec.identity for spec in own):
        told, warns = _of_benchmark(length, steps)
    return [Heading(TITLE), Text([f"{length.sentence}."]), Text([told], "missing" if warns else ""), _table(length)]


def _command(steps: int) -> str:
    return (
        f"elsewhere benchmark STUDY --steps {steps},{2 * steps} --out DIR, with this folder and the other options as "
        "they were, trains ERM at both lengths, on validation patients alone, and says here whether length still pays."
    )


def _of_benchmark(length: Length, steps: int) -> tuple[str, bool]:
    """What it says of a benchmark of that many steps, and whether that is a warning."""
    here = f"This benchmark has {steps} steps"
    beyond, up_to = length.beyond(steps), length.up_to(steps)
    if beyond is not None and beyond.verdict == PAYS:
        return f"{here}, which is too short: with {beyond.longer} ERM gains {gain_said(beyond)} on validation.", True
    if beyond is not None and beyond.verdict == DOES_NOT:
        return f"{here}; ERM gains less than {WORTH:g} on validation with {beyond.longer}.", False
    if beyond is None and up_to is not None and up_to.verdict == PAYS:
        return f"{here}, and length paid up to them. Whether it pays beyond is not known: {_command(steps)}", True
    if beyond is None and up_to is not None and up_to.verdict == DOES_NOT:
        return f"{here}; ERM gained less than {WORTH:g} on validation from {up_to.shorter} to them.", False
    return f"{here}; whether a longer training pays is not told.", True


def _table(length: Length) -> Table:
    head = ["held out", *(f"{n} steps" for n in length.steps), *(f"gain to {gain.longer}" for gain in length.gains)]
    folds = list(dict.fromkeys(one.held_out for one in length.trainings))
    rows = [Row(fold, _cells(length, [one for one in length.trainings if one.held_out == fold])) for fold in folds]
    scores = [Cell(number(_mean([one.selected for one in length.trainings if one.steps == n]))) for n in length.steps]
    rows.append(Row("all", [*scores, *(_gain(gain) for gain in length.gains)]))
    last = ", ".join(f"{number(gain.last, sign=True)} to {gain.longer} steps" for gain in length.gains)
    captions = [
        f"Validation {NAMES.get(length.metric, length.metric)} of the selected models, mean over {_seeds(length)}, and "
        f"what each length gained over the one before. After the last step, with no choice of validations: {last}.",
        "[ ]: 95 % interval of the mean over pairs of trainings (fold and seed), by Student's t: about other trainings "
        "in these folds, not about other sites. Folds share patients, so it may be too narrow. "
        f"Length pays where its lower limit is above 0 and the mean gain at least {WORTH:g}; it does not where the "
        f"upper limit is below {WORTH:g}.",
    ]
    return Table(TITLE, head, rows, captions)


def _cells(length: Length, of_fold: Sequence[Training]) -> list[Cell]:
    by_length = {n: {one.seed: one.selected for one in of_fold if one.steps == n} for n in length.steps}
    cells = [Cell(number(_mean(list(by_length[n].values())))) for n in length.steps]
    for gain in length.gains:
        shorter, longer = by_length[gain.shorter], by_length[gain.longer]
        gains = [longer[seed] - shorter[seed] for seed in shorter.keys() & longer.keys()]
        cells.append(Cell(number(_mean(gains), sign=True)))
    return cells


def _gain(gain: Gain) -> Cell:
    interval = "no interval"
    if not math.isnan(gain.lo):
        interval = f"[{number(gain.lo)}, {number(gain.hi)}]"
    return Cell(number(gain.mean, sign=True), [interval, gain.verdict], "missing" if gain.verdict == PAYS else "")


def _seeds(length: Length) -> str:
    n = len({one.seed for one in length.trainings})
    return f"{n} seed{'s' * (n != 1)}"


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
