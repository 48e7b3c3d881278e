"""Segmentation: one class a pixel."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from elsewhere.tasks.base import Task

SMOOTH = 1e-5


def dice_loss(probabilities: Tensor, target: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Soft Dice loss of each case, mean over the foreground classes.

    `1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)` per case and class (Milletari et al. 2016, with linear
    sums as in nnU-Net and MONAI). The same `smooth` above and below keeps a class that is absent from the target
    finite: its loss goes to 0 when nothing is predicted, and stays near 1, with next to no gradient, while something
    is. It is then cross-entropy that removes false positives, as in nnU-Net, whose value (1e-5) this is.

    Args:
        probabilities: (B, K, *spatial), K >= 2, class 0 the background.
        target: (B, *spatial) int64 class indices.
        smooth: see above.

    Returns:
        (B,)
    """
    space = tuple(range(2, probabilities.ndim))
    truth = torch.zeros_like(probabilities).scatter_(1, target[:, None], 1.0)
    overlap = (probabilities * truth).sum(space)
    size = probabilities.sum(space) + truth.sum(space)
    dice = (2 * overlap + smooth) / (size + smooth)
    return 1 - dice[:, 1:].mean(1)


class Segmentation(Task):
    """A class for each pixel or voxel; the loss is soft Dice without the background + cross-entropy, both of weight 1.

    It equals MONAI's `DiceCELoss(include_background=False, softmax=True)` case by case; computed here because that
    one averages cross-entropy over the batch.
    """

    kind: ClassVar[str] = "segmentation"
    primary: ClassVar[str] = "dice"

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Dice + cross-entropy.

        Args:
            logits: (B, K, *spatial); half precision is lifted to float32 first, sums over pixels overflow in it.
            target: (B, *spatial) int64 in [0, K).

        Returns:
            (B,)
        """
        log_probabilities = logits.float().log_softmax(1)
        entropy = -log_probabilities.gather(1, target[:, None]).flatten(1).mean(1)
        return dice_loss(log_probabilities.exp(), target) + entropy
