"""The loop of a pretraining: draw pairs, contrast their voxels, measure, save; goes on where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from elsewhere.errors import RunError
from elsewhere.identity import identifying
from elsewhere.networks.stable import FeatureUNet
from elsewhere.networks.stable.scaling import scale
from elsewhere.training.checkpoint import Checkpoints
from elsewhere.training.log import Log
from elsewhere.training.optimisation import remember_rates, set_rates, share
from elsewhere.training.pretrain.contrast import losses_of, sample_places
from elsewhere.training.pretrain.label_maps import CutMaps, digest
from elsewhere.training.pretrain.retrieval import Retrieval
from elsewhere.training.pretrain.settings import PretrainSettings
from elsewhere.training.pretrain.views import Pairs
from elsewhere.training.randomness import number, own_state
from elsewhere.training.state import Progress, check_identity

HELD_OUT_EVERY = 10
"""Of given label maps every tenth, the first of each ten, is for the validation alone (our choice)."""

SCALING = "minmax"
"""Of the images, in the pretraining and afterwards."""

HIDDEN = 64
"""Width of the projection head's hidden layer."""

TELL_EVERY = 0.1
"""Seconds between two words to the caller."""


@dataclass
class Progressed:
    """What changes besides weights and optimiser.

    Attributes:
        step: steps done.
        seconds: of all sittings together.
        log_bytes: of `log.csv` that are valid.
        curve: [step, mean loss since the row before, share of places found again].
        since: sum and number of the losses since the last row.
    """

    step: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    curve: list[list[float]] = field(default_factory=list)
    since: list[float] = field(default_factory=lambda: [0.0, 0])


class PretrainLoop:
    """One sitting of a pretraining; see `pretrain`. Holds no lock.

    Args:
        dims: 2 or 3.
        settings: see `PretrainSettings`.
        maps: given label maps, or None.
        seed: of everything.
        device: where it runs.
        folder: gets `log.csv` and `checkpoint/`.
        progress: told how far it is.
    """

    def __init__(
        self,
        dims: int,
        settings: PretrainSettings,
        maps: CutMaps | None,
        seed: int,
        device: torch.device,
        folder: Path,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self.folder, self.progress = folder, progress
        self.checkpoints = Checkpoints(folder / "checkpoint")
        self.state = Progressed()
        that_matter = identifying(settings.model_dump(), settings.LATER)
        self.identity: dict[str, Any] = {
            "dims": dims,
            "seed": seed,
            "labels": "" if maps is None else digest(maps),
            **{key: value for key, value in that_matter.items() if not key.endswith("_every")},
        }
        training, held_out = _shared_out(maps)
        self.pairs = Pairs.make(dims, settings, training)
        validation = Pairs.make(dims, settings, held_out)
        self.retrieval = Retrieval(validation, settings.validation, self._generator("validation"))
        with own_state(number(seed, "weights")):
            self.network = FeatureUNet(
                dims,
                features=settings.features,
                width=settings.width,
                downs=settings.downs,
                norm=settings.norm,
                pooling=settings.pooling,
                upsampling=settings.upsampling,
            ).to(device)
            self.head = nn.Sequential(
                nn.Linear(settings.features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, settings.projection)
            ).to(device)
        weights = [*self.network.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=device.type == "cuda"
        )
        remember_rates([self.optimizer])
        self.forward: Callable[[Tensor], Tensor] = torch.compile(self.network) if settings.compile else self.network

    def run(self) -> bool:
        """Go on from the last checkpoint to the last step; False where nothing was left to do.

        Raises:
            RunError: see `pretrain`.
        """
        self.checkpoints.clean()
        found, _ = self.checkpoints.load()
        if found is not None:
            check_identity(found["identity"], self.identity, self.folder)
            self.state = Progressed(**found["state"])
            self.network.load_state_dict(found["network"])
            self.head.load_state_dict(found["head"])
            self.optimizer.load_state_dict(found["optimizer"])
        log = Log(self.folder / "log.csv", keep=self.state.log_bytes)
        try:
            begun = self.state.step
            self._steps(log)
        finally:
            log.close()
        return begun < self.state.step

    def found_again(self, extract: nn.Module) -> float:
        """Share of places that features find again, see `Retrieval.score`."""
        extract.eval()
        return self.retrieval.score(lambda images: extract(_scaled(images)))

    def _steps(self, log: Log) -> None:
        settings, state = self.settings, self.state
        begun, first, told = time.perf_counter(), state.step, -math.inf
        kept: list[Mapping[str, float]] = []
        before = state.seconds
        while state.step < settings.steps:
            kept.append(self._step())
            state.seconds = before + time.perf_counter() - begun
            last = state.step == settings.steps
            saved = last or state.step % settings.checkpoint_every == 0
            if saved or state.step % settings.log_every == 0:
                log.write(state.step, "train", {key: sum(k[key] for k in kept) / len(kept) for key in kept[0]})
                log.write(state.step, "train", {"seconds": state.seconds})
                kept = []
            if last or state.step % settings.validate_every == 0:
                score = self.found_again(self.network)
                state.curve.append([state.step, state.since[0] / max(1, state.since[1]), score])
                state.since = [0.0, 0]
                log.write(state.step, "validation", {"found_again": score})
            if saved:
                self._save(log)
            now = time.perf_counter()
            if self.progress is not None and (last or now - told >= TELL_EVERY):
                told = now
                left = (now - begun) / (state.step - first) * (settings.steps - state.step)
                seen = state.curve[-1][2] if state.curve else None
                self.progress(Progress(state.step, settings.steps, self._loss, seen, left))

    def _step(self) -> dict[str, float]:
        settings, state = self.settings, self.state
        generator = self._generator("step", state.step)
        set_rates([self.optimizer], share(state.step, settings.steps, settings.warmup))
        drawn = self.pairs.draw(settings.batch_size, generator)
        places = sample_places(drawn.labels, settings.points, generator)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            features = self.forward(_scaled(drawn.images.flatten(0, 1)))
        # As a network gets them, each channel with mean 0 and variance 1 over its window; then what both windows show.
        shared = drawn.overlap(functional.instance_norm(features.float()))
        losses = losses_of(shared, drawn.labels, places, self.head, settings.temperature, settings.near)
        terms = ("structure", settings.structure), ("place", settings.place), ("alike", settings.alike)
        loss = torch.stack([weight * losses[name] for name, weight in terms]).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip or math.inf)
        self._loss = float(loss.detach())
        if not (math.isfinite(self._loss) and bool(torch.isfinite(norm))):
            raise RunError(
                f"{self.folder}: the loss or its gradient is not finite at step {state.step}; the last checkpoint is "
                "kept; try a smaller learning_rate in another folder"
            )
        self.optimizer.step()
        state.step += 1
        state.since = [state.since[0] + self._loss, state.since[1] + 1]
        return {"loss": self._loss, **{key: float(value.detach()) for key, value in losses.items()}}

    def _save(self, log: Log) -> None:
        self.state.log_bytes = log.size
        self.checkpoints.save(
            self.state.step,
            {
                "identity": self.identity,
                "state": asdict(self.state),
                "files": [],
                "network": self.network.state_dict(),
                "head": self.head.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _generator(self, *what: str | int) -> torch.Generator:
        """All randomness is a function of the seed and the step: going on needs no stored generator."""
        return torch.Generator(self.device).manual_seed(number(self.seed, "pretrain", *what))


def _scaled(images: Tensor) -> Tensor:
    """As the extractor will scale them."""
    return scale(images, SCALING)


def _shared_out(maps: CutMaps | None) -> tuple[CutMaps | None, CutMaps | None]:
    """Maps for training and for validation; a single one serves both, in other pieces."""
    if maps is None or len(maps.maps) < 2:
        return maps, maps
    held_out = maps.maps[::HELD_OUT_EVERY]
    training = tuple(one for i, one in enumerate(maps.maps) if i % HELD_OUT_EVERY)
    return CutMaps(training, maps.names, maps.spatial), CutMaps(held_out, maps.names, maps.spatial)
