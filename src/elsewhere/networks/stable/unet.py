"""A U-Net to feature maps, laid out as anatomix's, so that its state dicts fit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elsewhere.errors import SettingsError

NORMS = ("batch", "instance")
POOLINGS = ("max", "avg")
UPSAMPLINGS = ("nearest", "linear")


class FeatureUNet(nn.Module):
    """Image (B, in_channels, *spatial) to features (B, features, *spatial), each axis a multiple of 2 ** downs.

    One `nn.Sequential` named `model`, in the order of the U-Net of neel-dey/anatomix (MIT; the layout is theirs, the
    code is not), with blocks of convolution, norm and ReLU: a first block of `width` channels; for each level two
    blocks, of which the first doubles the channels from the second level down, and pooling; at the bottom two blocks,
    doubling once more; on the way up upsampling, the level's channels joined in front, and two blocks; at last one
    convolution. All convolutions are 3 a side and reflect at the border, so that the bottom needs two voxels along
    each axis (`least`). They have a bias where the norm is that of instances, which has no scale and shift of its own.

    A plain module, to be trained; an `Extractor` is made of it by `FrozenNetwork`.

    Args:
        dims: 2 or 3.
        in_channels, features: of image and output.
        width: channels of the first level.
        downs: how often each axis is halved.
        norm: "batch" or "instance".
        pooling: "max" or "avg", of 2 voxels.
        upsampling: "nearest" or "linear".
        norm_eps: what is added to the variance.

    Attributes:
        config: all of these arguments.
        multiple: voxels that each axis must be a multiple of.
        least: multiples that each axis must have at least.

    Raises:
        SettingsError: a word or number that is none of these.
    """

    least = 2

    def __init__(
        self,
        dims: int = 3,
        in_channels: int = 1,
        features: int = 16,
        width: int = 16,
        downs: int = 4,
        norm: str = "batch",
        pooling: str = "max",
        upsampling: str = "nearest",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "dims": dims, "in_channels": in_channels, "features": features, "width": width, "downs": downs,
            "norm": norm, "pooling": pooling, "upsampling": upsampling, "norm_eps": norm_eps,
        }  # fmt: skip
        _check(self.config)
        self.multiple = 2**downs
        layers = _block(self.config, in_channels, width)
        channels = width
        for level in range(downs):
            wider = channels if level == 0 else 2 * channels
            layers += [*_block(self.config, channels, wider), *_block(self.config, wider, wider)]
            layers += [_pool(dims, pooling)]
            channels = wider
        layers += [*_block(self.config, channels, 2 * channels), *_block(self.config, 2 * channels, 2 * channels)]
        channels *= 2
        linear = "bilinear" if dims == 2 else "trilinear"
        for _ in range(downs):
            skip = channels // 2
            layers += [nn.Upsample(scale_factor=2, mode=linear if upsampling == "linear" else "nearest")]
            layers += [*_block(self.config, channels + skip, skip), *_block(self.config, skip, skip)]
            channels = skip
        layers += [_convolution(self.config, channels, features)]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Image to features; what a level keeps for the way up is let go as soon as it was used."""
        x = image
        kept: list[Tensor] = []
        for layer in self.model:
            if isinstance(layer, _POOLS):
                kept.append(x)
            x = layer(x)
            if isinstance(layer, nn.Upsample):
                x = torch.cat((kept.pop(), x), dim=1)
        return x


_POOLS = (nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)


def _block(config: dict[str, Any], channels: int, wider: int) -> list[nn.Module]:
    norms: dict[tuple[str, int], type[nn.Module]] = {
        ("batch", 2): nn.BatchNorm2d, ("batch", 3): nn.BatchNorm3d,
        ("instance", 2): nn.InstanceNorm2d, ("instance", 3): nn.InstanceNorm3d,
    }  # fmt: skip
    norm = norms[config["norm"], config["dims"]](wider, eps=config["norm_eps"])
    return [_convolution(config, channels, wider), norm, nn.ReLU(inplace=True)]


def _convolution(config: dict[str, Any], channels: int, wider: int) -> nn.Module:
    kind = nn.Conv2d if config["dims"] == 2 else nn.Conv3d
    bias = config["norm"] == "instance"
    return kind(channels, wider, kernel_size=3, padding=1, padding_mode="reflect", bias=bias)


def _pool(dims: int, pooling: str) -> nn.Module:
    if pooling == "max":
        return nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(2)
    return nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)


def _check(config: dict[str, Any]) -> None:
    words = {"dims": (2, 3), "norm": NORMS, "pooling": POOLINGS, "upsampling": UPSAMPLINGS}
    for key, allowed in words.items():
        if config[key] not in allowed:
            wanted = ", ".join(str(word) for word in allowed)
            raise SettingsError(f"feature U-Net: {key} must be one of {wanted}, found {config[key]!r}")
    for key in ("in_channels", "features", "width", "downs"):
        if type(config[key]) is not int or config[key] < 1:
            raise SettingsError(f"feature U-Net: {key} must be a whole number, 1 or more, found {config[key]!r}")
    if not isinstance(config["norm_eps"], float) or not 0 < config["norm_eps"] < 1:
        raise SettingsError(f"feature U-Net: norm_eps must lie between 0 and 1, found {config['norm_eps']!r}")
