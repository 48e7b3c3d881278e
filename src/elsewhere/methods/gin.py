"""GIN: the same anatomy under two random appearances shall get the same answer (Ouyang et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from elsewhere import acquisition
from elsewhere.errors import SettingsError
from elsewhere.methods.base import Batch, Card, Context, Method
from elsewhere.methods.registry import register

LIMITS = {"consistency": (0, math.inf), "alpha": (0, 1), "ramp": (0, 1), "ipa_points": (1, 64)}
"""Least and largest value of the numeric options."""


def consistency(first: Tensor, second: Tensor) -> Tensor:
    """How far two predictions (B, K, ...) of logits are apart: a scalar >= 0.

    Mean over cases and positions of the Jensen-Shannon divergence in nats: the mean Kullback-Leibler divergence of each
    prediction from the average of both (our choice of a symmetric form). It is a sum over classes, so it does not
    depend on how many there are: it is at most log 2 for any K, a class that neither prediction expects adds nothing,
    and a class cut in two adds nothing. The authors' `KLDivLoss` with its default mean also divides by K.
    """
    log_p, log_q = first.log_softmax(1), second.log_softmax(1)
    log_mean = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0, device=first.device, dtype=first.dtype))
    divergence = 0.5 * (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean))
    return divergence.sum(1).mean()


@register
class GIN(Method):
    """Train on two views of each image, made by random convolution networks, and ask them to agree.

    The loss is the mean of the task's loss on both views plus `consistency` times their divergence. `ramp` is the share
    of the training in which that weight rises linearly from 0. `alpha` is the largest share of the random network in
    the blend with the image (U(0, alpha); 1 in the paper). With `ipa` the two views are mixed by a smooth random map
    before they are used (interventional pseudo-correlation augmentation, the IPA of the paper's GIN-IPA); `ipa_points`
    spline intervals along each axis make the map (4 in the paper, a control point every quarter of the image). With
    `consistency` 0 and without `ipa` one view is drawn and the second is not computed.

    The authors use three views, supervise the first, and weigh a divergence that is averaged over classes too by 10,
    with `alpha` 1. In small trainings the weight of 10 collapses here to background alone. Our defaults won on
    validation patients of two studies (docs/results.md, "How GIN's defaults were chosen"), which by their nature prefer
    views that stay near the image. Whether a larger `alpha` pays where the acquisition changes much was not measured.
    """

    card = Card(
        name="gin",
        title="Global intensity non-linear augmentation with two-view consistency",
        paper="Ouyang et al., Causality-inspired single-source domain generalization, IEEE TMI 2023, arXiv 2111.12525",
        assumption="acquisition changes intensity and texture, not shape; what is drawn follows shape",
        shift=("acquisition",),
        defaults={"consistency": 0.3, "alpha": 0.1, "ipa": True, "ramp": 0.0, "ipa_points": 4},
        ranges={"consistency": (0.0, 20.0), "alpha": (0.0, 1.0), "ramp": (0.0, 1.0), "ipa_points": (1, 16)},
        null={"consistency": 0.0, "alpha": 0.0, "ipa": False},
        later={"ramp": 0.0, "ipa_points": 4},
    )

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """See `Method.check`."""
        for key, (low, high) in LIMITS.items():
            if not low <= options[key] <= high or math.isinf(options[key]):
                wanted = f"a number from {low} to {high}" if high < math.inf else "0 or a finite number above"
                raise SettingsError(f"method gin: {key} must be {wanted}, found {options[key]}")

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss on the views, and their divergence; logs both."""
        weight = self.weight(context)
        if self.options["consistency"] == 0 and not self.options["ipa"]:
            risk = self.task.loss(self(self.view(batch.image, context)), batch.target).mean()
            return {"loss": risk}
        first, second = self.view(batch.image, context), self.view(batch.image, context)
        if self.options["ipa"]:
            with torch.autocast(first.device.type, enabled=False):
                blend = acquisition.random_blend_map(first.shape, context.generator, points=self.options["ipa_points"])
                first, second = (acquisition.smooth_blend(first, second, part) for part in (blend, 1 - blend))
        logits = self(torch.cat([first, second]))
        risk = self.task.loss(logits, torch.cat([batch.target, batch.target])).mean()
        divergence = consistency(*logits.chunk(2))
        return {"loss": risk + weight * divergence, "risk": risk.detach(), "consistency": divergence.detach()}

    def weight(self, context: Context) -> float:
        """Of the divergence at a step."""
        rising = float(self.options["ramp"]) * context.total_steps
        return float(self.options["consistency"]) * (min(1.0, context.step / rising) if rising > 0 else 1.0)

    def view(self, image: Tensor, context: Context) -> Tensor:
        """A random appearance of each image (B, C, *spatial), in its own precision whatever the network's is."""
        network = acquisition.GIN()
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            drawn = network.draw(image.shape, context.generator)
            drawn["alpha"] = drawn["alpha"] * float(self.options["alpha"])
            return network.apply(image, drawn)
