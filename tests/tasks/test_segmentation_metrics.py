from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from elsewhere.tasks.metrics import METRICS, score_segmentation
from reference.segmentation_reference import surface_metrics


def test_a_case_worked_out_by_hand() -> None:
    truth = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]])
    prediction = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 0, 0, 0]])
    scores = score_segmentation(prediction, truth, 4)
    diagonal = 5.0  # 3 x 4 pixels
    # Class 1: 6 true, 4 predicted, 4 in both. Surfaces: all pixels; (0,1) and (1,1) are 1 away, the rest 0.
    assert scores[1, "dice"] == pytest.approx(8 / 10)
    assert scores[1, "iou"] == pytest.approx(4 / 6)
    assert scores[1, "accuracy"] == pytest.approx(10 / 12)
    assert scores[1, "hd95"] == pytest.approx(1.0)
    assert scores[1, "assd"] == pytest.approx(2 / 10)
    # Class 2 is invented, class 3 is nowhere.
    assert [scores[2, m] for m in METRICS] == [0, 0, pytest.approx(11 / 12), diagonal, diagonal]
    assert [scores[3, m] for m in METRICS] == [1, 1, 1, 0, 0]
    # "all" is over classes 1 and 2; its accuracy is over pixels.
    assert scores["all", "dice"] == pytest.approx((0.8 + 0) / 2)
    assert scores["all", "iou"] == pytest.approx((4 / 6) / 2)
    assert scores["all", "hd95"] == pytest.approx((1 + diagonal) / 2)
    assert scores["all", "accuracy"] == pytest.approx(9 / 12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_nothing_there_and_nothing_found_is_right_whatever_the_number_of_classes(n_classes: int) -> None:
    empty = np.zeros((4, 5), dtype=np.uint8)
    scores = score_segmentation(empty, empty, n_classes, (2.0, 2.0))
    assert [scores["all", m] for m in METRICS] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("missed", [True, False])
def test_a_missed_or_invented_structure_is_as_far_as_the_image_is_wide(missed: bool) -> None:
    empty, full = np.zeros((3, 4), dtype=np.int64), np.zeros((3, 4), dtype=np.int64)
    full[1, 1] = 1
    scores = score_segmentation(*((empty, full) if missed else (full, empty)), 2, (2.0, 2.0))
    assert scores["all", "dice"] == scores["all", "iou"] == 0
    assert scores["all", "hd95"] == scores["all", "assd"] == pytest.approx(10.0)
    assert scores["all", "accuracy"] == pytest.approx(11 / 12)


@pytest.mark.parametrize(("shape", "spacing"), [((3, 4), (2.0, 2.0)), ((5, 3, 2), (0.7, 1.0, 3.5))])
def test_no_mask_is_as_far_as_an_empty_one(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Two pixels in opposite corners are (shape - 1) x spacing apart, an empty mask counts as shape x spacing."""
    truth, corner, empty = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    truth[(0,) * len(shape)] = corner[(-1,) * len(shape)] = 1
    farthest, missed = (score_segmentation(mask, truth, 2, spacing) for mask in (corner, empty))
    edge = np.multiply(shape, spacing)
    for metric in ("hd95", "assd"):
        assert farthest[1, metric] == pytest.approx(math.hypot(*(edge - spacing)))
        assert missed[1, metric] == pytest.approx(math.hypot(*edge))
        assert farthest[1, metric] < missed[1, metric]


def test_with_one_foreground_class_all_is_that_class() -> None:
    generator = np.random.default_rng(0)
    prediction, truth = generator.integers(0, 2, (2, 12, 12))
    scores = score_segmentation(prediction, truth, 2)
    assert all(scores["all", m] == scores[1, m] for m in METRICS)


def blob(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Two classes, as balls that touch the border of the image."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    labels = np.zeros(shape, dtype=np.int64)
    for index in (1, 2):
        centre = generator.uniform(0.1, 0.9, len(shape)) * shape
        radius = generator.uniform(0.2, 0.4) * min(shape)
        labels[np.linalg.norm(grid - centre.reshape(-1, *(1,) * len(shape)), axis=0) < radius] = index
    return labels


CASES = [((40, 31), None), ((40, 31), (0.5, 2.0)), ((14, 18, 12), (1.0, 0.7, 3.0))]


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_agree_with_monai(shape: tuple[int, ...], spacing: tuple[float, ...] | None, seed: int) -> None:
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDistanceMetric

    prediction, truth = blob(shape, seed), blob(shape, seed + 100)
    scores = score_segmentation(prediction, truth, 3, spacing)
    one_hot = [torch.nn.functional.one_hot(torch.from_numpy(a), 3).movedim(-1, 0)[None] for a in (prediction, truth)]
    options = {} if spacing is None else {"spacing": list(spacing)}
    expected = {
        "dice": DiceMetric(include_background=False)(*one_hot),
        "iou": MeanIoU(include_background=False)(*one_hot),
        "hd95": HausdorffDistanceMetric(include_background=False, percentile=95)(*one_hot, **options),
        "assd": SurfaceDistanceMetric(include_background=False, symmetric=True)(*one_hot, **options),
    }
    for metric, values in expected.items():
        assert len(np.unique(truth)) == len(np.unique(prediction)) == 3
        found = [scores[index, metric] for index in (1, 2)]
        np.testing.assert_allclose(found, values[0].numpy(), rtol=1e-5, err_msg=metric)


@pytest.mark.parametrize(("shape", "spacing"), [((13, 11), (0.5, 2.0)), ((7, 6, 5), (1.0, 0.7, 3.0))])
def test_distances_agree_with_all_pairs_of_surface_pixels(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    prediction, truth = blob(shape, 3), blob(shape, 4)
    scores = score_segmentation(prediction, truth, 3, spacing)
    for index in (1, 2):
        hd95, assd = surface_metrics(prediction == index, truth == index, list(spacing))
        assert scores[index, "hd95"] == pytest.approx(hd95)
        assert scores[index, "assd"] == pytest.approx(assd)


labels = arrays(np.int8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(labels, st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_properties_of_any_two_label_maps(truth: np.ndarray, seed: int, scale: float) -> None:
    prediction = np.random.default_rng(seed).integers(0, 3, truth.shape)
    scores = score_segmentation(prediction, truth, 3, (scale, scale))
    swapped = score_segmentation(truth, prediction, 3, (scale, scale))
    mirrored = score_segmentation(prediction[::-1], truth[::-1], 3, (scale, scale))
    same = score_segmentation(truth, truth, 3)
    unit = score_segmentation(prediction, truth, 3)
    diagonal = math.hypot(*truth.shape) * scale
    for key, value in scores.items():
        assert not math.isnan(value)
        assert value == pytest.approx(swapped[key])
        assert value == pytest.approx(mirrored[key])
        if key[1] in ("hd95", "assd"):
            assert 0 <= value <= diagonal + 1e-9
            assert value == pytest.approx(scale * unit[key])
            assert same[key] == 0
        else:
            assert 0 <= value <= 1
            assert same[key] == 1
    for key in (1, 2, "all"):
        assert scores[key, "iou"] <= scores[key, "dice"] + 1e-12
        assert scores[key, "assd"] <= diagonal + 1e-9


def test_without_distances_the_rest_is_the_same() -> None:
    prediction, truth = blob((20, 20), 0), blob((20, 20), 1)
    whole, quick = (score_segmentation(prediction, truth, 3, distances=d) for d in (True, False))
    assert quick == {key: value for key, value in whole.items() if key[1] not in ("hd95", "assd")}


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "words"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), None, "differ in shape"),
        (np.full((2, 2), 2), np.zeros((2, 2), int), None, "prediction has values 2 to 2"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), None, "truth has values -1 to -1"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), (1.0, 0.0), "positive numbers"),
    ],
)
def test_wrong_input_is_refused(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        score_segmentation(prediction, truth, 2, spacing)
