from __future__ import annotations

import numpy as np
import pytest
import torch

from elsewhere.errors import SettingsError
from elsewhere.tasks import Classification, Segmentation, create
from elsewhere.tasks.segmentation import dice_loss
from reference.segmentation_reference import dice_cross_entropy


def draw(dims: int, n_classes: int = 3, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(dims)
    logits = torch.randn(4, n_classes, *(size,) * dims, generator=generator)
    target = torch.randint(n_classes, (4, *(size,) * dims), generator=generator)
    target[1] = 0  # a case without any foreground
    target[2][target[2] == 2] = 0  # a case without class 2
    return logits, target


@pytest.mark.parametrize("dims", [2, 3])
def test_the_loss_is_what_the_formula_says_for_each_case(dims: int) -> None:
    logits, target = draw(dims)
    loss = create("segmentation", dims, ("background", "a", "b")).loss(logits, target)
    assert loss.shape == (4,)
    np.testing.assert_allclose(loss.numpy(), dice_cross_entropy(logits.numpy(), target.numpy()), rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_each_case_has_the_loss_that_monai_gives_it_alone(dims: int) -> None:
    from monai.losses import DiceCELoss

    logits, target = draw(dims)
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    expected = torch.stack([monai(logits[i : i + 1], target[i : i + 1, None]) for i in range(4)])
    torch.testing.assert_close(Segmentation(dims, ("bg", "a", "b")).loss(logits, target), expected)


def test_absent_classes_and_extreme_logits_stay_finite_with_finite_gradients() -> None:
    target = torch.zeros(3, 8, 8, dtype=torch.int64)
    logits = torch.zeros(3, 2, 8, 8)
    logits[0, 0], logits[1, 1] = 200.0, 200.0  # surely right, surely wrong, undecided
    logits.requires_grad_()
    loss = Segmentation(2, ("bg", "fg")).loss(logits, target)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    right, wrong, undecided = loss.tolist()
    assert right == pytest.approx(0, abs=1e-6)
    assert wrong > undecided > 1


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_costs_the_whole_dice() -> None:
    target = torch.tensor([[[0, 1], [1, 0]]])
    right = torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    assert dice_loss(right, target).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(right.flip(1), target).item() == pytest.approx(1, abs=1e-5)


def test_half_precision_is_summed_in_single() -> None:
    target = torch.zeros(1, 512, 512, dtype=torch.int64)  # sums of 2**18, above float16's 65504
    target[:, :300] = 1
    logits = torch.randn(1, 2, 512, 512, generator=torch.Generator().manual_seed(0)).half()
    task = Segmentation(2, ("bg", "fg"))
    assert torch.equal(task.loss(logits, target), task.loss(logits.float(), target))


def test_classification_is_cross_entropy_of_each_case() -> None:
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])
    loss = Classification(2, ("a", "b")).loss(logits, torch.tensor([0, 1]))
    np.testing.assert_allclose(loss.numpy(), [np.log(2), np.log(4)], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("detection", 2, ("a", "b")), "unknown task 'detection'"),
        (("segmentation", 4, ("a", "b")), "2 or 3 dimensions"),
        (("segmentation", 2, ("background",)), "at least two classes"),
        (("classification", 2, ("a", "a")), "different names"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(arguments: tuple[str, int, tuple[str, ...]], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        create(*arguments)
