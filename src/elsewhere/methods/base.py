"""The contract of a method: what it gets (`Batch`, `Context`), says of itself (`Card`), may change (`Method`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elsewhere.errors import SettingsError
from elsewhere.tasks.base import Task


@dataclass(frozen=True)
class Batch:
    """A batch, already normalised, augmented and on its device.

    Attributes:
        image: (B, C, *spatial) float.
        target: (B, *spatial) int64 class indices for segmentation, (B,) int64 for classification.
        site: (B,) int64, index among the development sites.
        maps: per-case maps, (B, 1, *spatial) float each, moved with the image.
        attributes: covariates of each case, by column.
        spacing: (B, dims) mm, or None where there is none.
        case: the case ids.
    """

    image: Tensor
    target: Tensor
    site: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    spacing: Tensor | None = None
    case: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.image.shape[0])

    def with_image(self, image: Tensor) -> Batch:
        """The same batch with another image."""
        return replace(self, image=image)

    def part(self, index: slice) -> Batch:
        """Some of its cases."""
        return Batch(
            self.image[index],
            self.target[index],
            self.site[index],
            {k: v[index] for k, v in self.maps.items()},
            {k: v[index] for k, v in self.attributes.items()},
            None if self.spacing is None else self.spacing[index],
            self.case[index],
        )


class Context:
    """What a method may know of the training it is in, and the three acts that the loop does in its own way.

    This plain one is enough for anybody's own loop; the trainer hands in one that also knows precision, accumulation,
    clipping and several processes. `generator` lives on `device` and is seeded anew for each step.
    """

    def __init__(
        self,
        *,
        step: int = 0,
        total_steps: int = 1,
        n_sites: int = 1,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        optimizers: Sequence[Optimizer] = (),
    ) -> None:
        self.step = step
        self.total_steps = total_steps
        self.n_sites = n_sites
        self.device = torch.device(device)
        self.generator = generator if generator is not None else torch.Generator(self.device).manual_seed(step)
        self.optimizers = tuple(optimizers)

    def parts(self, batch: Batch) -> Sequence[Batch]:
        """The micro-batches of a step (gradient accumulation); here the batch itself."""
        return (batch,)

    def loss(self, method: Method, batch: Batch) -> dict[str, Tensor]:
        """`method.loss(batch, self)`, under the loop's precision and processes."""
        return method.loss(batch, self)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate, scaled as precision and accumulation ask."""
        loss.backward()  # type: ignore[no-untyped-call]

    def apply(self, optimizer: Optimizer) -> None:
        """Clip and step."""
        optimizer.step()

    def unlabelled(self) -> Batch:
        """A batch of unlabelled images of the target site, for a method whose card asks for them.

        Its `target` is all -1 and its `site` all -1.

        Raises:
            SettingsError: the card of the method does not declare `unlabelled_target`.
        """
        raise SettingsError("no unlabelled target images here: the method's card must say unlabelled_target=True")

    def training_batches(self, n: int) -> Iterator[Batch]:
        """`n` more training batches (for batch-norm refresh), without touching the order of the training itself."""
        raise SettingsError("this loop gives no further training batches")


@dataclass(frozen=True)
class Card:
    """What a method says of itself; the catalogue, the docs and the advice on shifts are read off it.

    Attributes:
        name: its name in the registry and on the command line.
        title: full name.
        paper: authors, year and where; "ours" where it is.
        tasks, dims: what it works for.
        needs_sites: it uses `Batch.site`.
        unlabelled_target: it sees unlabelled images of the held-out site (stamped on every table).
        maps: names of per-case maps that it needs.
        shift: shifts that it is made for: acquisition, population, prevalence, annotation, manifestation.
        assumption: one sentence.
        defaults: every option with its default.
        ranges: (low, high) of the numeric options, for tuning.
        files: options that name a file; its content is part of what a run is.
        imports: options that may be an import path, `package.module:Class`, whose code is run where it is trusted.
        null: options under which it is exactly ERM; None where there are none.
        later: neutral values of options that were added after the first runs (`elsewhere.identity`).
    """

    name: str
    title: str
    paper: str
    assumption: str
    shift: tuple[str, ...]
    tasks: tuple[str, ...] = ("segmentation", "classification")
    dims: tuple[int, ...] = (2, 3)
    needs_sites: bool = False
    unlabelled_target: bool = False
    maps: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    null: Mapping[str, Any] | None = None
    later: Mapping[str, Any] = field(default_factory=dict)


class Method(nn.Module):
    """Base of all methods: a network, a task, and the hooks of a training; as it stands it is ERM.

    A method overrides the one thing that it changes. Options come by keyword, are checked against the card, and are
    attributes of `self.options`.

    Every validation calls `method.eval()` before and `method.train()` after it, so all modules of the method are in
    training mode again, whatever mode they were in. A part that must stay frozen in eval mode (a teacher, a pretrained
    backbone whose batch-norm statistics are kept) overrides `train()`: `return super().train(False)`.

    Args:
        network: (B, C, *spatial) -> logits, (B, K, *spatial) for segmentation, (B, K) for classification.
        task: loss, metrics and decoding.
        n_sites: number of development sites.
        options: the method's own; see `card.defaults`.

    Raises:
        SettingsError: an option that the card does not have.
    """

    card: ClassVar[Card]

    def __init__(self, network: nn.Module, task: Task, *, n_sites: int = 1, **options: Any) -> None:
        super().__init__()
        unknown = sorted(set(options) - set(self.card.defaults))
        if unknown:
            known = ", ".join(sorted(self.card.defaults)) or "none"
            raise SettingsError(f"method {self.card.name}: unknown option {unknown[0]!r}; it has: {known}")
        self.network = network
        self.task = task
        self.n_sites = n_sites
        self.options: dict[str, Any] = {**self.card.defaults, **options}
        self.check(self.options)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse options that make no sense, before anything is read or trained.

        Args:
            options: all of them, each of the type of its default.

        Raises:
            SettingsError: says which.
        """

    @classmethod
    def own_files(cls, options: Mapping[str, Any]) -> dict[str, Path]:
        """Files of this package that are read where `options` name none, by the option that would name them.

        Like the files of `card.files` they are part of what a run is: a new version may bring others.
        """
        return {}

    def forward(self, image: Tensor) -> Tensor:
        """What is deployed: image (B, C, *spatial) to logits."""
        logits: Tensor = self.network(image)
        return logits

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The objective under the key "loss", and whatever else is worth logging; scalars."""
        return {"loss": self.task.loss(self(batch.image), batch.target).mean()}

    def saved_options(self) -> dict[str, Any]:
        """Options with which a saved model is built again, where files that `options` name may be missing."""
        return dict(self.options)

    def optimizers(self, make: OptimizerFactory) -> list[Optimizer]:
        """One optimiser over all parameters; `make(parameters, **changes)` builds one with the recipe's settings."""
        return [make(p for p in self.parameters() if p.requires_grad)]

    def update(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """One step: zero, loss, backward, step; returns what `loss` returned, its mean over the cases of the step."""
        (optimizer,) = context.optimizers
        optimizer.zero_grad(set_to_none=True)
        mean: dict[str, Tensor] = {}
        for part in context.parts(batch):
            losses = context.loss(self, part)
            context.backward(losses["loss"])
            share = len(part) / len(batch)
            for name, value in losses.items():
                mean[name] = mean[name] + value.detach() * share if name in mean else value.detach() * share
        context.apply(optimizer)
        return mean

    def after_validation(self, score: float, context: Context) -> None:
        """Called with the validation score (higher is better) each time it is measured."""

    def finish(self, context: Context) -> None:
        """Called once after the last step, before the model `last` is saved: averages, batch-norm refresh."""


class OptimizerFactory(Protocol):
    """Builds optimisers with the recipe's kind, learning rate and weight decay; `changes` override them for one."""

    def __call__(self, parameters: Any, **changes: Any) -> Optimizer:
        """An optimiser over `parameters` (tensors, or groups as torch takes them)."""
        ...
