"""How sure a model is of one case, as one number from its probabilities.

- Classification: the probability of the label, max p.
- Segmentation: the Dice that the model's own probabilities promise of its mask, for all foreground together. With p the
  probability of "not background" and y the mask of all that is labelled foreground,

      2 sum(p y) / (sum p + sum y),

  the Soft Dice Confidence of Borges et al. (arXiv 2402.10665), there shown to rank cases nearly as well as the
  expected Dice itself. Where nothing is labelled foreground this would be 0 for a healthy patient rightly left alone
  as for a missed lesion; there it is 1 - max p, how far the most suspicious voxel is from foreground (our choice).

Both are between 0 and 1, higher is surer, and neither is a promise: read it with `evidence.selective`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def case_confidence(probabilities: NDArray[Any]) -> float:
    """Confidence of one case.

    Args:
        probabilities: (K,) of a classification or (K, *spatial) of a segmentation, K >= 2, background first.

    Returns:
        in [0, 1].

    Raises:
        ValueError: there are fewer than two classes, or no voxel.
    """
    p = np.asarray(probabilities)
    if p.ndim == 0 or p.shape[0] < 2 or p.size == 0:
        raise ValueError(f"probabilities must be (K,) or (K, *spatial), K >= 2, and not empty; found {p.shape}")
    if p.ndim == 1:
        return _unit(p.max())
    # A tie is background, as argmax has it.
    labelled = p[1] > p[0] if len(p) == 2 else p[1:].max(axis=0) > p[0]
    size = int(np.count_nonzero(labelled))
    background = p[0].sum(dtype=np.float64)
    if size == 0:
        return _unit(p[0].min())  # 1 - max p of "not background"
    overlap = size - p[0].sum(dtype=np.float64, where=labelled)
    return _unit(2 * overlap / (labelled.size - background + size))


def _unit(value: Any) -> float:
    """Probabilities of float32 add up to 1 but for rounding."""
    return float(np.clip(value, 0, 1))
