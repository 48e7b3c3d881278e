"""Killed with SIGKILL anywhere and started again, a training ends with the same weights, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import throwaway
import torch
from fake_development import SMALL, FakeDevelopment
from torch import Tensor

from elsewhere.errors import RunError
from elsewhere.methods import Context, Method, registry
from elsewhere.training import Settings, Trained, load_model, train
from elsewhere.training.checkpoint import Checkpoints
from elsewhere.training.state import Progress

SETTINGS: dict[str, Any] = {
    **SMALL,
    "network_options": {"channels": [4, 8], "dropout": 0.2, "norm": "batch"},
    "steps": 24,
    "batch_size": 2,
}


class Counting(throwaway.SWAD):
    """Buffers by SWAD, and state that is no tensor."""

    card = throwaway.card("counting")
    seen: list[float]

    def after_validation(self, score: float, context: Context) -> None:
        super().after_validation(score, context)
        self.seen = [*getattr(self, "seen", []), score]

    def finish(self, context: Context) -> None:
        super().finish(context)
        self.count.fill_(len(self.seen))  # only whole if all validations of all processes are in it

    def get_extra_state(self) -> dict[str, Any]:
        return {"seen": list(getattr(self, "seen", []))}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


METHODS: dict[str, type[Method]] = {"counting": Counting, "throwaway-dann": throwaway.DANN}


@pytest.fixture(autouse=True)
def _methods(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    monkeypatch.setattr(registry, "_METHODS", {**registry._METHODS, **METHODS})


def run(folder: Path, method: str = "counting", **changes: Any) -> Trained:
    torch.set_num_threads(1)
    settings = Settings.make({**SETTINGS, **changes})
    return train(FakeDevelopment(), method, settings, seed=3, folder=folder, oracle=_oracle)


def _oracle(model: torch.nn.Module) -> float:
    return float(sum(value.double().abs().sum() for value in model.parameters()))


def outcome(trained: Trained) -> tuple[dict[str, dict[str, Tensor]], Any]:
    models = {rule: load_model(path) for rule, path in trained.models.items()}
    return {rule: model.state_dict() for rule, model in models.items()}, (trained.scores, trained.best_step)


def assert_same(first: Trained, second: Trained) -> None:
    (a, told_a), (b, told_b) = outcome(first), outcome(second)
    assert told_a == told_b
    assert a.keys() == b.keys() == {"last", "source-val", "oracle"}
    for rule, state in a.items():
        tensors = [key for key, value in state.items() if isinstance(value, Tensor)]
        assert all(torch.equal(state[key], b[rule][key]) for key in tensors)


def in_a_process(work: Callable[[], Any], kill_when: Callable[[], bool] | None = None) -> int:
    """Run in a forked process and SIGKILL it as soon as `kill_when` says so; its exit code (-9 if it was killed)."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    while kill_when is not None and process.is_alive():
        if kill_when() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def at_random(folder: Path, moments: random.Random) -> Callable[[], bool]:
    """True a few random milliseconds after the log has grown by a random number of bytes."""
    log = folder / "log.csv"

    def size() -> int:
        return log.stat().st_size if log.exists() else 0

    enough = size() + moments.randint(1, 500)
    late = moments.uniform(0, 0.03)

    def now() -> bool:
        if size() < enough:
            return False
        time.sleep(late)
        return True

    return now


def log_without_times(folder: Path) -> list[str]:
    return [row for row in (folder / "log.csv").read_text().splitlines() if ",seconds," not in row]


@pytest.mark.parametrize(("method", "changes"), [("counting", {"channels_last": True}), ("throwaway-dann", {})])
def test_killed_at_random_moments(method: str, changes: dict[str, Any], tmp_path: Path) -> None:
    def again() -> Trained:
        return run(tmp_path / "killed", method, **changes)

    whole = run(tmp_path / "whole", method, **changes)
    moments = random.Random(0)
    killed = 0
    for _ in range(6):
        killed += in_a_process(again, at_random(tmp_path / "killed", moments)) == -9
    assert killed >= 2
    assert_same(again(), whole)
    assert log_without_times(tmp_path / "killed") == log_without_times(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.part"))


def test_killed_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst moments: just before and just after a file takes its place."""
    whole = run(tmp_path / "whole")
    replace = os.replace

    def dying(nth: int, after: bool) -> Callable[[Any, Any], None]:
        count = 0

        def replace_and_die(source: Any, target: Any) -> None:
            nonlocal count
            count += 1
            if after or count < nth:
                replace(source, target)
            if count == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        return replace_and_die

    for nth in range(1, 8):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying(nth, after=nth % 2 == 0))
            assert in_a_process(lambda: run(tmp_path / "killed")) in (-9, 0)
    assert_same(run(tmp_path / "killed"), whole)
    assert log_without_times(tmp_path / "killed") == log_without_times(tmp_path / "whole")


def test_killed_while_patience_runs_out(tmp_path: Path) -> None:
    common: dict[str, Any] = {"steps": 60, "patience": 2, "validate_every": 2, "checkpoint_every": 2}
    whole = run(tmp_path / "whole", **common)
    moments = random.Random(1)
    for _ in range(3):
        in_a_process(lambda: run(tmp_path / "killed", **common), at_random(tmp_path / "killed", moments))
    again = run(tmp_path / "killed", **common)
    assert again.steps == whole.steps
    assert_same(again, whole)


@pytest.mark.parametrize("what", ["cut", "changed", "best"])
def test_a_damaged_checkpoint_is_passed_over(what: str, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "damaged")
    files = sorted((tmp_path / "damaged" / "checkpoint").glob("step-*.pt"))
    assert len(files) == 2
    victim = files[-1]
    if what == "best":
        (victim,) = (tmp_path / "damaged" / "checkpoint").glob("best-oracle-*24-*.safetensors")
    data = bytearray(victim.read_bytes())
    if what == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    again = run(tmp_path / "damaged")
    assert "is damaged" in again.notes[0]
    assert_same(again, whole)


def test_all_damaged_begins_anew(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "damaged")
    for file in (tmp_path / "damaged" / "checkpoint").glob("step-*.pt"):
        file.write_bytes(b"")
    assert_same(run(tmp_path / "damaged"), whole)


def test_the_last_two_checkpoints_stay_and_what_they_point_to(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    files: list[str] = []
    for step in range(1, 6):
        if step != 4:
            files = [checkpoints.write_weights("source-val", step, bytes([step]))]
        checkpoints.save(step, {"files": files, "value": torch.tensor(step)})
    assert [path.name.split("-")[1] for path in sorted(tmp_path.glob("step-*"))] == ["000000004", "000000005"]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("best-*"))] == [bytes([3]), bytes([5])]
    found, notes = Checkpoints(tmp_path).load()
    assert found is not None
    assert (int(found["value"]), notes) == (5, [])


class More(Settings):
    """With a key that a later version of the package brings."""

    LATER: ClassVar[dict[str, Any]] = {"mixing": 0.0}

    mixing: float = 0.0


def test_a_training_goes_on_under_a_version_with_more_settings(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step >= 14:
            raise Stop

    where, plain = tmp_path / "run", {**SETTINGS, "validate_every": 2, "checkpoint_every": 6}
    with pytest.raises(Stop):
        train(FakeDevelopment(), "erm", Settings.make(plain), seed=0, folder=where, progress=stop)
    with pytest.raises(RunError, match="mixing"):
        train(FakeDevelopment(), "erm", More(**plain, mixing=0.5), seed=0, folder=where)
    steps: list[int] = []
    train(FakeDevelopment(), "erm", More(**plain), seed=0, folder=where, progress=lambda told: steps.append(told.step))
    assert min(steps) > 6
