"""V-REx: the risks of the sites shall be equal (Krueger et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from elsewhere.methods.base import Batch, Card, Context, Method
from elsewhere.methods.registry import register


def site_risks(losses: Tensor, site: Tensor) -> Tensor:
    """Mean loss of each site that is present, (S,), from losses (B,) and site indices (B,)."""
    present, index = torch.unique(site, return_inverse=True)
    total = torch.zeros(len(present), device=losses.device, dtype=losses.dtype).index_add(0, index, losses)
    count = torch.bincount(index, minlength=len(present)).to(losses.dtype)
    return total / count


@register
class VREx(Method):
    """ERM plus `weight` times the variance of the sites' risks (Eq. 8 of Krueger et al. 2021).

    The variance is over the sites present in the batch, dividing by their number (as in DomainBed). The weight rises
    linearly from 0 over the first `ramp` of the training: our choice, in place of DomainBed's jump at step 500 with a
    reset of the optimiser. The first term is the mean over cases, so that with weight 0 this is ERM for any sampler.
    With one site in the batch there is no variance and no penalty.
    """

    card = Card(
        name="vrex",
        title="Variance risk extrapolation",
        paper="Krueger et al., Out-of-distribution generalization via risk extrapolation, ICML 2021, arXiv 2003.00688",
        assumption="what predicts equally well at every development site goes on doing so at the next",
        shift=("acquisition", "population"),
        needs_sites=True,
        defaults={"weight": 10.0, "ramp": 0.1},
        ranges={"weight": (0.1, 1e4), "ramp": (0.0, 0.9)},
        null={"weight": 0.0},
    )

    def loss(self, batch: Batch, context: Context) -> dict[str, Tensor]:
        """ERM's loss + weight x variance of the site risks; logs both."""
        losses = self.task.loss(self(batch.image), batch.target)
        risk = losses.mean()
        penalty = site_risks(losses, batch.site).var(unbiased=False)
        return {"loss": risk + self.weight(context) * penalty, "risk": risk.detach(), "penalty": penalty.detach()}

    def weight(self, context: Context) -> float:
        """The weight of the penalty at this step."""
        ramp = max(1.0, float(self.options["ramp"]) * context.total_steps)
        return float(self.options["weight"]) * min(1.0, context.step / ramp)
