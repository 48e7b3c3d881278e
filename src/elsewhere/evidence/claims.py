"""Claims about a method, had it been trained again: corrected for all methods and sites of a table.

A table of M methods at K sites makes M K claims possible, and each rests on how much training runs vary, which 3 seeds
show badly: t(2) at Holm's first step of 8 tests is 12.6, where 30 seeds would make it 3. A claim therefore has to pass
two hurdles:

- the method's own interval at 95 % excludes 0: `Comparison.p_method`, from nothing but this site's runs;
- p with a *borrowed* run variance, corrected by Holm over the table, is not above 5 %.

**Borrowed.** The luck of a run (the variance between runs without what patients do to single runs) is averaged over the
sites of the method, and over the methods of the site; the larger of the two averages stands in with `BORROWED` degrees
of freedom beside the S - 1 of the runs themselves:

    own' = (BORROWED (luck / S + private) + (S - 1) own) / (BORROWED + S - 1),

with BORROWED + S - 1 degrees of freedom, as in the moderated t of Smyth (2004, Statistical Applications in Genetics and
Molecular Biology 3:3); but his prior degrees of freedom, from the spread of the variances, are too many with so few
variances, and made false claims in up to 19 % of the tables where one method or one site varied 9 times as much as the
others. That the number is fixed, that the larger average counts, and that the method's own interval has to agree, is
our choice, and keeps the family-wise error at 5 % there, too (docs/explanation/intervals.md has the simulation).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from elsewhere.evidence.paired import Comparison
from elsewhere.evidence.permutation import holm

BORROWED = 8
"""Degrees of freedom of the borrowed variance, at most; what 3 seeds at 4 sites have."""


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
    for i in np.flatnonzero(~np.isnan(alone)):
        groups = (np.array([key[side] == table[i][side] for key in table]) for side in (0, 1))
        most = max(float(luck[of] @ df[of] / df[of].sum()) for of in groups)
        borrowed[i] = _with(found[i], max(most, 0.0), min(float(BORROWED), float(df.sum() - df[i])))
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
