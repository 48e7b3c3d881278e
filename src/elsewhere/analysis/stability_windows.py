"""Two windows of one case, cut at different places, and what they share.

Were both views of one window, a representation that knows nothing but where in its window a voxel lies would be
perfectly alike and find every voxel again. So a case is cut once, larger; acquisitions are applied to all of it; and
each view is a window of its own, which lies elsewhere along each axis that has room. What is compared is what both
windows show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from elsewhere.analysis.stability_measures import TOLERANCE, alikeness, correspondence, neighbours, standardised

CROP = {2: 256, 3: 96}
"""Voxels an axis of a window at most, by dimensions: as large as the largest default training patch."""

SHIFT = 6
"""Voxels along each axis that two windows lie apart at most, at least half as many (our choice); see `room`."""

VOXELS = 1000
"""Voxels of a view among which a nearest neighbour is sought."""

Array = TypeVar("Array", Tensor, NDArray[Any])


@dataclass(frozen=True)
class Window:
    """A box of voxels.

    Attributes:
        start: its first voxel along each axis.
        size: voxels along each axis.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    def cut(self, array: Array) -> Array:
        """The part (..., *size) of an array (..., *spatial)."""
        index: Any = (..., *(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True)))
        part: Array = array[index]
        return part

    def meets(self, other: Window) -> Window:
        """What lies in both; they do meet."""
        start = tuple(map(max, self.start, other.start))
        stop = [min(a + n, b + m) for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True)]
        return Window(start, tuple(b - a for a, b in zip(start, stop, strict=True)))

    def within(self, outer: Window) -> Window:
        """The same, counted from the first voxel of `outer`."""
        return Window(tuple(a - b for a, b in zip(self.start, outer.start, strict=True)), self.size)


def wanted_room(dims: int, spacing: Sequence[float] | None) -> tuple[int, ...]:
    """Voxels that a case is cut larger than a window, along each axis, where the image allows.

    `SHIFT`, or as many as are twice `TOLERANCE`, so that windows lie farther apart than what counts as one place; a
    quarter of the window at most.
    """
    most = CROP[dims] // 4
    return tuple(min(most, max(SHIFT, math.ceil(2 * TOLERANCE / mm))) for mm in spacing or (1.0,) * dims)


def room(shape: Sequence[int], spacing: Sequence[float] | None) -> tuple[int, ...]:
    """Voxels that a window is smaller than a case of this shape, along each axis.

    As `wanted_room`, but a quarter of the axis at most: an axis of fewer than 4 voxels has no room, and is seen whole.
    """
    return tuple(min(n // 4, w) for n, w in zip(shape, wanted_room(len(shape), spacing), strict=True))


def home_window(shape: Sequence[int], spacing: Sequence[float] | None, generator: torch.Generator) -> Window:
    """The window in which a case is seen as it is: a drawn corner, so that there is room for the others."""
    free = room(shape, spacing)
    end = torch.randint(2, (len(free),), generator=generator).tolist()
    start = tuple(s * e for s, e in zip(free, end, strict=True))
    return Window(start, tuple(n - s for n, s in zip(shape, free, strict=True)))


def displaced(home: Window, shape: Sequence[int], generator: torch.Generator) -> Window:
    """Another window of the same size: along each axis half of the room or more away from `home`, drawn."""
    start = []
    for begin, size, whole in zip(home.start, home.size, shape, strict=True):
        free = whole - size
        away = int(torch.randint((free + 1) // 2, free + 1, (1,), generator=generator))
        start.append(begin - away if begin else away)
    return Window(tuple(start), home.size)


def core(shape: Sequence[int], spacing: Sequence[float] | None) -> Window:
    """What every window of the case shows."""
    free = room(shape, spacing)
    return Window(free, tuple(n - 2 * s for n, s in zip(shape, free, strict=True)))


def in_window(features: Tensor) -> Tensor:
    """Features (F, *size) of a window, each channel with mean 0 and variance 1 over all of it.

    As a network is given them by `feature_norm("instance")`. Mean and variance over the body alone, or over what two
    windows share, would tell where in the window that lies: coordinates would come out alike in both.
    """
    everywhere = torch.ones(features.shape[1:], dtype=torch.bool, device=features.device)
    return standardised(features, everywhere).reshape(features.shape)


class Meeting:
    """What two windows of a case share.

    Args:
        one, other: the windows.
        inside: (*spatial) bool, the voxels of the case that count; where there are none in both windows, all do.
        spacing: mm per axis.
        generator: draws the voxels among which a nearest neighbour is sought.
        device: where the features are.

    Attributes:
        chance: of a correspondence.
    """

    def __init__(
        self,
        one: Window,
        other: Window,
        inside: Tensor,
        spacing: tuple[float, ...] | None,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        both = one.meets(other)
        self._one, self._other = both.within(one), both.within(other)
        shared = both.cut(inside)
        shared = shared if shared.any() else torch.ones_like(shared)
        where = shared.nonzero()
        order = torch.randperm(len(where), generator=generator)[:VOXELS]
        self._near = neighbours(where[order], spacing, TOLERANCE)
        self._inside, self._voxels = shared.to(device), order.to(device)
        self.chance = float(self._near.double().mean())

    def compare(self, one: Tensor, other: Tensor) -> tuple[float, float]:
        """Alikeness and correspondence of two views.

        Args:
            one, other: (F, *size) features of the two windows, as `in_window` gives them.
        """
        one, other = self._one.cut(one), self._other.cut(other)
        alike = alikeness(standardised(one, self._inside), standardised(other, self._inside))
        one, other = (view[:, self._inside][:, self._voxels] for view in (one, other))
        return alike, correspondence(one, other, self._near)
