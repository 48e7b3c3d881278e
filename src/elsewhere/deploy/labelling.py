"""What the values of a mask mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Labelling:
    """What the values of a mask mean.

    Attributes:
        classes: names in the order of the outputs, the background first.
        values: of each class in a mask file: those of the study that the model was trained on.
        model: name of the model, for those who find a DICOM SEG.
    """

    classes: tuple[str, ...]
    values: tuple[int, ...]
    model: str = "elsewhere"

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> Labelling:
        """Read it off the `config.yaml` of a model; without `label_values` the values are the class indices."""
        classes = tuple(str(name) for name in config["classes"])
        values = list(range(len(classes)))
        # Several values may mean one class: the first that the study declares is written.
        for value, index in reversed(list((config.get("label_values") or {}).items())):
            values[int(index)] = int(value)
        return cls(classes, tuple(values), name)
