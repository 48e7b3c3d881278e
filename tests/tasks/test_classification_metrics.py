from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from elsewhere.tasks.classification_metrics import METRICS, calibration_bins, score_classes, score_classification
from reference import classification_reference as reference


def draw(n: int, k: int, seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = generator.permutation(np.arange(n) % k)
    logits = generator.normal(size=(n, k)) + np.eye(k)[target]
    if ties:
        logits = np.round(logits)
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), target


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_metrics_agree_with_scikit_learn(k: int, ties: bool) -> None:
    p, y = draw(83, k, seed=k, ties=ties)
    label, binary = p.argmax(1), k == 2
    score = p[:, 1] if binary else p
    one_hot = np.eye(k)[y]
    expected = {
        "accuracy": sk.accuracy_score(y, label),
        "balanced_accuracy": sk.balanced_accuracy_score(y, label),
        "auroc": sk.roc_auc_score(y, score, multi_class="ovr", average="macro"),
        "average_precision": sk.average_precision_score(y if binary else one_hot, score, average="macro"),
        "f1": sk.f1_score(y, label, average="binary" if binary else "macro"),
        "brier": sk.brier_score_loss(y, p[:, 1]) if binary else ((p - one_hot) ** 2).sum(1).mean(),
        "ece": reference.ece(p.max(1), label == y),
    }
    found = score_classification(p, y)
    assert found == pytest.approx(expected)
    assert list(found) == list(METRICS)


@pytest.mark.parametrize("k", [2, 4])
def test_each_class_against_the_rest(k: int) -> None:
    p, y = draw(61, k, seed=1, ties=True)
    scores = score_classes(p, y)
    f1 = sk.f1_score(y, p.argmax(1), average=None)
    recall = sk.recall_score(y, p.argmax(1), average=None)
    for index in range(k):
        assert scores[index, "auroc"] == pytest.approx(reference.auroc(p[:, index], y == index))
        assert scores[index, "average_precision"] == pytest.approx(sk.average_precision_score(y == index, p[:, index]))
        assert scores[index, "f1"] == pytest.approx(f1[index])
        assert scores[index, "accuracy"] == pytest.approx(recall[index])


def test_cases_worked_out_by_hand() -> None:
    p1 = np.array([0.9, 0.6, 0.6, 0.1])
    found = score_classification(np.stack([1 - p1, p1], 1), np.array([1, 1, 0, 0]))
    assert found["auroc"] == pytest.approx(3.5 / 4)  # one tie among four pairs
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["f1"] == pytest.approx(4 / 5)
    assert found["brier"] == pytest.approx((0.01 + 0.16 + 0.36 + 0.01) / 4)
    # Two bins: 0.6 (one of two right, 0.1 apart) and 0.9 (both right, 0.1 apart).
    assert found["ece"] == pytest.approx(0.1)


def test_one_class_only_leaves_ranking_undefined_and_the_rest_defined() -> None:
    p = np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]])
    found = score_classification(p, np.zeros(3, dtype=int))
    assert math.isnan(found["auroc"])
    assert math.isnan(found["average_precision"])
    assert found["f1"] == 0  # class 1 was predicted once, wrongly
    assert found["accuracy"] == found["balanced_accuracy"] == pytest.approx(2 / 3)
    assert math.isnan(score_classification(p[[0, 2]], np.zeros(2, dtype=int))["f1"])
    assert math.isnan(score_classes(p, np.zeros(3, dtype=int))[1, "auroc"])


def test_a_class_without_cases_makes_the_mean_over_classes_undefined() -> None:
    p, y = draw(30, 3, 0, False)
    y[y == 2] = 1
    found = score_classification(p, y)
    assert math.isnan(found["auroc"])
    assert found["balanced_accuracy"] == pytest.approx(np.mean([(p.argmax(1)[y == c] == c).mean() for c in (0, 1)]))


def test_no_case_has_no_score() -> None:
    assert all(math.isnan(v) for v in score_classification(np.zeros((0, 2)), np.zeros(0)).values())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_a_weight_is_a_repetition(k: int, seed: int, ties: bool) -> None:
    p, y = draw(12, k, seed, ties)
    weights = np.random.default_rng(seed).integers(0, 4, (3, 12))
    for name, metric in METRICS.items():
        found = metric(p, y, weights.astype(float))
        for row, value in zip(weights, found, strict=True):
            repeated = score_classification(np.repeat(p, row, axis=0), np.repeat(y, row))[name]
            assert value == pytest.approx(repeated, nan_ok=True), name


def test_bins_of_calibration_keep_every_case_and_close_on_the_right() -> None:
    bins = calibration_bins(np.array([0.0, 0.25, 0.26, 1.0]), np.array([0, 1, 1, 1]), n_bins=4)
    np.testing.assert_allclose(bins[0], [[2, 1, 0, 1], [0.25, 0.26, 0, 1], [1, 1, 0, 1]])


@pytest.mark.parametrize(
    ("p", "y", "words"),
    [
        (np.ones((3, 1)), np.zeros(3), "K >= 2"),
        (np.ones((3, 2)), np.zeros(2), "found"),
        (np.ones((3, 2)), np.array([0, 1, 2]), "target has values 0 to 2"),
    ],
)
def test_wrong_input_is_refused(p: np.ndarray, y: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score_classification(p, y)
