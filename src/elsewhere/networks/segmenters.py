"""Networks for segmentation: (B, C, *spatial) to logits (B, K, *spatial)."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import nn

from elsewhere.errors import SettingsError
from elsewhere.networks.norms import norm_layer
from elsewhere.networks.registry import Shape, register

ACTIVATIONS = ("prelu", "relu", "leakyrelu")


def _unet_multiple(shape: Shape, *, channels: tuple[int, ...], **_: Any) -> tuple[int, ...]:
    return (2 ** (len(channels) - 1),) * shape.dims


@register("unet", kinds=("segmentation",), multiple=_unet_multiple)
def unet(
    shape: Shape,
    *,
    channels: tuple[int, ...] = (16, 32, 64, 128, 256),
    num_res_units: int = 2,
    norm: str = "instance",
    act: str = "prelu",
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's residual U-Net (Kerfoot et al. 2018), each level halving the last, with a 1x1 convolution as its head.

    MONAI normalises the last feature maps, of which there are as many as classes. Under instance norm the logits of
    every image would then have one mean and spread, so an image without the foreground could hardly be told. Here the
    last level keeps `channels[0]` maps, and the head turns them into logits (our choice; nnU-Net's order too).

    Instance norm by default, as in nnU-Net: it does not carry the intensity statistics of the training sites. "batch"
    has statistics that can be refreshed.
    """
    from monai.networks.nets import UNet

    if len(channels) < 2:
        raise SettingsError(f"network unet: channels must name at least two levels, found {list(channels)}")
    multiple = 2 ** (len(channels) - 1)
    if norm == "instance" and shape.patch_size is not None and max(shape.patch_size) <= multiple:
        raise SettingsError(
            f"network unet: a patch of {list(shape.patch_size)} is one voxel after {len(channels) - 1} halvings, and "
            f"instance norm needs two; wanted a patch_size of {2 * multiple} along an axis, or fewer channels"
        )
    if act not in ACTIVATIONS:
        raise SettingsError(f"network unet: act must be one of {', '.join(ACTIVATIONS)}, found {act!r}")
    trunk = UNet(
        spatial_dims=shape.dims,
        in_channels=shape.in_channels,
        out_channels=channels[0],
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=num_res_units,
        norm=norm_layer("unet", norm),
        act=act.upper(),
        dropout=dropout,
    )
    convolution = nn.Conv2d if shape.dims == 2 else nn.Conv3d
    return nn.Sequential(trunk, convolution(channels[0], shape.out_channels, kernel_size=1))


def levels(shape: Shape, depth: int = 0) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Kernels and strides of each level, by nnU-Net's rule (Isensee et al. 2021).

    An axis is halved while its patch has 8 or more voxels (4 are left) and its spacing is at most twice the finest;
    an axis coarser than that also has kernel 1, until the others have caught up.

    Args:
        shape: its patch size (None: large enough for the default depth) and spacing (None: isotropic).
        depth: levels at most; 0 for 8 in 2D and 6 in 3D, or 5 without a patch size.

    Returns:
        kernels and strides, one (dims,) a level; the first stride is 1.
    """
    most = depth or (5 if shape.patch_size is None else {2: 8, 3: 6}[shape.dims])
    size = list(shape.patch_size or (2**16,) * shape.dims)
    spacing = list(shape.spacing or (1.0,) * shape.dims)
    kernels: list[tuple[int, ...]] = []
    strides: list[tuple[int, ...]] = [(1,) * shape.dims]
    while True:
        near = [s <= 2 * min(spacing) for s in spacing]
        kernels.append(tuple(3 if n else 1 for n in near))
        stride = tuple(2 if n and length >= 8 else 1 for n, length in zip(near, size, strict=True))
        if max(stride) == 1 or len(kernels) == most:
            return kernels, strides
        strides.append(stride)
        size = [length // s for length, s in zip(size, stride, strict=True)]
        spacing = [mm * s for mm, s in zip(spacing, stride, strict=True)]


def _dynunet_multiple(shape: Shape, *, depth: int, **_: Any) -> tuple[int, ...]:
    strides = levels(shape, depth)[1]
    return tuple(prod(stride[axis] for stride in strides) for axis in range(shape.dims))


@register("dynunet", kinds=("segmentation",), multiple=_dynunet_multiple)
def dynunet(
    shape: Shape,
    *,
    filters: int = 32,
    depth: int = 0,
    norm: str = "instance",
    res_block: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's DynUNet laid out as nnU-Net's plain U-Net: levels from patch size and spacing, leaky ReLU.

    `filters` doubles at each level up to 320 in 3D and 512 in 2D. Deep supervision is off: it would give several
    outputs, which the loss of a method does not know.
    """
    from monai.networks.nets import DynUNet

    kernels, strides = levels(shape, depth)
    if len(strides) < 2:
        where = f"a patch of {list(shape.patch_size)}" if shape.patch_size else f"depth {depth}"
        raise SettingsError(f"network dynunet: {where} leaves one level; it needs two (an axis of 8, and depth 2)")
    if filters < 1:
        raise SettingsError("network dynunet: filters must be at least 1")
    most = {2: 512, 3: 320}[shape.dims]
    return DynUNet(  # type: ignore[no-any-return]
        spatial_dims=shape.dims,
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(filters * 2**level, max(most, filters)) for level in range(len(strides))],
        norm_name=norm_layer("dynunet", norm),
        res_block=res_block,
        dropout=dropout or None,
    )
