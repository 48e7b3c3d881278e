"""The network of a model made elsewhere: whatever it gives, as logits; and an ONNX graph as a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elsewhere.deploy.runtimes import KEY, first_line, open_onnx
from elsewhere.errors import ModelError

OUTPUTS = ("auto", "logits", "probabilities")

SUM_TOLERANCE = 1e-3
"""Outputs in [0, 1] that add up to 1 within this, at every position, are probabilities (our choice)."""


class Answers(nn.Module):
    """Whatever a network gives, as logits (B, K, ...).

    Logits pass as they are; of probabilities the logarithm is taken, whose softmax they are. One output for two
    classes is the second class's. With "auto", outputs in [0, 1] that add up to 1 are probabilities, and outputs beyond
    [0, 1] are logits: decided once, on the first answer; other outputs must be named.

    Args:
        network: normalised image (B, C, *spatial) to (B, K, *spatial), (B, K), (B, 1, ...) or (B,).
        n_classes: K.
        kind: "segmentation" or "classification".
        output: one of `OUTPUTS`.
    """

    def __init__(self, network: nn.Module, n_classes: int, kind: str, output: str) -> None:
        super().__init__()
        self.network, self.n_classes, self.kind, self.output = network, n_classes, kind, output

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image to logits.

        Raises:
            ModelError: the outputs do not fit the classes, or it cannot be told what they are.
        """
        raw = self._fitting(_tensor(self.network(image)).float(), image)
        single = raw.shape[1] < self.n_classes
        if self.output == "auto":
            self.output = self._told(raw, single)
        if self.output == "logits":
            return torch.cat([torch.zeros_like(raw), raw], dim=1) if single else raw
        p = torch.cat([1 - raw, raw], dim=1) if single else raw
        if not _are_probabilities(p):
            raise ModelError(
                "output=probabilities: the model gives values that are not in [0, 1] or do not add up to 1 over the "
                "classes; if they are logits, say --set output=logits"
            )
        return p.clamp(min=1e-12).log()

    def _fitting(self, raw: Tensor, image: Tensor) -> Tensor:
        if self.kind == "classification" and raw.ndim == 1 and len(raw) == len(image):
            raw = raw[:, None]
        space = () if self.kind == "classification" else tuple(image.shape[2:])
        if raw.ndim != len(space) + 2 or tuple(raw.shape[2:]) != space or len(raw) != len(image):
            wanted = [len(image), self.n_classes, *space]
            raise ModelError(
                f"the model answers an image of shape {list(image.shape)} with {list(raw.shape)}; wanted {wanted}"
            )
        if raw.shape[1] not in ((1, 2) if self.n_classes == 2 else (self.n_classes,)):
            raise ModelError(
                f"the model has {raw.shape[1]} outputs, the study {self.n_classes} classes; wanted as many"
            )
        return raw

    def _told(self, raw: Tensor, single: bool) -> str:
        if not single and _are_probabilities(raw):
            return "probabilities"
        if not single and bool(((raw >= 0) & (raw <= 1)).all()) and bool((raw > 0).any()):
            raise ModelError(
                "the model's first answer lies between 0 and 1 and does not add up to 1 over the classes: if these are "
                "logits, say --set output=logits; probabilities of each class by itself (sigmoids) are not taken"
            )
        if not single:
            return "logits"
        if bool(((raw < 0) | (raw > 1)).any()):
            return "logits"
        raise ModelError(
            "the model has one output, and its first answer lies between 0 and 1: say whether that is a probability "
            "or a logit, with --set output=probabilities or --set output=logits"
        )


class OnnxNetwork(nn.Module):
    """A session of ONNX Runtime as a module; a graph of a fixed batch gets as many images at a time.

    Raises:
        ModelError: the file is no ONNX model of one input, or ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.session = open_onnx(path)
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{path}: has {len(inputs)} inputs; wanted one, the image")
        self.input = inputs[0]
        # A size that is open has a name, or none.
        self.shape = [n if isinstance(n, int) and n > 0 else None for n in self.input.shape]

    def described(self) -> str:
        """The text of a key of its metadata, see `runtimes.KEY`; "" where there is none."""
        return str(self.session.get_modelmeta().custom_metadata_map.get(KEY, ""))

    def fixed_size(self, dims: int, n_channels: int) -> tuple[int, ...] | None:
        """The only size that the graph takes, or None where it is open.

        Raises:
            ModelError: it is for images of other dimensions or channels.
        """
        if len(self.shape) != dims + 2:
            raise ModelError(
                f"{self.path}: its input has {len(self.shape)} axes; wanted batch, channels and {dims} of space"
            )
        if self.shape[1] is not None and self.shape[1] != n_channels:
            raise ModelError(f"{self.path}: takes {self.shape[1]} channels, the study's images have {n_channels}")
        sizes = [n for n in self.shape[2:] if n is not None]
        return tuple(sizes) if len(sizes) == dims else None

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) to the first output."""
        array = image.detach().cpu().numpy().astype(np.float16 if "float16" in self.input.type else np.float32)
        size = self.shape[0] or len(array)
        parts = []
        for start in range(0, len(array), size):
            part = array[start : start + size]
            full = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            try:
                parts.append(self.session.run(None, {self.input.name: full})[0][: len(part)])
            except Exception as error:  # ONNX Runtime has no common class of errors
                raise ModelError(
                    f"the ONNX model fails on an image of shape {list(full.shape)} ({first_line(error)})"
                ) from error
        return torch.from_numpy(np.concatenate(parts)).to(image.device)


def _tensor(found: Any) -> Tensor:
    """The first tensor of whatever a network returns."""
    if isinstance(found, dict) and found:
        found = found.get("out", found.get("logits", next(iter(found.values()))))
    while isinstance(found, list | tuple) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise ModelError(f"the model answers with a {type(found).__name__}; wanted a tensor of logits")
    return found


def _are_probabilities(values: Tensor) -> bool:
    inside = bool(((values >= 0) & (values <= 1 + SUM_TOLERANCE)).all())
    return inside and bool(((values.sum(dim=1) - 1).abs() <= SUM_TOLERANCE).all())
