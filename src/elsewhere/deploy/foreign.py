"""A model made elsewhere, TorchScript or ONNX, as a `Deployed`: the same predictor, evaluation and report take it.

What is done to an image before the network is in the file's metadata where `elsewhere export` wrote it; else whoever
has the file must say it (`settings`). Whether the outputs are logits or probabilities is seen from the first answer,
where it can be.

**Trust.** An ONNX file is a graph of known operators that ONNX Runtime interprets: data. A TorchScript file is a
program; it runs no Python, but its language can write files, so it is opened only with `trust` (`--trust`). A pickle
(`torch.save` of a model or of its weights) can run anything when it is read: it is refused, with or without trust.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from elsewhere import methods, tasks
from elsewhere.deploy.foreign_network import Answers, OnnxNetwork
from elsewhere.deploy.foreign_settings import SETTINGS, multiple_of, output_of, preprocessing_of
from elsewhere.deploy.runtimes import EXTRA_FILE, KEY, first_line, load_torchscript
from elsewhere.errors import ModelError, SettingsError
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.tasks import Task
from elsewhere.training.model_io import Deployed


class Foreign(Deployed):
    """A network from a file, used like a model of ours.

    Args:
        network: normalised image (B, C, *spatial) to logits (B, K, ...).
        task: its question.
        preprocessing: what is done to an image before.
        config: what the file says of itself, or {}.
        multiple: what whole images are padded to a multiple of.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        preprocessing: Preprocessing,
        config: Mapping[str, Any],
        multiple: Sequence[int],
    ) -> None:
        super().__init__(methods.create("erm", network, task), preprocessing, config)
        self._multiple = tuple(multiple)

    @property
    def multiple_of(self) -> tuple[int, ...]:
        """What whole images are padded to a multiple of."""
        return self._multiple


def open_foreign(
    path: Path,
    *,
    kind: str,
    dims: int,
    classes: Sequence[str],
    channels: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Foreign:
    """Open a TorchScript or an ONNX file for the cases of a study.

    Args:
        path: the file.
        kind, dims, classes: the study's task; a file that says its own must agree.
        channels: names of the channels of the study's images.
        settings: some of `SETTINGS`, for a file that says nothing of its preprocessing.
        trust: run a TorchScript program.

    Raises:
        ModelError: not such a file, a pickle, not trusted, or of another task than the study.
        SettingsError: a setting is missing, unknown, or given for a file that says it itself.
    """
    given = dict(settings or {})
    unknown = [key for key in given if key not in SETTINGS]
    if unknown:
        raise SettingsError(f"--set {unknown[0]}: unknown; of a model's file there are: {', '.join(SETTINGS)}")
    task = tasks.create(kind, dims, classes)
    network, described = _read(path, trust)
    if described is None:
        fixed = network.fixed_size(dims, len(channels)) if isinstance(network, OnnxNetwork) else None
        preprocessing = preprocessing_of(path.name, given, dims, channels, fixed)
        answers = Answers(network, len(task.classes), kind, output_of(given))
        return Foreign(answers, task, preprocessing, {}, multiple_of(given, dims))
    if given:
        raise SettingsError(
            f"--set {next(iter(given))}: {path.name} says itself how images are preprocessed (elsewhere exported it); "
            "leave it away"
        )
    return _described(path, network, described, task)


def _read(path: Path, trust: bool) -> tuple[nn.Module, dict[str, Any] | None]:
    """The network of a file, and what `elsewhere export` wrote into it; None where it did not."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file or folder; wanted a model")
    if path.suffix.lower() == ".onnx":
        network = OnnxNetwork(path)
        return network, _description(path, network.described())
    names = _members(path)
    if not any("/code/" in name for name in names):
        raise ModelError(
            f"{path}: is a pickle, which can run any code when it is read, so it is never opened; save the model as "
            "TorchScript (torch.jit.trace(model, image).save(FILE)) or ONNX, or name a model folder of elsewhere"
        )
    if not trust:
        raise ModelError(f"{path}: TorchScript is a program that can write files; if you trust its maker, add --trust")
    program = load_torchscript(path)
    with zipfile.ZipFile(path) as archive:
        extra = [name for name in names if name.endswith(f"/extra/{EXTRA_FILE}")]
        return program, _description(path, archive.read(extra[0]).decode() if extra else "")


def _members(path: Path) -> list[str]:
    """Names in an archive as torch writes it; none in a pickle that is not in an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        names = []
    if not any(name.endswith((".pkl", "/version", ".json")) for name in names):
        with path.open("rb") as file:
            pickled = file.read(2)[:1] == b"\x80"
        if pickled:
            return []
        raise ModelError(
            f"{path}: unknown format; wanted a folder of elsewhere, TorchScript (.ts, .pt) or ONNX (.onnx)"
        )
    if any(name.endswith(("serialized_exported_program.json", "/models/model.json")) for name in names):
        raise ModelError(f"{path}: is an exported program (.pt2); wanted TorchScript or ONNX")
    return names


def _description(path: Path, text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        found = json.loads(text)
        found["task"], found["dims"], found["classes"], found["preprocessing"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: what it says of itself under '{KEY}' cannot be read; export the model again"
        ) from error
    return dict(found)


def _described(path: Path, network: nn.Module, config: dict[str, Any], task: Task) -> Foreign:
    require_same_question(path, config["task"], config["dims"], config["classes"], task)
    try:
        preprocessing = Preprocessing.model_validate(config["preprocessing"])
        multiple = [int(n) for n in config.get("multiple_of") or (1,) * task.dims]
    except (ValidationError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: its preprocessing cannot be read ({first_line(error)})") from error
    return Foreign(Answers(network, len(task.classes), task.kind, "logits"), task, preprocessing, config, multiple)


def require_same_question(path: Path, kind: str, dims: int, classes: Sequence[str], task: Task) -> None:
    """Raise a ModelError where a model answers another question than a study asks."""
    if (kind, dims) != (task.kind, task.dims):
        raise ModelError(f"{path}: is for {kind} in {dims}D, the study is {task.kind} in {task.dims}D")
    if tuple(classes) != tuple(task.classes):
        raise ModelError(
            f"{path}: its classes are {', '.join(classes)}, the study's {', '.join(task.classes)}; declare the same "
            "names in the same order in study.yaml"
        )
