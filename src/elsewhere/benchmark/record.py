"""What a run writes of itself: how it was made, and that it is done."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import yaml

from elsewhere.benchmark.sheets import CALIBRATION, CASES, EVALUATION, PREDICTIONS
from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import RunError
from elsewhere.files import write_text

if TYPE_CHECKING:
    from elsewhere.study.seal import Development
    from elsewhere.training.settings import Settings

DONE, RUN_CONFIG = "done.json", "config.yaml"

ROLES = ("train", "validation", "calibration", "test")

TABLES = (CASES, PREDICTIONS, CALIBRATION)

NO_TABLES = 0
"""In the place of the evaluation's number where a run is trained only, or its tables are being replaced."""

EVALUATE_AGAIN = (
    "run the same 'elsewhere benchmark' command again: the saved model is evaluated anew, nothing is trained"
)

PACKAGES = ("elsewhere", "torch", "monai", "lightning-fabric", "numpy", "scipy", "scikit-learn")


def read_done(folder: Path) -> dict[str, Any] | None:
    """What `done.json` says, or None where the run is not finished."""
    try:
        found = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def finished(folder: Path, spec: RunSpec) -> bool:
    """This very run has tables of every selection rule that is asked for, be it of an older evaluation."""
    done = read_done(folder)
    if done is None or done.get("identity") != spec.identity or done.get("evaluation", 1) == NO_TABLES:
        return False
    return set(spec.selection) <= set(done.get("selection", ()))


def up_to_date(folder: Path, spec: RunSpec) -> bool:
    """It is finished, evaluated as it would be now, and its tables are there: nothing is left to do."""
    done = read_done(folder) or {}
    there = all((folder / name).is_file() for name in done.get("files", ()))
    return finished(folder, spec) and done.get("evaluation") == EVALUATION and there


def trained(folder: Path, spec: RunSpec) -> bool:
    """It was finished once and has its models: what is left to do is an evaluation."""
    from elsewhere.training.model_io import CONFIG, WEIGHTS  # late: it brings torch

    done = read_done(folder) or {}
    models = [folder / "model" / rule for rule in done.get("models", ())]
    whole = all((model / name).is_file() for model in models for name in (CONFIG, WEIGHTS))
    return done.get("identity") == spec.identity and bool(models) and whole


def require_split(folder: Path, development: Development) -> None:
    """Refuse to evaluate a model again by another split than it was trained by: its training cases could be judged.

    Raises:
        RunError: `config.yaml` is missing, or its split is another.
    """
    path = folder / RUN_CONFIG
    anew = f"delete the folder {folder} and run the same 'elsewhere benchmark' command again to train it anew"
    with reading(path, anew):
        # The C loader: thousands of ids take the other one a second.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        written = yaml.load(path.read_text(encoding="utf-8"), loader)["split"]
        same = all(tuple(written[role]) == getattr(development.split, role) for role in ROLES)
    if not same:
        raise RunError(f"{path}: the run was trained by another split of the patients; {anew}")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each table of a run, for `done.json`."""
    return {name: _sha256(folder / name) for name in TABLES if (folder / name).is_file()}


def require_intact(folder: Path) -> None:
    """Refuse the tables of a finished run that are not what the run wrote; one of an older evaluation has no hashes.

    Raises:
        RunError: names the first table that was changed, and the remedy.
    """
    for name, wanted in (read_done(folder) or {}).get("files", {}).items():
        path = folder / name
        with reading(path, EVALUATE_AGAIN):
            found = _sha256(path)
        if found != wanted:
            raise RunError(
                f"{path}: was changed since the run wrote it (its hash differs); delete it and {EVALUATE_AGAIN}"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


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
    write_text(folder / RUN_CONFIG, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
