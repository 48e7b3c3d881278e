"""From a trained network and an image to probabilities, window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from elsewhere.errors import SettingsError
from elsewhere.tasks.base import Task
from elsewhere.tasks.classification import Classification
from elsewhere.tasks.segmentation import Segmentation
from elsewhere.tasks.windows import slide

ON_DEVICE_BYTES = 2 * 2**30
"""Above this, the overlapping windows of an image on an accelerator are summed up in main memory."""

_TASKS: dict[str, type[Task]] = {task.kind: task for task in (Segmentation, Classification)}


def create(kind: str, dims: int, classes: Sequence[str]) -> Task:
    """Build a task.

    Args:
        kind: "segmentation" or "classification".
        dims: 2 or 3.
        classes: names in the order of the outputs; for segmentation the first is the background.

    Raises:
        SettingsError: no such task or dimension, fewer than two classes, or a name twice.
    """
    if kind not in _TASKS:
        raise SettingsError(f"unknown task {kind!r}; there are: {', '.join(sorted(_TASKS))}")
    if dims not in (2, 3):
        raise SettingsError(f"a task is in 2 or 3 dimensions, not {dims}")
    names = tuple(classes)
    if len(names) < 2:
        more = " (the first is the background)" if kind == "segmentation" else ""
        raise SettingsError(f"{kind} needs at least two classes{more}, found {list(names)}")
    if len(set(names)) < len(names):
        raise SettingsError(f"the classes of a {kind} must have different names, found {list(names)}")
    return _TASKS[kind](dims, names)


def predict(
    model: nn.Module,
    image: Tensor,
    patch_size: Sequence[int] | None = None,
    n_outputs: int | None = None,
    *,
    overlap: float = 0.5,
    multiple_of: Sequence[int] | int = 1,
    windows: int = 1,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Probabilities of an image, by sliding windows where it is larger than a patch.

    Windows are weighted by a Gaussian of their centre and averaged as logits, as nnU-Net does (see `windows`). An image
    that fits into a patch is padded to it and seen whole; without `patch_size` it is seen whole at any size, padded to
    what the network can halve. Padding is symmetric, with 0. Memory: one batch of windows plus one map of logits.
    Nothing random happens, and the mode of `model` is left as it is.

    Args:
        model: normalised image to logits, (B, K, *spatial) or (B, K).
        image: (B, C, *spatial), normalised, or what `normalise` takes.
        patch_size: of each axis; None for the whole image. A model that gives (B, K) always sees the whole image.
        n_outputs: K, checked where given.
        overlap: of neighbouring windows, in [0, 1).
        multiple_of: what whole images are padded to a multiple of, see `elsewhere.networks.multiple_of`.
        windows: windows run at a time.
        normalise: voxel by voxel, what the model is to see of the image. It is done window by window, so that a large
            image is not held twice. None: the image is normalised.

    Returns:
        (B, K, *spatial) or (B, K) float32 on the device of `image` (in main memory where the map is larger than
        `ON_DEVICE_BYTES`).

    Raises:
        SettingsError: patch size or overlap make no sense for this image, or the model gives another number of outputs.
    """
    spatial = tuple(image.shape[2:])
    if not 0 <= overlap < 1:
        raise SettingsError(f"overlap must be at least 0 and below 1, found {overlap}")
    if patch_size is not None and (len(patch_size) != len(spatial) or min(patch_size) < 1):
        raise SettingsError(f"patch_size {list(patch_size)} does not fit an image of {len(spatial)} dimensions")
    with torch.no_grad():
        if patch_size is None:
            logits = _whole(model, image, _halvable(spatial, multiple_of), normalise)
        elif all(n <= p for n, p in zip(spatial, patch_size, strict=True)):
            logits = _whole(model, image, tuple(patch_size), normalise)
        else:
            big = image.numel() // image.shape[1] * (n_outputs or 2) * 4 > ON_DEVICE_BYTES
            device = torch.device("cpu") if big else image.device
            averaged = slide(model, image, patch_size, overlap, windows, device, normalise, n_outputs)
            if averaged is not None:
                _require_outputs(averaged, n_outputs)
                return torch.softmax(averaged, 1, out=averaged)  # it is our own, and may be large
            logits = _whole(model, image, spatial, normalise)
        _require_outputs(logits, n_outputs)
        return logits.softmax(1)


def _require_outputs(logits: Tensor, n_outputs: int | None) -> None:
    if n_outputs is not None and logits.shape[1] != n_outputs:
        raise SettingsError(f"the network gives {logits.shape[1]} outputs, the task has {n_outputs} classes")


def _halvable(spatial: tuple[int, ...], multiple_of: Sequence[int] | int) -> tuple[int, ...]:
    """The size to pad to; at least two positions are left at the coarsest level (instance norm needs them)."""
    multiples = (multiple_of,) * len(spatial) if isinstance(multiple_of, int) else tuple(multiple_of)
    size = [-(-n // m) * m for n, m in zip(spatial, multiples, strict=True)]
    if max(multiples) > 1 and all(n == m for n, m in zip(size, multiples, strict=True)):
        size[-1] *= 2
    return tuple(size)


def _whole(
    model: nn.Module, image: Tensor, size: tuple[int, ...], normalise: Callable[[Tensor], Tensor] | None
) -> Tensor:
    image = image if normalise is None else normalise(image)
    spatial = tuple(image.shape[2:])
    missing = [max(s - n, 0) for s, n in zip(size, spatial, strict=True)]
    before = [m // 2 for m in missing]
    if any(missing):
        pads = [p for b, m in zip(reversed(before), reversed(missing), strict=True) for p in (b, m - b)]
        image = functional.pad(image, pads)
    logits: Tensor = model(image).float()
    if logits.ndim == 2 or not any(missing):
        return logits
    for axis, (b, n) in enumerate(zip(before, spatial, strict=True), start=2):
        logits = logits.narrow(axis, b, n)
    return logits
