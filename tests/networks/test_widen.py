"""More input channels: what the network did with its image stays, and the scale of the first layer."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from elsewhere import networks
from elsewhere.errors import SettingsError
from elsewhere.networks.widen import input_channels, widen

KINDS = [
    ("segmentation", "unet", {"channels": [4, 8], "num_res_units": 1}),
    ("segmentation", "unet", {"channels": [4, 8], "num_res_units": 0}),
    ("segmentation", "dynunet", {}),
    ("classification", "resnet18", {"width": 4}),
    ("classification", "efficientnet-b0", {}),
    ("classification", "densenet121", {}),
]


@pytest.mark.parametrize(("kind", "name", "options"), KINDS)
def test_with_the_new_weights_at_zero_the_network_is_the_old_one(
    kind: str, name: str, options: dict[str, object]
) -> None:
    network = networks.build(
        name, dims=2, in_channels=2, out_channels=3, kind=kind, patch_size=(64, 64), spacing=(1.0, 1.0), **options
    )
    before = copy.deepcopy(network)
    for layer in widen(network, 5, 2):
        weight = network.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            weight[:, 2:] = 0
            weight *= (7 / 2) ** 0.5
    # In double precision: how far float32 sums drift apart depends on the processor.
    channels = torch.randn(2, 7, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide, narrow = network.double().eval()(channels), before.double().eval()(channels[:, :2])
    torch.testing.assert_close(wide, narrow, rtol=1e-5, atol=1e-6)


def test_outputs_keep_their_scale() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 64, 3, bias=False), nn.ReLU(), nn.Conv3d(64, 1, 1))
    image = torch.randn(2, 17, 12, 12, 12)
    before = network[0](image[:, :1]).detach().std()
    assert widen(network, 16, 3) == ["0"]
    assert network[0].in_channels == 17
    assert network[2].in_channels == 64
    assert 0.8 < float(network[0](image).detach().std() / before) < 1.25


def test_padding_in_front_is_seen_through() -> None:
    network = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 2, 3))
    assert widen(network, 2, 2) == ["1"]
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 2, 8, 8)


def test_modes_weights_of_later_layers_and_running_statistics_stay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    widen(network, 1, 2)
    assert [module.training for module in network] == [True, False, True]
    for key, value in network.state_dict().items():
        assert key == "0.weight" or torch.equal(value, before[key]), key


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)), "first meets batch_norm"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), "in 2 groups"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "has no convolution"),
        (nn.Sequential(nn.Conv2d(1, 1, 500)), "no image of"),
    ],
)
def test_what_cannot_be_widened_is_said(network: nn.Module, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        widen(network, 1, 2)


class Again(nn.Module):
    """Looks at its image a second time, at the end."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.first, self.last = (
            how,
            nn.Conv2d(1, 3, 3, padding=1),
            nn.Conv2d(4 if how == "joined" else 3, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        seen = self.first(image)
        if self.how == "joined":
            return self.last(torch.cat([seen, image], dim=1))
        if self.how == "repeated":
            return self.last(seen + image.repeat(1, 3, 1, 1))  # three channels and fifteen cannot be added
        return self.last(seen) + image  # one channel and five make five


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Again("joined"), r"taken in more places than first: cannot widen it \(.*channels"),
        (Again("repeated"), r"taken in more places than first: cannot widen it"),
        (Again("added"), r"taken in more places than first: .*\(1, 5, 64, 64\) instead of \(1, 1, 64, 64\)"),
        (nn.Sequential(nn.BatchNorm2d(1, affine=False), nn.Conv2d(1, 2, 3)), "taken in more places than 1"),
    ],
)
def test_an_image_that_is_needed_elsewhere_too_is_said(
    network: nn.Module, sentence: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To where the test sees them: torch's loggers keep theirs.
    monkeypatch.setattr(logging.getLogger("torch._subclasses.fake_tensor"), "handlers", [caplog.handler])
    with pytest.raises(SettingsError, match=sentence):
        widen(network, 4, 2)
    assert not caplog.records  # torch's tracebacks


def test_input_channels_are_those_of_the_first_convolution() -> None:
    assert input_channels(networks.build("unet", dims=3, in_channels=4, out_channels=2)) == 4
