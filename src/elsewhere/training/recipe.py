"""The augmentation that all methods share, batched on the device of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from elsewhere.acquisition.blur import GaussianBlur
from elsewhere.acquisition.contrast import Gamma
from elsewhere.acquisition.geometry import Moved, Spatial
from elsewhere.acquisition.noise import GaussianNoise
from elsewhere.acquisition.resolution import Resolution
from elsewhere.acquisition.scanner import Scanner

MARGIN = 0.15


def default_flip_axes(kind: str, dims: int) -> tuple[int, ...]:
    """Spatial axes that anatomy allows to be flipped, where nothing is said.

    Segmentation: all, as nnU-Net. Classification in 2D: left-right only (the second axis), as CheXNet; what is up in a
    radiograph stays up. Classification in 3D: the first axis, which is left-right in NIfTI's usual order.
    """
    if kind == "segmentation":
        return tuple(range(dims))
    return (1,) if dims == 2 else (0,)


class Recipe:
    """Flips, affine, elastic; then gamma, noise, blur and low resolution; about as often and as strong as in nnU-Net.

    | what | probability | strength |
    |---|---|---|
    | flip | 0.5 an axis | |
    | affine | 0.3 | 15 degrees, magnified 0.8 to 1.25 |
    | elastic | 0.1 | up to 5 % of the patch |
    | gamma | 0.3 | 0.7 to 1.5 |
    | noise | 0.15 | standard deviation up to 5 % of the image's range |
    | blur | 0.2 | 0.5 to 1 pixels |
    | low resolution | 0.2 | by 1 to 2 along all axes |

    Args:
        flip_axes: see `default_flip_axes`.
    """

    def __init__(self, flip_axes: Sequence[int]) -> None:
        self.flip_axes = tuple(flip_axes)
        self.scanner = Scanner(
            [
                (Gamma((0.7, 1.5)), 0.3),
                (GaussianNoise((0.0, 0.05)), 0.15),
                (GaussianBlur((0.5, 1.0)), 0.2),
                (Resolution((1.0, 2.0), axes="all"), 0.2),
            ]
        )

    def margin(self, patch: Sequence[int]) -> tuple[int, ...]:
        """Voxels that are read around a patch on each side, so that a turned patch rarely shows a border."""
        return tuple(math.ceil(MARGIN * n) for n in patch)

    def __call__(
        self,
        image: Tensor,
        generator: torch.Generator,
        target: Tensor | None = None,
        maps: Mapping[str, Tensor] | None = None,
        size: Sequence[int] | None = None,
        spacing: Tensor | None = None,
    ) -> Moved:
        """Augment image (B, C, *spatial), target (B, *spatial) and maps (B, 1, *spatial) alike; crop to `size`."""
        spatial = Spatial(
            flip_axes=self.flip_axes,
            affine_probability=0.3,
            rotation=(-15.0, 15.0),
            scale=(0.8, 1.25),
            elastic_probability=0.1,
            size=None if size is None else tuple(size),
            place="centre",
        )
        moved = spatial(image, generator, target, maps, spacing)
        # A crop may be a view of what the caller still needs; anything else is ours to write over.
        own = moved.image.untyped_storage().data_ptr() != image.untyped_storage().data_ptr()
        return moved._replace(image=self.scanner(moved.image, generator, overwrite=own))
