from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from elsewhere.errors import SettingsError
from elsewhere.evidence.conformal import (
    LabelSets,
    OuterMask,
    coverage,
    fit_label_sets,
    fit_outer_mask,
    mask_coverage,
    patients_needed,
    sets,
)


def patients_with_cases(
    n: int, generator: np.random.Generator, skill: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (N, 3), target and owner of n patients of one to four cases that are alike."""
    owner = np.repeat(np.arange(n), generator.integers(1, 5, n))
    target = generator.integers(0, 3, n)[owner]
    logits = (
        skill * np.eye(3)[target] + generator.normal(size=(n, 3))[owner] + 0.5 * generator.normal(size=(len(owner), 3))
    )
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), target, owner


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (49, 0.9), (30, 0.5)])
def test_new_patients_are_held_as_often_as_promised(n: int, level: float) -> None:
    """Over draws of the calibration patients the worst case of a new one is within the threshold in k / (n + 1)."""
    generator, held, in_sets = np.random.default_rng(n), [], []
    for _ in range(300):
        fitted = fit_label_sets(*patients_with_cases(n, generator), level)
        p, y, owner = patients_with_cases(40, generator)
        inside = 1 - p[np.arange(len(y)), y] <= fitted.threshold
        held.append(np.mean([inside[owner == i].all() for i in range(40)]))
        in_sets.append(coverage(sets(p, fitted), y, owner).patients.value)
    exact = np.ceil((n + 1) * level) / (n + 1)
    assert np.mean(held) == pytest.approx(exact, abs=4 * np.std(held) / np.sqrt(300))
    assert np.mean(in_sets) >= np.mean(held)


def test_it_does_not_carry_to_patients_that_are_not_exchangeable() -> None:
    generator = np.random.default_rng(0)
    fitted = fit_label_sets(*patients_with_cases(200, generator, skill=3), 0.9)
    p, y, owner = patients_with_cases(200, generator, skill=0.5)
    found = coverage(sets(p, fitted), y, owner)
    assert found.patients.hi < 0.8
    assert found.patients.value < found.cases.value


def test_worked_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    fitted = fit_label_sets(p, np.array([0, 0, 0, 1]), ["a", "a", "b", "c"], level=0.5)
    # Patients' worst: a 0.4, b 0.7, c 0.8; rank ceil(4 x 0.5) = 2.
    assert fitted.threshold == pytest.approx(0.7)
    assert (fitted.n_patients, fitted.reason) == (3, None)
    assert sets(np.array([[0.75, 0.25], [0.7, 0.3], [0.5, 0.5]]), LabelSets(0.7, 0.5, 3)).tolist() == [
        [True, False],
        [True, 1 - 0.3 <= 0.7],
        [True, True],
    ]


def test_with_too_few_patients_the_set_is_everything_and_says_so() -> None:
    assert [patients_needed(level) for level in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]
    generator = np.random.default_rng(0)
    fitted = fit_label_sets(*patients_with_cases(8, generator), 0.9)
    assert fitted.threshold == 1
    assert fitted.reason == "8 calibration patients, 90 % needs 9: every class is in every set"
    p, y, owner = patients_with_cases(30, generator)
    found = coverage(sets(p, fitted), y, owner)
    assert (found.patients.value, found.cases.value, found.size.value) == (1, 1, 3)
    assert found.patients.lo < 0.95  # Wilson's: 30 patients do not show 100 %
    assert fit_label_sets(*patients_with_cases(9, generator), 0.9).threshold < 1
    assert fit_label_sets(np.zeros((0, 3)), np.zeros(0), [], 0.9).reason is not None
    json.dumps(asdict(fitted), allow_nan=False)


def test_a_case_without_an_answer_is_the_worst() -> None:
    p, y = np.array([[0.9, 0.1]] * 8 + [[np.nan, np.nan]] * 2), np.zeros(10)
    assert fit_label_sets(p, y, range(10), 0.9).threshold == 1
    assert fit_label_sets(p, y, range(10), 0.7).threshold == pytest.approx(0.1)


def test_a_set_is_never_empty_but_for_a_case_of_another_model() -> None:
    p = np.array([[0.4, 0.35, 0.25], [np.nan, np.nan, np.nan]])
    assert sets(p, LabelSets(0.01, 0.9, 20)).tolist() == [[True, False, False], [False] * 3]
    assert sets(p, LabelSets(1.0, 0.9, 2)).tolist() == [[True] * 3, [False] * 3]


def test_coverage_of_several_models_counts_each_ones_own_cases() -> None:
    of_cases = np.array([[[1, 0], [1, 1], [0, 1]], [[1, 0], [0, 0], [1, 0]]], bool)
    found = coverage(of_cases, np.array([0, 0, 0]), ["a", "a", "b"])
    assert found.cases.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.patients.value == pytest.approx((1 / 2 + 1) / 2)
    assert found.size.value == pytest.approx((4 / 3 + 1) / 2)


def histograms(values: list[list[int]], n_bins: int = 10) -> np.ndarray:
    return np.array([np.bincount(v, minlength=n_bins) for v in values])


def test_outer_mask_worked_by_hand() -> None:
    # Each patient's ten foreground voxels: one may lie outside.
    true = histograms([[1, 5] + [9] * 8, [3, 3] + [8] * 8, [7] * 10, [2] * 10])
    fitted = fit_outer_mask(true, ["a", "b", "c", "d"], level=0.5, missed=0.1)
    # Highest thresholds 5, 3, 7, 2 tenths; rank ceil(5 x 0.5) = 3 from above.
    assert fitted.threshold == pytest.approx(0.3)
    found = mask_coverage(true, np.zeros_like(true), ["a", "b", "c", "d"], fitted)
    assert found.patients.value == pytest.approx(3 / 4)
    assert found.truth.value == 1
    merged = fit_outer_mask(true, ["a", "a", "c", "d"], level=0.5, missed=0.1)  # a: 1, 3, 3, 5, ...: 2 of 20 below 4
    assert (merged.threshold, merged.n_patients) == (pytest.approx(0.3), 3)


def test_outer_masks_hold_new_patients_as_often_as_promised() -> None:
    generator, held = np.random.default_rng(0), []

    def draw(n: int) -> np.ndarray:
        centre = generator.normal(0.5, 1.2, (n, 1))
        p = 1 / (1 + np.exp(-generator.normal(centre, 1, (n, 300))))
        return np.stack([np.histogram(row, bins=100, range=(0, 1))[0] for row in p])

    for _ in range(60):
        fitted = fit_outer_mask(draw(39), range(39), 0.9, 0.1)
        new = draw(50)
        held.append(mask_coverage(new, np.zeros_like(new), range(50), fitted).patients.value)
    # The grid of thresholds can only make the mask larger.
    assert 0.9 - 4 * np.std(held) / np.sqrt(60) <= np.mean(held) <= 0.95


def test_outer_mask_of_few_patients_or_none_is_the_whole_image() -> None:
    true = histograms([[9] * 10] * 8)
    fitted = fit_outer_mask(true, range(8), 0.9)
    assert (fitted.threshold, fitted.reason) == (0, "8 calibration patients, 90 % needs 9: the mask is the whole image")
    empty = fit_outer_mask(np.zeros((12, 10)), range(12), 0.9)
    assert (empty.threshold, empty.n_patients) == (0, 0)
    found = mask_coverage(true, histograms([[0] * 30] * 8), range(8), fitted)
    assert (found.patients.value, found.size.value, found.truth.value) == (1, 1, 0.25)
    # Patients without foreground have nothing to miss and are not asked.
    healthy = np.concatenate([histograms([[9] * 10] * 20), np.zeros((30, 10), int)])
    assert fit_outer_mask(healthy, range(50), 0.9).n_patients == 20
    assert mask_coverage(healthy, healthy, range(50), fitted).patients.n_patients == 20


def test_where_calibration_patients_leave_nothing_out_it_says_so() -> None:
    """Enough patients, but the foreground of one in six is where the model sees nothing at all."""
    fitted = fit_outer_mask(histograms([[9] * 10] * 10 + [[0] * 5 + [9] * 5] * 2), range(12), 0.9)
    assert fitted.threshold == 0
    assert fitted.reason == (
        "of 12 calibration patients 2 have more of their foreground below a probability of 0.1 than may lie outside: "
        "the mask is the whole image"
    )
    p = np.array([[1.0, 0.0]] * 12)
    sure = fit_label_sets(p, np.arange(12) >= 10, range(12), 0.9)
    assert sure.threshold == 1
    assert str(sure.reason).startswith("of 12 calibration patients 2 have a case whose class was given no probability")
    assert fit_label_sets(p, np.arange(12) >= 12, range(12), 0.9).reason is None


def test_each_model_has_its_own_outer_mask() -> None:
    true = histograms([[9] * 5 + [4] * 5, [9] * 10])
    false = histograms([[0] * 10, [0] * 10])
    rules = [OuterMask(0.9, 0.9, 0.1, 20), OuterMask(0.4, 0.9, 0.1, 20)]
    found = mask_coverage(np.stack([true, true]), np.stack([false, false]), ["a", "b"], rules)
    assert found.patients.value == pytest.approx((1 / 2 + 1) / 2)
    assert found.size.value == pytest.approx(((0.25 + 0.5) / 2 + 0.5) / 2)
    with pytest.raises(SettingsError, match="one for each of 2 models"):
        mask_coverage(np.stack([true, true]), np.stack([false, false]), ["a", "b"], rules[:1])


def test_what_makes_no_sense_is_said() -> None:
    with pytest.raises(SettingsError, match="level"):
        fit_label_sets(np.ones((2, 2)) / 2, np.zeros(2), range(2), 90)
    with pytest.raises(SettingsError, match="missed"):
        fit_outer_mask(np.ones((2, 10)), range(2), 0.9, 1.0)
    with pytest.raises(SettingsError, match="one target a case"):
        coverage(np.ones((2, 2), bool), np.zeros(3), range(2))
