"""Code of somebody's own, named by where it is imported from: `package.module:Class`."""

from __future__ import annotations

from importlib import import_module

from torch import nn

from elsewhere.errors import SettingsError


def is_import_path(name: str) -> bool:
    """`package.module:Class`, and no name of a registry."""
    return ":" in name


def import_class(path: str, what: str) -> type[nn.Module]:
    """The class at `package.module:Class`; its module is imported, which runs its code.

    Args:
        path: the module must be installed or on PYTHONPATH.
        what: "network" or "extractor", for the sentence.

    Raises:
        SettingsError: no such module or class, or what is there is no `torch.nn.Module`.
    """
    module_name, _, class_name = path.partition(":")
    try:
        found = getattr(import_module(module_name), class_name)
    except Exception as error:  # whatever the module does when it is run
        raise SettingsError(
            f"{what} {path}: cannot be imported ({type(error).__name__}: {error}); wanted package.module:Class, "
            "installed or on PYTHONPATH"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise SettingsError(f"{what} {path}: is no class of torch.nn.Module, but {found!r}")
    return found
