from __future__ import annotations

import numpy as np
import pytest
import torch

from elsewhere.errors import SettingsError
from elsewhere.networks.stable import Mind, build
from elsewhere.networks.stable.mind import neighbour_pairs
from reference import stable_reference


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("size", "radius", "dilation"),
    [((7, 9), 1, 1), ((6, 5), 2, 2), ((3, 8), 0, 3), ((3, 4, 5), 1, 1), ((3, 3, 4), 1, 2)],
)
def test_it_is_the_definition(size: tuple[int, ...], radius: int, dilation: int) -> None:
    image = noise(1, 1, *size)
    features = Mind(len(size), radius=radius, dilation=dilation)(image)[0]
    wanted = stable_reference.mind_ssc(image[0, 0].numpy(), radius, dilation)
    pairs = neighbour_pairs(len(size))
    assert len(pairs) == len(wanted) == len(features) == {2: 4, 3: 12}[len(size)]
    for pair, found in zip(pairs, features, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted[frozenset(pair)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_another_contrast_has_the_same_features(dims: int) -> None:
    image, mind = noise(1, 1, *(12,) * dims), build("mind", dims)
    torch.testing.assert_close(mind(-3.7 * image + 250), mind(image), rtol=1e-8, atol=1e-10)
    assert (mind(image.square()) - mind(image)).abs().max() > 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_a_constant_image_and_a_cut_out_one(dims: int) -> None:
    mind = build("mind", dims)
    assert torch.equal(mind(torch.full((1, 1, *(9,) * dims), 7.0)), torch.ones(1, mind.features, *(9,) * dims))
    cut = noise(1, 1, *(24,) * dims).float()
    cut[..., 4:] = 0
    features = mind(cut)
    assert torch.isfinite(features).all()
    assert (features[..., 16:] == 1).all()
    assert features.amax(1).eq(1).all()
    assert features[..., 2].amin() < 0.3


def test_it_sees_an_edge_by_its_direction() -> None:
    """Beside a step along the first axis, patches on two sides of it differ, those along it do not."""
    image = torch.zeros(1, 1, 20, 20)
    image[:, :, 10:] = 1
    mind = Mind(2, radius=0, dilation=1)
    at_edge = mind(image)[0, :, 9, 10]  # the neighbour below lies on the other side, the others do not
    pairs = neighbour_pairs(2)
    for pair, value in zip(pairs, at_edge, strict=True):
        assert (value < 0.5) == ((1, 0) in pair)


def test_half_precision_images_are_compared_in_single() -> None:
    image = 1000 * noise(1, 1, 16, 16).half()  # squares of such differences are no float16
    features = build("mind", 2)(image)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), build("mind", 2)(image.float()), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"radius": -1}, "radius must be 0 or more and dilation 1 or more, found -1 and 2"),
        ({"dilation": 0}, "found 2 and 0"),
        ({"radius": 1.5}, "radius must be a whole number, found 1.5"),
        ({"sigma": 1}, "unknown option 'sigma'; it has: radius, dilation"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        build("mind", 2, **options)  # type: ignore[arg-type]
