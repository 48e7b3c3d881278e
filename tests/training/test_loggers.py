"""Loggers end with their training, so that a process may make many."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elsewhere.training.log import _mlflow_store, close_loggers


class WandbLogger:
    """As the real one: `finalize` does not end the run of the process."""

    def __init__(self) -> None:
        self.status: list[str] = []

    def finalize(self, status: str) -> None:
        self.status.append(status)


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1)])
def test_the_one_run_of_wandb_is_ended(status: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    wandb = SimpleNamespace(run="a run", finish=lambda exit_code: ended.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    logger: Any = WandbLogger()
    close_loggers([logger], status)
    assert (logger.status, ended) == ([status], [code])


def test_a_run_of_wandb_that_is_the_users_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    wandb = SimpleNamespace(run="theirs", finish=lambda exit_code: ended.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    close_loggers([], "success")
    assert ended == []


def test_each_run_has_a_store_of_its_own_though_mlflow_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = _mlflow_store(tmp_path / "a")
    assert first == f"sqlite:///{tmp_path}/a/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", first)  # what `mlflow.set_tracking_uri` does
    assert _mlflow_store(tmp_path / "b") == f"sqlite:///{tmp_path}/b/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://their.server")
    assert _mlflow_store(tmp_path / "c") == "http://their.server"
