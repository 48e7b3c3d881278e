"""Networks for classification: (B, C, *spatial) to logits (B, K); all from MONAI, from scratch, in 2D and 3D."""

from __future__ import annotations

from torch import nn

from elsewhere.errors import SettingsError
from elsewhere.networks.norms import norm_layer
from elsewhere.networks.registry import Shape, register


@register("densenet121", kinds=("classification",))
def densenet121(
    shape: Shape,
    *,
    init_features: int = 64,
    growth_rate: int = 32,
    block_config: tuple[int, ...] = (6, 12, 24, 16),
    norm: str = "batch",
    dropout: float = 0.0,
) -> nn.Module:
    """DenseNet-121 (Huang et al. 2017), WILDS's network for Camelyon17; images of 32 pixels or more a side."""
    from monai.networks.nets import DenseNet

    return DenseNet(  # type: ignore[no-any-return]
        spatial_dims=shape.dims,
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        init_features=init_features,
        growth_rate=growth_rate,
        block_config=block_config,
        norm=norm_layer("densenet121", norm),
        dropout_prob=dropout,
    )


def _resnet(name: str, shape: Shape, block: str, layers: list[int], width: int, norm: str) -> nn.Module:
    from monai.networks.nets import ResNet

    layer = norm_layer(name, norm)
    if width < 1:
        raise SettingsError(f"network {name}: width must be at least 1")
    network = ResNet(
        block=block,
        layers=layers,
        block_inplanes=[width, 2 * width, 4 * width, 8 * width],
        spatial_dims=shape.dims,
        n_input_channels=shape.in_channels,
        conv1_t_stride=2,  # as in the paper; MONAI's default of 1 is for video
        num_classes=shape.out_channels,
        bias_downsample=False,
    )
    if layer[0] == "INSTANCE":  # MONAI 1.6 hands its argument `norm` to the first layer only
        _instance_norm(network)
    return network  # type: ignore[no-any-return]


def _instance_norm(network: nn.Module) -> None:
    """Put instance norm with learnt scale and shift in the place of every batch norm."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.InstanceNorm2d(child.num_features, affine=True))
            elif isinstance(child, nn.BatchNorm3d):
                setattr(parent, name, nn.InstanceNorm3d(child.num_features, affine=True))


@register("resnet18", kinds=("classification",))
def resnet18(shape: Shape, *, width: int = 64, norm: str = "batch") -> nn.Module:
    """ResNet-18 (He et al. 2016); `width` is the number of channels of the first stage."""
    return _resnet("resnet18", shape, "basic", [2, 2, 2, 2], width, norm)


@register("resnet50", kinds=("classification",))
def resnet50(shape: Shape, *, width: int = 64, norm: str = "batch") -> nn.Module:
    """ResNet-50 (He et al. 2016); `width` is the number of channels of the first stage, before its expansion by 4."""
    return _resnet("resnet50", shape, "bottleneck", [3, 4, 6, 3], width, norm)


@register("efficientnet-b0", kinds=("classification",))
def efficientnet_b0(shape: Shape, *, norm: str = "batch") -> nn.Module:
    """EfficientNet-B0 (Tan and Le 2019)."""
    from monai.networks.nets import EfficientNetBN

    kind, options = norm_layer("efficientnet-b0", norm)
    if kind == "BATCH":
        options = {"eps": 1e-3, "momentum": 0.01}  # the paper's
    return EfficientNetBN(  # type: ignore[no-any-return]
        "efficientnet-b0",
        pretrained=False,
        spatial_dims=shape.dims,
        in_channels=shape.in_channels,
        num_classes=shape.out_channels,
        norm=(kind, options),
    )
