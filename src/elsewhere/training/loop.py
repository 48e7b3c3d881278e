"""The loop: learning rate, batch, update, log, validation, selection, checkpoint; stops and goes on anywhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from elsewhere.errors import RunError
from elsewhere.files import folder_lock
from elsewhere.methods import Method
from elsewhere.training.batches import BatchMaker
from elsewhere.training.checkpoint import Checkpoints
from elsewhere.training.context import FabricContext
from elsewhere.training.log import Log
from elsewhere.training.model_io import weights
from elsewhere.training.optimisation import set_rates, share
from elsewhere.training.randomness import number, own_state
from elsewhere.training.settings import Settings
from elsewhere.training.state import Best, Progress, State, check_identity
from elsewhere.training.validation import Validation

TELL_EVERY = 0.1
"""Seconds between two words to the caller."""


class Loop:
    """One training on one process. All that it needs is handed in, ready; see `train`.

    Args:
        fabric: launched.
        method: in training mode, on its device.
        optimizers: as set up by Fabric.
        context: the method's.
        batches: of the training.
        settings: resolved.
        seed: of the training.
        folder: gets `log.csv` and `checkpoint/`.
        identity: plain values; a checkpoint with other ones is refused.
        validate: scores the method; None where there are no validation cases.
        oracle: scores the method at the held-out site; None where nobody asked.
        progress: told how far it is.
    """

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        optimizers: list[Optimizer],
        context: FabricContext,
        batches: BatchMaker,
        settings: Settings,
        *,
        seed: int,
        folder: Path,
        identity: dict[str, Any],
        validate: Callable[[], Validation] | None,
        oracle: Callable[[], float] | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.fabric, self.method, self.optimizers, self.context = fabric, method, optimizers, context
        self.batches, self.settings, self.seed, self.folder = batches, settings, seed, folder
        self.identity, self.validate, self.oracle, self.progress = identity, validate, oracle, progress
        self.checkpoints = Checkpoints(folder / "checkpoint")
        self.state, self.notes = State(), list[str]()
        self._log: Log | None = None
        self._pending: list[tuple[int, float, dict[str, Tensor]]] = []
        self._loss, self._told = math.nan, -math.inf

    def run(self) -> State:
        """Train to the last step, or to where patience ends; then `finish`, so that the method is ready to be saved.

        Raises:
            RunError: loss or weights are not finite, the folder cannot be written, another training is in it, or what
                it holds is of another training.
        """
        lock = folder_lock(self.checkpoints.folder, "a training") if self._first else contextlib.nullcontext()
        with lock:
            self._resume()
            try:
                self._steps()
            finally:
                if self._log is not None:
                    self._log.close()
            self.context.begin(self.state.step, "finish")
            with self._own("finish"), self.fabric.autocast():
                self.method.finish(self.context)
        return self.state

    @property
    def _first(self) -> bool:
        return self.fabric.is_global_zero

    @contextlib.contextmanager
    def _own(self, what: str) -> Iterator[None]:
        """Global generators seeded by (seed, step, rank), for dropout; the user's state is put back."""
        with own_state(number(self.seed, what, self.state.step, self.fabric.global_rank), self.fabric.device):
            yield

    def _resume(self) -> None:
        if self._first:
            self.checkpoints.clean()
            found, self.notes = self.checkpoints.load()
        self.fabric.barrier()
        if not self._first:
            found, _ = self.checkpoints.load()
        if found is not None:
            check_identity(found["identity"], self.identity, self.folder)
            self.state = State.from_plain(found["state"])
            self.method.load_state_dict(found["method"])
            for optimizer, saved in zip(self.optimizers, found["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            scaler = getattr(self.fabric.strategy.precision, "scaler", None)
            if scaler is not None and found["scaler"] is not None:
                scaler.load_state_dict(found["scaler"])
        if self._first:
            self._log = Log(self.folder / "log.csv", keep=self.state.log_bytes)

    def _steps(self) -> None:
        settings, total = self.settings, self.settings.steps
        start, begun = time.perf_counter(), self.state.step
        every = settings.validate_every or total
        while self.state.step < total and not self.state.stopped:
            self._step()
            done = self.state.step
            last = done == total
            if last or done % settings.log_every == 0:
                self._flush()
            if last or done % every == 0:
                self._flush()
                self._check_weights()
                self._validate()
            if last or done % settings.checkpoint_every == 0 or self.state.stopped:
                self._flush()
                self._check_weights()
                self._save()
            speed = (time.perf_counter() - start) / (done - begun)
            self._tell(speed * (total - done), force=last or done % every == 0)

    def _step(self) -> None:
        state, step = self.state, self.state.step
        begin = time.perf_counter()
        set_rates(self.optimizers, share(step, self.settings.steps, self.settings.warmup))
        batch = self.batches.batch(step)
        self.context.begin(step)
        with self._own("step"):
            losses = self.method.update(batch, self.context)
        state.step = step + 1
        kept = {name: value.detach() for name, value in losses.items()}
        self._pending.append((state.step, time.perf_counter() - begin, kept))
        if self.fabric.device.type == "cpu":
            self._check(state.step, kept["loss"])

    def _check(self, step: int, loss: Tensor) -> None:
        if not math.isfinite(float(loss)):
            raise self._diverged(f"the loss is {float(loss)} at step {step}")

    def _check_weights(self) -> None:
        """A finite loss may have a gradient that is not; such weights must neither be scored nor saved."""
        for name, parameter in self.method.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise self._diverged(f"the weights {name} are not finite after step {self.state.step}")

    def _diverged(self, what: str) -> RunError:
        kept = max((int(path.name.split("-")[1]) for path in self.checkpoints.folder.glob("step-*.pt")), default=None)
        where = "there is no checkpoint yet" if kept is None else f"the checkpoint of step {kept} is kept"
        return RunError(
            f"{self.folder}: method {self.method.card.name}: {what}; {where}; try a smaller learning_rate, or clip=1"
        )

    def _flush(self) -> None:
        """Log the mean of the steps since the last time; on a GPU this is where their losses are waited for."""
        if not self._pending:
            return
        for step, _, losses in self._pending:
            self._check(step, losses["loss"])
        names = list(dict.fromkeys(name for _, _, losses in self._pending for name in losses))
        values: dict[str, float] = {}
        for name in names:
            found = torch.stack([losses[name].float() for _, _, losses in self._pending if name in losses])
            values[name] = float(found.mean())
        for i, optimizer in enumerate(self.optimizers):
            values["learning_rate" if i == 0 else f"learning_rate_{i}"] = optimizer.param_groups[0]["lr"]
        values["seconds"] = sum(seconds for _, seconds, _ in self._pending) / len(self._pending)
        self._loss = values["loss"]
        self._pending = []
        self._write("train", values)

    def _write(self, split: str, values: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write(self.state.step, split, values)
            self.fabric.log_dict({f"{split}/{name}": value for name, value in values.items()}, self.state.step)

    def _validate(self) -> None:
        if self.fabric.world_size > 1:
            # DDP brings buffers together before a step, not after it: without this, processes would score their
            # cases with batch-norm statistics of their own, which are not those of the model that is saved.
            for buffer in self.method.buffers():
                torch.distributed.broadcast(buffer, 0)
        if self.validate is not None:
            found = self.validate()
            primary = self.method.task.primary
            sites = {f"{primary}:{site}": value for site, value in found.sites.items()}
            self._write("validation", {"score": found.score, "loss": found.loss, **sites})
            self.state.scores.append((self.state.step, found.score))
            better = self._select("source-val", found.score)
            self.state.without_better = 0 if better else self.state.without_better + 1
            self.state.stopped = 0 < self.settings.patience <= self.state.without_better
        if self.oracle is not None:
            score = self.oracle()
            self._write("oracle", {"score": score})
            self._select("oracle", score)
        if self.validate is not None:
            self.context.begin(self.state.step, "validation")
            with self._own("validation"):
                self.method.after_validation(found.score, self.context)

    def _select(self, rule: str, score: float) -> bool:
        best = self.state.best.get(rule, Best())
        # A score that is not a number beats none, and any number beats it.
        if best.step is not None and not (score > best.score or math.isnan(best.score)):
            return False
        file = self.checkpoints.write_weights(rule, self.state.step, weights(self.method)) if self._first else None
        self.state.best[rule] = Best(score, self.state.step, file)
        return True

    def _save(self) -> None:
        """Write a checkpoint; a best model that it points to is on the disk before."""
        if self._first and self._log is not None:
            self.state.log_bytes = self._log.size
            scaler = getattr(self.fabric.strategy.precision, "scaler", None)
            self.checkpoints.save(
                self.state.step,
                {
                    "identity": self.identity,
                    "state": self.state.plain(),
                    "files": [best.file for best in self.state.best.values()],
                    "method": self.method.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                    "scaler": None if scaler is None else scaler.state_dict(),
                },
            )
        self.fabric.barrier()

    def _tell(self, seconds_left: float, force: bool) -> None:
        now = time.monotonic()
        if self.progress is None or not self._first or not (force or now - self._told >= TELL_EVERY):
            return
        self._told = now
        score = self.state.scores[-1][1] if self.state.scores else None
        self.progress(Progress(self.state.step, self.settings.steps, self._loss, score, seconds_left))
