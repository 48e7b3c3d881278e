"""What is asked of an image: segmentation and classification; targets, loss, metrics and decoding.

What needs torch is imported when it is first asked for: the metrics, and all of `elsewhere.evidence`, do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elsewhere.tasks.base import Task
    from elsewhere.tasks.classification import Classification
    from elsewhere.tasks.inference import create, predict
    from elsewhere.tasks.segmentation import Segmentation

__all__ = ["Classification", "Segmentation", "Task", "create", "predict"]

_LATER = {
    "Classification": "classification",
    "Segmentation": "segmentation",
    "Task": "base",
    "create": "inference",
    "predict": "inference",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"elsewhere.tasks.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
