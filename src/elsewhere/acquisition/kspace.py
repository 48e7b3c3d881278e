"""Artefacts born in k-space: Gibbs ringing, ghosting, motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import (
    Between,
    Mechanism,
    Parameters,
    draw_normal,
    extent,
    lead,
    per_axis,
)
from elsewhere.errors import SettingsError


def gibbs(image: Tensor, cutoff: Tensor) -> Tensor:
    """Cut off the high spatial frequencies along each axis, which makes edges ring.

    Args:
        image: (B, C, *spatial).
        cutoff: the part of each axis' frequencies that is kept, (B,) or (1,) for all axes, (B, dims) or (1, dims) for
            each; 1 changes nothing. The weight falls from 1 to 0 over one sample of k-space, so it has a gradient.
    """
    cutoff = per_axis(cutoff, image)
    axes = tuple(range(2, image.ndim))
    spectrum = torch.fft.rfftn(image, dim=axes)
    for axis in axes:
        size = image.shape[axis]
        frequencies = torch.fft.rfftfreq if axis == axes[-1] else torch.fft.fftfreq
        number = frequencies(size, dtype=image.dtype, device=image.device).abs() * size
        keep = (cutoff[:, axis - 2, None] * (size // 2) - number + 1).clamp(0, 1)
        spectrum = spectrum * keep.view(_shape(keep, axis, image.ndim))
    ringing: Tensor = torch.fft.irfftn(spectrum, s=image.shape[2:], dim=axes)
    return ringing


def _shape(weights: Tensor, axis: int, ndim: int) -> list[int]:
    """Shape that puts weights (B, S) on the batch and on `axis`."""
    return [weights.shape[0] if a == 0 else weights.shape[1] if a == axis else 1 for a in range(ndim)]


def ghosting(image: Tensor, strength: Tensor, ghosts: Tensor, axis: Tensor) -> Tensor:
    """Periodic ghosts along one axis: every `ghosts`-th line of k-space, the central one apart, is weaker.

    Args:
        image: (B, C, *spatial), the magnitude of a signal above its lowest value.
        strength: (B,) or (1,), the part of these lines that is lost; 0 changes nothing.
        ghosts: (B,) or (1,) whole numbers from 2: copies, including the object, along the axis.
        axis: (B,) or (1,) spatial axis along which they lie (the phase-encoding axis).
    """
    number = _lines(image, axis)
    hit = (number % lead(ghosts, image) == 0) & (number != 0)
    return _through_kspace(image, 1 - lead(strength, image) * hit)


def motion(image: Tensor, shift: Tensor, axis: Tensor) -> Tensor:
    """The patient moves between shots: blocks of k-space lines are of the image shifted.

    Args:
        image: (B, C, *spatial), the magnitude of a signal above its lowest value.
        shift: (B, shots, dims) or (1, shots, dims): where the patient is during each shot, in voxels. Lines are
            acquired from the lowest to the highest frequency, the shots dividing them evenly.
        axis: (B,) or (1,) spatial axis of phase encoding.
    """
    shots = shift.shape[1]
    shift = shift.to(image)
    number = _lines(image, axis)
    sizes = torch.tensor(image.shape[2:], device=image.device)
    size = lead(sizes[axis.to(image.device)], image)
    shot = ((number / size + 0.5) * shots).floor().clamp(0, shots - 1)
    turn = torch.zeros((), dtype=image.dtype, device=image.device)
    rows = torch.broadcast_to(shot, (max(shot.shape[0], shift.shape[0]), *shot.shape[1:])).flatten(1).long()
    for a, length in enumerate(image.shape[2:]):
        frequency = torch.fft.fftfreq(length, dtype=image.dtype, device=image.device).view(
            [-1 if b == a else 1 for b in range(image.ndim - 2)]
        )
        along = shift[:, :, a].expand(rows.shape[0], -1).gather(1, rows).view(-1, *shot.shape[1:])
        turn = turn + frequency * along
    return _through_kspace(image, torch.polar(torch.ones_like(turn), -2 * math.pi * turn))


def _lines(image: Tensor, axis: Tensor) -> Tensor:
    """Signed number of each k-space line along each image's own phase axis, (B, 1, *spatial) with 1s elsewhere."""
    chosen = axis.to(image.device)
    total = torch.zeros((), dtype=image.dtype, device=image.device)
    for a, size in enumerate(image.shape[2:]):
        number = (torch.fft.fftfreq(size, dtype=image.dtype, device=image.device) * size).round()
        line = number.view([-1 if b == a else 1 for b in range(image.ndim - 2)])
        total = total + line * lead((chosen == a).to(image), image)
    return total


def _through_kspace(image: Tensor, weight: Tensor) -> Tensor:
    """Magnitude of the signal above the image's lowest value, its k-space having been weighted."""
    low, _ = extent(image)
    axes = tuple(range(2, image.ndim))
    signal = torch.fft.ifftn(torch.fft.fftn(image - low, dim=axes) * weight, dim=axes)
    # The tiny number keeps the slope of the root finite where the signal is exactly 0.
    power: Tensor = signal.real.square() + signal.imag.square() + torch.finfo(image.dtype).tiny
    return low + power.sqrt()


def _draw_axis(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """A spatial axis for each image, (B,)."""
    return torch.randint(len(shape) - 2, (shape[0],), generator=generator, device=generator.device)


@dataclass(frozen=True)
class Gibbs(Mechanism):
    """Gibbs ringing: `cutoff` is the part of the frequencies that is kept along each axis."""

    cutoff: Between = (0.4, 1.0)
    limits: ClassVar = {"cutoff": (0, 1)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`cutoff` (B, dims)."""
        return {"cutoff": self.uniform("cutoff", (shape[0], len(shape) - 2), generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `gibbs`."""
        return gibbs(image, parameters["cutoff"])


@dataclass(frozen=True)
class Ghosting(Mechanism):
    """Periodic ghosts along an axis drawn anew, as of breathing or pulsation."""

    strength: Between = (0.0, 0.7)
    ghosts: Between = (2, 8)
    limits: ClassVar = {"strength": (0, 1), "ghosts": (2, math.inf)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`strength` (B,), `ghosts` (B,), `axis` (B,)."""
        return {
            "strength": self.uniform("strength", shape[:1], generator),
            "ghosts": self.uniform("ghosts", shape[:1], generator).round(),
            "axis": _draw_axis(shape, generator),
        }

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `ghosting`."""
        return ghosting(image, parameters["strength"], parameters["ghosts"], parameters["axis"])


@dataclass(frozen=True)
class Motion(Mechanism):
    """Motion between shots: positions are normal with a deviation of `shift` voxels, drawn from its range.

    The shot that holds the centre of k-space is where the patient is, so that the target still fits.
    """

    shift: Between = (0.0, 3.0)
    shots: int = 6
    limits: ClassVar = {"shift": (0, math.inf)}
    fresh: ClassVar = frozenset({"shift"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots < 2:
            raise SettingsError(f"Motion: shots is {self.shots}, wanted at least 2")

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`shift` (B, shots, dims), `axis` (B,)."""
        deviation = self.uniform("shift", (shape[0], 1, 1), generator)
        shift = deviation * draw_normal((shape[0], self.shots, len(shape) - 2), generator)
        return {"shift": shift - shift[:, self.shots // 2, None], "axis": _draw_axis(shape, generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `motion`."""
        return motion(image, parameters["shift"], parameters["axis"])
