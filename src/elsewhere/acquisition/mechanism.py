"""What every acquisition mechanism is: a deterministic operation with explicit parameters, and their distribution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from elsewhere.errors import SettingsError

Parameters = dict[str, Tensor]
"""Parameters of a mechanism by name, each with the batch first; a batch of 1 applies to any number of images."""

Between = float | tuple[float, float]
"""A range to draw from uniformly, (low, high), or one number that is always taken."""


class Mechanism(ABC):
    """One way in which a site makes an image: ranges to draw parameters from, and the operation with given parameters.

    Subclasses are frozen dataclasses. `limits` names the fields that are ranges and what they may lie in; these are
    parsed once, so that a field given as one number becomes (number, number). `fresh` names the parameters that belong
    to one image rather than to a site (noise fields): `Scanner.site` keeps all others and draws these anew.

    Strengths are relative to each image's own intensity range (its lowest to its highest value over all channels), so
    that a mechanism does the same to an image in [0, 1], z-scored, or in HU. Unless its docstring says otherwise it
    promises f(a x + b) = a f(x) + b for a > 0.
    """

    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}
    fresh: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for name, allowed in self.limits.items():
            pair = parse_range(f"{type(self).__name__}: {name}", getattr(self, name), allowed)
            object.__setattr__(self, name, pair)

    @abstractmethod
    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """Parameters for images of `shape` (B, C, *spatial), on the generator's device."""

    @abstractmethod
    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """The mechanism with these parameters: image (B, C, *spatial) to the same; nothing here is random."""

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Draw parameters for each image, and apply."""
        return self.apply(image, self.draw(image.shape, generator))

    def uniform(self, name: str, size: Sequence[int], generator: torch.Generator, *, log: bool = False) -> Tensor:
        """Numbers of the given size drawn uniformly (or uniformly in the logarithm) from the range of field `name`."""
        low, high = getattr(self, name)
        return draw_uniform(size, (low, high), generator, log=log)


@dataclass(frozen=True, eq=False)
class Fixed(Mechanism):
    """A mechanism some of whose parameters are fixed, the others drawn: a site's own scanner, with fresh noise.

    Args:
        mechanism: what is applied.
        parameters: numbers or tensors by name. A tensor has the batch first, as `mechanism.draw` makes it, with a
            batch of 1; a number, or a tensor without any axis, is taken for all of the parameter's elements.
    """

    mechanism: Mechanism
    parameters: Mapping[str, float | Tensor]

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """The drawn parameters, with the fixed ones put in their place."""
        drawn = self.mechanism.draw(shape, generator)
        for name, value in self.parameters.items():
            if name not in drawn:
                raise SettingsError(
                    f"{type(self.mechanism).__name__} has no parameter {name!r}; it has: {', '.join(sorted(drawn))}"
                )
            like = drawn[name]
            fixed = torch.as_tensor(value, dtype=like.dtype, device=like.device)
            try:
                drawn[name] = fixed.expand((shape[0], *fixed.shape[1:])) if fixed.ndim else fixed.expand_as(like)
            except RuntimeError as error:
                raise SettingsError(
                    f"{type(self.mechanism).__name__}: parameter {name!r} has shape {tuple(fixed.shape)}, "
                    f"wanted (1, ...) like {tuple(like.shape)}"
                ) from error
        return drawn

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """As the mechanism within."""
        return self.mechanism.apply(image, parameters)


def parse_range(name: str, value: Any, allowed: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
    """(low, high) from a number or a pair.

    Raises:
        SettingsError: not a number or a pair, not finite, low above high, or outside `allowed`.
    """
    try:
        low, high = (float(value), float(value)) if isinstance(value, int | float) else map(float, value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} is {value!r}, wanted a number or a pair (low, high)") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SettingsError(f"{name} is ({low:g}, {high:g}), wanted finite numbers")
    if low > high:
        raise SettingsError(f"{name} is ({low:g}, {high:g}), wanted the lower number first")
    if low < allowed[0] or high > allowed[1]:
        raise SettingsError(f"{name} is ({low:g}, {high:g}), wanted numbers from {allowed[0]:g} to {allowed[1]:g}")
    return low, high


def parse_probability(name: str, value: Any) -> float:
    """A number from 0 to 1.

    Raises:
        SettingsError: it is not.
    """
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingsError(f"{name} is {value!r}, wanted a probability from 0 to 1")
    return float(value)


def draw_uniform(
    size: Sequence[int], between: tuple[float, float], generator: torch.Generator, *, log: bool = False
) -> Tensor:
    """Uniform numbers in `between`, on the generator's device; uniform in their logarithm with `log`."""
    low, high = (math.log(between[0]), math.log(between[1])) if log else between
    numbers = torch.rand(tuple(size), generator=generator, device=generator.device) * (high - low) + low
    return numbers.exp() if log else numbers


def draw_normal(size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal numbers on the generator's device."""
    return torch.randn(tuple(size), generator=generator, device=generator.device)


def draw_coin(size: Sequence[int], probability: float, generator: torch.Generator) -> Tensor:
    """1.0 with the given probability, else 0.0, on the generator's device."""
    return (torch.rand(tuple(size), generator=generator, device=generator.device) < probability).float()


def lead(parameter: Tensor, image: Tensor, n: int = 1) -> Tensor:
    """A parameter whose first `n` axes are those of `image` (B, C, ...), shaped to broadcast with it, in its dtype."""
    shape = (*parameter.shape[:n], *(1,) * (image.ndim - n))
    return parameter.to(image).reshape(shape)


def per_axis(parameter: Tensor, image: Tensor) -> Tensor:
    """(b,) or (b, dims), one number an image or one an axis, as (B, dims) in the image's dtype."""
    dims = image.ndim - 2
    parameter = parameter.to(image)
    return (parameter[:, None] if parameter.ndim == 1 else parameter).expand(image.shape[0], dims)


def images_at_once(image: Tensor) -> int:
    """How many images of a batch (B, ...) to work on together.

    On a CPU as many as stay in its cache from one operation to the next, about 2^18 numbers (1 MB) and at least one
    image; all on any other device, or where gradients are wanted, whose graph would grow with the number of parts.
    """
    if image.device.type != "cpu" or (image.requires_grad and torch.is_grad_enabled()):
        return max(1, len(image))
    return max(1, 2**18 // max(1, image[:1].numel()))


def extent(image: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest value and span (highest minus lowest) of each image over channels and space, both (B, 1, 1, ...)."""
    axes = tuple(range(1, image.ndim))
    low = image.amin(axes, keepdim=True)  # on a CPU `aminmax` along an axis is five times as slow as both
    return low, image.amax(axes, keepdim=True) - low


def to_unit(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The image brought to [0, 1] by its own extent, and that extent; a constant image becomes 0.

    Undone by `low + span * unit`.
    """
    low, span = extent(image)
    return (image - low).mul_(span.clamp_min(torch.finfo(image.dtype).tiny).reciprocal()), low, span


def positions(shape: Sequence[int], like: Tensor) -> list[Tensor]:
    """Coordinates of the pixel centres along each axis, from -1 to 1 between outer edges, shaped to broadcast.

    Returns a list with a tensor (1, ..., S, ..., 1) for each of the spatial axes in `shape`.
    """
    axes = []
    for axis, size in enumerate(shape):
        line = (torch.arange(size, device=like.device, dtype=like.dtype) * 2 + 1) / size - 1
        axes.append(line.view([-1 if a == axis else 1 for a in range(len(shape))]))
    return axes
