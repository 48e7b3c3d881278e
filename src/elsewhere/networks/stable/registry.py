"""The extractors by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elsewhere.errors import SettingsError
from elsewhere.networks.import_path import import_class, is_import_path
from elsewhere.networks.stable.anatomix import LAYOUTS, build_anatomix, published
from elsewhere.networks.stable.frozen import FrozenNetwork
from elsewhere.networks.stable.mind import Mind
from elsewhere.networks.stable.ours import DIMS, build_ours, shipped
from elsewhere.networks.stable.protocol import Extractor
from elsewhere.networks.stable.weights import load_strictly, read_weights
from elsewhere.wording import did_you_mean

_DIMS: Mapping[str, tuple[int, ...]] = {
    "mind": (2, 3),
    **{name: (dims,) for name, dims in DIMS.items()},
    **{name: (3,) for name in LAYOUTS},
}

_TRUSTED: dict[str, type[nn.Module]] = {}

PROBE = 32
"""Voxels a side of the image on which the features of a trusted module are counted, at least."""


def names(dims: int | None = None) -> list[str]:
    """Names of the extractors of 2 or 3 dimensions (None: all)."""
    return [name for name, known in _DIMS.items() if dims is None or dims in known]


def build(
    name: str,
    dims: int,
    *,
    weights: Path | str | None = None,
    load: bool = True,
    trust: bool = False,
    **options: Any,
) -> Extractor:
    """An extractor, frozen, on the CPU; torch's global random state is left as it is.

    Args:
        name: one of `names`, or the import path of a module, `package.module:Class`, see `trust_class`.
        dims: 2 or 3.
        weights: a file of weights; None: those that belong to the name (in this package, or on the Hugging Face Hub).
        load: False: the layout alone, for a state dict that is loaded into it, as that of a saved model. No file of
            weights is read, and none needed, with `options` from the `layout` of the extractor that was saved.
        trust: an import path may be imported, which runs its code.
        options: mind: radius, dilation. An import path: what its class takes. The others have none but their layout.

    Raises:
        SettingsError: no such extractor, not in this dimension, an option that it has not, or no trust.
        ModelError: weights that are missing, damaged or of another layout.
    """
    if is_import_path(name):
        return _of_class(name, dims, weights if load else None, trust, options)
    if name not in _DIMS:
        raise SettingsError(
            f"unknown extractor {name!r}{did_you_mean(name, _DIMS)}; there are: {', '.join(_DIMS)}, and import paths, "
            "package.module:Class"
        )
    if dims not in _DIMS[name]:
        better = ", ".join(names(dims)) or "none"
        raise SettingsError(f"extractor {name} is not for {dims}D; for that there are: {better}")
    if name == "mind":
        return _mind(dims, weights, options)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if name in DIMS:
            return build_ours(name, weights, load, options)
        if options:
            raise SettingsError(f"extractor {name}: unknown option {next(iter(options))!r}; it has none")
        return build_anatomix(name, weights, load)


def own_weights(name: str) -> Path | None:
    """The file that `build` reads where no weights are named; None: there is none, or none is needed.

    Raises:
        ModelError: it is on the Hugging Face Hub and cannot be had.
    """
    return published(name) if name in LAYOUTS else shipped(name)


def own_options(options: Mapping[Any, Any]) -> dict[str, Any]:
    """Options of an extractor that came with a configuration: none that `build` itself would take.

    Whether code is trusted, above all, is not for a configuration to say.

    Raises:
        SettingsError: names the first.
    """
    for key in options:
        if not isinstance(key, str) or key in ("name", "dims", "weights", "load", "trust"):
            raise SettingsError(f"extractor_options: {key!r} is no option of an extractor's own")
    return dict(options)


def trust_class(path: str) -> type[nn.Module]:
    """Import the class of an extractor and let this process use it under its import path, `package.module:Class`.

    Importing a module runs its code: only for code that you would run anyway. The class is called with those of
    `dims` (or `spatial_dims`) and `in_channels` (1) that it has a parameter for, and with the options as they are. An
    instance takes images (N, 1, *spatial) and gives features (N, F, *spatial); where it has an attribute `multiple`,
    sizes are brought to a multiple of that. An `Extractor` is used as it is.

    Raises:
        SettingsError: no such module or class, or what is there is no `torch.nn.Module`.
    """
    if path in _TRUSTED:
        return _TRUSTED[path]
    found = import_class(path, "extractor")
    _TRUSTED[path] = found
    return found


def wrap(module: nn.Module, dims: int, *, name: str = "", multiple: int = 1, scaling: str = "none") -> Extractor:
    """Any module as an extractor; its features are counted by running it on one small image.

    Args:
        module: images (N, 1, *spatial) to features (N, F, *spatial); frozen here, in place.
        dims: 2 or 3.
        name: for messages; by default that of its class.
        multiple: voxels that each axis must be a multiple of.
        scaling: of the intensities, see `scaling.scale`.

    Raises:
        SettingsError: it fails on an image of one channel, or gives something else.
    """
    if isinstance(module, Extractor):
        return module
    name = name or type(module).__name__
    module.train(False)
    image = torch.zeros(1, 1, *(-(-PROBE // multiple) * multiple,) * dims)
    parameter = next((p for p in module.parameters() if p.is_floating_point()), image)
    try:
        with torch.no_grad():
            found = module(image.to(parameter.device, parameter.dtype))
    except Exception as error:  # whatever a module of somebody's own raises
        raise SettingsError(
            f"extractor {name}: fails on an image of shape {list(image.shape)} ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(found, torch.Tensor) or found.ndim != dims + 2 or found.shape[2:] != image.shape[2:]:
        what = f"shape {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise SettingsError(
            f"extractor {name}: gives {what} for an image of shape {list(image.shape)}; wanted features (B, F, "
            "*spatial) of the image's own size"
        )
    return FrozenNetwork(name, module, dims, int(found.shape[1]), scaling=scaling, multiple=multiple)


def _mind(dims: int, weights: Path | str | None, options: Mapping[str, Any]) -> Extractor:
    if weights is not None:
        raise SettingsError(f"extractor mind: has no weights, found {str(weights)!r}")
    for key, value in options.items():
        if key not in ("radius", "dilation"):
            raise SettingsError(f"extractor mind: unknown option {key!r}; it has: radius, dilation")
        if type(value) is not int:
            raise SettingsError(f"extractor mind: {key} must be a whole number, found {value!r}")
    return Mind(dims, **options)


def _of_class(path: str, dims: int, weights: Path | str | None, trust: bool, options: Mapping[str, Any]) -> Extractor:
    """An extractor of somebody's own class; its random weights, where it loads none itself, are always the same."""
    if path not in _TRUSTED and not trust:
        raise SettingsError(
            f"extractor {path}: an import path runs the code that it names, and nobody allowed that; if you know that "
            "code and want that, use --trust (in Python: elsewhere.networks.stable.trust_class)"
        )
    found = trust_class(path)
    offered = {"dims": dims, "spatial_dims": dims, "in_channels": 1}
    takes = inspect.signature(found).parameters
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            module = found(**{key: value for key, value in offered.items() if key in takes} | dict(options))
        except Exception as error:  # whatever a class of somebody's own raises
            given = ", ".join(f"{key}={value}" for key, value in options.items()) or "no options"
            raise SettingsError(
                f"extractor {path}: cannot be built with {given} ({type(error).__name__}: {error})"
            ) from error
    if weights is not None:
        load_strictly(module, read_weights(weights), path, weights)
    extractor = wrap(module, dims, name=path, multiple=int(getattr(module, "multiple", 1)))
    if extractor.dims != dims:
        raise SettingsError(f"extractor {path}: is for {extractor.dims}D, wanted {dims}D")
    extractor.layout = {**extractor.layout, **options}
    return extractor
