"""Which cases a step sees: a pure function of (seed, step), the same on every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np


class Sampler:
    """Draws the cases of each step without any state, so that a training can go on from any step.

    The slots of all steps are numbered through; slot g of step s is `s * batch_size + i`. Cases come in permutations,
    one an epoch, so that no case is seen k + 1 times before every other (of its site, if balanced) was seen k times.

    - "balanced": slot g belongs to site `g % n_sites`. Neighbouring slots are of different sites, so every slice of at
      least two cases has at least two sites.
    - "pooled": slots run through permutations of all cases. Within a step the cases are dealt, site by site, into
      `hands`, one a process and accumulated part, so that each hand has as many sites as can be.

    Args:
        cases: case ids of each site (the same order on every process).
        batch_size: cases of a step, over all processes.
        seed: of the permutations.
        kind: "balanced" or "pooled".
        hands: contiguous parts into which a step's cases will be cut.
    """

    def __init__(
        self,
        cases: Mapping[str, Sequence[str]],
        batch_size: int,
        seed: int,
        kind: str = "balanced",
        hands: int = 1,
    ) -> None:
        self.sites = [tuple(ids) for _, ids in sorted(cases.items()) if ids]
        self.batch_size, self.kind, self.hands = batch_size, kind, hands
        self.n = sum(len(ids) for ids in self.sites)
        self._pool = [(site, i) for site, ids in enumerate(self.sites) for i in range(len(ids))]
        self._order = lru_cache(maxsize=4 * len(self.sites) + 4)(
            lambda site, epoch, n: np.random.default_rng([seed, site, epoch]).permutation(n)
        )

    def cases(self, step: int) -> tuple[str, ...]:
        """Case ids of a step, (batch_size,)."""
        slots = range(step * self.batch_size, (step + 1) * self.batch_size)
        if self.kind == "balanced":
            return tuple(self._of_site(slot % len(self.sites), slot // len(self.sites)) for slot in slots)
        drawn = [self._pool[self._order(len(self.sites), slot // self.n, self.n)[slot % self.n]] for slot in slots]
        return tuple(self.sites[site][i] for site, i in _deal(drawn, self.hands))

    def _of_site(self, site: int, count: int) -> str:
        ids = self.sites[site]
        return ids[int(self._order(site, count // len(ids), len(ids))[count % len(ids)])]


def _deal(drawn: Sequence[tuple[int, int]], hands: int) -> list[tuple[int, int]]:
    """Sort by site and deal as cards are dealt: each site is spread over as many hands as it has cases."""
    in_order = sorted(drawn, key=lambda each: each[0])
    return [card for hand in range(hands) for card in in_order[hand::hands]]
