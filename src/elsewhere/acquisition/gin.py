"""GIN: a random shallow convolution network as a change of appearance (Ouyang et al. 2021, arXiv 2111.12525)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from elsewhere.acquisition.mechanism import Mechanism, Parameters, draw_normal, draw_uniform, lead
from elsewhere.errors import SettingsError


def random_network(image: Tensor, weights: Sequence[Tensor], shifts: Sequence[Tensor], alpha: Tensor) -> Tensor:
    """Blend an image with what a small convolution network makes of it, and restore its Frobenius norm.

    Leaky ReLU (slope 0.01) follows every layer but the last; borders are padded with zeros.

    Args:
        image: (B, C, *spatial).
        weights: of each layer, (B, out, in, k, ..., k) or with a batch of 1; the first takes C channels, the last
            gives C.
        shifts: of each layer, (B, out) or (1, out).
        alpha: (B,) or (1,), the network's part; 0 changes nothing.
    """
    seen = image
    for layer, (weight, shift) in enumerate(zip(weights, shifts, strict=True)):
        seen = _convolve(seen, weight.to(image), shift.to(image))
        if layer < len(weights) - 1:
            seen = F.leaky_relu(seen, inplace=not seen.requires_grad)
    mixed = torch.lerp(image, seen, lead(alpha, image).expand_as(image))
    before, after = (x.flatten(1).norm(dim=1) for x in (image, mixed))
    return mixed * lead(before / after.clamp_min(torch.finfo(image.dtype).tiny), image)


def _convolve(image: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
    """Each image (B, in, *spatial) with its own kernel (B, out, in, k, ...) and shift (B, out), size kept."""
    batch, spatial = image.shape[0], image.shape[2:]
    weight, shift = weight.expand(batch, *weight.shape[1:]), shift.expand(batch, -1)
    if weight.shape[3] == 1:
        return torch.baddbmm(shift[:, :, None], weight.flatten(2), image.flatten(2)).view(batch, -1, *spatial)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(spatial) - 1]
    if image.device.type == "cpu":
        parts = [convolve(image[b, None], weight[b], shift[b], padding=weight.shape[3] // 2) for b in range(batch)]
        return torch.cat(parts)
    out: Tensor = convolve(
        image.reshape(1, -1, *spatial),
        weight.flatten(0, 1),
        shift.flatten(),
        padding=weight.shape[3] // 2,
        groups=batch,
    )
    return out.view(batch, -1, *spatial)


@dataclass(frozen=True)
class GIN(Mechanism):
    """Random convolution network, drawn anew for each image; as published: 4 layers, 2 inner channels, kernels 1 or 3.

    Weights and shifts are standard normal, the blend uniform from 0 to 1. A layer's kernel size is drawn once for the
    batch, as in the authors' code. Not equivariant: the network takes the image as normalised as it comes.
    """

    layers: int = 4
    inner: int = 2
    kernels: tuple[int, ...] = (1, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or self.inner < 1:
            raise SettingsError(f"GIN: layers is {self.layers} and inner {self.inner}, wanted at least 1 each")
        if not self.kernels or any(k < 1 or k % 2 == 0 for k in self.kernels):
            raise SettingsError(f"GIN: kernels is {self.kernels!r}, wanted odd sizes")

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Parameters:
        """`weight0` (B, out, in, k, ..., k), `shift0` (B, out), ... for each layer, and `alpha` (B,)."""
        device, dims = generator.device, len(shape) - 2
        choice = torch.randint(len(self.kernels), (self.layers,), generator=generator, device=device).tolist()
        drawn: Parameters = {}
        for layer, which in enumerate(choice):
            into = shape[1] if layer == 0 else self.inner
            out = shape[1] if layer == self.layers - 1 else self.inner
            kernel = (self.kernels[which],) * dims
            drawn[f"weight{layer}"] = draw_normal((shape[0], out, into, *kernel), generator)
            drawn[f"shift{layer}"] = draw_normal((shape[0], out), generator)
        return {**drawn, "alpha": draw_uniform(shape[:1], (0, 1), generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """See `random_network`."""
        weights = [parameters[f"weight{layer}"] for layer in range(self.layers)]
        shifts = [parameters[f"shift{layer}"] for layer in range(self.layers)]
        return random_network(image, weights, shifts, parameters["alpha"])
