from __future__ import annotations

import numpy as np
import pytest

from elsewhere.evidence.confidence import case_confidence


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(0))
    return p / p.sum(0)


def test_a_classification_is_as_sure_as_its_label() -> None:
    assert case_confidence(np.array([0.2, 0.5, 0.3])) == 0.5


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7)])
def test_a_segmentation_is_as_sure_as_the_dice_it_expects(k: int, shape: tuple[int, ...]) -> None:
    p = softmax(np.random.default_rng(k).normal(size=(k, *shape)) * 2).astype(np.float32)
    labelled = p.argmax(0) != 0
    foreground = 1 - p[0].astype(float)
    wanted = 2 * foreground[labelled].sum() / (foreground.sum() + labelled.sum())
    assert case_confidence(p) == pytest.approx(wanted, rel=1e-5)


def test_it_is_near_the_mean_dice_of_masks_drawn_from_the_probabilities() -> None:
    generator = np.random.default_rng(0)
    foreground = generator.beta(0.5, 2, size=(40, 40))
    p, labelled = np.stack([1 - foreground, foreground]), foreground > 0.5
    drawn = generator.random((400, 40, 40)) < foreground
    dice = 2 * (drawn & labelled).sum((1, 2)) / (drawn.sum((1, 2)) + labelled.sum())
    assert case_confidence(p) == pytest.approx(dice.mean(), abs=0.01)


def test_where_nothing_is_labelled_the_most_suspicious_voxel_counts() -> None:
    background = np.full((4, 4), 0.99)
    background[1, 2] = 0.6
    assert case_confidence(np.stack([background, 1 - background])) == pytest.approx(0.6)
    tie = np.full((2, 3, 3), 0.5)  # argmax calls a tie background
    assert case_confidence(tie) == 0.5
    three = np.stack([background, (1 - background) / 2, (1 - background) / 2])
    assert case_confidence(three) == pytest.approx(0.6)


def test_certainty_is_one() -> None:
    mask = np.zeros((3, 3), np.float32)
    mask[0] = 1
    assert case_confidence(np.stack([1 - mask, mask])) == 1
    assert case_confidence(np.stack([np.ones((3, 3)), np.zeros((3, 3))])) == 1


@pytest.mark.parametrize("shape", [(), (1,), (1, 4, 4), (2, 0, 4)])
def test_what_makes_no_sense_is_said(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="K >= 2"):
        case_confidence(np.ones(shape))
