"""The loss: voxels of the same structure are alike, in both views; and each place is itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def losses_of(
    features: Tensor, labels: Tensor, places: Tensor, head: nn.Module, temperature: float
) -> dict[str, Tensor]:
    """The terms "structure", "place" and "alike".

    The last two are right on the features, since that is how these are used; structures too, where `head` is the
    identity.

    Args:
        features: (2 B, F, *spatial), of the first views, then of the second ones, which show the same.
        labels: (B, *spatial), 0 for background.
        places: (B, N) flat indices of the voxels that are compared.
        head: F numbers to E.
        temperature: of the contrasts.
    """
    sampled = at_places(features, places.repeat(2, 1))
    first, second = functional.normalize(sampled, dim=2).chunk(2)
    projected = torch.cat(functional.normalize(head(sampled), dim=2).chunk(2), 1)
    seen = labels.flatten(1).gather(1, places)
    return {
        "structure": structure_loss(projected, seen.repeat(1, 2), temperature),
        "place": place_loss(first, second, temperature, seen > 0),
        "alike": alike_loss(features),
    }


def deep_loss(
    inner: Sequence[Tensor],
    heads: Iterable[nn.Module],
    points: Tensor,
    size: Sequence[int],
    seen: Tensor,
    temperature: float,
) -> Tensor:
    """The structure loss of what inner layers say of the same voxels, each behind a projection head of its own.

    Args:
        inner: (2 B, channels, *coarse) each, of the first views, then of the second ones.
        heads: one for each, channels to E.
        points: (2 B, N, dims) the voxels, in those of the window.
        size: of the window, in voxels.
        seen: (B, N) their labels.
        temperature: of the contrasts.

    Returns:
        The mean over the layers.
    """
    losses = []
    for maps, head in zip(inner, heads, strict=True):
        embedded = functional.normalize(head(at_points(maps.float(), points, size)), dim=2)
        losses.append(structure_loss(torch.cat(embedded.chunk(2), 1), seen.repeat(1, 2), temperature))
    return torch.stack(losses).mean()


def structure_loss(embedded: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrast (Khosla et al., NeurIPS 2020, Eq. 2, the sum over positives outside of the logarithm).

    Each voxel is drawn to all others of its own label and apart from all others of its anatomy. Labels of different
    anatomies have nothing to do with each other, so voxels of different anatomies are never compared.

    Args:
        embedded: (B, M, E) of norm 1, the voxels of both views.
        labels: (B, M).
        temperature: above 0.

    Returns:
        The mean over the voxels that have another of their label; 0 where there is none.
    """
    alike = embedded @ embedded.mT / temperature
    itself = torch.eye(alike.shape[1], dtype=torch.bool, device=alike.device)
    alike = alike.masked_fill(itself, -torch.inf)
    log_share = alike - alike.logsumexp(2, keepdim=True)
    positive = (labels[:, :, None] == labels[:, None]) & ~itself
    number = positive.sum(2)
    total = -log_share.masked_fill(~positive, 0).sum(2) / number.clamp_min(1)
    return total.sum() / (number > 0).sum().clamp_min(1)


def place_loss(first: Tensor, second: Tensor, temperature: float, counts: Tensor) -> Tensor:
    """Each voxel against all places of the other view, both ways (InfoNCE, van den Oord et al. 2018, Eq. 4).

    Args:
        first, second: (B, N, E) of norm 1, the same N places in the two views.
        temperature: above 0.
        counts: (B, N) bool, the places that have to be found; all others are only in the way. Background is such:
            nothing in it tells one place from another.

    Returns:
        The mean over the places that count; 0 where there are none.
    """
    alike = first @ second.mT / temperature
    right = torch.arange(alike.shape[1], device=alike.device).expand(alike.shape[0], -1)
    # Classes are the second axis: of `alike` as it is the places of the first view, transposed those of the second.
    each = functional.cross_entropy(alike, right, reduction="none")
    each = each + functional.cross_entropy(alike.mT, right, reduction="none")
    return (each * counts).sum() / (2 * counts.sum()).clamp_min(1)


def alike_loss(features: Tensor) -> Tensor:
    """Half the mean squared difference of each channel between the views.

    Where both views are the same window, and each channel has mean 0 and variance 1 over it, that is 1 - the mean
    correlation of a channel with itself in the other view. Under channel dropout a channel is used alone, so each has
    to stay by itself; a contrast of whole vectors does not ask for that. What keeps channels from becoming all the
    same is the contrast of places.

    Args:
        features: (2 B, F, *spatial), see `losses_of`.
    """
    first, second = features.chunk(2)
    return (first - second).square().mean() / 2


def apart_loss(features: Tensor) -> Tensor:
    """Mean squared correlation of two different channels over an image (the covariance of VICReg, Bardes et al. 2022).

    Without it, and without a contrast of places, all channels may become one.

    Args:
        features: (B, F, *spatial).
    """
    standard = functional.instance_norm(features).flatten(2)
    correlation = standard @ standard.mT / standard.shape[2]
    channels = correlation.shape[1]
    off = correlation * (1 - torch.eye(channels, device=features.device))
    return off.square().sum() / (len(off) * max(1, channels * (channels - 1)))


def sample_places(labels: Tensor, number: int, generator: torch.Generator, border: float = 0.0) -> Tensor:
    """Indices (B, N) of different voxels, every label of an anatomy as often as any other where it has enough.

    Args:
        labels: (B, *spatial).
        number: N; all voxels where there are fewer.
        generator: the only source of randomness.
        border: share of them that is drawn among the voxels at a border (`at_borders`), where there are some.
    """
    flat = labels.flatten(1)
    chance = _evenly(flat, torch.ones_like(flat, dtype=torch.float32))
    if border > 0:
        at_border = _evenly(flat, at_borders(labels).flatten(1).float())
        chance = (1 - border) * chance + border * torch.where(at_border.any(1, keepdim=True), at_border, chance)
    return torch.multinomial(chance, min(number, flat.shape[1]), generator=generator)


def _evenly(labels: Tensor, counts: Tensor) -> Tensor:
    """Chances (B, N), which add up to 1 where any voxel counts, of voxels; each label has as much as any other."""
    total = torch.zeros(len(labels), int(labels.max()) + 1, device=labels.device)
    total.scatter_add_(1, labels, counts)
    chance = counts / total.gather(1, labels).clamp_min(1)
    return chance / (total > 0).sum(1, keepdim=True).clamp_min(1)


def at_borders(labels: Tensor) -> Tensor:
    """(B, *spatial) bool: the next voxel along some axis, before or behind, has another label."""
    found = torch.zeros_like(labels, dtype=torch.bool)
    for axis in range(1, labels.ndim):
        size = labels.shape[axis]
        first, second = (x.narrow(axis, begin, size - 1) for x, begin in ((labels, 0), (labels, 1)))
        differs = first != second
        found.narrow(axis, 0, size - 1).logical_or_(differs)
        found.narrow(axis, 1, size - 1).logical_or_(differs)
    return found


def at_points(maps: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """What coarse maps say at voxels of the window that they cover, linear between their own voxels.

    Args:
        maps: (B, C, *coarse).
        points: (B, N, dims) voxels of the window.
        size: (dims,) of the window.

    Returns:
        (B, N, C).
    """
    dims = points.shape[2]
    share = (points + 0.5) / torch.as_tensor(size, device=points.device) * 2 - 1
    grid = share.flip(2).view(*points.shape[:2], *(1,) * (dims - 1), dims).to(maps.dtype)
    found = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.flatten(2).mT


def coordinates(places: Tensor, spatial: Sequence[int]) -> Tensor:
    """Flat indices (B, N) as voxels (B, N, dims)."""
    return torch.stack(torch.unravel_index(places, tuple(spatial)), 2)


def at_places(features: Tensor, places: Tensor) -> Tensor:
    """Features (B, N, F) of (B, F, *spatial) at the flat indices (B, N)."""
    flat = features.flatten(2)
    return flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).mT
