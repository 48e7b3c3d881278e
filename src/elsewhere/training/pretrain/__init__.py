"""Pretraining of stable extractors on drawn anatomies under drawn acquisitions."""

from elsewhere.training.pretrain.settings import RECIPES, PretrainSettings, parse
from elsewhere.training.pretrain.train import Pretrained, pretrain

__all__ = ["RECIPES", "PretrainSettings", "Pretrained", "parse", "pretrain"]
