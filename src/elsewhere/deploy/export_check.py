"""An exported network is run beside the original."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from elsewhere.deploy.runtimes import first_line
from elsewhere.errors import RunError
from elsewhere.training.model_io import Deployed

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit (at least of 1); float32 rounding gives 1e-6 to 1e-5
(our choice)."""

Run = Callable[[Tensor], Tensor]
Shapes = tuple[tuple[int, ...], ...]


def trial_inputs(model: Deployed) -> list[Tensor]:
    """Normalised images on which an exported network must answer like the original: noise, cut out, steps, larger.

    Of the size that it will see: that of its patch, or of its resized images. Where the network takes a larger image
    too, one such is among them, so that the exported one does not freeze a size that the original left open. None is
    constant: of such a one, instance norm would divide rounding errors by rounding errors, in any program.
    """
    size, step = _usual_size(model), model.multiple_of
    channels = len(model.preprocessing.channels)
    generator = torch.Generator().manual_seed(0)

    def noise(batch: int, spatial: tuple[int, ...], scale: float = 1.0) -> Tensor:
        return scale * torch.randn(batch, channels, *spatial, generator=generator)

    ramp = torch.linspace(-2, 2, size[-1]).expand(1, channels, *size).clone()
    cut_out = noise(1, size)
    cut_out[..., : size[-1] // 2] = 0
    inputs = [noise(1, size), noise(3, size, 3.0), cut_out, ramp.round() + 0.1 * noise(1, size)]
    larger = noise(2, tuple(n + max(m, 8) // m * m for n, m in zip(size, step, strict=True)))
    if takes(model, larger):
        inputs.append(larger)
    return inputs


def takes(model: nn.Module, image: Tensor) -> bool:
    """Whether a network runs on an image of this shape."""
    try:
        answer(model, image)
    except (RuntimeError, ValueError):
        return False
    return True


def answer(model: nn.Module, image: Tensor) -> Tensor:
    """Logits on the CPU, float32."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    with torch.no_grad():
        logits: Tensor = model(image.to(device))
    return logits.float().cpu()


def compare(model: Deployed, exported: Run, what: str) -> tuple[float, Shapes]:
    """Run both on the trial inputs.

    Returns:
        the largest difference of a logit, as a share of the largest logit (at least of 1), and the inputs' shapes.

    Raises:
        RunError: the exported one fails on an input, or differs by more than `TOLERANCE`.
    """
    worst, shapes = 0.0, []
    for image in trial_inputs(model):
        wanted = answer(model, image)
        try:
            found = exported(image).float().cpu()
        except Exception as error:  # whatever the other program raises
            shape = list(image.shape)
            raise RunError(f"the exported {what} fails on an input of shape {shape} ({first_line(error)})") from error
        if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
            raise RunError(
                f"the exported {what} gives {list(found.shape)} for an input of shape {list(image.shape)}, or values "
                f"that are not finite; the model gives {list(wanted.shape)}"
            )
        difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
        if difference > TOLERANCE:
            raise RunError(
                f"the exported {what} differs from the model by {difference:.2g} of its largest logit on an input of "
                f"shape {list(image.shape)}; wanted at most {TOLERANCE:g}"
            )
        worst = max(worst, difference)
        shapes.append(tuple(image.shape))
    return worst, tuple(shapes)


def _usual_size(model: Deployed) -> tuple[int, ...]:
    preprocessing, dims = model.preprocessing, model.task.dims
    # A classifier sees the whole image, whatever the patches that it was trained with.
    patch = model.patch_size if model.task.kind == "segmentation" else None
    size = patch or preprocessing.size or model.patch_size or (64 if dims == 2 else 32,) * dims
    return tuple(max(1, -(-int(n) // m)) * m for n, m in zip(size, model.multiple_of, strict=True))
