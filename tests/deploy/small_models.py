"""Deployed models of any network, untrained, and cases in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from elsewhere.methods import Method
from elsewhere.methods.erm import ERM
from elsewhere.study.case import Case, Geometry, StoredCase
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.tasks import create
from elsewhere.training.model_io import Deployed, build, describe

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"channels": [4, 8, 16], "num_res_units": 1},
    "dynunet": {"filters": 4, "depth": 3},
    "densenet121": {"init_features": 8, "growth_rate": 4, "block_config": [2, 2, 2]},
    "resnet18": {"width": 4},
    "resnet50": {"width": 4},
    "efficientnet-b0": {},
}
SEGMENTERS = ("unet", "dynunet")


def deployed(
    name: str,
    dims: int = 2,
    *,
    patch: int | None = None,
    channels: int = 1,
    method: type[Method] | None = None,
    network: nn.Module | None = None,
    seed: int = 0,
    **options: Any,
) -> Deployed:
    """A network with 3 classes, in a method; `network` in place of the registered one."""
    kind = "segmentation" if name in SEGMENTERS else "classification"
    task = create(kind, dims, ("background", "a", "b"))
    preprocessing = Preprocessing(
        dims=dims,
        channels=tuple(f"c{i}" for i in range(channels)),
        intensity="image-zscore",
        patch_size=None if patch is None else (patch,) * dims,
    )
    config = describe("erm", {}, name, {**SMALL[name], **options}, task, 2, preprocessing, None)
    made = build(config, seed)
    if method is not None or network is not None:
        made = (method or ERM)(made.network if network is None else network, task)
    return Deployed(made, preprocessing, config)


def case(
    number: int, shape: tuple[int, ...] = (32, 32), *, channels: int = 1, label: Any = None, patient: str | None = None
) -> StoredCase:
    """Smooth noise with a bright box, 0 to 255."""
    rng = np.random.default_rng([7, number])
    image = rng.normal(100, 20, (channels, *shape))
    corner = [int(rng.integers(0, n // 2)) for n in shape]
    box = tuple(slice(c, c + n // 3) for c, n in zip(corner, shape, strict=True))
    image[(slice(None), *box)] += 80
    image = np.clip(image, 0, 255).astype(np.float32)
    geometry = Geometry(shape, (1.0,) * len(shape))
    if label is None:
        label = np.zeros(shape, np.uint8)
        label[box] = 1
    return StoredCase(
        case=Case(f"case-{number}", {"image": Path(f"{number}.png")}, None, "A", patient or f"p{number}"),
        image=image,
        label=label,
        maps={},
        geometry=geometry,
        original=geometry,
        mean=tuple(float(c.mean()) for c in image),
        std=tuple(float(c.std()) for c in image),
    )
