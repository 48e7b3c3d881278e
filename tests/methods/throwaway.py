"""Small throwaway methods that stretch the contract, each in its own direction; none is part of the package."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elsewhere.methods import Batch, Card, Context, Method, OptimizerFactory


def card(name: str, **rest: Any) -> Card:
    return Card(name=name, title=name, paper="throwaway, to try the contract", assumption="none", shift=(), **rest)


def pooled(logits: Tensor) -> Tensor:
    return logits.flatten(2).mean(2) if logits.ndim > 2 else logits


class DANN(Method):
    """Its own optimiser for a site discriminator, updated in turn with the network."""

    card = card("throwaway-dann", needs_sites=True, defaults={"weight": 0.1})

    def __init__(self, network: nn.Module, task: Any, *, n_sites: int = 1, **options: Any) -> None:
        super().__init__(network, task, n_sites=n_sites, **options)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.discriminator = nn.Linear(task.n_outputs, n_sites)

    def optimizers(self, make: OptimizerFactory) -> list[Optimizer]:
        return [make(self.network.parameters()), make(self.discriminator.parameters(), learning_rate=0.05)]

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        logits = self(batch.image)
        sites = nn.functional.cross_entropy(self.discriminator(pooled(logits)), batch.site)
        if context.step % 2:  # the discriminator's turn
            return {"loss": sites, "sites": sites.detach()}
        return {"loss": self.task.loss(logits, batch.target).mean() - self.options["weight"] * sites}

    def update(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        optimizer = context.optimizers[context.step % 2]
        for each in context.optimizers:
            each.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for part in context.parts(batch):
            losses = context.loss(self, part)
            context.backward(losses["loss"])
        context.apply(optimizer)
        return losses


class SAM(Method):
    """Two passes a step: climb to the worst weights within `rho`, take the gradient there, step from where one was."""

    card = card("throwaway-sam", defaults={"rho": 0.05})

    def update(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        (optimizer,) = context.optimizers
        self._gradient(batch, context, optimizer)
        weights = [p for p in self.parameters() if p.grad is not None]
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in weights if p.grad is not None]).norm() + 1e-12
            climbs = [self.options["rho"] * p.grad / norm for p in weights if p.grad is not None]
            for p, climb in zip(weights, climbs, strict=True):
                p.add_(climb)
        losses = self._gradient(batch, context, optimizer)
        with torch.no_grad():
            for p, climb in zip(weights, climbs, strict=True):
                p.sub_(climb)
        context.apply(optimizer)
        return losses

    def _gradient(self, batch: Batch, context: Context, optimizer: Optimizer) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for part in context.parts(batch):
            losses = context.loss(self, part)
            context.backward(losses["loss"])
        return losses


class SWAD(Method):
    """Average the weights at each validation from the best on, put the average in at the end, refresh batch norm."""

    card = card("throwaway-swad")

    def __init__(self, network: nn.Module, task: Any, *, n_sites: int = 1, **options: Any) -> None:
        super().__init__(network, task, n_sites=n_sites, **options)
        for i, p in enumerate(network.parameters()):  # buffers: a checkpoint keeps them
            self.register_buffer(f"average{i}", torch.zeros_like(p))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("best", torch.full((), -float("inf"), dtype=torch.float64))

    def after_validation(self, score: float, context: Context) -> None:
        if score > float(self.best):
            self.best.fill_(score)
        if score >= float(self.best) - 0.5:
            self.count += 1
            for i, p in enumerate(self.network.parameters()):
                average = self.get_buffer(f"average{i}")
                average += (p.detach() - average) / self.count

    @torch.no_grad()
    def finish(self, context: Context) -> None:
        if int(self.count) == 0:
            return
        for i, p in enumerate(self.network.parameters()):
            p.copy_(self.get_buffer(f"average{i}"))
        norms = [m for m in self.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.train()
        for batch in context.training_batches(3):
            self(batch.image)


class Masked(Method):
    """Reads a per-case map: noise outside of the field of view, more on the first batch."""

    card = card("throwaway-map", maps=("fov",))

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        view = batch.maps["fov"]
        noise = torch.randn(batch.image.shape, generator=context.generator, device=batch.image.device)
        logits = self(batch.image + noise * (1 - view))
        return {"loss": self.task.loss(logits, batch.target).mean(), "view": view.mean()}


class Transductive(Method):
    """Sees unlabelled images of the target: asks for confident answers there."""

    card = card("throwaway-unlabelled", unlabelled_target=True, defaults={"weight": 0.1})

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        risk = self.task.loss(self(batch.image), batch.target).mean()
        target = context.unlabelled()
        assert bool((target.target == -1).all())
        log_p = self(target.image).log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        return {"loss": risk + self.options["weight"] * entropy, "entropy": entropy.detach()}


ALL = (DANN, SAM, SWAD, Masked, Transductive)
