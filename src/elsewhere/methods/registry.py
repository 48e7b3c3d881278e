"""The registry: to register a method is to have it in the catalogue and under the shared tests."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from elsewhere.errors import SettingsError
from elsewhere.identity import identifying
from elsewhere.methods.base import Card, Method
from elsewhere.networks.import_path import is_import_path
from elsewhere.tasks.base import Task
from elsewhere.wording import did_you_mean

_METHODS: dict[str, type[Method]] = {}


def register(method: type[Method]) -> type[Method]:
    """Class decorator: enter a method under its card's name."""
    name = method.card.name
    if name in _METHODS and _METHODS[name].__qualname__ != method.__qualname__:
        raise ValueError(f"two methods are called {name!r}")
    _METHODS[name] = method
    return method


def _load() -> None:
    import elsewhere.methods as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def names() -> list[str]:
    """Names of all methods, `erm` first."""
    _load()
    return sorted(_METHODS, key=lambda name: (name != "erm", name))


def get(name: str) -> type[Method]:
    """The class registered under `name`.

    Raises:
        SettingsError: no such method.
    """
    _load()
    if name not in _METHODS:
        raise SettingsError(f"unknown method {name!r}{did_you_mean(name, names())}; there are: {', '.join(names())}")
    return _METHODS[name]


def card(name: str) -> Card:
    """The card of a method."""
    return get(name).card


def by_content(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method as they decide a result: a file that one of them names is the SHA-256 of its content.

    So is one that is read where none is named (`Method.own_files`). Later options at their neutral value are left out.

    Raises:
        SettingsError: there is no such file.
    """
    found = identifying(options, card(name).later)
    named = {key: Path(str(found[key])) for key in card(name).files if found.get(key)}
    for key, path in {**get(name).own_files(options), **named}.items():
        if not path.is_file():
            raise SettingsError(f"option {name}.{key}: there is no file {path}")
        with path.open("rb") as file:
            found[key] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return found


def imports(name: str, options: Mapping[str, Any]) -> list[str]:
    """Import paths among the options of a method: code that is run, where its user trusts it."""
    return [str(options[key]) for key in card(name).imports if is_import_path(str(options.get(key, "")))]


def create(name: str, network: nn.Module, task: Task, *, n_sites: int = 1, **options: Any) -> Method:
    """Build a method.

    Raises:
        SettingsError: no such method, unknown option, or a task or dimension that it does not work for.
    """
    method = get(name)
    if task.kind not in method.card.tasks or task.dims not in method.card.dims:
        works = f"{' and '.join(method.card.tasks)} in {' and '.join(f'{d}D' for d in method.card.dims)}"
        raise SettingsError(f"method {name} works for {works}, not for {task.kind} in {task.dims}D")
    return method(network, task, n_sites=n_sites, **options)
