from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from elsewhere.errors import SettingsError
from elsewhere.networks.stable import FeatureUNet
from elsewhere.networks.stable.anatomix import LAYOUTS
from reference import stable_reference


def with_statistics(network: nn.Module) -> nn.Module:
    """Norms that do something: none of their weights and statistics is 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for key, value in network.state_dict().items():
        if value.ndim == 1 and value.is_floating_point():
            low, high = (0.5, 2.0) if key.endswith(("running_var", "weight")) else (-0.5, 0.5)
            value.uniform_(low, high, generator=generator)
    return network


@pytest.mark.parametrize(
    ("dims", "downs", "norm", "pooling", "upsampling", "eps"),
    [
        (2, 2, "batch", "max", "nearest", 1e-5),
        (2, 3, "instance", "avg", "linear", 1e-2),
        (3, 1, "batch", "avg", "nearest", 1e-3),
        (3, 2, "instance", "max", "linear", 1e-2),
    ],
)
def test_it_is_the_u_net_of_the_description(
    dims: int, downs: int, norm: str, pooling: str, upsampling: str, eps: float
) -> None:
    network = FeatureUNet(dims, 1, 3, 2, downs, norm, pooling, upsampling, eps).double()
    with_statistics(network).eval()
    size = tuple(2**downs * (2 + axis % 2) for axis in range(dims))
    image = torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    wanted = stable_reference.unet(state, image.numpy(), downs, norm, pooling, upsampling, eps)
    with torch.no_grad():
        found = network(image[None, None])[0]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "millions"), [("anatomix", 5.9), ("anatomix-dev", 94)])
def test_the_published_sizes(name: str, millions: float) -> None:
    """5.9 M and 94 M parameters, says the paper's code and its README."""
    with torch.device("meta"):
        network = FeatureUNet(3, 1, **LAYOUTS[name])
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert round(count, 1 if millions < 10 else 0) == millions


def test_the_keys_of_anatomix() -> None:
    """Numbers of the modules counted by hand from the description: 3 first, 7 a level down, 6 at the bottom, 7 up."""
    with torch.device("meta"):
        state = FeatureUNet(3, 1, **LAYOUTS["anatomix"]).state_dict()
        dev = FeatureUNet(3, 1, **LAYOUTS["anatomix-dev"]).state_dict()
    convolutions = [key for key in state if state[key].ndim == 5]
    numbers = [0, 3, 6, 10, 13, 17, 20, 24, 27, 31, 34, 38, 41, 45, 48, 52, 55, 59, 62, 65]
    assert convolutions == [f"model.{n}.weight" for n in numbers]
    shapes = [tuple(state[key].shape[:2]) for key in convolutions]
    assert shapes[:3] == [(16, 1), (16, 16), (16, 16)]
    assert shapes[9:13] == [(256, 128), (256, 256), (128, 384), (128, 128)]
    assert shapes[-3:] == [(16, 48), (16, 16), (16, 16)]
    assert "model.1.running_var" in state
    assert not any(key.endswith("bias") for key in convolutions)
    assert "model.0.bias" not in state
    # Instance norm: no state of its own, and a bias in every convolution.
    assert all(key.endswith((".weight", ".bias")) for key in dev)
    assert len(dev) == 2 * (3 + 2 * 5 + 2 * 5 + 1)
    assert tuple(dev["model.79.weight"].shape) == (32, 32, 3, 3, 3)


def test_it_is_a_plain_network_that_trains() -> None:
    network = FeatureUNet(2, 1, 4, 4, 2, "instance", "avg", "linear")
    image = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    network(image).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert FeatureUNet(**network.config).state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dims": 1}, "dims must be one of 2, 3, found 1"),
        ({"norm": "layer"}, "norm must be one of batch, instance, found 'layer'"),
        ({"pooling": "Max"}, "pooling must be one of max, avg"),
        ({"upsampling": "cubic"}, "upsampling must be one of nearest, linear"),
        ({"downs": 0}, "downs must be a whole number, 1 or more, found 0"),
        ({"norm_eps": 0.0}, "norm_eps must lie between 0 and 1"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        FeatureUNet(**options)  # type: ignore[arg-type]
