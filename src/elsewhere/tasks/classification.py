"""Classification: one class an image."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from elsewhere.tasks.base import Task


class Classification(Task):
    """A class for each image; the loss is cross-entropy."""

    kind: ClassVar[str] = "classification"
    primary: ClassVar[str] = "auroc"

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy; logits (B, K), target (B,) int64 in [0, K); returns (B,)."""
        return functional.cross_entropy(logits.float(), target, reduction="none")
