"""Pretraining: draw pairs, contrast their voxels, and write the network as an extractor; goes on where it stopped."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from elsewhere import __version__
from elsewhere.errors import RunError, SettingsError
from elsewhere.files import folder_lock, write_text
from elsewhere.networks.stable import FeatureUNet, build, write_ours
from elsewhere.networks.stable.scaling import scale
from elsewhere.training.checkpoint import Checkpoints
from elsewhere.training.log import Log
from elsewhere.training.optimisation import remember_rates, set_rates, share
from elsewhere.training.pretrain.card import Facts, card
from elsewhere.training.pretrain.contrast import at_places, place_loss, sample_places, structure_loss
from elsewhere.training.pretrain.device import choose_device, describe_device
from elsewhere.training.pretrain.label_maps import CutMaps, digest, read_label_maps
from elsewhere.training.pretrain.retrieval import POINTS, Retrieval
from elsewhere.training.pretrain.settings import PretrainSettings
from elsewhere.training.pretrain.views import Pairs
from elsewhere.training.randomness import number, own_state
from elsewhere.training.state import Progress, check_identity

SUFFIX = ".safetensors"

HELD_OUT_EVERY = 10
"""Of given label maps every tenth, the first of each ten, is for the validation alone (our choice)."""

SCALING = "minmax"

HIDDEN = 64
"""Width of the projection head's hidden layer."""


@dataclass(frozen=True)
class Pretrained:
    """A finished pretraining.

    Attributes:
        path, card: the file of the extractor, and its model card.
        curve: (step, mean loss since the row before, share of places found again).
        mind: that share for MIND on the same images.
        seconds: of all its sittings together.
        fresh: whether there was something to do.
    """

    path: Path
    card: Path
    curve: Sequence[tuple[int, float, float]]
    mind: float
    seconds: float
    fresh: bool


@dataclass
class _State:
    """What changes besides weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    curve: list[list[float]] = field(default_factory=list)
    since: list[float] = field(default_factory=lambda: [0.0, 0])
    """Sum and number of the losses since the last row of the curve."""


def pretrain(
    dims: int,
    out: Path,
    settings: PretrainSettings,
    *,
    labels: Sequence[Path] = (),
    seed: int = 0,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> Pretrained:
    """Pretrain an extractor, and write `out` and its card.

    Beside `X.safetensors` lie `X.md` and the folder `X.pretrain` with `log.csv` and `checkpoint/`. The same call goes
    on from the last checkpoint; on a CPU with as many threads it ends with the same weights, bit for bit.

    Args:
        dims: 2 or 3.
        out: the `.safetensors` file.
        settings: see `PretrainSettings`.
        labels: label maps from which anatomies are made besides the random ensembles, see `read_label_maps`.
        seed: of weights, anatomies, images and sampled voxels.
        command: for card and metadata.
        progress: told how far it is.

    Raises:
        StudyError: a label map that is none.
        SettingsError: no `.safetensors`, or no such device.
        RunError: what lies there is of another pretraining, the loss is not finite, or nothing can be written.
    """
    if out.suffix != SUFFIX:
        raise SettingsError(f"--out {out}: wanted a file that ends in {SUFFIX}")
    device = choose_device(settings.device, settings.precision, dims)
    maps = read_label_maps(labels, dims) if labels else None
    folder = out.with_suffix(".pretrain")
    with folder_lock(folder, "a pretraining"):
        return _Run(dims, out, settings, maps, seed, command, device, folder, progress).run()


class _Run:
    """One sitting of a pretraining; see `pretrain`."""

    def __init__(
        self,
        dims: int,
        out: Path,
        settings: PretrainSettings,
        maps: CutMaps | None,
        seed: int,
        command: str,
        device: torch.device,
        folder: Path,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.dims, self.out, self.settings, self.seed, self.command = dims, out, settings, seed, command
        self.device, self.folder, self.progress, self.maps = device, folder, progress, maps
        self.checkpoints = Checkpoints(folder / "checkpoint")
        self.state = _State()
        self.identity: dict[str, Any] = {
            "dims": dims,
            "seed": seed,
            "labels": "" if maps is None else digest(maps),
            **{key: value for key, value in settings.model_dump().items() if not key.endswith("_every")},
        }
        training, held_out = _shared_out(maps)
        self.pairs = Pairs.make(dims, settings.size, training, settings.given)
        validation = Pairs.make(dims, settings.size, held_out, settings.given)
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

    def run(self) -> Pretrained:
        """Go on from the last checkpoint to the last step, then write."""
        self.checkpoints.clean()
        found, _ = self.checkpoints.load()
        if found is not None:
            check_identity(found["identity"], self.identity, self.folder)
            self.state = _State(**found["state"])
            self.network.load_state_dict(found["network"])
            self.head.load_state_dict(found["head"])
            self.optimizer.load_state_dict(found["optimizer"])
        log = Log(self.folder / "log.csv", keep=self.state.log_bytes)
        fresh = self.state.step < self.settings.steps or not self.out.is_file()
        try:
            self._steps(log)
        finally:
            log.close()
        mind = self._found(build("mind", self.dims).to(self.device))
        text = self.out.with_suffix(".md")
        if fresh:
            write_ours(self.out, self.network, self._about(), scaling=SCALING)
            write_text(text, card(self._facts(mind)))
        return Pretrained(self.out, text, self._curve(), mind, self.state.seconds, fresh)

    def _steps(self, log: Log) -> None:
        settings, state = self.settings, self.state
        begun, first, told = time.perf_counter(), state.step, -math.inf
        kept: list[Mapping[str, float]] = []
        before = state.seconds
        while state.step < settings.steps:
            kept.append(self._step())
            state.seconds = before + time.perf_counter() - begun
            last = state.step == settings.steps
            if last or state.step % settings.log_every == 0:
                log.write(state.step, "train", {key: sum(k[key] for k in kept) / len(kept) for key in kept[0]})
                log.write(state.step, "train", {"seconds": state.seconds})
                kept = []
            if last or state.step % settings.validate_every == 0:
                score = self._found(self.network)
                state.curve.append([state.step, state.since[0] / max(1, state.since[1]), score])
                state.since = [0.0, 0]
                log.write(state.step, "validation", {"found_again": score})
            if last or state.step % settings.checkpoint_every == 0:
                self._save(log)
            now = time.perf_counter()
            if self.progress is not None and (last or now - told >= 0.1):
                told = now
                left = (now - begun) / (state.step - first) * (settings.steps - state.step)
                seen = state.curve[-1][2] if state.curve else None
                self.progress(Progress(state.step, settings.steps, self._loss, seen, left))

    def _step(self) -> dict[str, float]:
        settings, state = self.settings, self.state
        generator = self._generator("step", state.step)
        set_rates([self.optimizer], share(state.step, settings.steps, settings.warmup))
        images, labels = self.pairs.draw(settings.batch_size, generator)
        places = sample_places(labels, settings.points, generator)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            features = self.forward(_scaled(images.flatten(0, 1)))
        losses = self._losses(features.float(), labels, places)
        loss = settings.structure * losses["structure"] + settings.place * losses["place"]
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

    def _losses(self, features: Tensor, labels: Tensor, places: Tensor) -> dict[str, Tensor]:
        """Both terms, for features (2 B, F, *spatial): the first views, then the second ones.

        Features are normalised as a network gets them; structures are compared behind the projection head, places
        right on the features, since that is how these are used.
        """
        sampled = at_places(functional.instance_norm(features), places.repeat(2, 1))
        first, second = functional.normalize(sampled, dim=2).chunk(2)
        projected = torch.cat(functional.normalize(self.head(sampled), dim=2).chunk(2), 1)
        seen = labels.flatten(1).gather(1, places)
        temperature = self.settings.temperature
        return {
            "structure": structure_loss(projected, seen.repeat(1, 2), temperature),
            "place": place_loss(first, second, temperature, seen > 0),
        }

    def _found(self, extract: nn.Module) -> float:
        """Share of places that features find again."""
        extract.eval()
        return self.retrieval.score(lambda images: extract(_scaled(images)))

    def _save(self, log: Log) -> None:
        self.state.log_bytes = log.size
        self.checkpoints.save(
            self.state.step,
            {
                "identity": self.identity,
                "state": dict(self.state.__dict__),
                "files": [],
                "network": self.network.state_dict(),
                "head": self.head.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _generator(self, *what: str | int) -> torch.Generator:
        """All randomness is a function of the seed and the step: going on needs no stored generator."""
        return torch.Generator(self.device).manual_seed(number(self.seed, "pretrain", *what))

    def _curve(self) -> list[tuple[int, float, float]]:
        return [(int(step), loss, score) for step, loss, score in self.state.curve]

    def _data(self) -> str:
        drawn = "Random ensembles of shapes, drawn on the fly by `elsewhere.acquisition`; no image of anybody."
        if self.maps is None:
            return drawn
        kept = len(self.maps.maps)
        return (
            f"{1 - self.settings.given:.0%} random ensembles of shapes and {self.settings.given:.0%} pieces of {kept} "
            f"given label maps with {len(self.maps.names) - 1} structures (digest {digest(self.maps)}), turned and "
            "bent, drawn on the fly by `elsewhere.acquisition`; no image of anybody."
        )

    def _about(self) -> dict[str, str]:
        return {
            "command": self.command,
            "version": __version__,
            "steps": str(self.settings.steps),
            "seconds": f"{self.state.seconds:.0f}",
            "seed": str(self.seed),
            "data": self._data(),
        }

    def _facts(self, mind: float) -> Facts:
        extractor = build(f"elsewhere-{self.dims}d", self.dims, weights=self.out)
        return Facts(
            name=self.out.name,
            dims=self.dims,
            command=self.command,
            version=__version__,
            machine=f"{describe_device(self.device)}, torch {torch.__version__}, {platform.system()}",
            settings=self.settings.model_dump(),
            seed=self.seed,
            data=self._data(),
            seconds=self.state.seconds,
            curve=self._curve(),
            mind=mind,
            points=POINTS,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            weights_hash=extractor.weights_hash,
        )


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
