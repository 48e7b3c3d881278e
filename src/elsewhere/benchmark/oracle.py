"""Selection by the held-out site itself: what nobody can do who deploys, and what shows how much selection costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from elsewhere.benchmark.evaluate import PROBABILITY, Judge, labelled
from elsewhere.study.held_out import HeldOut
from elsewhere.tasks.classification_metrics import score_classification
from elsewhere.training import Deployed


def oracle_score(held_out: HeldOut, overlap: float, device: torch.device, log: Path) -> Callable[[nn.Module], float]:
    """The primary metric at the held-out site, as a function of a frozen model; every call is an opening in `log`.

    Minus the mean cross-entropy where the metric is undefined (AUROC at a site of one class).
    """

    def score(model: nn.Module) -> float:
        deployed = cast("Deployed", model)
        judge = Judge(deployed, overlap, device, distances=False)
        with held_out.open(deployed, reason="oracle selection", log=log) as reader:
            seen = list(judge.judge(held_out.case_ids, lambda case: labelled(reader, case)))
        if deployed.task.kind == "segmentation":
            return float(np.mean([judged.scores["all", deployed.task.primary] for judged in seen]))
        probabilities = np.array([[judged.record[PROBABILITY + name] for name in judge.classes] for judged in seen])
        truth = np.array([judged.truth for judged in seen])
        found = score_classification(probabilities, truth)[deployed.task.primary]
        if math.isnan(
            found
        ):  # a site of one class has no AUROC: as in validation, the loss is all there is to choose by
            return float(np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)).mean())
        return found

    return score
