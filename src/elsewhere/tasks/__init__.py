"""What is asked of an image: segmentation and classification; targets, loss, metrics and decoding."""

from elsewhere.tasks.base import Task
from elsewhere.tasks.classification import Classification
from elsewhere.tasks.inference import create, predict
from elsewhere.tasks.segmentation import Segmentation

__all__ = ["Classification", "Segmentation", "Task", "create", "predict"]
