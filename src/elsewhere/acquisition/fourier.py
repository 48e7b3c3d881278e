"""Fourier amplitude mixing: the style of one image, the content of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from elsewhere.acquisition.mechanism import Between, Mechanism, Parameters, lead
from elsewhere.errors import SettingsError


def amplitude_mix(image: Tensor, other: Tensor, strength: Tensor, window: Tensor) -> Tensor:
    """Mix the amplitude spectrum with another image's, keeping the phase (Yang and Soatto 2020; Xu et al. 2021).

    Args:
        image: (B, C, *spatial).
        other: (B, C, *spatial) or (1, C, *spatial), whose amplitudes are mixed in.
        strength: (B,) or (1,), the part of the other's amplitude; 0 changes nothing, 1 takes it whole.
        window: (B,) or (1,), the part of the frequencies, from the lowest along each axis, that is mixed; 1 is all,
            0 the mean alone.
    """
    axes = tuple(range(2, image.ndim))
    spectrum = torch.fft.rfftn(image, dim=axes)
    amplitude = spectrum.abs()
    target = torch.fft.rfftn(other.to(image), dim=axes).abs()
    strength = lead(strength, image)
    if not bool((window >= 1).all()):
        strength = strength * _low(image, lead(window, image))
    ratio = target / amplitude.clamp_min(torch.finfo(image.dtype).eps ** 2)
    mixed: Tensor = torch.fft.irfftn(spectrum * (1 + strength * (ratio - 1)), s=image.shape[2:], dim=axes)
    return mixed


def _low(image: Tensor, window: Tensor) -> Tensor:
    """1 for the frequencies within the window on every axis, else 0: (B, 1, *half spectrum)."""
    sizes = image.shape[2:]
    mask = torch.ones((), device=image.device, dtype=torch.bool)
    for axis, size in enumerate(sizes):
        frequencies = torch.fft.rfftfreq if axis == len(sizes) - 1 else torch.fft.fftfreq
        line = (
            frequencies(size, dtype=image.dtype, device=image.device)
            .abs()
            .view([-1 if a == axis else 1 for a in range(len(sizes))])
        )
        mask = mask & (line <= window * 0.5)
    return mask.to(image)


@dataclass(frozen=True)
class AmplitudeMix(Mechanism):
    """Mix in the amplitudes of another image: one of `references`, or another one of the batch.

    Within a `Scanner` the batch is those images that this step touches. Not equivariant: the other image's scale comes
    in with its amplitudes.

    Attributes:
        strength: part of the other's amplitude.
        window: part of the frequencies that is mixed.
        references: (R, C, *spatial) images of the size of those augmented, or None for the batch itself.
    """

    strength: Between = (0.0, 1.0)
    window: Between = 1.0
    references: Tensor | None = field(default=None, compare=False, repr=False)
    limits: ClassVar = {"strength": (0, 1), "window": (0, 1)}

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`strength` (B,), `window` (B,), `partner` (B,): index among the references or in the batch."""
        n = shape[0]
        if self.references is None:
            partner = torch.randperm(n, generator=generator, device=generator.device)
        else:
            partner = torch.randint(len(self.references), (n,), generator=generator, device=generator.device)
        drawn = {name: self.uniform(name, (n,), generator) for name in ("strength", "window")}
        return {**drawn, "partner": partner}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `amplitude_mix`.

        Raises:
            SettingsError: the references are of another shape than the image.
        """
        source = image if self.references is None else self.references.to(image)
        if source.shape[1:] != image.shape[1:]:
            raise SettingsError(
                f"AmplitudeMix: references are (C, *spatial) = {tuple(source.shape[1:])}, "
                f"the images {tuple(image.shape[1:])}"
            )
        other = source.index_select(0, parameters["partner"].to(image.device))
        return amplitude_mix(image, other, parameters["strength"], parameters["window"])
