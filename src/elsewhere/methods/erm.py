"""ERM: empirical risk minimisation, the baseline that every other method is measured against."""

from __future__ import annotations

from elsewhere.methods.base import Card, Method
from elsewhere.methods.registry import register


@register
class ERM(Method):
    """Minimise the mean loss over the cases of all development sites (Vapnik 1992), nothing else."""

    card = Card(
        name="erm",
        title="Empirical risk minimisation",
        paper="Vapnik, Principles of risk minimization for learning theory, NIPS 1992",
        assumption="the held-out site is drawn like the development sites",
        shift=(),
        null={},
    )
