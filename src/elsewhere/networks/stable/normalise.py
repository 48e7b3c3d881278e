"""Features before they meet the image: what is done to their scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from elsewhere.errors import SettingsError

NORMS = ("instance", "voxel", "none")


class FeatureNorm(nn.Module):
    """Features (B, C, *spatial) to as many, see `feature_norm`; without weights."""

    def __init__(self, kind: str, features: int | None = None) -> None:
        super().__init__()
        self.kind, self.features = kind, features

    def forward(self, features: Tensor) -> Tensor:
        """Normalise.

        Raises:
            SettingsError: the channels are no multiple of `features`.
        """
        if self.kind == "instance":
            one = features.new_ones(features.shape[1])  # changes nothing; without it there is no export to ONNX
            return functional.instance_norm(features, weight=one, bias=torch.zeros_like(one))
        if self.kind == "voxel":
            return unit_norm(features, self.features)
        return features

    def extra_repr(self) -> str:
        """The rule."""
        return self.kind


def feature_norm(kind: str, features: int | None = None) -> FeatureNorm:
    """How features are brought to one scale before they are joined with the image.

    - "instance": each channel of each image gets mean 0 and variance 1 over space, without learnt scale and shift, as
      DropGen's `InstanceNorm3d`. A channel that is constant becomes 0.
    - "voxel": at each voxel the features of one image channel get norm 1; anatomix's authors ask for it for their
      `dev` models. Features that are all 0 stay 0.
    - "none".

    Args:
        kind: one of them.
        features: channels per image channel (`Extractor.features`), for "voxel"; None: all channels belong together.

    Raises:
        SettingsError: another word.
    """
    if kind not in NORMS:
        raise SettingsError(f"feature norm must be one of {', '.join(NORMS)}, found {kind!r}")
    return FeatureNorm(kind, features)


def unit_norm(features: Tensor, group: int | None = None) -> Tensor:
    """Divide by the Euclidean norm over each group of channels, voxel by voxel.

    Args:
        features: (B, C, *spatial).
        group: channels of one group; None for all.

    Raises:
        SettingsError: C is no multiple of `group`.
    """
    if group is None or group == features.shape[1]:
        return functional.normalize(features, dim=1)
    if features.shape[1] % group:
        raise SettingsError(f"feature norm voxel: {features.shape[1]} channels are not groups of {group}")
    return torch.cat([functional.normalize(part, dim=1) for part in torch.split(features, group, dim=1)], dim=1)
