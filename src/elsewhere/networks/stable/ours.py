"""Extractors that this project pretrains (`elsewhere pretrain`), and the file that holds one.

A file is a `.safetensors` whose metadata says how the network is laid out, under "config", as JSON: the arguments of
`FeatureUNet`, and `scaling` and `output` of `FrozenNetwork`. So a file is all that is needed to use it. Weights of
convolutions are float16, everything else is kept as it was. Those shipped lie in `weights/`, each beside its model
card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from elsewhere.errors import ModelError, SettingsError
from elsewhere.files import atomic
from elsewhere.networks.stable.frozen import FrozenNetwork
from elsewhere.networks.stable.unet import FeatureUNet
from elsewhere.networks.stable.weights import SAFETENSORS, load_strictly, read_weights

SHIPPED = Path(__file__).with_name("weights")
"""Folder of `<name>.safetensors` and `<name>.md`."""

DIMS = {"elsewhere-3d": 3, "elsewhere-2d": 2}

CONFIG, FORMAT = "config", "elsewhere-extractor-1"

FRAME = {"scaling": "minmax", "output": "none"}
"""What of a config is not the network's, with its defaults."""


def build_ours(name: str, weights: Path | str | None, load: bool, options: Mapping[str, Any]) -> FrozenNetwork:
    """A network of ours, laid out as its file says.

    Args:
        name: key of `DIMS`.
        weights: a file of `elsewhere pretrain`; None: the one shipped with this package.
        load: False: random weights, for a state dict that is loaded later; with `options` no file is read.
        options: `layout` of the extractor that was saved, so that no file is needed; beside a file they must agree.

    Raises:
        ModelError: there is no such file, or it is not what `write_ours` writes.
        SettingsError: options that the file contradicts.
    """
    path = _place(name) if weights is None else Path(weights)
    if options and not load:
        config = {"dims": DIMS[name], **options}
    else:
        if weights is None and not path.is_file():
            raise ModelError(
                f"extractor {name}: this version of elsewhere ships no weights for it; make some with `elsewhere "
                f"pretrain` and give the file as weights, or use another extractor, such as mind"
            )
        config = read_config(path)
        for key, value in options.items():
            if key not in config or config[key] != value:
                raise SettingsError(
                    f"extractor {name}: option {key}={value!r}, but {path} was made with {config.get(key)!r}; leave it "
                    "out, the file says how it is laid out"
                )
    network, frame = _laid_out(config, path)
    if network.config["dims"] != DIMS[name]:
        raise ModelError(f"weights {path}: are for {network.config['dims']}D, {name} is for {DIMS[name]}D")
    if load:
        load_strictly(network, read_weights(path), name, path)
    return FrozenNetwork(
        name,
        network,
        DIMS[name],
        network.config["features"],
        **frame,
        multiple=network.multiple,
        least=network.least,
        layout={
            key: value for key, value in {**network.config, **frame}.items() if key != "dims"
        },  # the name says them
    )


def shipped(name: str) -> Path | None:
    """The file of weights that this package brings for an extractor; None where it brings none."""
    return _place(name) if name in DIMS and _place(name).is_file() else None


def _place(name: str) -> Path:
    return SHIPPED / f"{name}{SAFETENSORS}"


def read_config(path: Path) -> dict[str, Any]:
    """How the network of a file is laid out: arguments of `FeatureUNet`, and those of `FRAME`.

    Raises:
        ModelError: no such file, or not one of `write_ours`.
    """
    if not path.is_file():
        raise ModelError(f"weights {path}: there is no such file; wanted one that `elsewhere pretrain` made")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"weights {path}: is no safetensors file ({str(error).splitlines()[0][:200]}); wanted one that `elsewhere "
            "pretrain` made"
        ) from error
    if metadata.get("format") != FORMAT or CONFIG not in metadata:
        raise ModelError(
            f"weights {path}: does not say how its network is laid out (format {metadata.get('format')!r}, wanted "
            f"{FORMAT!r}); wanted one that `elsewhere pretrain` made"
        )
    try:
        config = json.loads(metadata[CONFIG])
    except ValueError as error:
        raise ModelError(f"weights {path}: the config in its metadata is no JSON ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"weights {path}: the config in its metadata is {config!r}; wanted names and values")
    return config


def write_ours(path: Path, network: FeatureUNet, about: Mapping[str, str] | None = None, **frame: str) -> Path:
    """Write a pretrained network as `build_ours` reads it.

    Args:
        path: of the `.safetensors` file.
        network: of one channel in; left as it is.
        about: more metadata, such as the command that made it.
        frame: `scaling` and `output`, see `FRAME`.

    Raises:
        ModelError: a weight does not fit float16.
        SettingsError: a frame that is none.
        RunError: the file cannot be written.
    """
    config = {**network.config, **FRAME, **frame}
    _laid_out(config, path)
    state = {key: _stored(key, value) for key, value in network.state_dict().items()}
    metadata = {**(about or {}), "format": FORMAT, CONFIG: json.dumps(config)}
    with atomic(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(state, metadata=metadata))
    return path


def _laid_out(config: Mapping[str, Any], source: Path | str) -> tuple[FeatureUNet, dict[str, str]]:
    """The network of a config, and the rest of it.

    Raises:
        ModelError: a key that is none, or a network that cannot be.
    """
    frame = {key: config.get(key, default) for key, default in FRAME.items()}
    own = {key: value for key, value in config.items() if key not in FRAME}
    try:
        network = FeatureUNet(**own)
    except (TypeError, SettingsError) as error:
        raise ModelError(f"weights {source}: its config cannot be used ({error})") from error
    if own.get("in_channels", 1) != 1:
        raise ModelError(f"weights {source}: its network takes {own['in_channels']} channels; an extractor takes one")
    return network, frame


def _stored(key: str, value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    if value.ndim < 3:  # biases and batch norm: small, and variances can be too large or too small for float16
        return value.clone()
    half = value.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise ModelError(f"pretrained weights: {key!r} has values that float16 cannot hold")
    return half
