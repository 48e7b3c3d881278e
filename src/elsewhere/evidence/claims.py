"""Claims about a method, had it been trained again: corrected for all methods and sites of a table.

A table of M methods at K sites makes M K claims possible, and each rests on how much training runs vary, which 3 seeds
show badly: at Holm's first step of 8 tests the quantile of t(2) is 12.6, where many seeds would make it 2.7. So the
variance of the runs is borrowed from the rest of the table, and a claim has to pass two hurdles:

- the method's own interval at 95 % excludes 0: `Comparison.p_method`, from nothing but this site's runs;
- p with a *borrowed* run variance, corrected by Holm over the table, is not above 5 %.

**Borrowed.** The luck of a run (the variance between runs without what patients do to single runs) is averaged over the
sites of the method, and over the methods of the site. The larger of the two averages stands beside the S - 1 degrees of
freedom of the runs themselves, with B more:

    own' = (B (luck / S + private) + (S - 1) own) / (B + S - 1),    with B + S - 1 degrees of freedom,

the moderated t of Smyth (2004, Statistical Applications in Genetics and Molecular Biology 3:3). He estimates B from the
spread of the variances; with so few of them that is too many where runs of one method or site vary more than others.
Here B is what the runs of the method over its sites have, K (S - 1), but at most `BORROWED`, and no more than all other
comparisons of the table have. That, the larger of two averages, and the first hurdle are our choice: with them the
family-wise error stays at 5 % where the variance of runs differs by a factor of 9, too (the simulation is in
docs/explanation/intervals.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.paired import Comparison
from elsewhere.evidence.permutation import holm

BORROWED = 8
"""Degrees of freedom of the borrowed variance, at most; what 3 seeds at 4 sites have. With 12 there were false claims
in 5.4 % of 16,000 tables (2 methods x 4 sites, 5 seeds) where one method at one site varied 9 times as much."""


def corrected(table: Sequence[tuple[Hashable, Hashable]], found: Sequence[Comparison]) -> NDArray[np.float64]:
    """(M,) p of each comparison for the methods, corrected over the table.

    Args:
        table: (M,) method and site of each comparison.
        found: (M,) the comparisons.

    Returns:
        in the order given; never below `p_method`, NaN where that is.
    """
    alone = np.array([one.p_method for one in found], dtype=np.float64)
    if not len(alone):
        return alone
    luck, df = np.array([_luck(one) for one in found]).T
    borrowed = np.full(len(alone), np.nan)
    for i in map(int, np.flatnonzero(~np.isnan(alone))):
        mine, beside = (np.array([key[side] == table[i][side] for key in table]) for side in (0, 1))
        most = max(float(luck[of] @ df[of] / df[of].sum()) for of in (mine, beside))
        more = min(float(BORROWED), float(df[mine].sum()), float(df.sum() - df[i]))
        borrowed[i] = _with(found[i], max(most, 0.0), more)
    return np.asarray(np.fmax(holm(borrowed), alone))


def _luck(one: Comparison) -> tuple[float, float]:
    """Variance of the luck of a run (below 0 where patients explain more than there is), and degrees of freedom."""
    if np.isnan(one.p_method):
        return 0.0, 0.0
    return (one.parts.own - one.parts.private) * one.n_seeds, one.parts.own_df


def _with(one: Comparison, luck: float, df: float) -> float:
    """p where `luck` counts for `df` runs more."""
    parts, total = one.parts, df + one.parts.own_df
    own = (df * (luck / one.n_seeds + parts.private) + parts.own_df * parts.own) / total
    return replace(parts, own=own, own_df=total).p(one.difference)
