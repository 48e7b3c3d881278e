from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elsewhere.acquisition.geometry_patches import cut, foreground_index, patch_origin


def test_index_finds_every_voxel_and_thins_large_classes() -> None:
    label = np.zeros((20, 30, 10), np.uint8)
    label[2:4, 5:7, 1] = 3
    label[10:, :, :] = 1
    index = foreground_index(label, np.random.default_rng(0), max_points=500)
    assert sorted(index) == [1, 3]
    assert np.array_equal(index[3], np.argwhere(label == 3))
    assert index[1].shape == (500, 3)
    assert np.all(label[tuple(index[1].T)] == 1)
    assert len(np.unique(index[1], axis=0)) == 500
    assert np.abs(index[1].mean(0) - [14.5, 14.5, 4.5]).max() < 1


def test_foreground_patches_have_their_frequency_and_balance_classes() -> None:
    label = np.zeros((200, 200), np.uint8)
    label[20:22, 150:153] = 2
    label[120:180, 100:180] = 1
    rng = np.random.default_rng(1)
    index = foreground_index(label, rng)
    seen = {1: 0, 2: 0}
    for _ in range(4000):
        patch = cut(label, patch_origin(label.shape, (16, 16), rng, index, 1.0), (16, 16))
        middle = int(patch[8, 8])
        seen[middle] += 1
    assert seen[2] / 4000 == pytest.approx(0.5, abs=0.03)
    rare = sum(
        bool((cut(label, patch_origin(label.shape, (16, 16), rng, index, 0.33), (16, 16)) == 2).any())
        for _ in range(6000)
    )
    # a third of the patches are balanced, half of them on class 2; of the others (17 x 18) / 185^2 meet it by chance
    assert rare / 6000 == pytest.approx(0.33 / 2 + 0.67 * 17 * 18 / 185**2, abs=0.02)


def test_without_foreground_every_place_is_as_likely() -> None:
    rng = np.random.default_rng(2)
    origins = np.array([patch_origin((9, 6), (5, 6), rng, {}, 1.0) for _ in range(5000)])
    assert np.all(origins[:, 1] == 0)
    assert np.bincount(origins[:, 0]) / 5000 == pytest.approx([0.2] * 5, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    patch=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
)
def test_patches_lie_inside_or_around_the_image(
    shape: tuple[int, int, int], patch: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.int16)
    voxel = tuple(int(rng.integers(n)) for n in shape)
    label[voxel] = 5
    origin = patch_origin(shape, patch, rng, foreground_index(label, rng), 1.0)
    for start, wanted, length in zip(origin, patch, shape, strict=True):
        assert start >= 0 if wanted <= length else start <= 0
        assert start + wanted <= length if wanted <= length else start + wanted >= length
    piece = cut(label, origin, patch, fill=-1)
    assert piece.shape == patch
    assert int((piece == 5).sum()) == 1
    assert int((piece >= 0).sum()) == int(np.prod(np.minimum(shape, patch)))


def test_cutting_from_a_memory_map_copies_and_keeps_the_channels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    piece = cut(mapped, (-2, 25), (6, 8), fill=9)
    expected = np.pad(array, ((0, 0), (2, 0), (0, 3)), constant_values=9)[:, 0:6, 25:33]
    assert np.array_equal(piece, expected)
    inner = cut(mapped, (1, 2), (4, 4))
    inner[:] = 0
    assert type(inner) is np.ndarray
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)
