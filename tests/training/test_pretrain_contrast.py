"""The losses against a slow re-derivation, and how voxels are sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from elsewhere.training.pretrain.contrast import (
    alike_loss,
    at_places,
    losses_of,
    near_each_other,
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


def test_near_voxels_are_those_within_a_box() -> None:
    spatial = (5, 7, 6)
    places = torch.randint(210, (2, 40), generator=torch.Generator().manual_seed(0))
    found = near_each_other(places, spatial, 2)
    for b in range(2):
        points = [np.array(np.unravel_index(int(place), spatial)) for place in places[b]]
        right = [[bool((abs(p - q) <= 2).all()) for q in points] for p in points]
        assert found[b].tolist() == right
    assert 0.1 < float(found.float().mean()) < 0.6
    assert not torch.equal(found, near_each_other(places, spatial, 3))


def test_only_near_voxels_are_compared() -> None:
    # Against the reference, which knows voxels by where they are.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 5, 6, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (2, 6, 9), generator=generator)
    places = torch.stack([torch.randperm(54, generator=generator)[:12] for _ in range(2)])
    found = losses_of(features, labels, places, torch.nn.Identity(), 0.3, 2)
    structures, anchors, right_place, counted = 0.0, 0, 0.0, 0
    for b in range(2):
        points = [np.array(np.unravel_index(int(place), (6, 9))) for place in places[b]]
        near = [[bool((abs(p - q) <= 2).all()) for q in points] for p in points]
        voxels = functional.normalize(features.flatten(2)[[b, b + 2]][:, :, places[b]].mT, dim=2).numpy()
        seen = [int(labels[b].flatten()[place]) for place in places[b]]
        both = np.concatenate(list(voxels))
        structures += 24 * reference.structure(both, seen * 2, 0.3, lambda i, j, near=near: near[i % 12][j % 12])
        anchors += 24  # each has itself in the other view
        counts = [label > 0 for label in seen]
        right_place += sum(counts) * reference.place(*voxels, 0.3, counts, lambda i, j, near=near: near[i][j])
        counted += sum(counts)
    assert float(found["structure"]) == pytest.approx(structures / anchors, rel=1e-9)
    assert float(found["place"]) == pytest.approx(right_place / counted, rel=1e-9)
    everything = losses_of(features, labels, places, torch.nn.Identity(), 0.3, 0)
    assert float(everything["place"]) > float(found["place"]) + 0.3


def test_to_say_roughly_where_a_voxel_is_helps_only_among_far_ones() -> None:
    # Features that know in which of 16 blocks a voxel lies: against chance that is much among all, little among near.
    block = torch.arange(4).repeat_interleave(8)
    number = (4 * block[:, None] + block)[None]
    features = functional.one_hot(number, 16).movedim(3, 1).double().repeat(2, 1, 1, 1)
    labels = torch.ones(1, 32, 32, dtype=torch.int64)
    places = torch.randperm(1024, generator=torch.Generator().manual_seed(0))[None, :400]
    gain = {}
    for near in (0, 2):
        among = near_each_other(places, (32, 32), near) if near else torch.ones(1, 400, 400, dtype=torch.bool)
        chance = among.sum(2).double().log().mean()
        gain[near] = float(chance - losses_of(features, labels, places, torch.nn.Identity(), 0.2, near)["place"])
    assert gain[0] > 2.0
    assert 0 < gain[2] < 0.8


def test_channels_are_compared_with_themselves() -> None:
    features = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    features[2:] += features[:2]
    first, second = features.flatten(2).double().numpy().reshape(2, 2, 3, 30)
    right = np.mean([np.corrcoef(first[b, c], second[b, c])[0, 1] for b in range(2) for c in range(3)])
    found = alike_loss(functional.instance_norm(features.double(), eps=0))
    assert float(found.detach()) == pytest.approx(1 - right, rel=1e-9)


def test_every_label_is_sampled_as_often_as_any_other() -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[:, :8, :8] = 5
    places = sample_places(labels, 40, torch.Generator().manual_seed(0))[0]
    assert len(places.unique()) == 40
    assert 12 <= int((labels.flatten()[places] == 5).sum()) <= 28  # one in 64 voxels; about half of the sample


def test_features_are_taken_at_the_sampled_voxels() -> None:
    features = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5).float()
    found = at_places(features, torch.tensor([[0, 7], [19, 6]]))
    assert found.shape == (2, 2, 3)
    assert torch.equal(found[0, 1], features[0, :, 1, 2])
    assert torch.equal(found[1, 0], features[1, :, 3, 4])
