from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet
from numpy.testing import assert_allclose
from small_models import SEGMENTERS, SMALL, case, deployed
from torch import Tensor, nn

from elsewhere import networks
from elsewhere.deploy.features import FeatureTap, input_names, input_statistics, input_tolerance
from elsewhere.deploy.predictor import Predictor
from elsewhere.methods.erm import ERM
from elsewhere.networks import stable
from elsewhere.study.case import Geometry, StoredCase
from elsewhere.study.held_out import model_sha256

CLASSIFIERS = [(name, dims) for name in networks.names("classification") for dims in networks.get(name).dims]


def image(dims: int, n: int = 2, side: int = 32) -> Tensor:
    return torch.randn(n, 1, *(side,) * dims, generator=torch.Generator().manual_seed(1))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def heard(model: nn.Module, kind: str, images: Tensor) -> np.ndarray[Any, Any]:
    tap = FeatureTap(model, kind)
    with torch.inference_mode(), tap:
        model(images)
    assert hooks(model) == 0
    return tap.take(len(images))


# --- which layer


def test_every_network_is_covered_here() -> None:
    assert set(SMALL) == {name for name in networks.names() if ":" not in name}


@pytest.mark.parametrize(("name", "dims"), CLASSIFIERS)
def test_the_classes_are_read_off_the_features_of_a_classifier(name: str, dims: int) -> None:
    model = deployed(name, dims)
    features = heard(model, "classification", image(dims))
    heads = [(key, value) for key, value in model.state_dict().items() if value.ndim == 2 and len(value) == 3]
    (weight_name, weight), = heads  # fmt: skip
    bias = model.state_dict()[weight_name.replace("weight", "bias")]
    with torch.inference_mode():
        logits = model(image(dims)).numpy()
    assert_allclose(features @ weight.numpy().T + bias.numpy(), logits, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_unet_gives_its_bottleneck(dims: int) -> None:
    model = deployed("unet", dims)
    found = heard(model, "segmentation", image(dims))
    down, skip, _ = model.method.network[0].model
    with torch.inference_mode():
        inner = skip.submodule
        coarse = inner[0](down(image(dims)))
        joined = torch.cat([coarse, inner[1].submodule(coarse)], dim=1)
    assert found.shape == (2, 8 + 16)
    assert_allclose(found, joined.flatten(2).mean(2).numpy(), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deep", [False, True])
def test_a_dynunet_gives_its_bottleneck_with_deep_supervision_too(dims: int, deep: bool) -> None:
    network = None
    if deep:
        with torch.random.fork_rng(devices=[]):
            network = DynUNet(
                dims, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 32], deep_supervision=True,
                norm_name=("INSTANCE", {"affine": True}), deep_supr_num=2,
            )  # fmt: skip
    model = deployed("dynunet", dims, network=network)
    found = heard(model, "segmentation", image(dims))
    unet = model.method.network
    with torch.inference_mode():
        x = unet.input_block(image(dims))
        for level in unet.downsamples:
            x = level(x)
        x = unet.bottleneck(x)
    assert found.shape == (2, 32 if deep else 16)
    assert_allclose(found, x.flatten(2).mean(2).numpy(), atol=1e-5)


class Views(ERM):
    """Sees each image and its mirror in one batch."""

    def forward(self, image: Tensor) -> Tensor:
        logits = self.network(torch.stack([image, image.flip(-1)], dim=1).flatten(0, 1))
        return logits.unflatten(0, (len(image), 2)).mean(1)


class Twice(ERM):
    """Runs its network on two inputs, one after the other."""

    def forward(self, image: Tensor) -> Tensor:
        return (self.network(image) + self.network(image * 2)) / 2


@pytest.mark.parametrize("method", [Views, Twice])
def test_a_method_that_sees_several_views_has_their_mean(method: type[ERM]) -> None:
    model, plain = deployed("resnet18", method=method), deployed("resnet18")
    cases = [case(i, label=0) for i in range(3)]
    found = np.stack([answer.features for answer in Predictor(model).answers(cases)])
    normalised = torch.stack([model.preprocessing.normalise(torch.from_numpy(c.image), c) for c in cases])
    other = normalised.flip(-1) if method is Views else normalised * 2
    wanted = (heard(plain, "classification", normalised) + heard(plain, "classification", other)) / 2
    assert_allclose(found, wanted, atol=1e-5)
    assert len({row.tobytes() for row in found}) == 3


class Offers(ERM):
    """Says itself what its features are."""

    def features(self, image: Tensor) -> Tensor:
        return image * 3


def test_a_method_may_offer_features() -> None:
    for name, kind in (("resnet18", "classification"), ("unet", "segmentation")):
        model = deployed(name, method=Offers)
        assert_allclose(heard(model, kind, image(2)), 3 * image(2).flatten(2).mean(2), atol=1e-6)
    model = deployed("unet", method=Offers, patch=16)
    (features, _), = Predictor(model).features([case(0)])  # fmt: skip
    (answer,) = Predictor(model).answers([case(0)])
    assert features.tobytes() == answer.features.tobytes()


def test_a_submodule_called_features_is_no_offer() -> None:
    model = deployed("densenet121")
    assert isinstance(model.method.network.features, nn.Module)
    assert FeatureTap(model, "classification")._offered is None


def test_the_layers_of_a_frozen_extractor_are_not_heard() -> None:
    """Its bottleneck is wider than the network's; the network's is heard all the same."""
    extractor = stable.wrap(stable.FeatureUNet(2, 1, features=2, width=32, downs=3), 2, multiple=8)
    trained = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1))
    model = nn.Sequential(extractor, trained).eval()
    images = image(2)
    with torch.inference_mode():
        wanted = trained[0](extractor(images)).mean(dim=(2, 3))
    assert_allclose(heard(model, "segmentation", images), wanted, atol=1e-5)


class Brighter(nn.Module):
    """Logits without any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image - self.level, self.level - image, image * 0], dim=1)


def test_a_model_without_layers_has_no_features() -> None:
    predictor = Predictor(deployed("unet", network=Brighter()))
    cases = [case(0), case(1)]
    assert [answer.features.shape for answer in predictor.answers(cases)] == [(0,), (0,)]
    assert [features.shape for features, _ in predictor.features(cases)] == [(0,), (0,)]


class Tokens(nn.Module):
    """Attention over patches; the class is read off the mean of the tokens by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.block(self.embed(image).flatten(2).transpose(1, 2))
        return self.head(tokens.transpose(1, 2)[..., None]).mean((2, 3))


def test_tokens_and_a_head_that_is_a_convolution() -> None:
    torch.manual_seed(0)
    model = deployed("resnet18", network=Tokens())
    assert heard(model, "classification", image(2)).shape == (2, 8)
    assert heard(model, "segmentation", image(2)).shape == (2, 32)  # the widest layer takes tokens


# --- the model stays as it is


def test_nothing_of_the_model_changes_whatever_happens() -> None:
    model = deployed("unet", patch=16)
    before = model_sha256(model)
    cases = Predictor(model).answers(case(i) for i in range(3))
    next(cases)
    assert hooks(model) == 0  # while the generator waits
    cases.close()
    next(Predictor(model).features([case(0)]))
    tap = FeatureTap(model, "segmentation")
    with pytest.raises(RuntimeError), tap:
        model(torch.zeros(1, 5, 16, 16))
    assert hooks(model) == 0
    assert tap.layer is None
    assert model_sha256(model) == before


def test_the_same_layer_is_heard_whatever_the_size_of_the_first_image() -> None:
    for name in SEGMENTERS:
        model = deployed(name)
        layers = set()
        for side in (16, 32, 40):
            tap = FeatureTap(model, "segmentation")
            with torch.inference_mode(), tap:
                model(image(2, side=side))
            layers.add(tap.layer)
        assert len(layers) == 1


# --- input statistics


def known(stored: StoredCase) -> dict[str, float]:
    names = input_names(tuple(f"c{i}" for i in range(len(stored.image))), len(stored.geometry.shape))
    values = input_statistics(stored)
    assert values.dtype == np.float32
    assert len(names) == len(values) == len(input_tolerance(len(stored.image), len(stored.geometry.shape)))
    return dict(zip(names, values.tolist(), strict=True))


@pytest.mark.parametrize("shape", [(40, 30), (20, 16, 12)])
def test_input_statistics_are_what_they_say(shape: tuple[int, ...]) -> None:
    stored = case(3, shape, channels=2)
    found = known(stored)
    for c, channel in enumerate(stored.image.astype(np.float64)):
        assert found[f"c{c}: mean"] == pytest.approx(channel.mean(), rel=1e-6)
        assert found[f"c{c}: sd"] == pytest.approx(channel.std(), rel=1e-6)
        for q in (1, 25, 50, 75, 99):
            assert found[f"c{c}: percentile {q}"] == pytest.approx(np.percentile(channel, q), rel=1e-6)
        # the first axis without its last plane along the others, as the differences along it have it
        energy = [(np.diff(channel, axis=0) ** 2).mean()]
        energy += [(np.diff(channel[:-1], axis=a) ** 2).mean() for a in range(1, len(shape))]
        assert found[f"c{c}: log sharpness"] == pytest.approx(math.log(np.mean(energy) / channel.var()), rel=1e-5)
    assert [found[f"log size axis {a}"] for a in range(len(shape))] == pytest.approx(np.log(shape))


def test_size_and_spacing_are_those_of_the_file_in_canonical_axes() -> None:
    turned = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    stored = replace(case(1, (8, 8, 8)), original=Geometry((10, 20, 30), (1.0, 2.0, 3.0), turned))
    found = known(stored)
    assert [math.exp(found[f"log size axis {a}"]) for a in range(3)] == pytest.approx([30, 10, 20])
    assert [math.exp(found[f"log spacing axis {a}"]) for a in range(3)] == pytest.approx([3, 1, 2])


def test_what_is_not_known_is_nan() -> None:
    stored = case(1)
    constant = replace(stored, image=np.full_like(stored.image, 7), original=Geometry((32, 32)))
    found = known(constant)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "c0: log sharpness", "log spacing axis 0", "log spacing axis 1"
    }  # fmt: skip


def test_of_a_large_volume_a_part_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = case(2, (24, 20, 16))
    whole = known(stored)
    monkeypatch.setattr("elsewhere.deploy.features.MOST_VALUES", 2000)
    part = known(stored)
    assert part != whole
    for name, value in whole.items():
        assert part[name] == pytest.approx(value, rel=0.1, abs=0.2)
    striped = np.zeros((1, 40, 60), np.float32)
    striped[..., ::2] = 1  # a step that divides a row would see one colour
    assert known(replace(stored, image=striped, original=Geometry((40, 60)), geometry=Geometry((40, 60))))[
        "c0: mean"
    ] == pytest.approx(0.5, abs=0.05)


def test_sharpness_falls_with_blur() -> None:
    from scipy.ndimage import gaussian_filter

    stored = case(4, (64, 64))
    blurred = replace(stored, image=gaussian_filter(stored.image, (0, 1.5, 1.5)))
    assert known(blurred)["c0: log sharpness"] < known(stored)["c0: log sharpness"] - 1
