"""What the package ships: small, whole, and told about."""

from __future__ import annotations

import pytest
import torch

from elsewhere.acquisition import smooth_shapes
from elsewhere.networks.stable import build
from elsewhere.networks.stable.ours import DIMS, SHIPPED

MOST = 8 * 2**20
"""Bytes of a file at most."""


@pytest.mark.parametrize("name", [name for name in DIMS if (SHIPPED / f"{name}.safetensors").is_file()])
def test_a_shipped_extractor_is_small_and_has_its_card(name: str) -> None:
    dims = DIMS[name]
    extractor = build(name, dims)
    assert (SHIPPED / f"{name}.safetensors").stat().st_size <= MOST
    card = (SHIPPED / f"{name}.md").read_text(encoding="utf-8")
    assert extractor.weights_hash in card
    assert "## Measured on real images" in card
    # It was trained to: another contrast of the same structures looks more alike to it than other structures do.
    generator = torch.Generator().manual_seed(0)
    labels = smooth_shapes((2, *(32,) * dims), 6, 4, generator)
    image = torch.rand(6, generator=generator)[labels][:, None]
    first, other, inverted = (extractor(one).flatten(2) for one in (image[:1], image[1:], 1 - image[:1] ** 2))

    def alike(one: torch.Tensor, two: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(one - one.mean(2, True), two - two.mean(2, True), 2).mean())

    assert alike(first, inverted) > alike(first, other) + 0.4
