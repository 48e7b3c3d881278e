from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from elsewhere import networks
from elsewhere.errors import SettingsError
from elsewhere.networks.registry import Shape
from elsewhere.networks.segmenters import levels

SMALL: dict[str, dict[str, object]] = {
    "unet": {"channels": [4, 8, 16]},
    "dynunet": {"filters": 4, "depth": 3},
    "densenet121": {"init_features": 8, "growth_rate": 4, "block_config": [2, 2, 2]},
    "resnet18": {"width": 4},
    "resnet50": {"width": 4},
    "efficientnet-b0": {},
}
ALL = [(name, dims) for name in networks.names() for dims in networks.get(name).dims]


def make(name: str, dims: int, seed: int = 0, **options: object) -> nn.Module:
    return networks.build(
        name, dims=dims, in_channels=2, out_channels=3, seed=seed, **{**SMALL.get(name, {}), **options}
    )


def image_of(dims: int) -> torch.Tensor:
    return torch.randn(2, 2, *(32,) * dims, generator=torch.Generator().manual_seed(1))


def test_each_task_has_its_networks_the_default_first() -> None:
    for dims in (2, 3):
        assert networks.names("segmentation", dims) == ["unet", "dynunet"]
        assert networks.names("classification", dims) == ["densenet121", "resnet18", "resnet50", "efficientnet-b0"]
    assert set(SMALL) == set(networks.names())


@pytest.mark.parametrize(("name", "dims"), ALL)
def test_it_trains(name: str, dims: int) -> None:
    from elsewhere.tasks import create

    kind = networks.get(name).kinds[0]
    network, task, image = make(name, dims), create(kind, dims, ("a", "b", "c")), image_of(dims)
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(3, (2, *image.shape[2:]) if kind == "segmentation" else (2,), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # EfficientNet drops paths
        for _ in range(6):
            logits = network(image)
            assert logits.shape == ((2, 3, *image.shape[2:]) if kind == "segmentation" else (2, 3))
            loss = task.loss(logits, target).mean()
            optimizer.zero_grad()
            loss.backward()
            if not losses:
                assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
            optimizer.step()
            losses.append(loss.item())
    assert min(losses[1:]) < losses[0]


@pytest.mark.parametrize(("name", "dims"), ALL)
def test_weights_depend_on_the_seed_alone_and_the_global_state_is_left(name: str, dims: int) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = make(name, dims, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = make(name, dims, seed=3), make(name, dims, seed=4)
    same = [torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)]
    assert all(same)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("name", "dims"), ALL)
def test_its_state_makes_another_the_same(name: str, dims: int) -> None:
    first, second, image = make(name, dims, seed=0), make(name, dims, seed=1), image_of(dims)
    with torch.no_grad():
        first(image)  # moves batch-norm statistics
        second.load_state_dict(first.state_dict(), strict=True)
        torch.testing.assert_close(first.eval()(image), second.eval()(image), rtol=0, atol=0)


@pytest.mark.parametrize("name", networks.names())
def test_the_norm_is_a_choice(name: str) -> None:
    kinds = {"batch": nn.modules.batchnorm._BatchNorm, "instance": nn.modules.instancenorm._InstanceNorm}
    for norm, kind in kinds.items():
        modules = list(make(name, 2, norm=norm).modules())
        assert any(isinstance(m, kind) for m in modules)
        other = kinds["instance" if norm == "batch" else "batch"]
        assert not any(isinstance(m, other) for m in modules)


@pytest.mark.parametrize(("name", "dims"), ALL)
def test_multiple_of_is_the_truth(name: str, dims: int) -> None:
    multiple = networks.multiple_of(name, SMALL[name], dims)
    assert len(multiple) == dims
    if networks.get(name).kinds == ("classification",):
        assert multiple == (1,) * dims
        return
    network = make(name, dims).eval()
    with torch.no_grad():
        size = [m * 3 for m in multiple]
        assert network(torch.zeros(1, 2, *size)).shape[2:] == torch.Size(size)
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 2, *[n + 1 for n in size]))


def test_the_unet_is_monais_with_a_head() -> None:
    from monai.networks.nets import UNet

    trunk, head = make("unet", 2, norm="batch")
    assert isinstance(trunk, UNet)
    assert isinstance(head, nn.Conv2d)
    assert head.kernel_size == (1, 1)


def test_the_unet_can_tell_an_image_without_foreground() -> None:
    """Logits are not forced to one mean and spread in every image, as MONAI's own last instance norm would."""
    network = networks.build("unet", dims=2, in_channels=1, out_channels=2, channels=(4, 8))
    with torch.no_grad():
        flat = network(torch.zeros(1, 1, 16, 16))
        rich = network(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert abs(flat.std((2, 3)) - rich.std((2, 3))).max() > 0.01


def test_levels_follow_nnunets_rule() -> None:
    # 160 x 160: halved while 8 or more are left: 160 80 40 20 10 5
    kernels, strides = levels(Shape(2, patch_size=(160, 160)))
    assert strides == [(1, 1)] + [(2, 2)] * 5
    assert kernels == [(3, 3)] * 6
    # Slices of 4 mm: not convolved across nor halved until the others are at 2 mm, within a factor of two.
    kernels, strides = levels(Shape(3, patch_size=(20, 128, 128), spacing=(4.0, 1.0, 1.0)))
    assert kernels[:3] == [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert strides[:3] == [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    assert networks.multiple_of("dynunet", {}, 3, patch_size=(20, 128, 128), spacing=(4, 1, 1)) == (4, 32, 32)
    # Without a patch size five levels, halved four times.
    assert networks.multiple_of("dynunet", {}, 2) == (16, 16)
    assert networks.multiple_of("unet", {}, 3) == (16, 16, 16)


def test_dynunet_for_thick_slices() -> None:
    options = {"patch_size": (8, 32, 32), "spacing": (5.0, 1.0, 1.0)}
    network = networks.build("dynunet", dims=3, in_channels=1, out_channels=2, filters=4, **options)
    assert network(torch.zeros(1, 1, 8, 32, 32)).shape == (1, 2, 8, 32, 32)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("unett", {}, r"unknown network 'unett' \(did you mean 'unet'\?\)"),
        ("unet", {"chanels": (4, 8)}, r"unknown option 'chanels' \(did you mean 'channels'\?\)"),
        ("unet", {"channels": 16}, "channels must be a list"),
        ("unet", {"channels": []}, "channels must be a list"),
        ("unet", {"channels": [16]}, "at least two levels"),
        ("unet", {"channels": [16, 0]}, "channels must be a list"),
        ("unet", {"num_res_units": 1.5}, "num_res_units must be a whole number"),
        ("unet", {"num_res_units": True}, "num_res_units must be a whole number"),
        ("unet", {"dropout": "much"}, "dropout must be a number"),
        ("unet", {"norm": "layer"}, "norm must be one of instance, batch"),
        ("unet", {"act": "gelu6"}, "act must be one of"),
        ("dynunet", {"res_block": 1}, "res_block must be true or false"),
        ("dynunet", {"patch_size": (4, 4)}, "leaves one level"),
        ("dynunet", {"patch_size": (4, 4, 4)}, "patch_size must be 2 positive numbers"),
        ("unet", {"kind": "classification"}, "not for classification in 2D; for that there are: densenet121"),
        ("resnet18", {"kind": "segmentation"}, "for that there are: unet, dynunet"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        networks.build(name, dims=2, in_channels=1, out_channels=2, **options)  # type: ignore[arg-type]


def test_options_come_back_whole() -> None:
    assert networks.resolve("unet", {"channels": [4, 8], "dropout": 0}) == {
        "channels": (4, 8), "num_res_units": 2, "norm": "instance", "act": "prelu", "dropout": 0.0,
    }  # fmt: skip


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="two networks are called 'unet'"):
        networks.register("unet", kinds=("segmentation",))(lambda shape: nn.Identity())


def test_listing_networks_does_not_import_monai() -> None:
    code = "import sys; from elsewhere import networks, tasks; networks.names(); sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
