"""Representations that stay alike when the acquisition changes: frozen extractors, image to features."""

from elsewhere.networks.stable.frozen import FrozenNetwork
from elsewhere.networks.stable.mind import Mind
from elsewhere.networks.stable.normalise import FeatureNorm, feature_norm, unit_norm
from elsewhere.networks.stable.ours import write_ours
from elsewhere.networks.stable.protocol import Extractor
from elsewhere.networks.stable.registry import build, names, own_options, own_weights, trust_class, wrap
from elsewhere.networks.stable.unet import FeatureUNet

__all__ = [
    "Extractor",
    "FeatureNorm",
    "FeatureUNet",
    "FrozenNetwork",
    "Mind",
    "build",
    "feature_norm",
    "names",
    "own_options",
    "own_weights",
    "trust_class",
    "unit_norm",
    "wrap",
    "write_ours",
]
