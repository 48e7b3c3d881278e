"""What a method is handed by the trainer: precision, accumulation, clipping and processes, all through Fabric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

from elsewhere.methods import Batch, Context, Method
from elsewhere.training.randomness import number


class Objective(nn.Module):
    """A method as Fabric wraps it: its forward runs any call, so that autocast and DDP hold for `loss`, not `forward`.

    A call and not a batch goes through the wrapper because Fabric and DDP take their arguments apart, and a method's
    batch is a frozen dataclass.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, call: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Whatever `call` returns."""
        return call()


class FabricContext(Context):
    """The trainer's `Context`; one for a training, moved on by `begin`.

    Under DDP each process calls `loss` on its own slice of the batch and gradients are averaged; quantities that are
    not means over cases (V-REx's variance) are computed within each slice, as they are within each accumulated part.

    Args:
        fabric: launched.
        module: `Objective(method)` as set up by `fabric.setup`.
        optimizers: as set up by `fabric.setup`.
        total_steps: of the training.
        n_sites: development sites.
        seed: of the training.
        accumulate: parts of a step's batch.
        clip: largest norm of the gradient; 0 for none.
        unlabelled: gives the unlabelled batch number k; None where the method's card does not ask for it.
        training_batches: gives the further training batch number k.
    """

    def __init__(
        self,
        fabric: Fabric,
        module: _FabricModule,
        optimizers: Sequence[Optimizer],
        *,
        total_steps: int,
        n_sites: int,
        seed: int,
        accumulate: int = 1,
        clip: float = 0.0,
        unlabelled: Callable[[int], Batch] | None = None,
        training_batches: Callable[[int], Batch] | None = None,
    ) -> None:
        super().__init__(
            total_steps=total_steps,
            n_sites=n_sites,
            generator=torch.Generator(fabric.device),
            device=fabric.device,
            optimizers=optimizers,
        )
        self._fabric, self._module, self._seed = fabric, module, seed
        self._accumulate, self._clip = accumulate, clip
        self._unlabelled, self._training_batches = unlabelled, training_batches
        self._weight, self._sync, self._asked = 1.0, True, 0

    def begin(self, step: int, what: str = "step") -> None:
        """Move on to `step`: its generator is a pure function of (seed, what, step, rank)."""
        self.step = step
        self.generator.manual_seed(number(self._seed, "context", what, step, self._fabric.global_rank))
        self._weight, self._sync, self._asked = 1.0, True, 0

    def parts(self, batch: Batch) -> Sequence[Batch]:
        """The accumulated parts; while they are iterated over, `backward` weighs each by its share of the batch."""
        return (batch,) if self._accumulate == 1 else _Parts(batch, self._accumulate, self._at)

    def _at(self, weight: float, sync: bool) -> None:
        self._weight, self._sync = weight, sync

    def loss(self, method: Method, batch: Batch) -> dict[str, Tensor]:
        """`method.loss`, through Fabric's wrapper; gradients of the processes meet at the last part only."""
        with self._fabric.no_backward_sync(self._module, enabled=not self._sync):
            losses: dict[str, Tensor] = self._module(lambda: method.loss(batch, self))
        return losses

    def backward(self, loss: Tensor) -> None:
        """Back-propagate the part's share of the loss."""
        with self._fabric.no_backward_sync(self._module, enabled=not self._sync):
            self._fabric.backward(loss if self._weight == 1.0 else loss * self._weight)

    def apply(self, optimizer: Optimizer) -> None:
        """Clip the gradients of this optimiser's parameters, and step."""
        if self._clip:
            # No error on infinite norms: under fp16 the scaler skips such a step; else the trainer checks the loss.
            self._fabric.clip_gradients(self._module, optimizer, max_norm=self._clip, error_if_nonfinite=False)
        optimizer.step()

    def unlabelled(self) -> Batch:
        """An unlabelled batch of the target; each call within a step gives another."""
        if self._unlabelled is None:
            return super().unlabelled()
        self._asked += 1
        return self._unlabelled(self.step * 16 + self._asked - 1)

    def training_batches(self, n: int) -> Iterator[Batch]:
        """`n` batches of an order of their own."""
        if self._training_batches is None:
            yield from super().training_batches(n)
            return
        for k in range(n):
            yield self._training_batches(self.step * n + k)


class _Parts(Sequence[Batch]):
    """Contiguous parts of a batch that tell the context, as they are iterated over, their weight and which is last."""

    def __init__(self, batch: Batch, n: int, at: Callable[[float, bool], None]) -> None:
        size = -(-len(batch) // n)
        self._batches = [batch.part(slice(i, i + size)) for i in range(0, len(batch), size)]
        self._total, self._at = len(batch), at

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | Sequence[Batch]:
        return self._batches[index]

    def __iter__(self) -> Iterator[Batch]:
        for i, part in enumerate(self._batches):
            self._at(len(part) / self._total, i == len(self) - 1)
            yield part
        self._at(1.0, True)
