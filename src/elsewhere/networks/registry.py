"""The registry of networks: checked options, weights that depend on a seed alone, and no MONAI before it is needed."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn

from elsewhere.errors import SettingsError
from elsewhere.networks.import_path import import_class, is_import_path
from elsewhere.wording import did_you_mean


@dataclass(frozen=True)
class Shape:
    """What a network is built for, apart from its options.

    Attributes:
        dims: 2 or 3.
        in_channels, out_channels: of the image and of the logits.
        patch_size, spacing: of what it will see, where known; some derive their levels from it.
    """

    dims: int
    in_channels: int = 1
    out_channels: int = 2
    patch_size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None


Builder = Callable[..., nn.Module]
Multiple = Callable[..., tuple[int, ...]]


@dataclass(frozen=True)
class Entry:
    """A registered network.

    Attributes:
        name: in the registry.
        kinds: tasks it is for.
        dims: dimensions it works in.
        builder: `builder(shape, **options)`; its keyword-only arguments are the options, with their defaults.
        multiple: `multiple(shape, **options)`, see `multiple_of`.
        any_options: options go to the builder as they are given, unchecked.
    """

    name: str
    kinds: tuple[str, ...]
    dims: tuple[int, ...]
    builder: Builder
    multiple: Multiple | None = None
    any_options: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


_NETWORKS: dict[str, Entry] = {}


def register(
    name: str, kinds: Sequence[str], dims: Sequence[int] = (2, 3), multiple: Multiple | None = None
) -> Callable[[Builder], Builder]:
    """Decorator: enter `builder(shape, *, option=default, ...)` under `name`.

    To register a network is to have it tested: `tests/networks` runs over the registry.

    Raises:
        ValueError: the name is taken.
    """

    def enter(builder: Builder) -> Builder:
        known = _NETWORKS.get(name)
        if known is not None and known.builder.__qualname__ != builder.__qualname__:
            raise ValueError(f"two networks are called {name!r}")
        _NETWORKS[name] = Entry(name, tuple(kinds), tuple(dims), builder, multiple)
        return builder

    return enter


def _load() -> None:
    """Import every file of this package: they register themselves."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


def names(kind: str | None = None, dims: int | None = None) -> list[str]:
    """Names of the networks for a task and dimension (None: any), the default one first; without trusted ones."""
    _load()
    ours = [entry for entry in _NETWORKS.values() if not is_import_path(entry.name)]
    return [e.name for e in ours if (kind is None or kind in e.kinds) and (dims is None or dims in e.dims)]


def get(name: str) -> Entry:
    """The entry of a network.

    Raises:
        SettingsError: no such network.
    """
    _load()
    if is_import_path(name) and name not in _NETWORKS:
        raise SettingsError(
            f"network {name}: an import path runs the code that it names, and nobody allowed that; use --trust "
            "(in Python: elsewhere.networks.trust)"
        )
    if name not in _NETWORKS:
        raise SettingsError(
            f"unknown network {name!r}{did_you_mean(name, _NETWORKS)}; there are: {', '.join(_NETWORKS)}"
        )
    return _NETWORKS[name]


def trust(path: str) -> Entry:
    """Import a network's class and let this process use it under its import path, `package.module:Class`.

    Importing a module runs its code: only for code that you would run anyway. The module must be installed or on
    PYTHONPATH. The class is called with those of `dims` (or `spatial_dims`), `in_channels`, `out_channels`,
    `patch_size` and `spacing` that it has a parameter for, and with `network_options` as they are; its inputs are
    patches of `patch_size`, or whole images of any size where there is none.

    Raises:
        SettingsError: no such module or class, or what is there is no network.
    """
    found = import_class(path, "network")

    def builder(shape: Shape, **options: Any) -> nn.Module:
        offered = {**vars(shape), "spatial_dims": shape.dims}
        takes = inspect.signature(found).parameters
        network: nn.Module = found(**{key: value for key, value in offered.items() if key in takes} | options)
        return network

    _NETWORKS[path] = Entry(path, ("segmentation", "classification"), (2, 3), builder, any_options=True)
    return _NETWORKS[path]


def resolve(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All options of a network: those given, checked against the type of the default, and the defaults of the rest.

    Raises:
        SettingsError: an option it does not have, or a value of another type.
    """
    entry = get(name)
    if entry.any_options:
        return dict(options or {})
    defaults = entry.defaults
    checked: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if key not in defaults:
            has = ", ".join(defaults) or "none"
            raise SettingsError(f"network {name}: unknown option {key!r}{did_you_mean(key, defaults)}; it has: {has}")
        checked[key] = _as(name, key, value, defaults[key])
    return {**defaults, **checked}


def build(
    name: str,
    *,
    dims: int,
    in_channels: int,
    out_channels: int,
    kind: str | None = None,
    patch_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a network on the CPU, in training mode; its weights depend on `seed` alone.

    Args:
        name: see `names`.
        dims: 2 or 3.
        in_channels: of the image.
        out_channels: of the logits.
        kind: the task, checked where given.
        patch_size: of what it will see (each axis), where known.
        spacing: in mm, where known.
        seed: of the weights; torch's global state is as it was afterwards.
        options: the network's own, see `resolve`.

    Raises:
        SettingsError: no such network; not for this task or dimension; a wrong option or size.
    """
    entry = get(name)
    if dims not in entry.dims or (kind is not None and kind not in entry.kinds):
        better = ", ".join(names(kind, dims)) or "none"
        raise SettingsError(f"network {name} is not for {kind or 'anything'} in {dims}D; for that there are: {better}")
    if in_channels < 1 or out_channels < 1:
        raise SettingsError(f"network {name}: {in_channels} channels in, {out_channels} out; both must be at least 1")
    shape = _shape(name, dims, in_channels, out_channels, patch_size, spacing)
    checked = resolve(name, options)
    # Not torch.manual_seed: that would also reseed the user's accelerators, which fork_rng(devices=[]) leaves alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return entry.builder(shape, **checked)
        except (ValueError, TypeError) as error:  # MONAI's and torch's own checks of the options
            given = ", ".join(f"{key}={value}" for key, value in options.items()) or "its defaults"
            raise SettingsError(f"network {name}: cannot be built with {given} ({error})") from error


def multiple_of(
    name: str,
    options: Mapping[str, Any] | None = None,
    dims: int = 2,
    *,
    patch_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> tuple[int, ...]:
    """What each axis of an input must be a multiple of, (dims,); 1 where any size will do.

    `patch_size` and `spacing` must be those given to `build`.
    """
    entry = get(name)
    if entry.multiple is None:
        return (1,) * dims
    return entry.multiple(_shape(name, dims, 1, 2, patch_size, spacing), **resolve(name, options))


def _shape(
    name: str,
    dims: int,
    in_channels: int,
    out_channels: int,
    patch_size: Sequence[int] | None,
    spacing: Sequence[float] | None,
) -> Shape:
    for what, value in (("patch_size", patch_size), ("spacing", spacing)):
        if value is not None and (len(value) != dims or min(value) <= 0):
            raise SettingsError(f"network {name}: {what} must be {dims} positive numbers in {dims}D, found {value}")
    patch = None if patch_size is None else tuple(int(n) for n in patch_size)
    mm = None if spacing is None else tuple(float(s) for s in spacing)
    return Shape(dims, in_channels, out_channels, patch, mm)


def _as(name: str, key: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`; lists become tuples, whole numbers pass for floats."""
    kind = type(default)
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and value and all(type(v) is int and v > 0 for v in value):
            return tuple(value)
    elif isinstance(default, bool | str) or isinstance(value, bool):
        if type(value) is kind:
            return value
    elif isinstance(value, int | float if kind is float else int) and value >= 0:
        return kind(value)
    wanted = {tuple: "a list of positive whole numbers", bool: "true or false", int: "a whole number, 0 or more"}
    wanted |= {float: "a number, 0 or more", str: "a word"}
    raise SettingsError(f"network {name}: option {key} must be {wanted[kind]} (such as {default!r}), found {value!r}")
