"""GIN: the same anatomy under two random appearances shall get the same answer (Ouyang et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from elsewhere import acquisition
from elsewhere.methods.base import Batch, Card, Context, Method
from elsewhere.methods.registry import register


def consistency(first: Tensor, second: Tensor) -> Tensor:
    """How far two predictions (B, K, ...) of logits are apart: a scalar >= 0.

    Mean over cases and positions of the mean Kullback-Leibler divergence of each prediction from their average (the
    Jensen-Shannon divergence, in nats): our choice of a symmetric form, bounded by log 2.
    """
    log_p, log_q = first.log_softmax(1), second.log_softmax(1)
    log_mean = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0, device=first.device, dtype=first.dtype))
    divergence = 0.5 * (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean))
    return divergence.sum(1).mean()


@register
class GIN(Method):
    """Train on two views of each image, made by random convolution networks, and ask them to agree.

    The loss is the mean of the task's loss on both views plus `consistency` times their divergence. `alpha` is the
    largest share of the random network in the blend with the image (U(0, alpha); 1 in the paper). With `ipa` the two
    views are mixed by a smooth random map before they are used (interventional pseudo-correlation augmentation, the
    IPA of the paper's GIN-IPA). With `consistency` 0 one view is drawn and the second is not computed.
    """

    card = Card(
        name="gin",
        title="Global intensity non-linear augmentation with two-view consistency",
        paper="Ouyang et al., Causality-inspired single-source domain generalization, IEEE TMI 2023, arXiv 2111.12525",
        assumption="acquisition changes intensity and texture, not shape; what is drawn follows shape",
        shift=("acquisition",),
        defaults={"consistency": 10.0, "alpha": 1.0, "ipa": False},
        ranges={"consistency": (0.0, 20.0), "alpha": (0.0, 1.0)},
        null={"consistency": 0.0, "alpha": 0.0},
    )

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The task's loss on the views, and their divergence; logs both."""
        weight = float(self.options["consistency"])
        if weight == 0 and not self.options["ipa"]:
            risk = self.task.loss(self(self.view(batch.image, context)), batch.target).mean()
            return {"loss": risk}
        first, second = self.view(batch.image, context), self.view(batch.image, context)
        if self.options["ipa"]:
            with torch.autocast(first.device.type, enabled=False):
                blend = acquisition.random_blend_map(first.shape, context.generator)
                first, second = (acquisition.smooth_blend(first, second, part) for part in (blend, 1 - blend))
        logits = self(torch.cat([first, second]))
        risk = self.task.loss(logits, torch.cat([batch.target, batch.target])).mean()
        divergence = consistency(*logits.chunk(2))
        return {"loss": risk + weight * divergence, "risk": risk.detach(), "consistency": divergence.detach()}

    def view(self, image: Tensor, context: Context) -> Tensor:
        """A random appearance of each image (B, C, *spatial), in its own precision whatever the network's is."""
        network = acquisition.GIN()
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            drawn = network.draw(image.shape, context.generator)
            drawn["alpha"] = drawn["alpha"] * float(self.options["alpha"])
            return network.apply(image, drawn)
