"""anatomix (Dey et al., ICLR 2025, arXiv 2411.02372): its U-Nets, with the weights that its authors publish.

The layouts are those of neel-dey/anatomix (MIT), `anatomix/model/load_from_hf.py`; the weights are on the Hugging Face
Hub. They were pretrained on synthetic volumes alone: random ensembles of anatomical shapes in random appearances. The
third published network, `anatomix-dev-vit`, is another kind of network and is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elsewhere.networks.layout import channels_last
from elsewhere.networks.stable.frozen import FrozenNetwork
from elsewhere.networks.stable.unet import FeatureUNet
from elsewhere.networks.stable.weights import from_hub, load_strictly, read_weights

REPOSITORY = "neeldey/anatomix"

LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "anatomix": {"features": 16, "width": 16, "downs": 4},
    "anatomix-dev": {
        "features": 32, "width": 32, "downs": 5,
        "norm": "instance", "pooling": "avg", "upsampling": "linear", "norm_eps": 1e-2,
    },
}  # fmt: skip
"""Arguments of `FeatureUNet`, in 3D with one channel in."""

OUTPUTS = {"anatomix": "none", "anatomix-dev": "voxel"}
"""The authors ask for voxel-wise normalisation of the features of `dev`; here it is a part of the extractor."""


def build_anatomix(name: str, weights: Path | str | None, load: bool) -> FrozenNetwork:
    """One of `LAYOUTS`; images are scaled to [0, 1] by their own least and largest intensity.

    Args:
        name: key of `LAYOUTS`.
        weights: a `.pth` or `.safetensors` file; None: `<name>.pth` of `REPOSITORY` on the Hugging Face Hub.
        load: False: random weights, for a state dict that is loaded later.

    Raises:
        ModelError: the weights cannot be had, or are not of this layout.
    """
    network = FeatureUNet(3, 1, **LAYOUTS[name])
    if load:
        path = published(name) if weights is None else Path(weights)
        load_strictly(network, read_weights(path), name, path)
    if network.config["norm"] == "batch":  # faster on a CPU; instance norm takes that back (docs/speed.md)
        channels_last(network, 3)
    features, multiple = network.config["features"], network.multiple
    return FrozenNetwork(name, network, 3, features, output=OUTPUTS[name], multiple=multiple, least=network.least)


def published(name: str) -> Path:
    """The authors' weights, downloaded where they are not in the Hub's cache.

    Raises:
        ModelError: they cannot be had.
    """
    return from_hub(REPOSITORY, f"{name}.pth", name)
