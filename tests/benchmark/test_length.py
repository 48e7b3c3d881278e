"""The verdict on the length of a training, with numbers worked by hand, and the file that holds it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from elsewhere.benchmark.length import LENGTH, Length, Training, compare, judge, read_length, write_length
from elsewhere.errors import RunError

FOLDS = ("A", "B", "C", "D")


def trainings(scores: dict[int, list[float]]) -> list[Training]:
    """By length, one score a fold; the score after the last step is 0.01 lower than the selected one."""
    return [
        Training(fold, 0, steps, f"{fold}{steps}", score, steps, score - 0.01)
        for steps, values in scores.items()
        for fold, score in zip(FOLDS, values, strict=False)
    ]


def asked(scores: dict[int, list[float]]) -> Length:
    return compare("toy", "dice", sorted(scores), 4, trainings(scores))


def test_the_interval_is_students_over_the_pairs() -> None:
    """Differences 0.02, 0.04, 0.06, 0.08: mean 0.05, SD sqrt(0.002 / 3) = 0.02582, SE 0.01291, t(3) = 3.182446."""
    (gain,) = asked({300: [0.60, 0.60, 0.60, 0.60], 600: [0.62, 0.64, 0.66, 0.68]}).gains
    assert (gain.shorter, gain.longer, gain.n, gain.verdict) == (300, 600, 4, "pays")
    assert gain.mean == pytest.approx(0.05)
    assert gain.lo == pytest.approx(0.05 - 3.182446 * 0.0129099, abs=1e-6)
    assert gain.hi == pytest.approx(0.05 + 3.182446 * 0.0129099, abs=1e-6)
    assert gain.last == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("mean", "lo", "hi", "verdict"),
    [
        (0.047, 0.040, 0.054, "pays"),
        (0.010, 0.001, 0.019, "pays"),
        (0.050, -0.001, 0.101, "not told"),  # may be luck
        (0.009, 0.001, 0.017, "not told"),  # sure to be a gain, not sure to be worth it
        (0.006, 0.003, 0.0099, "does not pay"),  # a gain for certain, and for certain not worth it
        (0.000, -0.004, 0.004, "does not pay"),
        (-0.030, -0.050, -0.010, "does not pay"),
        (0.000, -0.020, 0.020, "not told"),
        (0.047, math.nan, math.nan, "not told"),
        (math.nan, math.nan, math.nan, "not told"),
    ],
)
def test_the_rule(mean: float, lo: float, hi: float, verdict: str) -> None:
    assert judge(mean, lo, hi) == verdict


def test_the_sentence_says_gain_interval_n_and_what_to_do() -> None:
    found = asked({300: [0.60, 0.60, 0.60, 0.60], 600: [0.62, 0.64, 0.66, 0.68]})
    assert found.sentence == (
        "ERM gains +0.050 [0.009, 0.091] from 300 to 600 steps on validation (4 folds x 1 seed): length still pays; "
        "train longer before comparing methods"
    )


def test_several_lengths_and_from_where_on_none_pays() -> None:
    found = asked({100: [0.50, 0.51, 0.52, 0.53], 200: [0.60, 0.61, 0.62, 0.63], 400: [0.60] * 4, 800: [0.60] * 4})
    assert [gain.verdict for gain in found.gains] == ["pays", "does not pay", "does not pay"]
    assert (found.verdict, found.enough) == ("does not pay", 200)
    assert "from 100 to 200 steps and -0.015" in found.sentence
    assert found.sentence.endswith("length does not pay beyond 200 steps, by a gain of 0.01 or more")
    first, last = found.beyond(100), found.up_to(800)
    assert first is not None
    assert last is not None
    assert (first.longer, last.shorter) == (200, 400)
    assert found.beyond(800) is None
    assert found.up_to(100) is None


def test_a_gain_that_comes_late_is_the_verdict() -> None:
    found = asked({100: [0.5] * 4, 200: [0.5] * 4, 400: [0.60, 0.61, 0.62, 0.63]})
    assert (found.verdict, found.enough) == ("pays", None)


def test_pairs_without_a_score_or_a_partner_are_not_counted() -> None:
    """Of four folds D failed at the longer length and C has no score: two pairs, 0.1 and 0.1."""
    found = asked({300: [0.5, 0.6, 0.7, 0.8], 600: [0.6, 0.7, math.nan]})
    (gain,) = found.gains
    assert gain.n == 2
    assert gain.mean == pytest.approx(0.1)
    assert "(4 folds x 1 seed, 2 of 4 pairs)" in found.sentence


@pytest.mark.parametrize(
    ("longer", "says"),
    [
        ([0.6], "ERM gains +0.100 [no interval] from 300 to 600 steps on validation (1 fold x 1 seed, 1 of 4 pairs): "
                "not told from 1 pair of trainings; ask for more seeds or folds"),
        ([math.nan], "ERM gains an unknown amount from 300 to 600 steps on validation (1 fold x 1 seed, 0 of 4 pairs): "
                     "not told from 0 pairs of trainings; ask for more seeds or folds"),
    ],
)  # fmt: skip
def test_fewer_than_two_pairs_tell_nothing(longer: list[float], says: str) -> None:
    found = asked({300: [0.5], 600: longer})
    assert found.verdict == "not told"
    assert found.sentence == says


@pytest.mark.parametrize("longer", [[0.62, 0.64, 0.66, 0.68], [math.nan]])
def test_it_is_read_back_as_it_was_written(tmp_path: Path, longer: list[float]) -> None:
    found = asked({300: [0.6] * 4, 600: longer})
    assert read_length(tmp_path) is None
    write_length(tmp_path, found)
    text = (tmp_path / LENGTH).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["verdict"] == found.verdict
    again = read_length(tmp_path)
    assert repr(again) == repr(found)  # NaN equals no NaN
    assert [path.name for path in tmp_path.iterdir()] == [LENGTH]


def test_it_speaks_of_the_runs_that_it_is_made_of() -> None:
    found = asked({300: [0.6] * 4, 600: [0.6] * 4})
    assert found.about(["other", "B600"])
    assert not found.about(["B1200"])


@pytest.mark.parametrize("text", ["{", "{}", '{"study": "toy", "metric": "dice", "steps": 3}', "[]"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / LENGTH).write_text(text)
    with pytest.raises(RunError, match=r"length\.json: is damaged .*; delete it and run the same"):
        read_length(tmp_path)


def test_reading_brings_nothing_heavy() -> None:
    heavy = (
        "from elsewhere.benchmark import read_length; import sys; print({'torch', 'scipy', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
