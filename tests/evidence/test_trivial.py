"""Trivial answers against masks that are really drawn, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_material import classification, segmentation
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    roc_auc_score,
)

from elsewhere.evidence.findings_sites import files_as_patients
from elsewhere.evidence.trivial import OWN, SAME, trivial_at, trivial_classes, trivial_masks
from elsewhere.tasks.metrics import score_segmentation


def truths(n_classes: int, n: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(n_classes)
    made = [(rng.random((8, 8)) < rng.uniform(0, 0.7)) * rng.integers(1, n_classes, (8, 8)) for _ in range(n)]
    return [*made, np.zeros((8, 8), dtype=int)]


def mean_score(some: list[np.ndarray], constant: int, n_classes: int, metric: str) -> float:
    scores = [score_segmentation(np.full_like(t, constant), t, n_classes, distances=False) for t in some]
    return float(np.mean([one["all", metric] for one in scores]))


@pytest.mark.parametrize("metric", ["dice", "iou", "accuracy"])
def test_one_foreground_class_is_that_of_the_masks(metric: str) -> None:
    some = truths(2)
    foreground, voxels = np.array([float((t > 0).sum()) for t in some]), np.full(len(some), 64.0)
    found = trivial_masks(foreground, voxels, metric, 2)
    assert found.value == pytest.approx(max(mean_score(some, c, 2, metric) for c in (0, 1)))


@pytest.mark.parametrize("metric", ["dice", "iou", "accuracy"])
@pytest.mark.parametrize("n_classes", [3, 5])
def test_of_several_classes_it_is_a_lower_limit(metric: str, n_classes: int) -> None:
    some = truths(n_classes)
    foreground, voxels = np.array([float((t > 0).sum()) for t in some]), np.full(len(some), 64.0)
    found = trivial_masks(foreground, voxels, metric, n_classes)
    best = max(mean_score(some, c, n_classes, metric) for c in range(n_classes))
    assert 0 < found.value <= best + 1e-12


def test_histograms_of_any_model_tell_the_truth() -> None:
    judged = segmentation(np.array([[0.5, np.nan], [np.nan, 0.4]]))
    true = np.array([[[3.0, 5.0], [0, 0]], [[0, 0], [10.0, 6.0]]])
    judged.histograms.update({"foreground_true": true, "foreground_false": 3 * true})  # type: ignore[attr-defined]
    found = trivial_at(judged, "dice", ("background", "polyp"), None)
    assert found.value == pytest.approx(0.4), "a quarter is foreground"
    plain = segmentation(np.full((1, 4), 0.5), **{"lesions_true:polyp": np.array([[0.0, 1.0, 2.0, 0.0]])})
    assert trivial_at(plain, "dice", ("background", "polyp"), None).value == 0.5, "two masks are empty"
    assert np.isnan(trivial_at(plain, "hd95", ("background", "polyp"), None).value)


def test_class_shares_are_scikit_learns() -> None:
    target = np.array([0, 1, 1, 0, 1, 1, 1, 0])
    counts = (30, 10)
    p = np.full(8, 0.25)
    wanted = {
        "accuracy": accuracy_score(target, p > 0.5),
        "balanced_accuracy": balanced_accuracy_score(target, p > 0.5),
        "f1": f1_score(target, p > 0.5, zero_division=0),
        "auroc": roc_auc_score(target, p),
        "average_precision": average_precision_score(target, p),
        "brier": brier_score_loss(target, p),
    }
    assert {name: trivial_classes(target, counts, name).value for name in wanted} == pytest.approx(wanted)
    assert wanted["auroc"] == 0.5
    assert wanted["average_precision"] == 5 / 8, "the prevalence"
    assert np.isnan(trivial_classes(target, counts, "ece").value)
    assert np.isnan(trivial_classes(np.ones(4, dtype=int), counts, "auroc").value)


def test_whose_class_shares() -> None:
    site = classification(np.full(10, 0.5), np.r_[np.ones(8), np.zeros(2)])
    home = classification(np.full(10, 0.5), np.r_[np.ones(1), np.zeros(9)])
    classes = ("healthy", "ill")
    told = trivial_at(site, "accuracy", classes, (90, 10), home)
    assert (told.value, told.answer) == (pytest.approx(0.2), SAME), "the development sites are mostly healthy"
    told = trivial_at(site, "accuracy", classes, None, home)
    assert (told.value, told.answer) == (pytest.approx(0.2), SAME), "as in the in-domain test"
    told = trivial_at(site, "accuracy", classes, None)
    assert (told.value, told.answer) == (pytest.approx(0.8), OWN), "nobody knows the training of an evaluation"


@pytest.mark.parametrize(
    ("cases", "patients", "wanted"),
    [
        (["a/images/x1", "a/images/x2"], ["a-x1", "a-x2"], True),
        (["case 1", "case 2"], ["case 1", "case 2"], True),
        (["x1_left", "x2_left"], ["x1", "x2"], False),
        (["x1", "x2", "x3"], ["x1", "x1", "x3"], False),
        (["x1"], ["x1"], False),
        (["!", "?"], ["!", "?"], False),
    ],
)
def test_files_as_patients(cases: list[str], patients: list[str], wanted: bool) -> None:
    assert files_as_patients(np.array(cases, dtype=object), np.array(patients, dtype=object)) == wanted
