"""A model of ours trained on for some steps, on some patients of a site, and judged on others.

All weights are trained on, with the task's own loss (whatever method made the model), the default augmentation, AdamW
at a tenth of the default learning rate that falls to 0 as half a cosine, and gradients clipped as in training (our
choices). Batch norm keeps its statistics: a few patients have none of their own worth having.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from elsewhere.benchmark.evaluate import labelled
from elsewhere.benchmark.external_exam import RunModel
from elsewhere.benchmark.local import Tune
from elsewhere.benchmark.local_material import Material
from elsewhere.benchmark.sheets import PROBABILITY
from elsewhere.errors import RunError
from elsewhere.study.store import Store
from elsewhere.tasks.classification_metrics import score_classification
from elsewhere.training.batches import BatchMaker
from elsewhere.training.model_io import Deployed
from elsewhere.training.randomness import number, own_state
from elsewhere.training.recipe import Recipe, default_flip_axes
from elsewhere.training.sampler import Sampler
from elsewhere.training.settings import Settings

SLOWER = 0.1
"""Of the default learning rate."""

OF_CLASSES = ("auroc", "balanced_accuracy", "brier")


def tuner(runs: RunModel, store: Store, steps: int) -> Tune:
    """What `local.Local.run` calls for each draw.

    Args:
        runs: the model as it is; left so, and its temperature stays.
        store: of the study's cases, on the model's grid.
        steps: of each fine-tuning.
    """

    def tune(
        material: Material, local: NDArray[np.bool_] | None, judged: NDArray[np.bool_], resample: int
    ) -> dict[str, float]:
        if local is None:
            return _as_it_is(material, judged)
        ids = [case for case, chosen in zip(material.cases, judged, strict=True) if chosen]
        own = [case for case, chosen in zip(material.cases, local, strict=True) if chosen]
        judge = runs.judged_by
        tuned = fine_tuned(judge.model, store, own, steps, seed=resample, device=judge.device)
        bare = replace(judge, model=tuned, distances=False, extras=None, statistics=None)
        return _score(replace(runs, judged_by=bare), store, ids)

    return tune


def fine_tuned(
    model: Deployed, store: Store, cases: Sequence[str], steps: int, *, seed: int, device: torch.device
) -> Deployed:
    """A copy of a model, trained on for some steps; the model itself is left as it is.

    Args:
        model: frozen.
        store: reads the cases on the model's grid.
        cases: ids, with labels.
        steps: of the optimiser.
        seed: of order, patches and augmentation; torch's global generator is left as it is.
        device: of the model.

    Raises:
        RunError: the loss is not finite.
    """
    settings = Settings.make({}).resolved(model.task.kind, model.task.dims)
    segments = model.task.kind == "segmentation"
    method = copy.deepcopy(model.method).requires_grad_(True)
    optimizer = torch.optim.AdamW(
        method.parameters(), lr=SLOWER * settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    batches = BatchMaker(
        store,
        Sampler({"local": list(cases)}, settings.batch_size or 1, seed, "pooled"),
        model.preprocessing,
        site_index={},
        recipe=Recipe(default_flip_axes(model.task.kind, model.task.dims)),
        segmentation=segments,
        seed=seed,
        patch_size=model.patch_size,
        multiple_of=model.multiple_of,
        foreground=settings.foreground,
        device=device,
        ahead=False,
    )
    with own_state(number(seed, "fine-tuning"), device):
        _train_mode(method)
        for step in range(steps):
            batch = batches.batch(step)
            loss = model.task.loss(method(batch.image), batch.target).mean()
            if not bool(torch.isfinite(loss)):
                raise RunError(f"fine-tuning: the loss is not finite in step {step}; try fewer steps")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(method.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
    return Deployed(method, model.preprocessing, model.config)


def _train_mode(method: nn.Module) -> None:
    """Dropout works, batch norm keeps its statistics."""
    method.train()
    for module in method.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _as_it_is(material: Material, judged: NDArray[np.bool_]) -> dict[str, float]:
    """Scores of some cases by the answers that are known already."""
    if material.task == "segmentation":
        return {"dice": float(np.array(material.dice)[judged].mean())}
    return _of_set(material.probabilities[judged], np.array(material.target)[judged])


def _score(runs: RunModel, store: Store, cases: Sequence[str]) -> dict[str, float]:
    """Mean Dice over cases, or the classification's metrics of the set."""
    found = runs.judge(cases, lambda case: labelled(store, case))
    if runs.judged_by.model.task.kind == "segmentation":
        return {"dice": float(np.mean([one.scores["all", "dice"] for one in found]))}
    classes = runs.judged_by.classes
    rows = [([one.record[PROBABILITY + name] for name in classes], one.truth) for one in found]
    return _of_set(np.array([row for row, _ in rows]), np.array([truth for _, truth in rows]))


def _of_set(probabilities: NDArray[Any], target: NDArray[Any]) -> dict[str, float]:
    scores = score_classification(probabilities, target)
    return {name: scores[name] for name in OF_CLASSES}
