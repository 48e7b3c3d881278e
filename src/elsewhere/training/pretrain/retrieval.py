"""How well places are found again in the other view: the score of a pretraining while it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.training.pretrain.contrast import at_places, sample_places
from elsewhere.training.pretrain.views import Drawn, Pairs

POINTS = 512
"""Voxels among which one is looked for; guessing finds 1 in as many."""


class Retrieval:
    """Held-out anatomies, two images of each, and voxels to be found: drawn once, the same for whatever is measured.

    Args:
        pairs: what is drawn.
        number: of anatomies.
        generator: the only source of randomness.
    """

    def __init__(self, pairs: Pairs, number: int, generator: torch.Generator) -> None:
        self.cases: list[tuple[Drawn, Tensor]] = []
        for _ in range(number):
            drawn = pairs.draw(1, generator)
            self.cases.append((drawn, sample_places(drawn.labels, POINTS, generator)))

    def score(self, extract: Callable[[Tensor], Tensor]) -> float:
        """Share of voxels whose nearest neighbour in the other view, by the cosine of features, is the same voxel.

        Features are normalised as a network gets them: each channel to mean 0 and variance 1 over space. Voxels are
        sampled evenly over labels, background included, so nothing reaches 1. The two windows are not the same, so that
        it does not help to say where in its window a voxel is.

        Args:
            extract: images (2, 1, *spatial) to features (2, F, *spatial).
        """
        found = []
        for drawn, places in self.cases:
            with torch.no_grad():
                features = functional.instance_norm(extract(drawn.images[:, 0]).float())
            sampled = at_places(drawn.overlap(features), places.expand(2, -1))
            first, second = functional.normalize(sampled, dim=2)
            alike = first @ second.T
            right = torch.arange(len(alike), device=alike.device)
            found += [(alike.argmax(1) == right).float().mean(), (alike.argmax(0) == right).float().mean()]
        return float(torch.stack(found).mean())
