"""Convolutions that leave out channels of zeros, beside the same without."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from elsewhere import networks
from elsewhere.networks import sparse, widen
from elsewhere.networks.sparse import leave_out_zeros

OPTIONS: dict[str, Any] = {
    "unet": {"channels": [4, 8], "num_res_units": 1}, "dynunet": {"filters": 4}, "resnet18": {"width": 4}}  # fmt: skip


def dropped(channels: int, dims: int, seed: int, size: int = 32, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, channels, *(size,) * dims, generator=generator, dtype=torch.float64)
    return image * (torch.rand(channels, generator=generator) > 0.6).view(1, -1, *(1,) * dims)


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of channels that were computed."""
    found: list[int] = []
    look = sparse._without_zeros

    def spy(layer: Any, image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        pair = look(layer, image, weight)
        found.append(pair[0].shape[1])
        return pair

    monkeypatch.setattr(sparse, "_without_zeros", spy)
    return found


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["unet", "dynunet", "resnet18"])
def test_answers_and_gradients_are_those_without(name: str, dims: int, widths: list[int]) -> None:
    kind = "classification" if name == "resnet18" else "segmentation"
    torch.manual_seed(0)
    network = networks.build(name, dims=dims, in_channels=1, out_channels=2, kind=kind, patch_size=(32,) * dims,
                             spacing=(1.0,) * dims, **OPTIONS[name])  # fmt: skip
    widen.widen(network, 8, dims)
    network.double().train()
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, sparse.SparseConv2d | sparse.SparseConv3d):
            module.__class__ = nn.Conv2d if dims == 2 else nn.Conv3d
    optimizers = [torch.optim.AdamW(one.parameters(), lr=1e-3) for one in (network, plain)]
    for step in range(3):
        found = []
        for one, optimizer in zip((network, plain), optimizers, strict=True):
            optimizer.zero_grad()
            out = one(dropped(9, dims, step))
            out = out[0] if isinstance(out, list | tuple) else out
            out.square().mean().backward()
            found.append([out.detach(), *(p.grad.clone() for p in one.parameters() if p.grad is not None)])
            optimizer.step()
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
        plain.load_state_dict(network.state_dict())  # rounding may turn Adam's step on a gradient that is 0
    assert min(widths) < 9
    assert all(isinstance(p, nn.Parameter) for p in network.parameters())


def test_where_it_would_not_be_the_same_it_does_not_look(widths: list[int]) -> None:
    layer, image = nn.Conv2d(5, 3, 3), dropped(5, 2, 1, 8).float()
    leave_out_zeros(layer)
    there = int(image.flatten(2).ne(0).any(2).any(0).sum())
    assert 0 < there < 5
    layer(image)
    layer.eval()(image)
    layer.train()(image.clone().requires_grad_())
    layer(image * 0)
    layer(image[0])  # without a batch
    layer(image.index_put((torch.tensor(0), torch.arange(5), torch.tensor(0), torch.tensor(0)), torch.tensor(math.nan)))
    assert widths == [there, 5, 5, 5, 8, 5]


def test_an_image_that_is_changed_on_its_way_is_seen_as_it_comes(widths: list[int]) -> None:
    """Zeros that became something else before the convolution are not zeros."""
    layer, image = nn.Conv2d(5, 3, 3), dropped(5, 2, 1, 8).float()
    expected = copy.deepcopy(layer)(image - 0.5)
    leave_out_zeros(layer)
    torch.testing.assert_close(layer(image - 0.5), expected)
    assert widths == [5]


def test_it_may_be_computed_again_in_the_backward_pass() -> None:
    layer, image = nn.Conv2d(5, 3, 3), dropped(5, 2, 1, 8).float()
    leave_out_zeros(layer)
    found = []
    for again in (False, True):
        layer.zero_grad()
        out = checkpoint(layer, image, use_reentrant=False) if again else layer(image)
        out.square().sum().backward()
        assert layer.weight.grad is not None
        found.append(layer.weight.grad.clone())
    assert torch.equal(*found)


def test_layers_of_ones_own_stay_as_they_are() -> None:
    class Own(nn.Conv2d):
        pass

    layers = [Own(2, 2, 3), nn.Conv1d(2, 2, 3), nn.ConvTranspose2d(2, 2, 3)]
    for layer in layers:
        before = type(layer)
        leave_out_zeros(layer)
        assert type(layer) is before
