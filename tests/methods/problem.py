"""A tiny problem on which every method is tried: images whose bright blob is the target, from three sites."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from elsewhere.methods import Batch, Context, Method
from elsewhere.tasks import create


class Net(nn.Module):
    """Two convolutions with batch norm; dense logits, or pooled ones for classification."""

    def __init__(self, dims: int, outputs: int, kind: str, seed: int = 0) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        norm = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(convolution(1, 6, 3, padding=1), norm(6), nn.ReLU())
            self.head = convolution(6, outputs, 1)
        self.kind = kind

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        logits: Tensor = self.head(features)
        return logits if self.kind == "segmentation" else logits.flatten(2).mean(2)


def make_task(kind: str, dims: int) -> Any:
    return create(kind, dims, ("background", "blob") if kind == "segmentation" else ("normal", "blob"))


def make_batch(kind: str, dims: int, seed: int = 0, n: int = 6, size: int = 12) -> Batch:
    """`n` cases of three sites; the sites differ in gain, so that their risks differ."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.3 * torch.randn(n, 1, *(size,) * dims, generator=generator)
    mask = torch.zeros(n, *(size,) * dims, dtype=torch.int64)
    present = torch.arange(n) % 2 == 0
    for i in range(n):
        if present[i] or kind == "segmentation":
            corner = [int(torch.randint(0, size - 5, (1,), generator=generator)) for _ in range(dims)]
            mask[(i, *(slice(c, c + 5) for c in corner))] = 1
    site = torch.arange(n) % 3
    gain = torch.tensor([0.5, 1.0, 2.0])[site].reshape(n, *(1,) * (dims + 1))
    image = (image + 1.5 * mask[:, None]) * gain
    target = mask if kind == "segmentation" else present.long()
    return Batch(image, target, site, maps={"fov": torch.ones_like(image)}, case=tuple(f"c{i}" for i in range(n)))


class Factory:
    """Optimisers for a plain loop."""

    def __init__(self, kind: str = "adamw", learning_rate: float = 0.02) -> None:
        self.kind, self.learning_rate = kind, learning_rate

    def __call__(self, parameters: Any, **changes: Any) -> Optimizer:
        rate = changes.get("learning_rate", self.learning_rate)
        return SGD(parameters, lr=rate) if self.kind == "sgd" else AdamW(parameters, lr=rate)


class LoopContext(Context):
    """The plain context, with a target site to look at and more batches to refresh a batch norm."""

    def __init__(self, kind: str, dims: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.kind, self.dims = kind, dims

    def unlabelled(self) -> Batch:
        batch = make_batch(self.kind, self.dims, seed=99)
        return Batch(3 - batch.image, torch.full_like(batch.target, -1), torch.full_like(batch.site, -1))

    def training_batches(self, n: int) -> Any:
        return (make_batch(self.kind, self.dims, seed=1000 + i) for i in range(n))


def train(method: Method, kind: str, dims: int, steps: int, factory: Factory | None = None) -> list[float]:
    """A bare loop of `steps` over the same two batches; the losses."""
    optimizers = method.optimizers(factory or Factory())
    method.train()
    losses = []
    for step in range(steps):
        context = LoopContext(
            kind,
            dims,
            step=step,
            total_steps=steps,
            n_sites=3,
            generator=torch.Generator().manual_seed(step),
            optimizers=optimizers,
        )
        logged = method.update(make_batch(kind, dims, seed=step % 2), context)
        losses.append(float(logged["loss"].detach()))
        if (step + 1) % 5 == 0:
            method.after_validation(-losses[-1], context)
    method.finish(context)
    return losses
