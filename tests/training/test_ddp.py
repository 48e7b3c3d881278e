"""Two processes, one model: forked, as `train` forks them, or spawned where CUDA is in use."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
import throwaway
import torch
from fake_development import SMALL, FakeDevelopment
from torch import Tensor

from elsewhere.errors import SettingsError
from elsewhere.methods import Batch, Context, Method, registry
from elsewhere.training import Settings, Trained, load_model, train

PLAIN: dict[str, Any] = {"optimizer": "sgd", "augmentation": "none", "steps": 4, "batch_size": 8, "validate_every": 2}


class Witness(Method):
    """Writes down what each process sees."""

    card = throwaway.card("witness", defaults={"folder": ""})

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        with (Path(self.options["folder"]) / f"seen-{os.getpid()}").open("a") as file:
            print(context.step, *batch.case, *batch.site.tolist(), file=file)
        return super().loss(batch, context)


class Scored(Method):
    """Keeps what each process has when it was last scored."""

    card = throwaway.card("scored", defaults={"folder": ""})

    def eval(self) -> Scored:
        torch.save(self.state_dict(), Path(self.options["folder"]) / f"{os.getpid()}")
        return super().eval()


@pytest.fixture(autouse=True)
def _methods(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    known = {method.card.name: method for method in (*throwaway.ALL, Witness, Scored)}
    monkeypatch.setattr(registry, "_METHODS", {**registry._METHODS, **known})


def run(folder: Path, method: str = "erm", options: dict[str, Any] | None = None, **changes: Any) -> Trained:
    settings = Settings.make({**SMALL, **PLAIN, **changes})
    return train(FakeDevelopment(), method, settings, seed=0, folder=folder, options=options)


def weights(trained: Trained) -> dict[str, Tensor]:
    return load_model(trained.models["last"]).state_dict()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_as_one_with_the_same_batch(accumulate: int, tmp_path: Path) -> None:
    one = run(tmp_path / "one")
    two = run(tmp_path / "two", devices=2, accumulate=accumulate)
    assert [score for _, score in two.scores] == pytest.approx([score for _, score in one.scores], abs=1e-3)
    for key, value in weights(one).items():  # the network has instance norm, so nothing depends on the slice
        torch.testing.assert_close(weights(two)[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["balanced", "pooled"])
def test_each_process_sees_its_own_cases_of_both_sites(sampler: str, tmp_path: Path) -> None:
    folder = tmp_path / "seen"
    folder.mkdir()
    run(tmp_path / "run", "witness", {"folder": str(folder)}, devices=2, sampler=sampler)
    lines = [path.read_text().splitlines() for path in folder.iterdir()]
    assert len(lines) == 2
    for first, second in zip(*lines, strict=True):
        (step, *a), (other, *b) = first.split(), second.split()
        assert step == other
        assert not set(a[:4]) & set(b[:4])
        assert {case[0] for case in a[:4]} == {case[0] for case in b[:4]} == {"A", "B"}


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    run(tmp_path, devices=2)
    with (tmp_path / "log.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if (row["split"], row["name"]) == ("train", "loss")]
    assert steps == sorted(set(steps), key=int)


def test_a_training_of_two_processes_goes_on(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", devices=2, checkpoint_every=1)
    again = run(tmp_path / "again", devices=2, checkpoint_every=1)
    last = sorted((tmp_path / "again" / "checkpoint").glob("step-*"))[-1]
    last.unlink()
    again = run(tmp_path / "again", devices=2, checkpoint_every=1)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(whole).items())


@pytest.mark.parametrize("method", ["throwaway-dann", "throwaway-sam", "throwaway-swad"])
@pytest.mark.filterwarnings("ignore:find_unused_parameters")
def test_methods_with_optimisers_and_passes_of_their_own(method: str, tmp_path: Path) -> None:
    trained = run(tmp_path, method, devices=2, accumulate=2)
    assert all(torch.isfinite(value).all() for value in weights(trained).values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_both_processes_score_the_same_model(precision: str, tmp_path: Path) -> None:
    """Gradients met (under autocast too), and so did the batch-norm statistics that each process gathered."""
    folder = tmp_path / "seen"
    folder.mkdir()
    changes = {"network_options": {"channels": [4, 8], "norm": "batch"}, "augmentation": "default"}
    trained = run(tmp_path, "scored", {"folder": str(folder)}, devices=2, precision=precision, **changes)
    states = [torch.load(path) for path in sorted(folder.iterdir())]
    assert len(states) == 2
    assert any("running_mean" in key for key in states[0])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    last = weights(trained)
    assert all(torch.equal(value, last[f"method.{key}"]) for key, value in states[0].items())


def test_an_error_for_people_stays_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="batch_size=3 cannot be shared by 2 processes"):
        run(tmp_path, devices=2, batch_size=3)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_progress_is_told_in_the_process_that_asked(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spawned where CUDA is in use, as after the evaluation of an earlier run; no closure can go there."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: start == "spawn")
    told: list[int] = []
    settings = Settings.make({**SMALL, **PLAIN, "devices": 2})
    train(FakeDevelopment(), "erm", settings, seed=0, folder=tmp_path, progress=lambda found: told.append(found.step))
    assert told[-1] == 4
