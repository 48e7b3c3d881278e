"""Weights of an extractor: read without running anything that a file brings, and loaded strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from elsewhere.errors import ModelError

SAFETENSORS = ".safetensors"
PICKLES = (".pth", ".pt")
COMPILED = "_orig_mod."
"""What `torch.compile` puts in front of the keys of a state dict."""


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """The state dict of a file, on the CPU; `_orig_mod.` in front of keys is left out.

    A `.pth` is read with `weights_only`: tensors and plain values, no code.

    Raises:
        ModelError: no such file, another kind of file, damaged, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"weights {path}: there is no such file; wanted a .pth or .safetensors file")
    if path.suffix.lower() not in (SAFETENSORS, *PICKLES):
        raise ModelError(f"weights {path}: wanted a .pth or .safetensors file, found one that ends in {path.suffix!r}")
    try:
        if path.suffix.lower() == SAFETENSORS:
            found: Any = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a file of anything else: what an unpickler meets there raises what it will
        if not isinstance(error, pickle.UnpicklingError) and "weights_only" not in str(error):
            reason = str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__
            raise ModelError(
                f"weights {path}: cannot be read ({reason[:200]}); copy or download the file again"
            ) from error
        # Torch's own words go on to advise weights_only=False.
        raise ModelError(
            f"weights {path}: damaged, or holds more than tensors and plain values, which could run code and is not "
            "read; wanted a state dict alone, saved with torch.save(network.state_dict(), FILE)"
        ) from error
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        kind = f"a dict with {next(iter(found))!r}" if isinstance(found, dict) and found else type(found).__name__
        raise ModelError(f"weights {path}: wanted a state dict (names to tensors), found {kind}")
    return {str(key).removeprefix(COMPILED): value for key, value in found.items()}


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str, source: Path | str) -> None:
    """Load a state dict that must fit key by key and shape by shape; half precision becomes the module's own.

    Args:
        module: filled in place; left as it was where the state dict does not fit.
        state: see `read_weights`.
        what: name of the extractor, for the sentence.
        source: where the weights come from, likewise.

    Raises:
        ModelError: names the first key, in the order of the module, that is missing, has another shape or is no
            number; or the first that is too many.
    """
    wanted = module.state_dict()
    for key, value in wanted.items():
        if key not in state:
            other = next((k for k in state if k not in wanted), None)
            found = f"; it has {other!r}, which {what} has not" if other is not None else ""
            raise ModelError(f"weights {source}: are not those of {what}: {key!r} is missing{found}")
        if state[key].shape != value.shape:
            raise ModelError(
                f"weights {source}: are not those of {what}: {key!r} has shape {list(state[key].shape)}, wanted "
                f"{list(value.shape)}"
            )
        if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise ModelError(f"weights {source}: {key!r} has values that are not finite")
    for key in state:
        if key not in wanted:
            raise ModelError(f"weights {source}: are not those of {what}: {key!r} is too many")
    module.load_state_dict(dict(state), strict=True)


def from_hub(repository: str, file: str, what: str) -> Path:
    """Path of a file of the Hugging Face Hub, downloaded where it is not in the Hub's own cache.

    Raises:
        ModelError: `huggingface_hub` is not installed, or the file cannot be had; says how to give a local file.
    """
    remedy = f"get {file} of https://huggingface.co/{repository} in another way and give its path as weights"
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise ModelError(
            f"extractor {what}: to download its weights needs the package huggingface_hub (pip install "
            f"huggingface_hub); or {remedy}"
        ) from error
    try:
        return Path(hub.hf_hub_download(repo_id=repository, filename=file))
    except Exception as error:  # whatever the Hub, the network or the disk raises
        reason = str(error).splitlines()[0].rstrip(". ") if str(error) else "no reason given"
        raise ModelError(
            f"extractor {what}: {file} of {repository} could not be downloaded ({type(error).__name__}: "
            f"{reason[:200]}); {remedy}"
        ) from error
