"""What a case looks like to the model and before it: features by a hook, and statistics of the raw input."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from elsewhere.networks.stable import Extractor
from elsewhere.study.case import StoredCase
from elsewhere.study.resample import canonical_geometry

PERCENTILES = (1, 25, 50, 75, 99)

MOST_VALUES = 2**20
"""Voxels of a channel that input statistics look at; of more, evenly spread ones (our choice)."""

SAME = 0.05
"""A relative change of size, spacing or sharpness that is none, as `resample.SAME_SPACING` (our choice)."""


class Enough(Exception):
    """Stops a model once its features are known."""


class FeatureTap:
    """Listens at one layer of a model while it runs; neither the network nor the method needs to know.

    - Classification: the input of the last layer with weights that is run, the pooled vector that the classes are
      read off.
    - Segmentation: the input of the layer with the most input channels, of several the one on the coarsest grid, of
      these the last: the bottleneck of a U-Net. It is averaged over positions, and over the windows of an image.

    Layers are `nn.Linear` and all convolutions that are no part of a frozen `Extractor`: its features are made to stay
    when the acquisition changes, which is what the score has to notice. Which layer it is, the first forward pass
    tells, and in the same model it is always the same. A model (or its method) may offer a method `features(image)`,
    (B, C, *spatial) to (B, D) or (B, D, *positions), instead. Where there is neither, features have no elements.

    Use it as a context: hooks are there while the block runs and gone afterwards, and nothing of the model changes.
    One thread at a time.

    Args:
        model: in evaluation mode.
        kind: "segmentation" or "classification".
        stop: raise `Enough` where the features of a pass are known.
    """

    def __init__(self, model: nn.Module, kind: str, *, stop: bool = False) -> None:
        self.model = model
        self.kind = kind
        self.stop = stop
        self.layer: nn.Module | None = None
        self._offered = _offered(model)
        self._calls = 0  # of the layer in one pass
        self._heard: list[Tensor] = []  # (B, D) of each call since the last `take`
        self._trace: list[tuple[nn.Module, tuple[int, int], Tensor]] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> FeatureTap:
        if self._offered is not None:
            self._hooks = [self.model.register_forward_pre_hook(self._ask, with_kwargs=True)]
        elif self.layer is not None:
            self._hooks = [self.layer.register_forward_pre_hook(self._hear, with_kwargs=True)]
        else:
            layers = [m for m in _trained(self.model) if isinstance(m, nn.Linear | _ConvNd)]
            self._hooks = [layer.register_forward_pre_hook(self._record, with_kwargs=True) for layer in layers]
            self._hooks.append(self.model.register_forward_hook(self._choose))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._trace = []
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def fits(self, n: int) -> bool:
        """Each call since the last `take` had one row for each of `n` cases."""
        return all(len(rows) == n for rows in self._heard)

    def take(self, n: int) -> NDArray[np.float32]:
        """(n, D) features of the `n` cases run since the last call; all that was heard is the one case where n is 1."""
        heard, self._heard = self._heard, []
        if not heard:
            return np.zeros((n, 0), np.float32)
        rows = torch.cat(heard).double() if n == 1 else torch.stack(heard).double()
        mean = rows.mean(dim=0, keepdim=n == 1)
        return mean.cpu().numpy().astype(np.float32)

    def _record(self, layer: nn.Module, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        image = _first(args, more)
        pooled, positions = _pooled(layer, image)
        self._trace.append((layer, (pooled.shape[1], -positions), pooled))

    def _choose(self, *_: Any) -> None:
        """After the first pass."""
        trace, self._trace = self._trace, []
        self.__exit__(None, None, None)
        if not trace:
            return
        if self.kind == "classification":
            self.layer = trace[-1][0]
        else:
            self.layer = max(enumerate(trace), key=lambda item: (item[1][1], item[0]))[1][0]
        own = [pooled for layer, _, pooled in trace if layer is self.layer]
        self._calls = len(own)
        self._heard += own
        self.__enter__()

    def _hear(self, layer: nn.Module, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        self._heard.append(_pooled(layer, _first(args, more))[0])
        if self.stop and self._calls == 1:
            raise Enough

    def _ask(self, model: nn.Module, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        found: Tensor = self._offered(_first(args, more))
        self._heard.append(found if found.ndim == 2 else found.flatten(2).mean(dim=2))
        if self.stop:
            raise Enough


def _trained(model: nn.Module) -> list[nn.Module]:
    """All modules, each once, but those of extractors."""
    frozen = {id(part) for module in model.modules() if isinstance(module, Extractor) for part in module.modules()}
    return [module for module in model.modules() if id(module) not in frozen]


def _offered(model: nn.Module) -> Any:
    """A method `features`; a submodule of that name, as DenseNet has, is part of a network and no offer."""
    for owner in (model, getattr(model, "method", None)):
        found = getattr(owner, "features", None)
        if callable(found) and not isinstance(found, nn.Module):
            return found
    return None


def _first(args: tuple[Any, ...], more: dict[str, Any]) -> Tensor:
    image: Tensor = args[0] if args else next(iter(more.values()))
    return image


def _pooled(layer: nn.Module, image: Tensor) -> tuple[Tensor, int]:
    """(B, D) mean over positions of what goes into a layer, and the number of positions."""
    if isinstance(layer, nn.Linear):  # (B, *positions, D)
        flat = image.reshape(len(image) if image.ndim > 1 else 1, -1, image.shape[-1])
        return flat.float().mean(dim=1), flat.shape[1]
    assert isinstance(layer, _ConvNd)
    if image.ndim < layer.weight.ndim:
        image = image[None]
    flat = image.flatten(2)
    return flat.float().mean(dim=2), flat.shape[2]


def input_names(channels: tuple[str, ...], dims: int) -> tuple[str, ...]:
    """A name for each of the numbers of `input_statistics`."""
    own = ("mean", "sd", *(f"percentile {q}" for q in PERCENTILES), "log sharpness")
    per_channel = tuple(f"{channel}: {name}" for channel in channels for name in own)
    return per_channel + tuple(f"log {what} axis {axis}" for what in ("size", "spacing") for axis in range(dims))


def input_statistics(stored: StoredCase) -> NDArray[np.float32]:
    """Statistics of a case before any network: what its intensities are, how sharp it is, how large its voxels are.

    Args:
        stored: the case; intensities as in the file, on the grid of the preprocessing.

    Returns:
        (8 C + 2 dims,) float32: for each channel mean, standard deviation, `PERCENTILES` and the logarithm of the
        mean squared difference of neighbours over the variance; then the logarithms of the file's voxels per axis and
        of its spacing in mm (canonical axes). NaN is "not known": a spacing that the file does not tell, the
        sharpness of a constant channel.
    """
    found: list[float] = []
    for channel in stored.image:
        values = _spread(channel)
        variance = float(values.var())
        found += [float(values.mean()), math.sqrt(variance), *np.percentile(values, PERCENTILES).tolist()]
        found.append(_log(_gradient_energy(channel) / variance) if variance > 0 else math.nan)
    original = canonical_geometry(stored.original)
    found += [math.log(n) for n in original.shape]
    found += [_log(s) for s in original.spacing or (math.nan,) * len(original.shape)]
    return np.array(found, np.float32)


def input_tolerance(n_channels: int, dims: int) -> NDArray[np.float64]:
    """(P,) changes of `input_statistics` that are none: `SAME` for logarithms; for intensities their spread tells."""
    return np.array(([0.0] * (2 + len(PERCENTILES)) + [SAME]) * n_channels + [SAME] * (2 * dims))


def _spread(channel: NDArray[Any]) -> NDArray[np.float64]:
    """Evenly spread voxels (n,), `MOST_VALUES` at most."""
    flat = channel.reshape(-1)
    step = -(-flat.size // MOST_VALUES)
    while math.gcd(step, flat.size) > 1 and step > 1:  # else some rows or columns would never be met
        step += 1
    return flat[::step].astype(np.float64)


def _gradient_energy(channel: NDArray[Any]) -> float:
    """Mean squared difference of neighbours, each axis counting alike; of evenly chosen planes where it is large."""
    n = channel.shape[0]
    planes = max(1, min(n - 1, MOST_VALUES // max(1, channel[0].size)))
    here = np.arange(planes) * max(n - 1, 1) // planes
    some = channel[here].astype(np.float64)
    squares = [float(((channel[here + 1] - some) ** 2).mean())] if n > 1 else []
    squares += [float((np.diff(some, axis=axis) ** 2).mean()) for axis in range(1, some.ndim) if some.shape[axis] > 1]
    return float(np.mean(squares)) if squares else math.nan


def _log(value: float) -> float:
    return math.log(max(value, 1e-12)) if math.isfinite(value) else math.nan
