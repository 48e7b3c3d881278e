"""The losses against a slow re-derivation, and how voxels are sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.training.pretrain.contrast import (
    alike_loss,
    apart_loss,
    at_borders,
    at_places,
    at_points,
    coordinates,
    deep_loss,
    place_loss,
    sample_places,
    structure_loss,
)
from reference import pretrain_reference as reference


def embedded(*shape: int, seed: int = 0) -> Tensor:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(numbers, dim=-1).requires_grad_()


def test_the_structure_loss_is_that_of_the_paper() -> None:
    voxels = embedded(1, 9, 5)
    labels = [0, 3, 3, 0, 1, 3, 0, 7, 0]  # 1 and 7 stand alone
    found = structure_loss(voxels, torch.tensor([labels]), 0.2)
    right = reference.structure(voxels.detach()[0].numpy(), labels, 0.2)
    assert found.item() == pytest.approx(right, rel=1e-12)
    found.backward()  # type: ignore[no-untyped-call]
    assert voxels.grad is not None
    assert bool(torch.isfinite(voxels.grad).all())


def test_anatomies_are_never_compared() -> None:
    voxels, labels = embedded(2, 6, 4), torch.tensor([[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]])
    each = [reference.structure(voxels.detach()[i].numpy(), labels[i].tolist(), 0.1) for i in range(2)]
    assert float(structure_loss(voxels, labels, 0.1).detach()) == pytest.approx(sum(each) / 2, rel=1e-12)


def test_no_two_voxels_of_a_label_is_no_loss() -> None:
    assert float(structure_loss(embedded(1, 3, 4), torch.tensor([[0, 1, 2]]), 0.1).detach()) == 0.0


def test_the_place_loss_counts_the_places_that_it_should() -> None:
    first, second = embedded(1, 7, 5), embedded(1, 7, 5, seed=1)
    counts = [True, True, False, True, False, True, True]
    found = place_loss(first, second, 0.3, torch.tensor([counts]))
    right = reference.place(first.detach()[0].numpy(), second.detach()[0].numpy(), 0.3, counts)
    assert float(found.detach()) == pytest.approx(right, rel=1e-12)
    assert float(place_loss(first, second, 0.3, torch.zeros(1, 7, dtype=torch.bool)).detach()) == 0.0


def test_channels_are_compared_with_themselves() -> None:
    features = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    features[2:] += features[:2]
    first, second = features.flatten(2).double().numpy().reshape(2, 2, 3, 30)
    right = np.mean([np.corrcoef(first[b, c], second[b, c])[0, 1] for b in range(2) for c in range(3)])
    found = alike_loss(functional.instance_norm(features.double(), eps=0))
    assert float(found.detach()) == pytest.approx(1 - right, rel=1e-9)


def test_channels_apart_are_those_that_do_not_correlate() -> None:
    features = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features[:, 1] = 2 * features[:, 0] + 0.3 * features[:, 1]
    each = [np.corrcoef(one.flatten(1).numpy())[~np.eye(4, dtype=bool)] for one in features]
    assert float(apart_loss(features)) == pytest.approx(np.mean(np.square(each)), rel=1e-4)
    assert float(apart_loss(features[:, :1].expand(-1, 4, -1, -1))) == pytest.approx(1, rel=1e-4)
    assert float(apart_loss(features[:, :1])) == 0


def test_every_label_is_sampled_as_often_as_any_other() -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[:, :8, :8] = 5
    places = sample_places(labels, 40, torch.Generator().manual_seed(0))[0]
    assert len(places.unique()) == 40
    assert 12 <= int((labels.flatten()[places] == 5).sum()) <= 28  # one in 64 voxels; about half of the sample


def test_a_border_is_where_the_next_voxel_is_of_another_label() -> None:
    labels = torch.tensor([[[0, 0, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]])
    wanted = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0]]]).bool()
    assert torch.equal(at_borders(labels), wanted)
    assert not at_borders(torch.ones(1, 3, 4, 5, dtype=torch.int64)).any()
    block = torch.zeros(1, 6, 6, 6, dtype=torch.int64)
    block[:, 2:4, 2:4, 2:4] = 1
    assert int(at_borders(block).sum()) == 8 + 6 * 4


@pytest.mark.parametrize("border", [0.0, 0.5, 0.9])
def test_a_share_of_the_places_lies_at_borders(border: float) -> None:
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, 16:48, 16:48] = 3  # the second has one label, and no border
    places = sample_places(labels, 200, torch.Generator().manual_seed(0), border)
    found = at_borders(labels).flatten(1).gather(1, places).float().mean(1)
    inside = float(at_borders(labels)[0].float().mean())
    wanted = border + (1 - border) * inside
    assert wanted - 0.12 <= float(found[0]) <= wanted + 0.12
    assert float(found[1]) == 0.0
    assert all(len(one.unique()) == 200 for one in places)
    of_shape = (labels.flatten(1).gather(1, places)[0] == 3).float().mean()
    assert 0.35 <= float(of_shape) <= 0.65


@pytest.mark.parametrize("spatial", [(8, 12), (8, 12, 4)])
def test_coarse_maps_are_read_at_the_voxels_that_they_cover(spatial: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(int(np.prod(spatial)), (2, 30), generator=generator)
    points = coordinates(places, spatial)
    assert points.shape == (2, 30, len(spatial))
    whole = torch.randn(2, 3, *spatial, generator=generator)
    torch.testing.assert_close(at_points(whole, points, spatial), at_places(whole, places))
    # A map at half the size whose values are the places of its voxels: inside, each voxel reads its own place.
    axes = [torch.arange(n // 2) * 2 + 0.5 for n in spatial]
    halved = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].expand(2, *(-1,) * (len(spatial) + 1))
    within = ((points > 0) & (points < torch.tensor(spatial) - 1)).all(2)
    assert within.any()
    torch.testing.assert_close(at_points(halved, points, spatial)[within], points[within].float())


def test_the_deep_loss_is_the_mean_of_those_of_its_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(64, (2, 20), generator=generator)
    seen = torch.randint(3, (2, 20), generator=generator)
    points = coordinates(places, (8, 8)).repeat(2, 1, 1)
    inner = [torch.randn(4, 5, 8, 8, generator=generator), torch.randn(4, 7, 4, 4, generator=generator)]
    heads = [torch.nn.Identity(), torch.nn.Identity()]
    found = deep_loss(inner, heads, points, (8, 8), seen, 0.2)
    each = []
    for maps in inner:
        voxels = functional.normalize(at_points(maps, points, (8, 8)), dim=2)
        both = torch.cat([voxels[:2], voxels[2:]], 1)
        each.append(structure_loss(both, torch.cat([seen, seen], 1), 0.2))
    torch.testing.assert_close(found, sum(each) / 2)


def test_features_are_taken_at_the_sampled_voxels() -> None:
    features = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5).float()
    found = at_places(features, torch.tensor([[0, 7], [19, 6]]))
    assert found.shape == (2, 2, 3)
    assert torch.equal(found[0, 1], features[0, :, 1, 2])
    assert torch.equal(found[1, 0], features[1, :, 3, 4])
