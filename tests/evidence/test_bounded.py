"""Means of scores from 0 to 1 where cases may fail: by hand, against a plain derivation, and what they hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import Interval, patient_interval
from elsewhere.evidence.bounded import bounds_of_case, doubts
from elsewhere.evidence.intervals import NO_VARIATION
from reference.inference_reference import limits_with_one_more

WHOLE = (0.0, 1.0)
SITES = 400


def failing(a: float, b: float, share: float, patients: int) -> Callable[[int], np.ndarray]:
    """Dice of a site's patients: Beta(a, b), and 0 for a share of them."""

    def draw(site: int) -> np.ndarray:
        generator = np.random.default_rng([17, patients, site])
        return np.where(generator.random(patients) < share, 0.0, generator.beta(a, b, size=patients))

    return draw


def held(found: list[Interval], truth: float) -> float:
    return float(np.mean([one.lo <= truth <= one.hi for one in found]))


def test_four_patients_by_hand() -> None:
    found = patient_interval([0.6, 0.8, 1.0, 0.8], range(4), bounds=WHOLE)
    # Mean 0.8, standard error 0.1633 / 2 = 0.08165, t(3) = 3.182: half width 0.2598, by 0.8 x 0.2 on the logit scale
    # 1.624, about logit 1.386: 0.4408 and 0.9530. One more patient of 0 would give 0.64, of 1 0.84.
    assert found.value == pytest.approx(0.8)
    assert found.error == pytest.approx(0.08165, abs=1e-5)
    assert found.lo == pytest.approx(0.8 - math.hypot(0.3592, 0.16), abs=2e-4)
    assert found.hi == pytest.approx(0.8 + math.hypot(0.1530, 0.04), abs=2e-4)
    assert (found.n_cases, found.n_patients, found.reason, found.doubt) == (4, 4, None, None)


@pytest.mark.parametrize("scores", [[0.0, 1.0], [0.5, 0.7], [0.0, 0.9, 1.0]])
def test_limits_stay_between_the_bounds(scores: list[float]) -> None:
    found = patient_interval(scores, range(len(scores)), bounds=WHOLE)
    assert 0 <= found.lo < found.value < found.hi <= 1


def test_several_models_and_several_cases_a_patient_agree_with_a_plain_derivation() -> None:
    generator = np.random.default_rng(3)
    patients = [f"patient {i}" for i in generator.integers(0, 9, 40)]
    values = generator.beta(6, 2, size=(3, 40))
    values[0, 4] = values[1, 5] = np.nan
    found = patient_interval(values, patients, bounds=WHOLE)
    n = len(set(patients))
    assert (found.lo, found.hi) == pytest.approx(limits_with_one_more(values, patients, stats.t.isf(0.025, n - 1)))
    scaled = patient_interval(5 + 10 * values, patients, bounds=(5, 15))
    assert (scaled.lo, scaled.hi) == pytest.approx((5 + 10 * found.lo, 5 + 10 * found.hi))
    mirrored = patient_interval(1 - values, patients, bounds=WHOLE)
    assert (mirrored.lo, mirrored.hi) == pytest.approx((1 - found.hi, 1 - found.lo))


def test_a_higher_level_is_wider_and_many_patients_need_no_one_more() -> None:
    values = np.random.default_rng(0).beta(8, 2, size=2000)
    some = [patient_interval(values[:12], range(12), level=level, bounds=WHOLE) for level in (0.5, 0.95, 0.99)]
    assert some[2].lo < some[1].lo < some[0].lo < some[0].hi < some[1].hi < some[2].hi
    ours = patient_interval(values, range(2000), bounds=WHOLE)
    plain = patient_interval(values, range(2000))
    assert ours.hi - ours.lo == pytest.approx(plain.hi - plain.lo, rel=0.05)


@pytest.mark.parametrize(
    ("draw", "truth", "resampled", "ours"),
    [
        (failing(8, 2, 0.1, 8), 0.72, 0.87, 0.92),
        (failing(8, 2, 0.1, 20), 0.72, 0.92, 0.89),
        (failing(40, 4, 0.05, 12), 0.95 * 40 / 44, 0.65, 0.97),
    ],
)
def test_failures_that_a_sample_may_not_show(
    draw: Callable[[int], np.ndarray], truth: float, resampled: float, ours: float
) -> None:
    """Of 400 sites resamples hold the truth in at most so many, this form in at least so many; nominal 95 %."""
    values = [draw(site) for site in range(SITES)]
    plain = [patient_interval(v, range(len(v)), n_boot=1000) for v in values]
    found = [patient_interval(v, range(len(v)), bounds=WHOLE) for v in values]
    assert held(plain, truth) <= resampled
    assert held(found, truth) >= ours
    assert held(found, truth) > held(plain, truth)


def test_without_failures_it_is_a_tenth_wider_at_20_patients() -> None:
    values = [failing(8, 2, 0, 20)(site) for site in range(SITES)]
    plain, found = (
        [patient_interval(v, range(20), n_boot=1000, bounds=bounds) for v in values] for bounds in (None, WHOLE)
    )
    width = [np.median([one.hi - one.lo for one in some]) for some in (plain, found)]
    assert 1.05 < width[1] / width[0] < 1.15
    assert held(found, 0.8) >= 0.94


def test_where_it_does_not_hold_it_says_so() -> None:
    """A tenth of very good cases fail: with 12 patients the interval holds the truth in 3 of 4 sites only."""
    found = [patient_interval(failing(40, 4, 0.1, 12)(site), range(12), bounds=WHOLE) for site in range(SITES)]
    truth = 0.9 * 40 / 44
    sure = [one for one in found if one.doubt is None]
    assert held(found, truth) < 0.85
    assert 0.6 < len(sure) / SITES < 0.85
    assert held(sure, truth) >= 0.96


def test_the_doubt_is_about_one_more_patient() -> None:
    generator = np.random.default_rng(0)
    alike, unlike = 0.9 + 0.02 * generator.normal(size=12), generator.beta(4, 2, size=12)
    found = patient_interval(alike, range(12), bounds=WHOLE)
    assert found.doubt == (
        "one more patient at 0 would move it further than these 12 vary: "
        "failures that they do not show may not be in the interval"
    )
    assert patient_interval(unlike, range(12), bounds=WHOLE).doubt is None
    low = patient_interval(1 - alike, range(12), bounds=WHOLE).doubt
    assert low is not None
    assert low.startswith("one more patient at 1")
    assert patient_interval(alike, range(12)).doubt is None  # nothing is known of scores without bounds
    assert doubts([None, found.doubt, None]) == f"at 1 of 3 sites: {found.doubt}"
    assert doubts([None, None]) is None


def test_only_overlaps_are_said_to_fail_from_end_to_end() -> None:
    assert [bounds_of_case(metric) for metric in ("dice", "iou")] == [WHOLE, WHOLE]
    assert [bounds_of_case(metric) for metric in ("accuracy", "hd95", "assd", "brier")] == [None] * 4


def test_where_there_is_no_interval_it_says_why() -> None:
    for values, patients, reason in (
        ([0.5, 0.7], ["a", "a"], "one patient: nothing to resample"),
        ([], [], "no case"),
        ([[1, 1], [math.nan, math.nan]], [1, 2], "undefined for these cases"),
        (np.full((3, 7), 0.1), range(7), NO_VARIATION),
        (np.zeros(5), range(5), NO_VARIATION),
    ):
        found = patient_interval(values, patients, bounds=WHOLE)
        assert (math.isnan(found.lo), math.isnan(found.hi), found.reason) == (True, True, reason)
        assert found.doubt is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingsError, match="scores must be between 0 and 1"):
        patient_interval([0.4, -0.2], [1, 2], bounds=WHOLE)
    with pytest.raises(SettingsError, match="level must be between 0 and 1"):
        patient_interval([0.4, 0.2], [1, 2], level=1, bounds=WHOLE)
