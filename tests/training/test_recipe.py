from __future__ import annotations

import pytest
import torch

from elsewhere.training.recipe import Recipe, default_flip_axes


@pytest.mark.parametrize(
    ("kind", "dims", "axes"),
    [
        ("segmentation", 2, (0, 1)),
        ("segmentation", 3, (0, 1, 2)),
        ("classification", 2, (1,)),
        ("classification", 3, (0,)),
    ],
)
def test_axes_that_may_be_flipped(kind: str, dims: int, axes: tuple[int, ...]) -> None:
    assert default_flip_axes(kind, dims) == axes


@pytest.mark.parametrize("dims", [2, 3])
def test_image_and_target_move_together(dims: int) -> None:
    shape = (40,) * dims if dims == 2 else (24,) * dims
    target = torch.zeros(16, *shape, dtype=torch.int64)
    target[(slice(None), *(slice(6, 14),) * dims)] = 1
    image = target[:, None].float() * 4 + 0.01
    size = tuple(n - 8 for n in shape)
    out, moved, _ = Recipe(range(dims))(image, torch.Generator().manual_seed(0), target, {}, size)
    assert out.shape == (16, 1, *size)
    assert moved is not None
    agree = ((out[:, 0] - out.flatten(1).amin(1).view(-1, *[1] * dims) > 2) == (moved > 0)).float().mean()
    assert agree > 0.97
    assert not torch.equal(moved[0], moved[1])


def test_what_nothing_touches_is_cut_bit_for_bit() -> None:
    image = torch.randn(64, 1, 26, 26, generator=torch.Generator().manual_seed(0))
    out, _, _ = Recipe(())(image, torch.Generator().manual_seed(0), None, {}, (20, 20))
    same = (out == image[:, :, 3:23, 3:23]).flatten(1).all(1).float().mean()
    assert 0.1 < same < 0.5  # 0.7 x 0.9 x 0.7 x 0.85 x 0.8 x 0.8 = 0.24


def test_margin_covers_what_a_moderate_turn_needs() -> None:
    assert Recipe(()).margin((100, 20)) == (15, 3)


def test_the_callers_image_stays_as_it_was() -> None:
    image = torch.rand(6, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    for seed in range(4):
        for size in (None, (16, 16)):
            Recipe((0, 1))(image, torch.Generator().manual_seed(seed), size=size)
            assert torch.equal(image, before)
