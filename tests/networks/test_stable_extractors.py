"""What all extractors have in common."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from elsewhere.errors import SettingsError
from elsewhere.networks.stable import Extractor, FeatureUNet, FrozenNetwork, build, feature_norm, names, unit_norm, wrap
from elsewhere.networks.stable.padding import cut_to, reflect_to
from elsewhere.networks.stable.scaling import scale


def unet(dims: int, norm: str = "batch", output: str = "none") -> Extractor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return small_unet(dims, norm, output)


def small_unet(dims: int, norm: str, output: str) -> Extractor:
    linear = {"pooling": "avg", "upsampling": "linear", "norm_eps": 1e-2} if norm == "instance" else {}
    network = FeatureUNet(dims, 1, 5, 4, 2, norm, **linear)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 1.0
    network(torch.rand(2, 1, *(16,) * dims))  # batch norm has seen images
    return FrozenNetwork("small", network, dims, 5, output=output, multiple=4, least=2)


class Blur(nn.Module):
    """A module of somebody's own: dropout, no size that it minds."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.convolution = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 3, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.dropout(self.convolution(image))
        return features


KINDS: dict[str, Callable[[int], Extractor]] = {
    "mind": lambda dims: build("mind", dims),
    "batch": unet,
    "instance": lambda dims: unet(dims, "instance"),
    "voxel": lambda dims: unet(dims, "instance", "voxel"),
    "own": lambda dims: wrap(Blur(dims), dims),
}
ALL = [(kind, dims) for kind in KINDS for dims in (2, 3)]


def images(*shape: int) -> Tensor:
    return 40 * torch.randn(*shape, generator=torch.Generator().manual_seed(3)) + 100


@pytest.mark.parametrize(("kind", "dims"), ALL)
def test_each_channel_of_each_image_is_seen_alone(kind: str, dims: int) -> None:
    extractor, image = KINDS[kind](dims).double(), images(2, 3, 16, *(9,) * (dims - 1)).double()
    features = extractor(image)
    assert features.shape == (2, 3 * extractor.features, *image.shape[2:])
    for case in range(2):
        for channel in range(3):
            alone = extractor(image[case : case + 1, channel : channel + 1])[0]
            part = slice(channel * extractor.features, (channel + 1) * extractor.features)
            torch.testing.assert_close(features[case, part], alone, rtol=1e-7, atol=1e-9)
    assert features.std() > 1e-3


@pytest.mark.parametrize(("kind", "dims"), ALL)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 13])
def test_any_size(kind: str, dims: int, size: int) -> None:
    extractor = KINDS[kind](dims)
    features = extractor(images(1, 1, size, *(8,) * (dims - 1)))
    assert features.shape == (1, extractor.features, size, *(8,) * (dims - 1))
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(("kind", "dims"), ALL)
def test_it_stays_frozen_inside_a_module_that_trains(kind: str, dims: int) -> None:
    inside = nn.ModuleDict({"extractor": KINDS[kind](dims), "head": nn.Conv2d(1, 1, 1)})
    image = images(1, 1, *(12,) * dims)
    before = copy.deepcopy(inside["extractor"].state_dict())
    first = inside["extractor"](image)
    inside.train()
    inside["extractor"].requires_grad_(True)
    assert inside["head"].training
    assert not any(module.training for module in inside["extractor"].modules())
    assert not any(parameter.requires_grad for parameter in inside["extractor"].parameters())
    again = inside["extractor"](image.requires_grad_())
    assert not again.requires_grad
    assert torch.equal(first, again)
    assert all(torch.equal(before[key], value) for key, value in inside["extractor"].state_dict().items())


@pytest.mark.parametrize(("kind", "dims"), ALL)
def test_the_dtype_is_that_of_the_image(kind: str, dims: int) -> None:
    extractor, image = KINDS[kind](dims), images(1, 2, *(12,) * dims)
    single = extractor(image)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        found = extractor(image.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), extractor(image.to(dtype).float()), rtol=2e-2, atol=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = extractor(image)
    assert mixed.dtype == torch.float32
    assert (mixed - single).abs().mean() < 0.15 * single.abs().mean()


@pytest.mark.parametrize(("kind", "dims"), ALL)
def test_a_trace_keeps_every_size_and_batch(kind: str, dims: int) -> None:
    """As `elsewhere export` traces it: at one size, to be used at others, some of which need padding."""
    extractor = KINDS[kind](dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export
        traced = torch.jit.trace(extractor, images(1, 2, *(8,) * dims), check_trace=False)
    for shape in [(2, 2, *(8,) * dims), (1, 2, 13, *(10,) * (dims - 1)), (3, 2, 3, *(17,) * (dims - 1))]:
        torch.testing.assert_close(traced(images(*shape)), extractor(images(*shape)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "dims"), [("mind", 2), ("mind", 3), ("batch", 2), ("voxel", 3)])
def test_onnx_keeps_every_size_and_batch(kind: str, dims: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="an extra: pip install 'elsewhere[onnx]'")
    extractor, path = KINDS[kind](dims), tmp_path / "extractor.onnx"
    axes = {0: "batch", **{2 + axis: f"n{axis}" for axis in range(dims)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            extractor, (images(1, 2, *(8,) * dims),), str(path), input_names=["image"], output_names=["features"],
            dynamic_axes={"image": axes, "features": axes}, opset_version=17, dynamo=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in [(2, 2, *(8,) * dims), (1, 2, 13, *(10,) * (dims - 1))]:
        found = torch.from_numpy(session.run(None, {"image": images(*shape).numpy()})[0])
        torch.testing.assert_close(found, extractor(images(*shape)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "dims"), ALL)
def test_it_is_kept_and_copied(kind: str, dims: int) -> None:
    extractor, image = KINDS[kind](dims), images(1, 1, *(8,) * dims)
    buffer = io.BytesIO()
    torch.save(extractor.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(extractor)
    for parameter in other.parameters():
        parameter.zero_()
    assert extractor.weights_hash == "" or other.weights_hash != extractor.weights_hash
    other.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert other.weights_hash == extractor.weights_hash
    assert torch.equal(other(image), extractor(image))


def test_memory_layout_changes_no_feature() -> None:
    extractor, image = unet(3), images(1, 1, 16, 16, 16)
    wanted = extractor(image)
    extractor.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(extractor(image), wanted, rtol=1e-4, atol=1e-5)


def layers(extractor: Extractor) -> list[nn.Conv3d]:
    """Whose layout can be told: those of more than one channel."""
    found = [module for module in extractor.modules() if isinstance(module, nn.Conv3d) and module.in_channels > 1]
    assert found
    return found


def last(layer: nn.Conv3d) -> bool:
    return layer.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_anatomix_lies_channels_last_and_says_the_same() -> None:
    extractor, image = build("anatomix", 3, load=False), images(1, 1, 32, 32, 32)
    assert all(last(layer) for layer in layers(extractor))
    found, named = extractor(image), extractor.weights_hash
    extractor.to(memory_format=torch.contiguous_format)
    assert not any(last(layer) for layer in layers(extractor))
    torch.testing.assert_close(extractor(image), found, rtol=1e-3, atol=1e-5)
    assert extractor.weights_hash == named


def test_a_layout_with_instance_norm_stays_as_it_is() -> None:
    assert not any(last(layer) for layer in layers(build("anatomix-dev", 3, load=False)))


def test_a_network_of_half_precision_takes_any_image() -> None:
    extractor = unet(2).to(torch.bfloat16)
    assert extractor(images(1, 1, 8, 8)).dtype == torch.float32


def test_networks_see_intensities_scaled_by_their_own_range() -> None:
    image = images(1, 1, 12, 12)
    torch.testing.assert_close(unet(2)(-700 + 3 * image), unet(2)(image), rtol=1e-4, atol=1e-5)
    scaled = scale(image, "minmax")
    assert float(scaled.min()) == 0
    assert float(scaled.max()) == 1
    standard = scale(torch.cat([image, 5 * image]), "zscore")
    torch.testing.assert_close(standard.std((1, 2, 3), correction=0), torch.ones(2))
    torch.testing.assert_close(standard.mean((1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    for rule in ("minmax", "zscore"):
        assert torch.equal(scale(torch.full((1, 1, 4, 4), 3.0), rule), torch.zeros(1, 1, 4, 4))


def test_padding_reflects_to_and_fro() -> None:
    line = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1)
    padded = reflect_to(line, 8)
    assert padded[0, 0, :, 0].tolist() == [1, 2, 3, 3, 2, 1, 1, 2]
    assert padded.shape == (1, 1, 8, 8)
    assert (padded == padded[..., :1]).all()
    assert torch.equal(cut_to(padded, line), line)
    assert reflect_to(line, 1) is line
    assert reflect_to(torch.zeros(1, 1, 4, 4), 2, least=3).shape == (1, 1, 6, 6)


@pytest.mark.parametrize(("kind", "groups"), [("instance", 1), ("voxel", 2), ("none", 1)])
def test_feature_norms(kind: str, groups: int) -> None:
    features = images(2, 6, 5, 7)
    found = feature_norm(kind, 6 // groups)(features)
    assert found.shape == features.shape
    if kind == "instance":
        torch.testing.assert_close(found.mean((2, 3)), torch.zeros(2, 6), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.var((2, 3), correction=0), torch.ones(2, 6), rtol=1e-4, atol=0)
        assert torch.equal(feature_norm(kind)(torch.ones(1, 2, 4, 4)), torch.zeros(1, 2, 4, 4))
    elif kind == "voxel":
        squares = found.square().view(2, groups, 3, 5, 7).sum(2)
        torch.testing.assert_close(squares, torch.ones(2, groups, 5, 7))
        torch.testing.assert_close(unit_norm(features[:, :3]), found[:, :3])
        assert torch.equal(unit_norm(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))
    else:
        assert found is features


def test_wrong_images_norms_and_groups_are_named() -> None:
    mind = build("mind", 3)
    with pytest.raises(SettingsError, match=r"3 axes of space, found float32 of shape \[1, 1, 8, 8\]"):
        mind(torch.zeros(1, 1, 8, 8))
    with pytest.raises(SettingsError, match="found int64"):
        mind(torch.zeros(1, 1, 8, 8, 8, dtype=torch.int64))
    with pytest.raises(SettingsError, match="one of instance, voxel, none, found 'batch'"):
        feature_norm("batch")
    with pytest.raises(SettingsError, match="5 channels are not groups of 3"):
        feature_norm("voxel", 3)(torch.zeros(1, 5, 4, 4))
    with pytest.raises(SettingsError, match="scaling must be one of minmax, zscore, none, found 'ct'"):
        FrozenNetwork("x", nn.Identity(), 2, 1, scaling="ct")


def test_it_is_light() -> None:
    code = "import sys; from elsewhere.networks import stable; stable.names(); sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert {"mind", "elsewhere-3d"} <= set(names(3))
