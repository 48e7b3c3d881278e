"""The contract of a task: loss, probabilities, and the metric by which a model is selected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Task(ABC):
    """What is asked of an image.

    Attributes:
        kind: "segmentation" or "classification".
        dims: 2 or 3.
        classes: names in the order of the outputs; for segmentation the first is the background.
        primary: the metric of selection, higher is better.
    """

    kind: ClassVar[str]
    primary: ClassVar[str]

    def __init__(self, dims: int, classes: tuple[str, ...]) -> None:
        self.dims = dims
        self.classes = classes

    @property
    def n_outputs(self) -> int:
        """Channels of the logits."""
        return len(self.classes)

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,), one loss a case, so that a method may weigh cases and sites."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over classes, dim 1."""
        return logits.softmax(dim=1)
