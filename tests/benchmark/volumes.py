"""A 3D study on disk: soft ellipsoids in volumes of unlike axes and spacing, and a network that finds them exactly."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import tiny
import torch
from torch import Tensor, nn

from elsewhere.networks.registry import Shape

SPACING = (1.0, 1.5, 4.0)
"""In mm, along the patient's left to right, posterior to anterior, inferior to superior (RAS+)."""

AXES = {"A": "LPS", "B": "SAR", "C": "PIL"}
"""Site -> where the file's axes lead to."""

SHAPE = (30, 24, 12)


class Threshold(nn.Module):
    """Logits of "brighter than 50": knows the answer, so whatever is wrong is wrong around it."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(50.0))

    def forward(self, image: Tensor) -> Tensor:
        distance = (image - self.level) / 10
        return torch.cat([-distance, distance], dim=1)


def build(shape: Shape) -> nn.Module:
    return Threshold()


def study(folder: Path, n: int = 4) -> Path:
    """An ellipsoid off the centre, unlike along each axis; 100 inside, 0 outside, soft in between."""
    rows = []
    (folder / "images").mkdir(parents=True)
    for number, (site, axes) in enumerate(AXES.items()):
        for i in range(n):
            rng = np.random.default_rng([number, i])
            grid = np.stack(np.meshgrid(*(np.arange(k) for k in SHAPE), indexing="ij"), axis=-1) * SPACING
            centre = np.array([9.0, 22.0, 18.0]) + rng.uniform(-2, 2, 3)
            far = np.linalg.norm((grid - centre) / (6.0, 9.0, 13.0), axis=-1)
            image = 100 / (1 + np.exp((far - 1) * 8))
            name = f"s{number}-{i}"
            save(folder / "images" / f"{name}.nii.gz", image.astype(np.float32), axes)
            save(folder / "images" / f"{name}-mask.nii.gz", (image > 50).astype(np.uint8), axes)
            rows.append(
                {
                    "image": f"images/{name}.nii.gz",
                    "label": f"images/{name}-mask.nii.gz",
                    "site": site,
                    "patient": f"{number}-{i}",
                }
            )
    return tiny.manifest(folder, rows)


def save(path: Path, ras: np.ndarray, axes: str) -> None:
    """Write an array whose axes are R, A, S as a file whose axes are `axes`."""
    image = nibabel.Nifti1Image(ras, np.diag([*SPACING, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(turn)
    assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
    nibabel.save(turned, path)
