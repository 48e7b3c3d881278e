"""What is kept of a calibration case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.deploy.outliers import Outlier


@dataclass
class CalibrationRow:
    """What is kept of one calibration case.

    Attributes:
        case, patient, site: who.
        outlier: how unlike the training cases it is.
        probabilities, target: (K,) and the class index; classification.
        foreground_true, foreground_false: see `calibration.foreground_levels`; segmentation.
        looked: what `look` made of its answer.
    """

    case: str
    patient: str
    site: str
    outlier: Outlier | None = None
    probabilities: NDArray[np.float64] | None = None
    target: int | None = None
    foreground_true: NDArray[np.int64] | None = None
    foreground_false: NDArray[np.int64] | None = None
    looked: Any = None
