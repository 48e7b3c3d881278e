"""Loggers end with their training, so that a process may make many."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from elsewhere.training.log import close_loggers


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
