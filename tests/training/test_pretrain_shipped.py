"""What the package ships: small, whole, and told about."""

from __future__ import annotations

import pytest
import torch

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
    # It was trained to: another contrast of the same image looks more alike to it than another image.
    image = torch.rand(2, 1, *(24,) * dims, generator=torch.Generator().manual_seed(0))
    image = (
        torch.nn.functional.avg_pool2d(image, 5, 1, 2) if dims == 2 else torch.nn.functional.avg_pool3d(image, 5, 1, 2)
    )
    first, other, inverted = (extractor(one).flatten(2) for one in (image[:1], image[1:], 1 - image[:1] ** 2))

    def alike(one: torch.Tensor, two: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(one - one.mean(2, True), two - two.mean(2, True), 2).mean())

    assert alike(first, inverted) > alike(first, other) + 0.2
