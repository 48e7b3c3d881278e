"""The trained model as it is used: predictions, what it knows of its development data, a folder that holds it all.

Each name is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elsewhere.deploy.calibration import Calibrated, calibrate
    from elsewhere.deploy.features import FeatureTap, input_statistics
    from elsewhere.deploy.outliers import DevelopmentStatistics, Outlier
    from elsewhere.deploy.predictor import Answer, Predictor

__all__ = [
    "Answer",
    "Calibrated",
    "DevelopmentStatistics",
    "FeatureTap",
    "Outlier",
    "Predictor",
    "calibrate",
    "input_statistics",
]

_WHERE = {
    "Answer": "predictor",
    "Calibrated": "calibration",
    "DevelopmentStatistics": "outliers",
    "FeatureTap": "features",
    "Outlier": "outliers",
    "Predictor": "predictor",
    "calibrate": "calibration",
    "input_statistics": "features",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"elsewhere.deploy.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
