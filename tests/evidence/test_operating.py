from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_curve

from elsewhere.errors import SettingsError
from elsewhere.evidence.operating import (
    choose_dice_threshold,
    choose_threshold,
    detection,
    dice_at,
    operating_point,
    voxel_operating_point,
)


def drawn(n: int, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positive = generator.random(n) < 0.4
    score = generator.normal(size=n) + 1.3 * positive
    return (np.round(score, 1) if ties else score), positive


def rates(score: np.ndarray, positive: np.ndarray, threshold: float) -> tuple[float, float]:
    called = score >= threshold
    return called[positive].mean(), 1 - called[~positive].mean()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_youden_is_the_best_point_of_scikit_learns_curve(ties: bool, seed: int) -> None:
    score, positive = drawn(70, seed, ties)
    false, true, thresholds = roc_curve(positive, score, drop_intermediate=False)
    best = np.flatnonzero(true - false >= (true - false).max() - 1e-12)
    assert choose_threshold(score, positive, range(70)) == thresholds[best[-1]]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_a_wanted_sensitivity_or_specificity_is_just_reached(ties: bool, wanted: float) -> None:
    score, positive = drawn(70, 3, ties)
    distinct = np.unique(score)
    found = choose_threshold(score, positive, range(70), f"sensitivity:{wanted}")
    assert found == max(t for t in distinct if rates(score, positive, t)[0] >= wanted - 1e-12)
    found = choose_threshold(score, positive, range(70), f"specificity:{wanted}")
    assert found == min(
        t for t in [*distinct, np.nextafter(distinct[-1], np.inf)] if rates(score, positive, t)[1] >= wanted - 1e-12
    )


def test_where_the_highest_score_is_of_negatives_nobody_is_called_positive() -> None:
    score, positive = np.array([1.0, 1.0, 0.0, 1.0]), np.array([False, False, True, True])
    found = choose_threshold(score, positive, range(4), "specificity:0.9")
    assert 1 < found < 1.000001
    point = operating_point(score, positive, range(4), found)
    assert (point["sensitivity"].value, point["specificity"].value) == (0, 1)
    assert math.isnan(point["ppv"].value)
    assert point["ppv"].reason == "no case"


def test_of_equal_thresholds_the_lowest_misses_least() -> None:
    score, positive = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False])
    assert choose_threshold(score, positive, range(4)) == 1  # as good as 3


def test_each_patient_chooses_alike() -> None:
    score, positive = np.array([0.9, *[0.2] * 50, 0.5, 0.1]), np.array([True, *[True] * 50, False, False])
    patients = [0, *[1] * 50, 2, 3]
    assert choose_threshold(score, positive, patients, "sensitivity:0.5") == 0.9
    assert choose_threshold(score, positive, range(53), "sensitivity:0.5") == 0.2


@pytest.mark.parametrize("positive", [[True] * 3, [False] * 3])
def test_with_one_class_there_is_no_threshold(positive: list[bool]) -> None:
    found = choose_threshold(np.arange(3.0), np.array(positive), range(3))
    assert math.isnan(found)
    point = operating_point(np.arange(3.0), np.array(positive), range(3), found, prevalence=0.1)
    assert all(math.isnan(interval.value) and interval.reason for interval in point.values())
    assert math.isnan(choose_threshold(np.zeros(0), np.zeros(0, bool), []))


@pytest.mark.parametrize("rule", ["best", "sensitivity", "sensitivity:", "specificity:0", "sensitivity:90", "ppv:0.9"])
def test_a_rule_is_one_of_three(rule: str) -> None:
    with pytest.raises(SettingsError, match="youden, sensitivity"):
        choose_threshold(*drawn(10), range(10), rule)


def test_a_point_is_scikit_learns_confusion_matrix() -> None:
    score, positive = drawn(90)
    point = operating_point(score, positive, range(90), 0.4)
    (left, false), (missed, hits) = confusion_matrix(positive, score >= 0.4)
    wanted = {
        "sensitivity": (hits, hits + missed),
        "specificity": (left, left + false),
        "ppv": (hits, hits + false),
        "npv": (left, left + missed),
    }
    for name, (some, of) in wanted.items():
        wilson = stats.binomtest(int(some), int(of)).proportion_ci(method="wilson")
        found = point[name]
        assert (found.value, found.lo, found.hi) == pytest.approx((some / of, wilson.low, wilson.high))
        assert found.n_cases == of


def test_several_models_have_thresholds_and_cases_of_their_own() -> None:
    score = np.array([[0.9, 0.4, 0.6, 0.1], [0.5, np.nan, 0.1, 0.2], [0.1] * 4])
    found = operating_point(score, np.array([True, True, False, False]), range(4), np.array([0.5, 0.3, np.nan]))
    assert found["sensitivity"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found["specificity"].value == pytest.approx((1 / 2 + 1) / 2)


def test_at_the_prevalence_of_the_cases_bayes_gives_what_is_counted() -> None:
    score, positive = drawn(200)
    counted = operating_point(score, positive, range(200), 0.4)
    at = operating_point(score, positive, range(200), 0.4, prevalence=positive.mean())
    for name in ("ppv", "npv"):
        assert at[name].value == pytest.approx(counted[name].value)
        assert at[name].lo < at[name].value < at[name].hi
        assert (at[name].n_cases, at[name].n_patients) == (200, 200)
    rare = operating_point(score, positive, range(200), 0.4, prevalence=0.01)
    a, b = rare["sensitivity"].value, rare["specificity"].value
    assert rare["ppv"].value == pytest.approx(a * 0.01 / (a * 0.01 + (1 - b) * 0.99))
    assert rare["npv"].value == pytest.approx(b * 0.99 / (b * 0.99 + (1 - a) * 0.01))
    assert rare == operating_point(score, positive, range(200), 0.4, prevalence=0.01)


def test_ppv_at_a_prevalence_lies_in_its_interval_about_as_often_as_it_says() -> None:
    """300 sites of 60 cases, sensitivity 0.8, specificity 0.9, prevalence 0.1; nominal 95 %, standard error 1.3."""
    generator, held = np.random.default_rng(0), {"ppv": 0, "npv": 0}
    truth = {"ppv": 0.08 / (0.08 + 0.09), "npv": 0.81 / (0.81 + 0.02)}
    positive = np.arange(60) < 25
    for seed in range(300):
        called = generator.random(60) < np.where(positive, 0.8, 0.1)
        found = operating_point(called.astype(float), positive, range(60), 0.5, prevalence=0.1, seed=seed)
        for name, value in truth.items():
            held[name] += found[name].lo <= value <= found[name].hi
    assert all(0.91 <= count / 300 <= 0.99 for count in held.values()), held


def test_a_perfect_model_is_not_called_certain() -> None:
    positive = np.arange(20) < 10
    found = operating_point(positive.astype(float), positive, range(20), 0.5, prevalence=0.01)
    for interval in found.values():
        assert interval.value == interval.hi == 1
        assert interval.lo < 1
    assert found["ppv"].lo < 0.2  # ten negatives do not show a specificity that a prevalence of 1 % would need
    few = operating_point(np.array([1.0, 0.0]), np.array([True, False]), range(2), 0.5, prevalence=0.01)
    assert few["ppv"].value == 1
    assert "two patients" in str(few["ppv"].reason)


def test_what_makes_no_sense_is_said() -> None:
    score, positive = drawn(10)
    with pytest.raises(SettingsError, match="prevalence"):
        operating_point(score, positive, range(10), 0.5, prevalence=10)
    with pytest.raises(SettingsError, match="one threshold"):
        operating_point(score, positive, range(10), np.array([0.1, 0.2]))
    with pytest.raises(SettingsError, match="one truth a case"):
        operating_point(score, positive[1:], range(10), 0.5)
    with pytest.raises(SettingsError, match="shape"):
        choose_threshold(score, positive[1:], range(10))


def voxels(seed: int, n: int = 6) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    """Probabilities and truth of each case, and their histograms."""
    generator = np.random.default_rng(seed)
    truth = [generator.random(400) < 0.2 for _ in range(n)]
    p = [1 / (1 + np.exp(-generator.normal(3 * t - 2.5, 1))) for t in truth]
    hists = [
        [np.histogram(q[t == k], bins=100, range=(0, 1))[0] for q, t in zip(p, truth, strict=True)] for k in (1, 0)
    ]
    return p, truth, np.array(hists[0]), np.array(hists[1])


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def test_the_dice_threshold_is_the_best_on_the_voxels() -> None:
    p, truth, true, false = voxels(0)
    patients = [0, 0, 0, 1, 2, 3]
    weights = np.array([1 / 3, 1 / 3, 1 / 3, 1, 1, 1])
    edges = np.arange(1, 100) / 100
    means = [sum(w * dice(q >= e, t) for w, q, t in zip(weights, p, truth, strict=True)) for e in edges]
    found = choose_dice_threshold(true, false, patients)
    assert found == pytest.approx(edges[int(np.argmax(means))])
    assert found != 0.5
    assert dice_at(true, false, found) == pytest.approx([dice(q >= found, t) for q, t in zip(p, truth, strict=True)])


def test_dice_of_empty_masks_and_of_equal_thresholds() -> None:
    true, false = np.zeros((1, 100)), np.zeros((1, 100))
    false[0, 10] = 5
    assert dice_at(true, false, 0.5) == 1
    assert dice_at(true, false, 0.1) == 0
    assert dice_at(true, false, 0.11) == 1
    assert choose_dice_threshold(true, false, [0]) == 0.5  # all from 0.11 on are equally good
    assert math.isnan(choose_dice_threshold(true[:0], false[:0], []))


def test_a_voxel_operating_point_counts_voxels_and_its_units_are_patients() -> None:
    p, truth, true, false = voxels(1, n=12)
    found = voxel_operating_point(true, false, range(12), 0.3)
    every_p, every_truth = np.concatenate(p), np.concatenate(truth)
    (left, invented), (missed, hits) = confusion_matrix(every_truth, every_p >= 0.3)
    assert found["sensitivity"].value == pytest.approx(hits / (hits + missed))
    assert found["specificity"].value == pytest.approx(left / (left + invented))
    assert found["ppv"].value == pytest.approx(hits / (hits + invented))
    assert found["npv"].value == pytest.approx(left / (left + missed))
    assert (found["sensitivity"].n_cases, found["sensitivity"].n_patients) == (12, 12)
    merged = voxel_operating_point(np.repeat(true, 9, 0), np.repeat(false, 9, 0), np.repeat(np.arange(12), 9), 0.3)
    assert merged["ppv"].hi - merged["ppv"].lo == pytest.approx(found["ppv"].hi - found["ppv"].lo)
    both = voxel_operating_point(np.stack([true] * 2), np.stack([false] * 2), range(12), np.array([0.3, 0.6]))
    assert both["sensitivity"].value < found["sensitivity"].value


def test_lesions_found_missed_and_invented() -> None:
    true, found, false = np.array([[2, 0, 3, 1], [2, 0, 3, np.nan]]), np.array([[2, 0, 1, 1], [1, 0, 3, np.nan]]), None
    false = np.array([[0, 1, 0, 3], [0, 0, 1, np.nan]])
    points = detection(true, found, false, ["a", "b", "c", "d"])
    assert points["sensitivity"].value == pytest.approx((4 / 6 + 4 / 5) / 2)
    assert points["missed"].value == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert points["false"].value == pytest.approx((4 / 4 + 1 / 3) / 2)
    assert points["true"].value == pytest.approx((6 / 4 + 5 / 3) / 2)
    healthy = detection(np.zeros(3), np.zeros(3), np.ones(3), range(3))
    assert healthy["sensitivity"].reason == "no case"
    assert healthy["false"].value == 1
