"""Does a longer training pay? The table of the training section, and what stands there where nobody asked."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from folders import NASTY, MadeUp, Page

from elsewhere.benchmark.length import LENGTH, Training, compare, write_length
from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import RunError
from elsewhere.report import write_report

SITES = {NASTY: 6, "B": 6, "C": 6}
STEPS = 200
"""Of the made-up folder."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    MadeUp("segmentation", SITES, {"erm": 0.0, "gin": 1.0}).write(tmp_path)
    return tmp_path


def training(folder: Path) -> str:
    return " ".join(Page(write_report(folder).read_text(encoding="utf-8")).sections["training"].split())


def write(folder: Path, scores: dict[int, list[float]], own: bool = True) -> None:
    """One score a fold and length; those of 200 steps are the folder's own ERM runs."""
    mine = {
        spec.fold.name: spec for spec in MadeUp("segmentation", SITES, {"erm": 0.0, "gin": 1.0}).specs() if chosen(spec)
    }
    trainings = [
        Training(
            held_out=site,
            seed=0,
            steps=steps,
            identity=mine[site].identity if own and steps == STEPS else f"{site}{steps}",
            selected=value,
            selected_step=steps,
            last=value - 0.01 * (steps > STEPS),
        )
        for steps, values in scores.items()
        for site, value in zip(SITES, values, strict=True)
    ]
    write_length(folder, compare("made-up", "dice", sorted(scores), len(SITES), trainings))


def chosen(spec: RunSpec) -> bool:
    return (spec.method, spec.seed) == ("erm", 0)


def test_where_nobody_asked_it_says_what_to_run(folder: Path) -> None:
    text = training(folder)
    assert "Does a longer training pay? Not asked yet. elsewhere benchmark STUDY --steps 200,400 --out DIR" in text
    assert "A flat end tells nothing of a longer one" in text


def test_a_benchmark_that_is_too_short(folder: Path) -> None:
    """Gains 0.04, 0.05, 0.06: mean 0.05, SD 0.01, t(2) = 4.3027, half width 0.0248; 0.01 less at the last step."""
    write(folder, {200: [0.60, 0.70, 0.50], 400: [0.64, 0.75, 0.56]})
    text = training(folder)
    assert "This benchmark has 200 steps, which is too short: with 400 ERM gains +0.050 [0.025, 0.075]" in text
    for row in (
        f"{NASTY}   0.600 0.640 +0.040",
        "B   0.700 0.750 +0.050",
        "C   0.500 0.560 +0.060",
        "all   0.600 0.650 +0.050 [0.025, 0.075] pays",
    ):
        assert " ".join(row.split()) in text
    assert "After the last step, with no choice of validations: +0.040 to 400 steps." in text
    assert "Not asked yet" not in text


def test_a_benchmark_of_the_longer_length(folder: Path) -> None:
    write(folder, {100: [0.60, 0.70, 0.50], 200: [0.64, 0.75, 0.56]})
    text = training(folder)
    assert "200 steps, and length paid up to them. Whether it pays beyond is not known" in text
    assert "--steps 200,400" in text


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (
            {200: [0.6, 0.7, 0.5], 400: [0.601, 0.702, 0.503]},
            "200 steps; ERM gains less than 0.01 on validation with 400",
        ),
        (
            {100: [0.6, 0.7, 0.5], 200: [0.601, 0.702, 0.503]},
            "ERM gained less than 0.01 on validation from 100 to them",
        ),
        ({200: [0.6, 0.7, 0.5], 400: [0.50, 0.75, 0.60]}, "200 steps; whether a longer training pays is not told"),
        ({200: [0.6, 0.7, 0.5], 400: [math.nan] * 3}, "an unknown amount"),
    ],
)
def test_what_else_it_may_say(folder: Path, scores: dict[int, list[float]], says: str) -> None:
    write(folder, scores)
    assert says in training(folder)


def test_trainings_of_something_else_are_marked(folder: Path) -> None:
    write(folder, {100: [0.60, 0.70, 0.50], 400: [0.64, 0.75, 0.56]})
    text = training(folder)
    assert "No run of this benchmark is among these trainings" in text
    assert "This benchmark has" not in text


def test_a_damaged_file_is_an_error_of_one_sentence(folder: Path) -> None:
    (folder / LENGTH).write_text("{")
    with pytest.raises(RunError, match=r"length\.json: is damaged"):
        write_report(folder)
