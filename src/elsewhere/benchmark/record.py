"""What a run writes of itself: how it was made, and that it is done."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import yaml

from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import RunError
from elsewhere.files import write_text

if TYPE_CHECKING:
    from elsewhere.study.seal import Development
    from elsewhere.training.settings import Settings

DONE = "done.json"

PACKAGES = ("elsewhere", "torch", "monai", "lightning-fabric", "numpy", "scipy", "scikit-learn")


def read_done(folder: Path) -> dict[str, Any] | None:
    """What `done.json` says, or None where the run is not finished."""
    try:
        found = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def finished(folder: Path, spec: RunSpec) -> bool:
    """This very run is done, by every selection rule that is asked for."""
    done = read_done(folder)
    if done is None or done.get("identity") != spec.identity:
        return False
    return set(spec.selection) <= set(done.get("selection", ()))


@contextmanager
def reading(
    path: Path, remedy: str = "run the same 'elsewhere benchmark' command again to write it anew"
) -> Iterator[None]:
    """Say in one sentence that `path`, which we wrote, is no longer what we wrote.

    Raises:
        RunError: it is missing, truncated or something else; names it and what to do.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise RunError(f"{path}: is missing; {remedy}") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise RunError(f"{path}: is damaged ({type(error).__name__}); {remedy}") from error


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def write_config(folder: Path, spec: RunSpec, settings: Settings, development: Development) -> None:
    """Write `config.yaml`: all that is needed to make the run again, and who was in which part."""
    import torch

    split = development.split
    described = {
        "run": spec.to_dict(),
        "settings": settings.model_dump(mode="json"),
        "task": development.task,
        "dims": development.dims,
        "classes": list(development.classes),
        "development_sites": list(development.sites),
        "preprocessing": development.preprocessing.model_dump(mode="json"),
        "split": {
            "train": list(split.train),
            "validation": list(split.validation),
            "calibration": list(split.calibration),
            "test": list(split.test),
            "left_out": list(split.left_out),
            "notes": list(split.notes),
        },
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    write_text(folder / "config.yaml", yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
