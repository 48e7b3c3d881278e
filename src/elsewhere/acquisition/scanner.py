"""A scanner: mechanisms in their order, each used with some probability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import Fixed, Mechanism, Parameters, images_at_once, parse_probability
from elsewhere.errors import SettingsError


@dataclass(frozen=True, eq=False)
class Draw:
    """What a scanner does to one batch: replayed by `Scanner.apply`.

    Attributes:
        on: for each step, which images it touches, (B,) bool on the CPU (it decides what is computed).
        parameters: for each step, the parameters of the touched images only, in their order; empty where none is.
    """

    on: tuple[Tensor, ...]
    parameters: tuple[Parameters, ...]

    def split(self, batch: int, at_once: int) -> Iterator[tuple[slice, Draw]]:
        """Parts of a `batch`, and what is done to each; what was drawn for one image holds for all."""
        masks = tuple(on.expand(batch) for on in self.on)
        touched = [[0, *on.cumsum(0).tolist()] for on in masks]  # before each image: where its parameters begin
        for start in range(0, batch, at_once):
            stop = min(start + at_once, batch)
            drawn = []
            for rows, parameters in zip(touched, self.parameters, strict=True):
                here = slice(rows[start], rows[stop])
                drawn.append({name: value[here] if len(value) > 1 else value for name, value in parameters.items()})
            yield slice(start, stop), Draw(tuple(on[start:stop] for on in masks), tuple(drawn))

    def as_dict(self) -> dict[str, Tensor]:
        """A plain dictionary of tensors, `"0.on"`, `"0.sigma"`, ..., to be saved."""
        plain: dict[str, Tensor] = {}
        for step, (on, parameters) in enumerate(zip(self.on, self.parameters, strict=True)):
            plain[f"{step}.on"] = on
            plain.update({f"{step}.{name}": value for name, value in parameters.items()})
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Tensor]) -> Draw:
        """The draw that `as_dict` wrote.

        Raises:
            SettingsError: a key that is not `STEP.NAME`, or a step without its `on`.
        """
        steps: dict[int, Parameters] = {}
        for key, value in plain.items():
            number, _, name = key.partition(".")
            if not number.isdigit() or not name:
                raise SettingsError(f"draw: key {key!r} is not STEP.NAME, such as '0.sigma'")
            steps.setdefault(int(number), {})[name] = value
        missing = [n for n in range(max(steps, default=-1) + 1) if "on" not in steps.get(n, {})]
        if missing:
            raise SettingsError(f"draw: step {missing[0]} has no key '{missing[0]}.on'")
        on = tuple(steps[n].pop("on").to("cpu", torch.bool) for n in range(len(steps)))
        return cls(on, tuple(steps[n] for n in range(len(steps))))


@dataclass(frozen=True, init=False, eq=False)
class Scanner:
    """Mechanisms in their order, each applied to an image with its probability.

    Example:
        >>> scanner = Scanner([(Gamma((0.7, 1.5)), 0.5), (GaussianNoise((0.0, 0.1)), 0.2)])
        >>> generator = torch.Generator().manual_seed(0)
        >>> draw = scanner.draw(image.shape, generator)
        >>> augmented = scanner.apply(image, draw)

    Args:
        steps: (mechanism, probability) pairs; a mechanism alone has probability 1.

    Raises:
        SettingsError: a probability outside 0 to 1, or a step that is no mechanism.
    """

    steps: tuple[tuple[Mechanism, float], ...]

    def __init__(self, steps: Sequence[Mechanism | tuple[Mechanism, float]]) -> None:
        parsed = []
        for number, step in enumerate(steps):
            mechanism, probability = (step, 1.0) if isinstance(step, Mechanism) else step
            if not isinstance(mechanism, Mechanism):
                raise SettingsError(f"Scanner: step {number} is {mechanism!r}, wanted a mechanism")
            name = f"Scanner: probability of step {number} ({type(mechanism).__name__})"
            parsed.append((mechanism, parse_probability(name, probability)))
        object.__setattr__(self, "steps", tuple(parsed))

    @classmethod
    def fixed(cls, steps: Sequence[tuple[Mechanism, Mapping[str, float | Tensor]]]) -> Scanner:
        """A scanner that always does every step, with the parameters given; those not given are drawn each time."""
        return cls([Fixed(mechanism, dict(parameters)) for mechanism, parameters in steps])

    def site(self, generator: torch.Generator, *, channels: int = 1, dims: int = 2) -> Scanner:
        """One site's scanner, drawn from this distribution of scanners.

        Which steps it does, and all parameters but those of a single image (`Mechanism.fresh`, noise for one), are
        drawn here once. No other parameter depends on the images' size.
        """
        draw = self.draw((1, channels, *(32,) * dims), generator)
        steps: list[tuple[Mechanism, Mapping[str, float | Tensor]]] = []
        for (mechanism, _), on, parameters in zip(self.steps, draw.on, draw.parameters, strict=True):
            inner = mechanism.mechanism if isinstance(mechanism, Fixed) else mechanism
            if on.item():
                steps.append((inner, {k: v for k, v in parameters.items() if k not in inner.fresh}))
        return Scanner.fixed(steps)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Draw:
        """Which images each step touches, and its parameters for these; shape is (B, C, *spatial)."""
        # All masks at once: on a GPU the one copy to the CPU is the only wait.
        dice = torch.rand((len(self.steps), shape[0]), generator=generator, device=generator.device).cpu()
        masks, drawn = [], []
        for (mechanism, probability), row in zip(self.steps, dice, strict=True):
            on = row < probability
            touched = int(on.sum())
            masks.append(on)
            drawn.append(mechanism.draw((touched, *shape[1:]), generator) if touched else {})
        return Draw(tuple(masks), tuple(drawn))

    def apply(self, image: Tensor, draw: Draw, *, overwrite: bool = False) -> Tensor:
        """The image (B, C, *spatial) as this scanner makes it; a draw for a batch of 1 holds for every image.

        Images that no step touches keep every bit. The input is never written to, unless `overwrite` says that it is
        no longer needed (then it may be, which saves time; not for gradients of parameters).

        Raises:
            SettingsError: the draw is for another scanner or another batch.
        """
        if len(draw.on) != len(self.steps):
            raise SettingsError(f"Scanner: the draw has {len(draw.on)} steps, the scanner {len(self.steps)}")
        for on in draw.on:
            if on.shape[0] not in (1, image.shape[0]):
                raise SettingsError(f"Scanner: the draw is for {on.shape[0]} images, the batch has {image.shape[0]}")
        if not any(bool(on.any()) for on in draw.on):
            return image
        at_once = images_at_once(image)
        if at_once >= len(image):
            return self._apply(image, draw)
        out = image if overwrite else torch.empty_like(image)
        for part, drawn in draw.split(len(image), at_once):
            if not overwrite or any(bool(on.any()) for on in drawn.on):
                out[part] = self._apply(image[part], drawn)
        return out

    def _apply(self, image: Tensor, draw: Draw) -> Tensor:
        """All steps, one after the other."""
        ours = False  # whether `image` is a tensor of our own, which no autograd graph holds on to
        for (mechanism, _), on, parameters in zip(self.steps, draw.on, draw.parameters, strict=True):
            if bool(on.all()):
                image, ours = mechanism.apply(image, parameters), False
            elif bool(on.any()):
                index = on.nonzero().flatten().to(image.device)
                touched = mechanism.apply(image.index_select(0, index), parameters)
                image = image.index_copy_(0, index, touched) if ours else image.index_copy(0, index, touched)
                ours = True
        return image

    def __call__(self, image: Tensor, generator: torch.Generator, *, overwrite: bool = False) -> Tensor:
        """Draw, and apply."""
        return self.apply(image, self.draw(image.shape, generator), overwrite=overwrite)
