"""A model in a folder: `model.safetensors` and `config.yaml`. Loading runs no code that the folder brings."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from elsewhere import methods, networks, tasks
from elsewhere.errors import RunError
from elsewhere.files import atomic, write_text
from elsewhere.methods import Method
from elsewhere.networks import pretrained
from elsewhere.tasks import Task
from elsewhere.training.randomness import number, own_state

if TYPE_CHECKING:
    from elsewhere.study.preprocessing import Preprocessing

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
EXTRA = "_extra_state"


class Deployed(nn.Module):
    """A trained model as it is used: frozen, in evaluation mode; a normalised image (B, C, *spatial) to logits.

    Attributes:
        task: loss and decoding, with the classes in the order of the outputs.
        preprocessing: what is done to an image before it comes here.
        config: all of `config.yaml`.
    """

    def __init__(self, method: Method, preprocessing: Preprocessing, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.method = method.eval().requires_grad_(False)
        self.task: Task = method.task
        self.preprocessing = preprocessing
        self.config = dict(config)
        self.eval()

    @property
    def patch_size(self) -> tuple[int, ...] | None:
        """Of the sliding window; None: whole images."""
        patch = self.preprocessing.patch_size
        return None if patch is None else tuple(patch)

    @property
    def multiple_of(self) -> tuple[int, ...]:
        """What whole images are padded to a multiple of."""
        return multiple_of(self.config)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image to logits."""
        logits: Tensor = self.method(image)
        return logits

    def train(self, mode: bool = True) -> Deployed:
        """Stays in evaluation mode."""
        return super().train(False)


def describe(
    method: str,
    options: Mapping[str, Any],
    network: str,
    network_options: Mapping[str, Any],
    task: Task,
    n_sites: int,
    preprocessing: Preprocessing,
    spacing: Sequence[float] | None,
) -> dict[str, Any]:
    """The content of `config.yaml`: all that is needed to build the model again."""
    return {
        "format": 1,
        "method": method,
        "options": dict(options),
        "network": network,
        "network_options": dict(network_options),
        "task": task.kind,
        "dims": task.dims,
        "classes": list(task.classes),
        "n_sites": n_sites,
        "spacing": None if spacing is None else [float(s) for s in spacing],
        "preprocessing": preprocessing.model_dump(mode="json"),
        "versions": {name: _version(name) for name in ("elsewhere", "torch", "monai")},
    }


def build(config: Mapping[str, Any], seed: int = 0) -> Method:
    """The method of a `config.yaml`, its weights a function of `seed` alone; torch's global state stays as it is."""
    task = tasks.create(config["task"], config["dims"], tuple(config["classes"]))
    preprocessing = config["preprocessing"]
    network = networks.build(
        config["network"],
        dims=task.dims,
        in_channels=len(preprocessing["channels"]),
        out_channels=task.n_outputs,
        kind=task.kind,
        patch_size=preprocessing["patch_size"],
        spacing=config["spacing"],
        seed=number(seed, "network"),
        **config["network_options"],
    )
    with own_state(number(seed, "method")):
        return methods.create(config["method"], network, task, n_sites=config["n_sites"], **config["options"])


def multiple_of(config: Mapping[str, Any]) -> tuple[int, ...]:
    """What each axis of an input of this model's network must be a multiple of."""
    return networks.multiple_of(
        config["network"],
        config["network_options"],
        config["dims"],
        patch_size=config["preprocessing"]["patch_size"],
        spacing=config["spacing"],
    )


def freeze(method: Method, preprocessing: Preprocessing, config: Mapping[str, Any]) -> Deployed:
    """A frozen copy of a method in training; the method itself is left as it is."""
    return Deployed(copy.deepcopy(method), preprocessing, config)


def weights(method: Method) -> bytes:
    """The state of a method as safetensors. What is no tensor (`get_extra_state`) is not part of a deployed model."""
    state = {
        key: value.detach().cpu().contiguous().clone()  # clones: tied weights share memory, which safetensors refuses
        for key, value in method.state_dict().items()
        if isinstance(value, Tensor)
    }
    data: bytes = safetensors.torch.save(state)
    return data


def save_model(folder: Path, data: bytes, config: Mapping[str, Any], selection: str, **about: Any) -> Path:
    """Write weights (from `weights`) and `config.yaml`; `about` (step, score) is added to the config.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    with atomic(folder / WEIGHTS) as temporary:
        temporary.write_bytes(data)
    plain = json.loads(json.dumps({**config, "selection": selection, **about}))
    write_text(folder / CONFIG, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return folder


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Deployed:
    """Load a saved model, ready for normalised images.

    Raises:
        RunError: no model there, or its files are damaged or do not belong together.
    """
    from elsewhere.study.preprocessing import Preprocessing

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise RunError(f"{folder}: no model here, there is no {name}")
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        state = safetensors.torch.load_file(folder / WEIGHTS)
        preprocessing = Preprocessing.model_validate(config["preprocessing"])
        with pretrained.layout_only():
            method = build(config)
        missing, unexpected = method.load_state_dict(state, strict=False)
    except (yaml.YAMLError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"{folder}: the model cannot be read ({str(error).splitlines()[0]})") from error
    wrong = [key for key in missing if not key.endswith(EXTRA)] + list(unexpected)
    if wrong:
        raise RunError(f"{folder}: {WEIGHTS} does not belong to {CONFIG}; it differs in {wrong[0]!r}")
    return Deployed(method, preprocessing, config).to(device)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
