"""Limits of a mean of scores that lie between a worst and a best value, such as the Dice of each case.

Few patients seldom show an outright failure: where 5 % of the cases fail, two samples of 8 patients in three hold none,
and an interval that is read off such a sample alone, by whatever resampling, ends above the truth. Two things are done
about it.

- **Scale.** The limits are those of t on the logit scale between the bounds, with the standard error of a jackknife
  over patients and n - 1 degrees of freedom for n patients; the half width is that of the delta method at the mean.
- **One more patient.** A patient of the worst score (all cases 0) who comes to the n would lower the mean by
  (mean - worst) / (n + 1), one of the best would raise it by (best - mean) / (n + 1). Each limit is put together with
  that distance in quadrature, as independent errors are (MOVER; Zou and Donner 2008, Statistics in Medicine 27:1693).
  One is for 95 %; at another level it is log(a) / log(0.025) patients, with a beyond each limit, as the share of
  failures that n patients without one leave possible is about -log(a) / n.

One patient, and the quadrature, are our choice between coverage and width. A whole pseudo-observation as Gaffke has it
(Learned-Miller and Thomas 2019, "A new confidence interval for the mean of a bounded random variable") always held in
our simulations and was 1.8 times as wide as resampling at 20 patients without a failure; this form is 1.1 times.
docs/explanation/intervals.md has what holds where.

Where the one patient outweighs all variation that the n show, the interval rests on a guess more than on the data:
`doubt` says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

Bounds = tuple[float, float]

OVERLAPS = ("dice", "iou")
"""Metrics of a segmented case that are 0 where it fails outright and 1 at best."""

IN_DOUBT = (
    "one more patient who fails outright would move the score further than these patients vary, so failures "
    "that they do not show may not be in the interval."
)
"""What tables say of scores whose interval has a `doubt`."""

WHOLE: Bounds = (0.0, 1.0)

USUAL = 0.025
"""Probability beyond each limit at which one more patient is thought of."""


def bounds_of_case(metric: str) -> Bounds | None:
    """Bounds between which a case may fall from one end to the other; None where there is no interval of this form."""
    return WHOLE if metric in OVERLAPS else None


def between(value: float, half: float, bounds: Bounds) -> tuple[float, float]:
    """Limits about a value between bounds.

    Args:
        value: inside the bounds.
        half: half width on the value's own scale; on the logit scale it is that times the slope at the value.
        bounds: worst and best.
    """
    low, width = bounds[0], bounds[1] - bounds[0]
    share = (value - low) / width
    half = half / width / (share * (1 - share))
    lo, hi = special.expit(special.logit(share) + np.array([-half, half]))
    return float(low + width * lo), float(low + width * hi)


def one_more(value: float, n_patients: int, tail: float, bounds: Bounds) -> tuple[float, float]:
    """How far one more patient at the lower bound lowers a mean, and one at the upper bound raises it.

    Args:
        value: the mean.
        n_patients: behind it.
        tail: probability beyond each limit; 0.025 for one patient.
        bounds: worst and best.
    """
    more = np.log(tail) / np.log(USUAL)
    share = float(more / (n_patients + more))
    return share * (value - bounds[0]), share * (bounds[1] - value)


def widened(
    value: float, limits: tuple[float, float], moves: tuple[float, float], bounds: Bounds
) -> tuple[float, float]:
    """Limits and the distances of `one_more` in quadrature, no further than the bounds."""
    (lo, hi), (below, above) = limits, moves
    lowest, highest = value - float(np.hypot(value - lo, below)), value + float(np.hypot(hi - value, above))
    return max(lowest, float(bounds[0])), min(highest, float(bounds[1]))


def doubt(
    value: float, limits: tuple[float, float], moves: tuple[float, float], n_patients: int, bounds: Bounds
) -> str | None:
    """Why an interval of `widened` may hold less than it says; None where nothing speaks against it.

    It speaks against it that one more patient at the bound that is farther away moves the value further than the rest
    of the interval reaches on that side: then the limit is a guess more than an estimate.

    Args:
        value, limits: of the interval.
        moves: of `one_more`.
        n_patients: behind the value.
        bounds: worst and best.
    """
    reaches = value - limits[0], limits[1] - value
    side = int(moves[1] > moves[0])
    if reaches[side] >= np.sqrt(2) * moves[side]:
        return None
    return (
        f"one more patient at {bounds[side]:g} would move it further than these {n_patients} vary: "
        "failures that they do not show may not be in the interval"
    )


def doubt_of_row(metric: str, value: float, limits: tuple[float, float], n_patients: int) -> str | None:
    """The doubt about a row of `results.csv`, whose intervals are at 95 %; None for a metric that is no overlap."""
    bounds = bounds_of_case(metric)
    if bounds is None or np.isnan(limits[0]):
        return None
    return doubt(value, limits, one_more(value, n_patients, USUAL, bounds), n_patients, bounds)


def doubts(found: Sequence[str | None]) -> str | None:
    """The doubt about a mean over sites, from those about the sites."""
    n = sum(one is not None for one in found)
    return f"at {n} of {len(found)} sites: {next(filter(None, found))}" if n else None
