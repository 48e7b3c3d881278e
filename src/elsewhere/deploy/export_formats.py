"""A network as TorchScript and as ONNX, with its description inside."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from elsewhere import __version__
from elsewhere.deploy.export_check import Shapes, answer, compare, trial_inputs
from elsewhere.deploy.runtimes import EXTRA_FILE, KEY, first_line, load_torchscript, open_onnx, require_onnx
from elsewhere.errors import RunError
from elsewhere.training.model_io import Deployed

OPSET = 17
"""Of ONNX: the oldest with all that MONAI's networks need, so that old runtimes read it."""


def write_torchscript(model: Deployed, path: Path, described: Mapping[str, Any]) -> tuple[float, Shapes]:
    """Write a model as TorchScript, and compare what was written with it.

    Raises:
        RunError: it cannot be traced, or answers differently.
    """

    def trace() -> Any:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch would rather have torch.export, and names every size it looks at
            jit: Any = torch.jit
            return jit.trace(_Network(model), (trial_inputs(model)[1],), check_trace=False)

    traced = _exportable(model, "TorchScript", trace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(traced, str(path), _extra_files={EXTRA_FILE: json.dumps(described, indent=1)})
    loaded = load_torchscript(path)
    return compare(model, lambda image: answer(loaded, image), "TorchScript")


def write_onnx(model: Deployed, path: Path, described: Mapping[str, Any]) -> tuple[float, Shapes]:
    """Write a model as ONNX, and compare what ONNX Runtime makes of it.

    The number of images is open, and their size where the network takes several (`export_check.trial_inputs`).

    Raises:
        ModelError: the extra `onnx` is not installed.
        RunError: it cannot be exported, or answers differently.
    """
    require_onnx("onnx", "onnxruntime")
    onnx = import_module("onnx")
    inputs = trial_inputs(model)
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    if inputs[-1].shape[2:] != inputs[0].shape[2:]:
        sizes = {axis + 2: f"n{axis}" for axis in range(model.task.dims)}
        axes["image"] |= sizes
        axes["logits"] |= sizes if model.task.kind == "segmentation" else {}

    def make() -> None:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # Not the exporter by torch.export: it fixes the sizes that U-Nets halve, and needs a package more.
            torch.onnx.export(
                _Network(model),
                (inputs[1],),
                str(path),
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )

    _exportable(model, "ONNX", make)
    graph = onnx.load(str(path))
    readable = {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
    onnx.helper.set_model_props(graph, {**readable, KEY: json.dumps(described)})
    graph.producer_name, graph.producer_version = "elsewhere", __version__
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))
    session = open_onnx(path)
    return compare(model, lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), "ONNX")


class _Network(nn.Module):
    """Only what is called: a trace takes along every module that it can reach."""

    def __init__(self, model: Deployed) -> None:
        super().__init__()
        self.method = copy.deepcopy(model.method).cpu().eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.method(image)
        return logits


def _exportable(model: Deployed, what: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except OSError:
        raise
    except Exception as error:  # torch's exporters raise anything on what they do not know
        network = model.config.get("network", "of this model")
        raise RunError(f"network {network} cannot be exported to {what} ({first_line(error)})") from error
