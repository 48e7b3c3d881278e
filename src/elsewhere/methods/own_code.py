"""Code of somebody's own in a training: a network or an extractor by import path, run only where its user allows it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from elsewhere import networks
from elsewhere.errors import ElsewhereError, SettingsError
from elsewhere.methods.registry import imports
from elsewhere.networks.stable import trust_class

_IMPORTED: dict[str, str] = {}
"""What each file was when this process first imported it."""


@dataclass(frozen=True)
class OwnCode:
    """The import paths, `package.module:Class`, that a training names.

    Attributes:
        networks, extractors: most often none.
    """

    networks: tuple[str, ...]
    extractors: tuple[str, ...]

    @classmethod
    def of(cls, network: str | None, method: str, options: Mapping[str, Any]) -> OwnCode:
        """What a network's name and the options of a method name.

        Raises:
            SettingsError: an unknown method.
        """
        named = network is not None and networks.is_import_path(network)
        return cls((str(network),) if named else (), tuple(imports(method, options)))

    def allow(self, trust: bool, error: type[ElsewhereError] = SettingsError) -> None:
        """Import it, so that this process can use it.

        Args:
            trust: its user said so.
            error: what is raised where nobody did.

        Raises:
            ElsewhereError: of the type `error`, no trust.
            SettingsError: a path that cannot be imported.
        """
        for what, paths in (("network", self.networks), ("extractor", self.extractors)):
            if paths and not trust:
                raise error(
                    f"{what} {paths[0]} is code outside of elsewhere, which would be run; if you know that code and "
                    "want that, use --trust (in Python: trust=True)"
                )
        for path in self.networks:
            networks.trust(path)
        for path in self.extractors:
            trust_class(path)
        self.content()

    def content(self) -> dict[str, str]:
        """SHA-256 of the file in which each class is defined, by import path; what that file imports is not in it.

        Call `allow` before. A class without a file, typed into a session, has an empty one.

        Raises:
            SettingsError: a file is not what it was when this process imported it.
        """
        return {path: _content(path) for path in (*self.networks, *self.extractors)}


def _content(path: str) -> str:
    now = _digest(path)
    if _IMPORTED.setdefault(path, now) != now:
        raise SettingsError(f"{path}: its file was changed after this process imported it; start Python anew")
    return now


def _digest(path: str) -> str:
    module, _, name = path.partition(":")
    found = import_module(module)
    try:
        file = inspect.getsourcefile(getattr(found, name)) or getattr(found, "__file__", None)
    except (TypeError, OSError):
        file = getattr(found, "__file__", None)
    if not file or not Path(file).is_file():
        return ""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
