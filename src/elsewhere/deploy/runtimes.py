"""ONNX Runtime and TorchScript: opening their files, and what they say when they cannot."""

from __future__ import annotations

import importlib.util
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from elsewhere.errors import ModelError

KEY, EXTRA_FILE = "elsewhere", "elsewhere.json"
"""Where `elsewhere export` writes what a model needs: a key of ONNX's metadata, an extra file of TorchScript."""


def require_onnx(*packages: str) -> None:
    """Say how to install what the extra `onnx` brings.

    Raises:
        ModelError: a package is not installed.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(f"ONNX needs {' and '.join(missing)}: pip install 'elsewhere[onnx]'")


def open_onnx(path: Path) -> Any:
    """A session of ONNX Runtime on the CPU, with as many threads as torch has.

    Raises:
        ModelError: the file is no ONNX model, or ONNX Runtime is not installed.
    """
    require_onnx("onnxruntime")
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class for each kind of failure, and no common one
        raise ModelError(f"{path}: cannot be read as ONNX ({first_line(error)})") from error


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Read a TorchScript program, on the CPU, in evaluation mode.

    Raises:
        ModelError: it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
            load: Any = torch.jit.load
            loaded = load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as TorchScript ({first_line(error)})") from error
    assert isinstance(loaded, torch.jit.ScriptModule)
    return loaded.eval()


def first_line(error: BaseException) -> str:
    """What another program said, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
