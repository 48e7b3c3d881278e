"""The loss: voxels of the same structure are alike, in both views; and each place is itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def losses_of(
    features: Tensor, labels: Tensor, places: Tensor, head: nn.Module, temperature: float, near: int
) -> dict[str, Tensor]:
    """The terms "structure", "place" and "alike".

    Structures are compared behind a projection head, the others are right on the features, since that is how these are
    used.

    Args:
        features: (2 B, F, *spatial), of the first views, then of the second ones, which show the same.
        labels: (B, *spatial), 0 for background.
        places: (B, N) flat indices of the voxels that are compared.
        head: F numbers to E.
        temperature: of the contrasts.
        near: voxels between two that are compared, at most, along each axis; 0: all are. Among those that are far
            apart it helps to say where in its window a voxel is, among near ones what is there.
    """
    among = near_each_other(places, labels.shape[1:], near) if near else None
    sampled = at_places(features, places.repeat(2, 1))
    first, second = functional.normalize(sampled, dim=2).chunk(2)
    projected = torch.cat(functional.normalize(head(sampled), dim=2).chunk(2), 1)
    seen = labels.flatten(1).gather(1, places)
    return {
        "structure": structure_loss(
            projected, seen.repeat(1, 2), temperature, None if among is None else among.repeat(1, 2, 2)
        ),
        "place": place_loss(first, second, temperature, seen > 0, among),
        "alike": alike_loss(features),
    }


def structure_loss(embedded: Tensor, labels: Tensor, temperature: float, among: Tensor | None = None) -> Tensor:
    """Supervised contrast (Khosla et al., NeurIPS 2020, Eq. 2, the sum over positives outside of the logarithm).

    Each voxel is drawn to those of its own label, and apart from the others, among the voxels with which it is
    compared. Labels of different anatomies have nothing to do with each other, so these are all of its own anatomy.

    Args:
        embedded: (B, M, E) of norm 1, the voxels of both views.
        labels: (B, M).
        temperature: above 0.
        among: (B, M, M) bool, which are compared, each with one other at least; None: all.

    Returns:
        The mean over the voxels that are compared with another of their label; 0 where there is none.
    """
    alike = embedded @ embedded.mT / temperature
    others = ~torch.eye(alike.shape[1], dtype=torch.bool, device=alike.device)
    if among is not None:
        others = others & among
    positive = (labels[:, :, None] == labels[:, None]) & others
    alike = alike.masked_fill(~others, -torch.inf)
    log_share = alike - alike.logsumexp(2, keepdim=True)
    number = positive.sum(2)
    total = -log_share.masked_fill(~positive, 0).sum(2) / number.clamp_min(1)
    return total.sum() / (number > 0).sum().clamp_min(1)


def place_loss(
    first: Tensor, second: Tensor, temperature: float, counts: Tensor, among: Tensor | None = None
) -> Tensor:
    """Each voxel against all places of the other view, both ways (InfoNCE, van den Oord et al. 2018, Eq. 4).

    Args:
        first, second: (B, N, E) of norm 1, the same N places in the two views.
        temperature: above 0.
        counts: (B, N) bool, the places that have to be found; all others are only in the way. Background is such:
            nothing in it tells one place from another.
        among: (B, N, N) bool, which are compared, each with itself in any case; None: all.

    Returns:
        The mean over the places that count; 0 where there are none.
    """
    alike = first @ second.mT / temperature
    if among is not None:
        alike = alike.masked_fill(~among, -torch.inf)
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


def near_each_other(places: Tensor, spatial: Sequence[int], near: int) -> Tensor:
    """Which of the voxels at flat indices (B, N) lie at most `near` apart along each axis: (B, N, N) bool."""
    found = torch.ones(*places.shape, places.shape[1], dtype=torch.bool, device=places.device)
    for along in torch.unravel_index(places, tuple(spatial)):
        found &= (along[:, :, None] - along[:, None]).abs() <= near
    return found


def sample_places(labels: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Indices (B, N) of different voxels, every label of an anatomy as often as any other where it has enough.

    Args:
        labels: (B, *spatial).
        number: N; all voxels where there are fewer.
        generator: the only source of randomness.
    """
    flat = labels.flatten(1)
    counts = torch.zeros(len(flat), int(flat.max()) + 1, device=flat.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
    chance = 1 / counts.gather(1, flat)
    return torch.multinomial(chance, min(number, flat.shape[1]), generator=generator)


def at_places(features: Tensor, places: Tensor) -> Tensor:
    """Features (B, N, F) of (B, F, *spatial) at the flat indices (B, N)."""
    flat = features.flatten(2)
    return flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).mT
