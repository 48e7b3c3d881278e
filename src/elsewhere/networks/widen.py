"""More input channels for a network that is already built: the layers that take the image itself get wider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from elsewhere.errors import SettingsError
from elsewhere.networks.sparse import leave_out_zeros

SIZES = (64, 32, 96, 128, 224, 256)
"""Of the image that is sent through the network to see which layers take it; the first that it accepts."""

Shapes = list[tuple[int, ...]]


def input_channels(network: nn.Module) -> int:
    """Channels of the image that a network takes: those of its first convolution.

    Raises:
        SettingsError: it has no convolution.
    """
    for module in network.modules():
        if isinstance(module, _ConvNd):
            return int(module.in_channels)
    raise SettingsError(f"{type(network).__name__} has no convolution: it cannot be given more input channels")


def widen(network: nn.Module, extra: int, dims: int) -> list[str]:
    """Let a network take `extra` more channels behind those of its image, in place.

    Every convolution that takes the image itself (in a residual first block there are two) is rebuilt. Its outputs
    keep the scale that the network's own initialisation gave them: the weights of the image's channels stay as they
    were drawn, those of the further channels are drawn from a normal distribution of the same deviation, and all are
    multiplied by sqrt(channels before / channels after) (our choice). Biases stay. In training on a CPU they leave out
    channels that are 0 in the whole batch (`networks.sparse`). Drawn from torch's global generator,
    as all weights of a new network are.

    Args:
        network: image (B, C, *spatial) to anything.
        extra: channels more.
        dims: 2 or 3.

    Returns:
        Names of the layers that were rebuilt.

    Raises:
        SettingsError: the image first meets a layer that cannot be widened (grouped, a normalisation, no convolution),
            or meets one later, too (joined or added to what the network made of it).
    """
    channels = input_channels(network)
    layers, size, shapes = _first_layers(network, channels, dims)
    names = {id(module): name for name, module in network.named_modules()}
    for layer in layers:
        _widen(layer, extra, names[id(layer)])
    found = [names[id(layer)] for layer in layers]
    _check(network, channels + extra, (size,) * dims, shapes, found)
    return found


def _widen(layer: _ConvNd, extra: int, name: str) -> None:
    if layer.groups != 1:
        raise SettingsError(f"layer {name} takes the image in {layer.groups} groups: it cannot be given more channels")
    before = layer.weight.detach()
    more = before.new_empty(before.shape[0], extra, *before.shape[2:]).normal_() * before.std()
    weight = torch.cat([before, more], dim=1) * (before.shape[1] / (before.shape[1] + extra)) ** 0.5
    layer.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    layer.in_channels += extra
    leave_out_zeros(layer)


def _first_layers(network: nn.Module, channels: int, dims: int) -> tuple[list[_ConvNd], int, Shapes]:
    """Convolutions that take the image, as it is or after steps without weights (padding, casts), in their order.

    With the size of the image that went through, and the shapes of what came out.
    """
    refused: Exception | None = None
    for size in SIZES:
        seen = _Seen(channels)
        try:
            shapes = _shapes(network, (1, channels, *(size,) * dims), seen)
        except SettingsError:
            raise
        except Exception as error:  # a size that this network does not take
            refused = error
            continue
        return seen.layers(network), size, shapes
    raise SettingsError(f"{type(network).__name__}: no image of {SIZES} pixels a side went through it ({refused})")


def _check(network: nn.Module, channels: int, spatial: tuple[int, ...], shapes: Shapes, layers: list[str]) -> None:
    """The wider image must go through, and what comes out must be as large as before."""
    wrong = f"{type(network).__name__}: its image is taken in more places than {', '.join(layers)}: cannot widen it"
    try:
        found = _shapes(network, (1, channels, *spatial))
    except Exception as error:  # whatever an operation raises that expects as many channels as before
        raise SettingsError(
            f"{wrong} ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    if found != shapes:
        raise SettingsError(f"{wrong} (its output would be {found[0]} instead of {shapes[0]})")


def _shapes(network: nn.Module, image: tuple[int, ...], seen: _Seen | None = None) -> Shapes:
    """Of all tensors that come out for an image of a shape, in evaluation mode; nothing is computed."""
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()  # batch normalisation of one value a channel is refused in training mode
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _quiet(), seen or nullcontext():
            given = torch.empty(image)
            if seen is not None:
                seen.mark(given)
            out = network(given)
            return [tuple(leaf.shape) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that torch logs of an operation that fails on fake tensors: what it raises says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d, *(getattr(nn.functional, f"conv{d}d") for d in (1, 2, 3))}


class _Seen(TorchFunctionMode):
    """Follows an image through a network and writes down the weights that it meets first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.images: dict[int, Tensor] = {}  # by id; kept, so that no id is used twice
        self.weights: list[Tensor] = []

    def mark(self, image: Tensor) -> None:
        self.images[id(image)] = image

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [*args, *kwargs.values()]
        takes_image = any(id(value) in self.images for value in given)
        if takes_image and func in CONVOLUTIONS:
            self.weights.append(kwargs["weight"] if "weight" in kwargs else args[1])
            return func(*args, **kwargs)
        if takes_image and any(isinstance(value, nn.Parameter) for value in given):
            name = getattr(func, "__name__", str(func))
            raise SettingsError(
                f"the image first meets {name}, which has weights and is no convolution: cannot widen it"
            )
        result = func(*args, **kwargs)
        if takes_image and isinstance(result, Tensor) and result.ndim > 2 and result.shape[1] == self.channels:
            self.mark(result)
        return result

    def layers(self, network: nn.Module) -> list[_ConvNd]:
        """The convolutions that own the weights."""
        found = []
        for weight in self.weights:
            owner = [m for m in network.modules() if isinstance(m, _ConvNd) and m.weight is weight]
            if not owner:
                raise SettingsError("a weight that takes the image belongs to no convolution layer: cannot widen it")
            found += [layer for layer in owner[:1] if layer not in found]
        if not found:
            raise SettingsError(f"{type(network).__name__}: no convolution takes the image: cannot widen it")
        return found
