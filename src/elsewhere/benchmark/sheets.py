"""The tables of a run: which rows and columns they have. Evaluation format 2.

`cases.csv`: a row a case, class and metric (CASE_COLUMNS), of the held-out and the in-domain patients.

`predictions.parquet`: a row a case, by selection rule and split; the calibration patients are here and nowhere else:

- `method`, `held_out`, `seed`, `selection`, `split`, `case`, `patient`, `site`: whose prediction of whom.
- Classification: `probability:CLASS` of each class as the network gives it, `target`, the index of the true class.
- Segmentation: `dice`, `iou`, ..., the case's scores over all foreground classes.
- Segmentation: `bin_count`, `bin_confidence`, `bin_right`, voxels by confidence, BINS numbers each
  (`scoring.calibration_bins`); `scaled_count`, `scaled_confidence`, `scaled_right`, the same after the run's
  temperature, null on calibration patients.
- Segmentation: `foreground_true`, `foreground_false`, voxels that truly are any foreground, and that are not, by
  P(not background), 100 numbers each (`deploy.calibration.foreground_levels`).
- Segmentation: `lesions_true:CLASS`, `lesions_found:CLASS`, `lesions_false:CLASS`, counts (`tasks.lesions`).
- `confidence` of the case as a whole (`evidence.confidence`), before the temperature.
- `outlier`, `outlier:mahalanobis`, `outlier:knn`, `outlier:input` (`deploy.outliers`): higher is less like the
  development data. `unlike`: the score is above the calibration patients' threshold; null where there is none.

`calibration.json`: what the calibration patients of the run gave, by selection rule: `temperature`, `n_patients`,
`n_cases`, `outlier_threshold`, and `reason`, a sentence on what there is not.
"""

from __future__ import annotations

EVALUATION = 2
"""Raised when a run's tables get other columns or values: runs of an older number are evaluated again, not trained."""

CASES, PREDICTIONS, CALIBRATION = "cases.csv", "predictions.parquet", "calibration.json"

HELD_OUT, HOME, CALIBRATING = "held-out", "in-domain", "calibration"
"""Splits."""

WHO = ("method", "held_out", "seed", "selection", "split", "case", "patient", "site")

CASE_COLUMNS = [*WHO, "class", "metric", "value"]

PROBABILITY = "probability:"
"""Start of the column of a class."""

TARGET = "target"

BINS = 15
"""Calibration bins of equal width over the confidence, from 0 to 1."""
