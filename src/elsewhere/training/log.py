"""`log.csv`: one row a value, cut back to the checkpoint when a training goes on; and Fabric's loggers."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from elsewhere.errors import SettingsError
from elsewhere.files import write_error

HEADER = ("step", "split", "name", "value")

NEEDS = {
    "tensorboard": (("tensorboard", "tensorboardX"),),
    "mlflow": (("mlflow",), ("pytorch_lightning",)),
    "wandb": (("wandb",), ("pytorch_lightning",)),
}
"""Packages of each logger: one of each group."""


class Log:
    """Rows `step,split,name,value`; split is `train` or `validation`, step the number of steps done.

    Args:
        path: of the file.
        keep: bytes that a checkpoint says are valid; what follows them is of a future that is done again.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(min(keep, path.stat().st_size))
        except OSError as error:
            raise write_error(path, error) from error
        if self.size == 0:
            self._append([HEADER])

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append values; floats are written so that they read back exactly."""
        self._append([(step, split, name, repr(float(value))) for name, value in values.items()])

    @property
    def size(self) -> int:
        """Bytes of the file, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, rows: list[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            self._file.write(text.getvalue().encode())
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error


_STORES: set[str] = set()
"""Those of MLflow that were made here, not said by the user."""


def require_loggers(names: Iterable[str]) -> None:
    """Look whether they are installed, without an import.

    Raises:
        SettingsError: the extra that brings one is not installed.
    """
    for name in names:
        if not all(any(importlib.util.find_spec(package) for package in group) for group in NEEDS[name]):
            raise _not_installed(name)


def make_loggers(names: list[Any], folder: Path) -> list[Logger]:
    """The loggers that were asked for, writing below `folder`.

    Raises:
        SettingsError: the extra that brings one is not installed.
    """
    return [_make(name, folder) for name in names]


def close_loggers(loggers: Iterable[Logger], status: str) -> None:
    """End what the loggers have under way, so that the next training of this process starts a run of its own.

    Args:
        loggers: of `make_loggers`.
        status: "success" or "failed".
    """
    for logger in loggers:
        logger.finalize(status)
        wandb = sys.modules.get("wandb")
        # W&B has one run a process, which its logger does not end.
        if type(logger).__name__ == "WandbLogger" and wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=0 if status == "success" else 1)


def _make(name: str, folder: Path) -> Logger:
    title = "-".join(folder.absolute().parts[-3:])  # of a benchmark: method, site, seed
    try:
        if name == "tensorboard":
            from lightning_fabric.loggers.tensorboard import TensorBoardLogger

            return TensorBoardLogger(root_dir=folder, name="tensorboard", version="")
        if name == "mlflow":
            from pytorch_lightning.loggers import MLFlowLogger

            where = _mlflow_store(folder)
            logger: Logger = MLFlowLogger(experiment_name="elsewhere", run_name=title, tracking_uri=where)
            return logger
        from pytorch_lightning.loggers import WandbLogger

        wandb: Logger = WandbLogger(project="elsewhere", name=title, save_dir=folder)
        return wandb
    except ImportError as error:  # ModuleNotFoundError included
        raise _not_installed(name) from error


def _mlflow_store(folder: Path) -> str:
    """Where the user says, else in the run's folder; MLflow puts the store in use where the user would say it."""
    said = os.environ.get("MLFLOW_TRACKING_URI")
    if said and said not in _STORES:
        return said
    ours = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    _STORES.add(ours)
    return ours


def _not_installed(name: str) -> SettingsError:
    return SettingsError(f'logger {name!r} is not installed; install it with: pip install "elsewhere[{name}]"')
