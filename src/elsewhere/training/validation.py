"""The score by which a model is selected: validation cases of the development sites, each site counting alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from elsewhere.methods import Method
from elsewhere.study.case import StoredCase
from elsewhere.study.preprocessing import Stats
from elsewhere.tasks import predict
from elsewhere.tasks.classification_metrics import score_classification

if TYPE_CHECKING:
    from elsewhere.study.seal import Development

TOGETHER = 16
"""Images to classify at a time, where all are of one size."""


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        score: mean over the sites of the site's primary metric; higher is better.
        loss: mean over the sites of the mean loss of their cases.
        sites: primary metric of each site, NaN where it is undefined (AUROC where all cases are of one class).
    """

    score: float
    loss: float
    sites: dict[str, float]


@dataclass(frozen=True)
class _Seen:
    """A case, predicted: Dice for segmentation, probabilities and class for classification."""

    index: int
    site: str
    loss: float
    dice: float
    probabilities: list[float]
    target: int


def validate(
    method: Method,
    development: Development,
    cases: Sequence[str],
    fabric: Fabric,
    *,
    overlap: float,
    multiple_of: Sequence[int],
) -> Validation:
    """Score a method on development cases, in the geometry of the network's input; processes share the cases.

    The method is left in training mode. Nothing here is random.
    """
    method.eval()
    seen = []
    mine = range(fabric.global_rank, len(cases), fabric.world_size)
    alike = development.preprocessing.size is not None and method.task.kind == "classification"
    at_once = TOGETHER if alike else 1
    for first in range(0, len(mine), at_once):
        indices = mine[first : first + at_once]
        stored = [development.load(cases[index]) for index in indices]
        raw = torch.from_numpy(np.stack([each.image for each in stored])).to(fabric.device)
        image = development.preprocessing.normalise(raw, Stats.of(*stored))
        with fabric.autocast():
            probabilities = predict(
                method,
                image,
                development.preprocessing.patch_size,
                method.task.n_outputs,
                overlap=overlap,
                multiple_of=multiple_of,
            )
        for i, (index, each) in enumerate(zip(indices, stored, strict=True)):
            seen.append(_judge(method, index, each, probabilities[i : i + 1].float()))
    method.train()
    if fabric.world_size > 1:
        everyone: list[list[_Seen]] = [[] for _ in range(fabric.world_size)]
        torch.distributed.all_gather_object(everyone, seen)
        seen = sorted((each for part in everyone for each in part), key=lambda each: each.index)
    return _summarise(seen, method.task.kind)


def _judge(method: Method, index: int, stored: StoredCase, probabilities: Tensor) -> _Seen:
    logits = probabilities.clamp_min(1e-12).log()  # its softmax is the probabilities again
    if method.task.kind == "classification":
        target = torch.tensor([int(stored.label)], device=logits.device)  # type: ignore[arg-type]
        dice, plain = math.nan, probabilities[0].tolist()
    else:
        target = torch.from_numpy(np.array(stored.label)).long().to(logits.device)[None]
        dice, plain = mean_dice(probabilities.argmax(1), target, method.task.n_outputs), []
    loss = float(method.task.loss(logits, target).mean())
    label = int(target) if target.numel() == 1 else -1
    return _Seen(index, stored.case.site, loss, dice, plain, label)


def mean_dice(predicted: Tensor, target: Tensor, n_classes: int) -> float:
    """Dice of class `all`, as in the tables: mean over the foreground classes in either mask, 1 where there is none."""
    scores = []
    for index in range(1, n_classes):
        p, t = predicted == index, target == index
        size = int(p.sum() + t.sum())
        if size > 0:
            scores.append(2 * int((p & t).sum()) / size)
    return float(np.mean(scores)) if scores else 1.0


def _summarise(seen: Sequence[_Seen], kind: str) -> Validation:
    by_site: dict[str, list[_Seen]] = {}
    for each in seen:
        by_site.setdefault(each.site, []).append(each)
    metric = _auroc if kind == "classification" else _dice
    sites = {site: metric(of_site) for site, of_site in sorted(by_site.items())}
    loss = float(np.mean([np.mean([each.loss for each in of_site]) for of_site in by_site.values()]))
    defined = [value for value in sites.values() if not math.isnan(value)]
    score = float(np.mean(defined)) if defined else metric(seen)
    # Where AUROC is defined nowhere, not even over all sites, the loss is all there is to choose by.
    return Validation(-loss if math.isnan(score) else score, loss, sites)


def _dice(seen: Sequence[_Seen]) -> float:
    return float(np.mean([each.dice for each in seen]))


def _auroc(seen: Sequence[_Seen]) -> float:
    probabilities = np.array([each.probabilities for each in seen])
    return score_classification(probabilities, np.array([each.target for each in seen]))["auroc"]
