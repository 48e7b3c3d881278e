"""A training step through elsewhere beside the same step in a bare PyTorch loop: same network, batch, loss, optimiser.

Both clip the gradient and read the loss, as anybody would; elsewhere's step is all of `Loop`'s: learning rate, seeding,
Fabric, the method's `update`, the log. Target: at most 1.10 x.

    python benchmarks/training_step.py --pairs 60 --out training_step.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from elsewhere import methods, networks, tasks
from elsewhere.methods import Batch
from elsewhere.training.context import FabricContext, Objective
from elsewhere.training.log import Log
from elsewhere.training.loop import Loop
from elsewhere.training.optimisation import factory, remember_rates
from elsewhere.training.settings import Settings
from pairs import compare


class Fixed:
    """Gives the same batch at every step."""

    def __init__(self, batch: Batch) -> None:
        self.fixed = batch

    def batch(self, step: int) -> Batch:
        return self.fixed


def make_loop(method: methods.Method, batches: Any, settings: Settings, folder: Path) -> Loop:
    """A loop as `train` makes it, without validation, oracle and checkpoints."""
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizers = method.optimizers(factory(settings))
    remember_rates(optimizers)
    module, *wrapped = fabric.setup(Objective(method), *optimizers)
    context = FabricContext(fabric, module, wrapped, total_steps=settings.steps, n_sites=2, seed=0, clip=settings.clip)
    loop = Loop(
        fabric, method, wrapped, context, batches, settings,
        seed=0, folder=folder, identity={}, validate=None, oracle=None, progress=None,
    )  # fmt: skip
    loop._log = Log(folder / "log.csv")
    return loop


def step_of(loop: Loop) -> Callable[[], None]:
    """One step of a loop, with its share of the log."""

    def step() -> None:
        loop._step()
        if loop.state.step % loop.settings.log_every == 0:
            loop._flush()

    return step


def build(dims: int) -> methods.Method:
    task = tasks.create("segmentation", dims, ("background", "vessel"))
    network = networks.build("unet", dims=dims, in_channels=3 if dims == 2 else 1, out_channels=2)
    return methods.create("erm", network, task, n_sites=2).train()


def make_batch(dims: int, size: int, n: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (n, 3 if dims == 2 else 1, *(size,) * dims)
    target = (torch.rand(n, *(size,) * dims, generator=generator) > 0.9).long()
    return Batch(torch.randn(shape, generator=generator), target, torch.arange(n) % 2, case=("case",) * n)


def measure(dims: int, size: int, n: int, pairs: int) -> dict[str, Any]:
    settings, batch = Settings(steps=100_000), make_batch(dims, size, n)
    method = build(dims)
    network, task = method.network, method.task  # the very same weights: both sides train them
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)

    def bare() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(network(batch.image), batch.target).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        return loss.item()

    with tempfile.TemporaryDirectory() as folder:
        ours = step_of(make_loop(method, Fixed(batch), settings, Path(folder)))
        found = compare(ours, bare, pairs)
    return {"dims": dims, "size": size, "batch": n, **found, "target": 1.10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = [measure(2, 128, 4, options.pairs), measure(3, 32, 2, options.pairs)]
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
