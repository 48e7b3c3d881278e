"""DropGen beside the shared suite: what goes into the network, what is dropped, and a model that needs no file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from problem import Net, make_batch, make_task
from torch.nn import functional

from elsewhere import methods
from elsewhere.errors import ModelError, SettingsError
from elsewhere.methods import Context
from elsewhere.methods.dropgen import ChannelDropout, DropGen, StableFeatures
from elsewhere.networks import pretrained, stable
from elsewhere.networks.stable import anatomix, ours


def make(kind: str = "segmentation", dims: int = 2, **options: Any) -> Any:
    task = make_task(kind, dims)
    return methods.create("dropgen", Net(dims, task.n_outputs, kind), task, n_sites=3, **options)


def test_the_network_gets_image_and_normalised_features() -> None:
    method, image = make().eval(), make_batch("segmentation", 2).image
    features = functional.instance_norm(stable.build("mind", 2)(image))
    assert features.shape[1] == 4
    assert torch.equal(method(image), method.network(torch.cat([image, features], dim=1)))


def test_scale_and_features_alone() -> None:
    image = make_batch("segmentation", 2).image
    both = make(scale=3.0).inputs(image)
    alone = make(image=False).inputs(image)
    assert both.shape[1] == 5
    torch.testing.assert_close(both[:, 1:], 3 * alone)
    assert make(image=False).eval()(image).shape == (6, 2, 12, 12)


def test_without_an_extractor_only_the_image_is_there_to_drop() -> None:
    method, batch = make(extractor="none", p=0.5), make_batch("segmentation", 2)
    assert torch.equal(method.inputs(batch.image), batch.image)
    with pytest.raises(SettingsError, match="extractor is none"):
        make(extractor="none", image=False)


def test_channels_are_dropped_whole_case_by_case_and_the_rest_scaled() -> None:
    channels = torch.randn(200, 17, 3, 3)
    dropped = ChannelDropout(0.75)(channels, torch.Generator().manual_seed(0))
    ratio = dropped / channels
    kept = ratio[:, :, 0, 0] != 0
    assert torch.equal(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 4.0))
    # 3400 draws at 0.25: standard deviation 0.0074
    assert 0.22 < float(kept.float().mean()) < 0.28
    assert len({tuple(row) for row in kept.tolist()}) > 100


def test_the_images_channels_may_be_kept() -> None:
    batch = make_batch("segmentation", 2)
    dropout = make(drop_image=False).dropout
    kept = torch.cat([dropout.kept(torch.zeros(6, 5), torch.Generator().manual_seed(n)) for n in range(40)])
    assert torch.equal(kept[:, 0], torch.ones(240))
    assert 0.15 < float((kept[:, 1:] != 0).float().mean()) < 0.35
    assert float((make(drop_image=True).dropout.kept(batch.image.expand(-1, 5, -1, -1))[:, 0] != 0).float().mean()) < 1


def test_the_image_may_have_a_probability_of_its_own() -> None:
    dropout = make(p=0.25, p_image=0.9).dropout
    kept = torch.cat([dropout.kept(torch.zeros(6, 5), torch.Generator().manual_seed(n)) for n in range(100)])
    # 600 draws: standard deviation 0.012 and, of the 2400 of the features, 0.009
    assert 0.06 < float((kept[:, 0] != 0).float().mean()) < 0.14
    assert 0.71 < float((kept[:, 1:] != 0).float().mean()) < 0.79
    torch.testing.assert_close(kept[:, 0].max(), torch.tensor(10.0))
    with pytest.raises(SettingsError, match=r"p_image=0.9 .* drop_image=false keeps the image"):
        make(p_image=0.9, drop_image=False)
    with pytest.raises(SettingsError, match=r"p_image=0.9 .* image=false leaves no image"):
        make(p_image=0.9, image=False)


def test_nothing_is_dropped_when_deployed_and_the_loss_drops() -> None:
    method, batch = make(p=0.5), make_batch("segmentation", 2)
    assert torch.equal(method.dropout.eval()(batch.image), batch.image)
    method.train()
    losses = [float(method.loss(batch, Context(step=step))["loss"].detach()) for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    own = make(p=0.0).train()
    expected = own.task.loss(own(batch.image), batch.target).mean()
    assert float(own.loss(batch, Context())["loss"].detach()) == float(expected.detach())


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_probability_out_of_range_is_named(p: float) -> None:
    with pytest.raises(SettingsError, match="p must be at least 0 and below 1"):
        ChannelDropout(p)


def test_a_scale_or_a_number_of_channels_that_is_none_is_named() -> None:
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="scale must be a finite number above 0"):
            StableFeatures(stable.build("mind", 2), scale=scale)
    with pytest.raises(SettingsError, match="first must be a number of channels, 0 or more, found -1"):
        ChannelDropout(0.5, first=-1, p_first=0.2)


def test_the_extractor_is_not_trained(tmp_path: Path) -> None:
    method = make(extractor="elsewhere-2d", weights=str(_weights(tmp_path)))
    method.train()
    before = {k: v.clone() for k, v in method.stable.extractor.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1)
    for step in range(3):
        method.update(make_batch("segmentation", 2), Context(step=step, optimizers=(optimizer,)))
    assert before
    for key, value in method.stable.extractor.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_saved_model_needs_no_file_of_weights(tmp_path: Path) -> None:
    file = _weights(tmp_path)
    method = make(extractor="elsewhere-2d", weights=str(file)).eval()
    file.unlink()
    options = method.saved_options()
    assert str(tmp_path) not in str(options)
    with pretrained.layout_only():
        again = make(**options)
    again.load_state_dict(method.state_dict())
    image = make_batch("segmentation", 2).image
    assert torch.equal(again.eval()(image), method(image))


def test_shipped_weights_are_part_of_what_a_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SHIPPED", tmp_path)
    asked = {"extractor": "elsewhere-2d", "weights": "", "p": 0.5}
    assert methods.by_content("dropgen", asked) == asked  # nothing is shipped
    file = tmp_path / "elsewhere-2d.safetensors"
    file.write_bytes(b"1")
    first = methods.by_content("dropgen", asked)
    assert first["weights"].startswith("sha256:")
    assert methods.by_content("dropgen", {**asked, "weights": str(file)}) == first
    assert methods.by_content("dropgen", {"extractor": "mind", "weights": ""})["weights"] == ""
    file.write_bytes(b"2")
    assert methods.by_content("dropgen", asked) != first
    (tmp_path / "own").write_bytes(b"1")
    assert methods.by_content("dropgen", {**asked, "weights": str(tmp_path / "own")}) == first


def test_published_weights_are_part_of_what_a_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "anatomix.pth"
    file.write_bytes(b"1")
    asked = {"extractor": "anatomix", "weights": "", "p": 0.5}
    monkeypatch.setattr(anatomix, "from_hub", lambda *_: file)
    first = methods.by_content("dropgen", asked)
    assert first["weights"].startswith("sha256:")
    file.write_bytes(b"2")
    assert methods.by_content("dropgen", asked) != first

    def offline(*_: str) -> Path:
        raise ModelError("extractor anatomix: could not be downloaded")

    monkeypatch.setattr(anatomix, "from_hub", offline)
    with pytest.raises(ModelError, match="could not be downloaded"):
        methods.by_content("dropgen", asked)
    (tmp_path / "own").write_bytes(b"1")
    assert methods.by_content("dropgen", {**asked, "weights": str(tmp_path / "own")}) == first


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"p": 1.0}, "p must be at least 0 and below 1, found 1.0"),
        ({"p_image": -0.5}, "p_image must be at least 0 and below 1, found -0.5"),
        ({"norm": "batch"}, "feature norm must be one of instance, voxel, none, found 'batch'"),
        ({"scale": float("nan")}, "scale must be a number above 0, found nan"),
        ({"scale": 0.0}, "scale must be a number above 0, found 0.0"),
        ({"extractor": "none", "image": False}, "image=false leaves features alone, and extractor is none"),
        ({"extractor_options": {"trust": True}}, "'trust' is no option"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_read(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        DropGen.check({**DropGen.card.defaults, **wrong})


@pytest.mark.parametrize("key", ["trust", "load", "weights", "dims", 3])
def test_a_configuration_does_not_say_what_is_trusted(
    key: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebodys_eyes.py").write_text("from torch import nn\nclass Eyes(nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match=f"extractor_options: {key!r} is no option"):
        make(extractor="somebodys_eyes:Eyes", extractor_options={key: True})
    assert "somebodys_eyes" not in sys.modules


def test_gradients_pass_to_the_image_by_its_own_channels() -> None:
    features = StableFeatures(stable.build("mind", 2))
    image = make_batch("segmentation", 2).image.requires_grad_()
    features(image).sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))


def test_a_plain_network_becomes_dropgen_with_two_objects() -> None:
    """The added lines of docs/how-to/own-loop.md, in 3D: trained, only the network changes; deployed, nothing drops."""
    torch.manual_seed(0)
    features = StableFeatures(stable.build("mind", 3))
    network = torch.nn.Conv3d(1 + features.extractor.features, 2, 3, padding=1)
    whole = torch.nn.Sequential(features, ChannelDropout(0.75), network)
    image = torch.randn(2, 1, 8, 8, 8)
    assert [p.shape for p in whole.parameters() if p.requires_grad] == [p.shape for p in network.parameters()]
    assert not torch.equal(whole(image), whole(image))
    whole.eval()
    assert torch.equal(whole(image), network(features(image)))


def _weights(folder: Path) -> Path:
    torch.manual_seed(3)
    return stable.write_ours(folder / "own.safetensors", stable.FeatureUNet(2, 1, features=3, width=4, downs=1))
