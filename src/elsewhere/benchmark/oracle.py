"""Selection by the held-out site itself: what nobody can do who deploys, and what shows how much selection costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from elsewhere.benchmark.evaluate import Judge, labelled
from elsewhere.benchmark.sheets import PROBABILITY
from elsewhere.study.held_out import HeldOut
from elsewhere.tasks.classification_metrics import score_classification
from elsewhere.training import Deployed


@dataclass(frozen=True)
class Oracle:
    """The primary metric at the held-out site, as a function of a frozen model; every call is an opening in `log`.

    Minus the mean cross-entropy where the metric is undefined (AUROC at a site of one class). It pickles: with several
    devices it is called in another process.
    """

    held_out: HeldOut
    overlap: float
    device: torch.device
    log: Path

    def __call__(self, model: nn.Module) -> float:
        """The score; higher is better."""
        deployed = cast("Deployed", model)
        judge = Judge(deployed, self.overlap, self.device, distances=False)
        with self.held_out.open(deployed, reason="oracle selection", log=self.log) as reader:
            seen = list(judge.judge(self.held_out.case_ids, lambda case: labelled(reader, case)))
        if deployed.task.kind == "segmentation":
            return float(np.mean([judged.scores["all", deployed.task.primary] for judged in seen]))
        probabilities = np.array([[judged.record[PROBABILITY + name] for name in judge.classes] for judged in seen])
        truth = np.array([judged.truth for judged in seen])
        found = score_classification(probabilities, truth)[deployed.task.primary]
        if math.isnan(found):  # as in validation: the loss is all there is to choose by
            return float(np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)).mean())
        return found
