"""The training loop: settings, batches, exact resume, saved models."""

from elsewhere.training.batches import BatchMaker
from elsewhere.training.context import FabricContext
from elsewhere.training.model_io import Deployed, load_model
from elsewhere.training.recipe import Recipe
from elsewhere.training.sampler import Sampler
from elsewhere.training.settings import Settings
from elsewhere.training.state import Progress, Trained
from elsewhere.training.train import train

__all__ = [
    "BatchMaker",
    "Deployed",
    "FabricContext",
    "Progress",
    "Recipe",
    "Sampler",
    "Settings",
    "Trained",
    "load_model",
    "train",
]
