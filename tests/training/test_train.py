from __future__ import annotations

import csv
import errno
import logging
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import throwaway
import torch
from fake_development import SMALL, FakeDevelopment
from torch import Tensor, nn

from elsewhere.errors import RunError, SettingsError
from elsewhere.files import folder_lock
from elsewhere.methods import Batch, Context, Method, registry
from elsewhere.training import Progress, Settings, Trained, bfloat16, load_model, train
from elsewhere.training.loop import Loop
from elsewhere.training.validation import Validation

train_module = sys.modules["elsewhere.training.train"]  # the package's `train` is the function


@pytest.fixture(autouse=True)
def _throwaway_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    known = {method.card.name: method for method in throwaway.ALL}
    monkeypatch.setattr(registry, "_METHODS", {**registry._METHODS, **known, "diverging": Diverging, "broken": Broken})


class Diverging(Method):
    card = throwaway.card("diverging")

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"loss": super().loss(batch, context)["loss"] * (math.nan if context.step == 7 else 1)}


class Broken(Method):
    card = throwaway.card("broken")

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """At the last step: a finite loss whose gradient is not, the square root at 0."""
        nothing = (self(batch.image).mean() * 0) ** 2
        return {"loss": super().loss(batch, context)["loss"] + (nothing.sqrt() if context.step == 11 else 0)}


def run(folder: Path, method: str = "erm", development: Any = None, seed: int = 0, **changes: Any) -> Trained:
    rest = {key: changes.pop(key) for key in ("options", "oracle", "unlabelled", "progress") if key in changes}
    settings = Settings.make({**SMALL, **changes})
    return train(development or FakeDevelopment(), method, settings, seed=seed, folder=folder, **rest)


def rows(folder: Path, split: str, name: str) -> list[tuple[int, float]]:
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return [
            (int(row["step"]), float(row["value"]))
            for row in csv.DictReader(file)
            if (row["split"], row["name"]) == (split, name)
        ]


def weights(trained: Trained, rule: str = "last") -> dict[str, Tensor]:
    return load_model(trained.models[rule]).state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_loss_falls_and_the_log_tells(tmp_path: Path) -> None:
    trained = run(tmp_path, steps=40, validate_every=10)
    losses = [value for _, value in rows(tmp_path, "train", "loss")]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert [step for step, _ in rows(tmp_path, "validation", "score")] == [10, 20, 30, 40]
    assert rows(tmp_path, "validation", "score") == list(trained.scores)
    site_scores = [rows(tmp_path, "validation", f"dice:{site}") for site in "AB"]
    for (_, score), (_, a), (_, b) in zip(trained.scores, *site_scores, strict=True):
        assert score == pytest.approx((a + b) / 2)
    assert len(rows(tmp_path, "train", "seconds")) == len(losses)
    rates = dict(rows(tmp_path, "train", "learning_rate"))
    assert rates[2] == pytest.approx(0.01)  # warm-up of 5 %: two steps
    assert rates[40] < 1e-4


@pytest.mark.parametrize(
    "method", ["erm", "vrex", "gin", *[m.card.name for m in throwaway.ALL if not m.card.unlabelled_target]]
)
def test_every_method_trains_and_is_deployed(method: str, tmp_path: Path) -> None:
    trained = run(tmp_path, method, accumulate=2)
    assert set(trained.models) == {"last", "source-val"}
    model = load_model(trained.models["last"])
    assert model.config["method"] == method
    assert torch.isfinite(model(torch.zeros(1, 1, 16, 16))).all()


def test_classification_trains(tmp_path: Path) -> None:
    development = FakeDevelopment(task="classification", classes=("no", "yes"))
    trained = run(tmp_path, "erm", development, network="resnet18", network_options={}, steps=2, validate_every=2)
    assert 0 <= trained.scores[0][1] <= 1
    assert load_model(trained.models["last"])(torch.zeros(1, 1, 32, 32)).shape == (1, 2)


def test_a_device_whose_bfloat16_convolutions_are_wrong_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(image: Tensor, kernel: Tensor, padding: int) -> Tensor:
        found = torch.nn.functional.conv3d(image, kernel, padding=padding)
        return found * 1.1 if image.dtype == torch.bfloat16 else found

    development = FakeDevelopment(dims=3, size=20, n=3, n_validation=1)
    assert run(tmp_path / "right", "erm", development, steps=1, precision="bf16-mixed").steps == 1
    monkeypatch.setattr(bfloat16, "functional", SimpleNamespace(conv3d=wrong))
    with pytest.raises(RunError, match=r"its bfloat16 3D convolutions are wrong by 0\.1\d? .* use precision=32-true"):
        run(tmp_path / "wrong", "erm", development, steps=1, precision="bf16-mixed")
    assert not (tmp_path / "wrong/model").exists()
    assert run(tmp_path / "float32", "erm", development, steps=1).steps == 1


def test_3d_segmentation_trains(tmp_path: Path) -> None:
    trained = run(tmp_path, "erm", FakeDevelopment(dims=3, size=20, n=3, n_validation=1), steps=2)
    assert load_model(trained.models["last"]).task.dims == 3


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path: Path) -> None:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    state = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    first = run(tmp_path / "a", network_options={"channels": [4, 8], "dropout": 0.3})
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.random.get_state()[1].tolist() == state[2]  # noqa: NPY002
    torch.manual_seed(6)
    again = run(tmp_path / "b", network_options={"channels": [4, 8], "dropout": 0.3})
    other = run(tmp_path / "c", network_options={"channels": [4, 8], "dropout": 0.3}, seed=1)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_called_again_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    first = run(tmp_path)
    kept = weights(first), weights(first, "source-val")
    again = run(tmp_path)
    assert (again.scores, again.best_step) == (first.scores, first.best_step)
    assert same(weights(again), kept[0])
    assert same(weights(again, "source-val"), kept[1])


def test_source_val_is_the_best_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0.2, 0.6, 0.4])
    kept: list[dict[str, Tensor]] = []

    def score(method: Method, *_: Any, **__: Any) -> Validation:
        kept.append({f"method.{k}": v.clone() for k, v in method.state_dict().items()})
        return Validation(next(given), 1.0, {"A": 0.5})

    monkeypatch.setattr(train_module, "validate", score)
    trained = run(tmp_path)
    assert trained.best_step == 8
    assert same(weights(trained, "source-val"), kept[1])
    assert same(weights(trained, "last"), kept[2])
    assert load_model(trained.models["source-val"]).config["score"] == 0.6


def test_patience_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(train_module, "validate", lambda *_, **__: Validation(next(given), 1.0, {}))
    trained = run(tmp_path, steps=40, patience=2)
    assert (trained.steps, trained.best_step, len(trained.scores)) == (12, 4, 3)
    # what is done stays done
    assert run(tmp_path, steps=40, patience=2).steps == 12


def test_without_validation_cases_only_the_last_model_is_kept(tmp_path: Path) -> None:
    trained = run(tmp_path, "erm", FakeDevelopment(n_validation=0))
    assert set(trained.models) == {"last"}
    assert "no validation cases" in trained.notes[0]
    assert trained.best_step is None


def test_the_oracle_gets_frozen_models_and_its_choice_is_kept(tmp_path: Path) -> None:
    given, seen = iter([0.1, 0.9, 0.3]), []

    def oracle(model: nn.Module) -> float:
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return next(given)

    trained = run(tmp_path, oracle=oracle)
    assert set(trained.models) == {"last", "source-val", "oracle"}
    assert same(weights(trained, "oracle"), seen[1])
    assert not same(weights(run(tmp_path / "without")), seen[1])
    assert same(weights(run(tmp_path / "without")), weights(trained))  # looking changes nothing


def test_a_loss_that_is_not_a_number_is_said_and_the_checkpoint_stays(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"method diverging: the loss is nan at step 8; .* step 6 is kept"):
        run(tmp_path, "diverging")
    assert list((tmp_path / "checkpoint").glob("step-000000006-*.pt"))
    with pytest.raises(RunError, match="the loss is nan at step 8"):
        run(tmp_path, "diverging")


def test_weights_that_are_not_numbers_are_neither_scored_nor_saved(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"weights .* are not finite after step 12; the checkpoint of step 11 is kept"):
        run(tmp_path, "broken", checkpoint_every=1)
    assert not (tmp_path / "model").exists()
    assert [step for step, _ in rows(tmp_path, "validation", "score")] == [4, 8]


def test_a_score_that_is_not_a_number_chooses_nothing(tmp_path: Path) -> None:
    given, seen = iter([math.nan, 0.9, math.nan]), []

    def oracle(model: nn.Module) -> float:
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return next(given)

    assert same(weights(run(tmp_path, oracle=oracle), "oracle"), seen[1])


def test_unlabelled_images_go_to_those_who_declare_it_and_to_nobody_else(tmp_path: Path) -> None:
    class Reader(FakeDevelopment):
        @property
        def case_ids(self) -> list[str]:
            return sorted(self.stored)

    reader = Reader(sites=("T",))
    reader.stored = {k: replace(v, label=None, maps={}) for k, v in reader.stored.items()}
    run(tmp_path / "a", "throwaway-unlabelled", unlabelled=reader)
    assert set(reader.loads) == set(reader.case_ids)
    with pytest.raises(SettingsError, match="needs unlabelled images"):
        run(tmp_path / "b", "throwaway-unlabelled")
    with pytest.raises(SettingsError, match="does not see unlabelled images"):
        run(tmp_path / "c", "erm", unlabelled=reader)


def test_accumulation_changes_memory_and_not_the_gradient(tmp_path: Path) -> None:
    common = {"steps": 3, "batch_size": 8, "optimizer": "sgd"}  # Adam would blow up rounding where a gradient is 0
    whole = weights(run(tmp_path / "a", **common))
    parts = weights(run(tmp_path / "b", accumulate=4, **common))
    uneven = weights(run(tmp_path / "c", accumulate=3, **common))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(uneven[key], value, rtol=1e-4, atol=1e-5)
    logged = [[loss for _, loss in rows(tmp_path / name, "train", "loss")] for name in "abc"]
    assert logged[1] == pytest.approx(logged[0], rel=1e-4), "of all parts: the last one may be all of one site"
    assert logged[2] == pytest.approx(logged[0], rel=1e-4)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    plain = {"optimizer": "sgd", "momentum": 0, "weight_decay": 0, "learning_rate": 1e-12}
    start = weights(run(tmp_path / "a", steps=1, **plain))
    for clip, bound in ((1e-3, 1e-3), (0, None)):
        end = weights(
            run(
                tmp_path / f"clip{clip}",
                steps=1,
                optimizer="sgd",
                momentum=0,
                weight_decay=0,
                learning_rate=1,
                clip=clip,
                warmup=0,
            )
        )
        moved = math.sqrt(sum(float((end[k] - start[k]).square().sum()) for k in end))
        assert (moved < bound * 1.01) if bound else (moved > 1e-2)


def test_bf16_trains_close_to_32_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        low = run(tmp_path / "a", precision="bf16-mixed", steps=20, validate_every=20)
    assert not caplog.messages, "Fabric says in every run that it uses AMP"
    full = run(tmp_path / "b", steps=20, validate_every=20)
    a, b = weights(low), weights(full)
    assert all(value.dtype == torch.float32 for value in a.values())
    assert not same(a, b)
    assert low.scores[-1][1] == pytest.approx(full.scores[-1][1], abs=0.1)


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_is_how_weights_lie_and_not_what_they_are(
    dims: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies: list[bool] = []

    class Looking(Method):
        card = throwaway.card("looking")

        def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
            of_convolutions = [p for p in self.parameters() if p.ndim == dims + 2]
            assert any(p.shape[1] == 1 for p in of_convolutions)  # which could lie either way
            lies.append(all(p.stride(1) == 1 and p.stride(-1) == p.shape[1] for p in of_convolutions))
            return super().loss(batch, context)

    monkeypatch.setattr(registry, "_METHODS", {**registry._METHODS, "looking": Looking})
    for last in (False, True):
        lies.clear()
        development = FakeDevelopment(dims=dims, size=32 if dims == 2 else 16)
        run(tmp_path / str(last), "looking", development, channels_last=last, steps=5, validate_every=5)
        assert lies == [last] * 5
    # Not the weights one by one: Adam makes steps of rounding errors where a bias has no say (before a norm).
    a, b = rows(tmp_path / "False", "validation", "loss"), rows(tmp_path / "True", "validation", "loss")
    assert [value for _, value in b] == pytest.approx([value for _, value in a], rel=1e-3)


def test_16_mixed_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="precision=16-mixed needs a GPU"):
        run(tmp_path, precision="16-mixed")


def test_progress_is_told(tmp_path: Path) -> None:
    events: list[Progress] = []
    run(tmp_path, progress=events.append)
    assert [event.step for event in events if event.step % 4 == 0] == [4, 8, 12]
    assert events[-1].total == 12
    assert events[-1].seconds_left == 0
    assert math.isfinite(events[-1].loss)
    assert events[-1].score is not None


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(RunError, match=r"had learning_rate=0.01, now it is 0.02; choose another folder"):
        run(tmp_path, learning_rate=0.02)
    with pytest.raises(RunError, match=r"had seed=0, now it is 1"):
        run(tmp_path, seed=1)
    run(tmp_path, checkpoint_every=5, log_every=3)  # neither changes the result


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "checkpoint", "a training"), pytest.raises(RunError, match="already running"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 2, "accumulate": 3}, "batch_size=2 cannot be shared"),
        ({"network_options": {"channels": [2, 4, 8, 16, 32, 64]}}, "patch_size=.16, 16. does not fit network unet"),
        ({"options": {"weight": 1}}, "unknown option erm.weight; there are none"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=sentence):
        run(tmp_path, **changes)


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = 0
    original = Loop._save

    def save(loop: Loop) -> None:
        nonlocal saves
        saves += 1
        if saves == 3:

            def full(*_: Any) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr("pathlib.Path.write_bytes", full)
                original(loop)
        original(loop)

    monkeypatch.setattr(Loop, "_save", save)
    with pytest.raises(RunError, match="the disk is full"):
        run(tmp_path)
    assert len(list((tmp_path / "checkpoint").glob("step-*.pt"))) == 2
    assert not list((tmp_path / "checkpoint").glob("*.part"))
    monkeypatch.setattr(Loop, "_save", original)
    assert same(weights(run(tmp_path)), weights(run(tmp_path / "never")))


def test_tensorboard_gets_what_the_csv_gets(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    run(tmp_path, loggers=["tensorboard"])
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    with pytest.raises(SettingsError, match=rf'logger .{name}. is not installed; .*"elsewhere\[{name}\]"'):
        run(tmp_path, loggers=[name])
