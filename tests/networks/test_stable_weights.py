"""Where an extractor's weights come from, and what is said of a file that is not it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from elsewhere.errors import ElsewhereError, ModelError, SettingsError
from elsewhere.networks import stable
from elsewhere.networks.stable import FeatureUNet, anatomix, build, ours, write_ours
from elsewhere.networks.stable.weights import read_weights

LAYOUTS = {
    "anatomix": {"features": 5, "width": 4, "downs": 2},
    "anatomix-dev": {
        "features": 6, "width": 4, "downs": 2, "norm": "instance", "pooling": "avg", "upsampling": "linear",
        "norm_eps": 1e-2,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Layouts of the same kind, a thousandth of the size; and no weights of ours yet."""
    for name, layout in LAYOUTS.items():
        monkeypatch.setitem(anatomix.LAYOUTS, name, layout)  # type: ignore[arg-type]
    monkeypatch.setattr(ours, "SHIPPED", tmp_path / "shipped")


def pretrained(dims: int = 3, **layout: Any) -> FeatureUNet:
    """Like somebody's trained network: batch norm has seen images."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        network = FeatureUNet(dims, 1, **layout)
        network(torch.rand(2, 1, *(4 * network.multiple,) * dims))
        return network.eval()


def image(dims: int = 3) -> Tensor:
    return 900 * torch.rand(1, 1, *(12,) * dims, generator=torch.Generator().manual_seed(0)) - 200


def features_of(network: FeatureUNet) -> Tensor:
    """What the frozen extractor must give for `image()`, whose 12 voxels are a multiple of the 4 it needs."""
    x = image(network.config["dims"])
    with torch.no_grad():
        found: Tensor = network((x - x.min()) / (x.max() - x.min()))
    return found


@pytest.mark.parametrize("kind", ["pth", "safetensors", "compiled"])
def test_anatomix_is_loaded_from_a_local_file(tmp_path: Path, kind: str) -> None:
    network = pretrained(**LAYOUTS["anatomix"])
    state, path = network.state_dict(), tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({f"_orig_mod.{k}": v for k, v in state.items()} if kind == "compiled" else state, path)
    extractor = build("anatomix", 3, weights=path)
    assert (extractor.name, extractor.dims, extractor.features) == ("anatomix", 3, 5)
    torch.testing.assert_close(extractor(image()), features_of(network), rtol=1e-4, atol=1e-5)


def test_one_hash_for_the_same_weights(tmp_path: Path) -> None:
    state = pretrained(**LAYOUTS["anatomix"]).state_dict()
    torch.save(state, tmp_path / "a.pth")
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    first, second = (build("anatomix", 3, weights=tmp_path / name) for name in ("a.pth", "a.safetensors"))
    assert first.weights_hash == second.weights_hash
    assert len(first.weights_hash) == 64
    saved = build("anatomix", 3, load=False)  # as a saved model is loaded, on a machine without the file
    assert saved.weights_hash != first.weights_hash
    saved.load_state_dict(first.state_dict(), strict=True)
    assert saved.weights_hash == first.weights_hash
    assert build("mind", 3).weights_hash == ""


def test_features_of_dev_have_norm_1(tmp_path: Path) -> None:
    network = pretrained(**LAYOUTS["anatomix-dev"])
    torch.save(network.state_dict(), tmp_path / "dev.pth")
    features = build("anatomix-dev", 3, weights=tmp_path / "dev.pth")(image())
    torch.testing.assert_close(features.square().sum(1), torch.ones(1, 12, 12, 12))
    wanted = features_of(network)
    torch.testing.assert_close(features, wanted / wanted.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-4)


def hub(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str]) -> None:
    fake = ModuleType("huggingface_hub")
    fake.hf_hub_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)


def test_without_a_file_it_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = pretrained(**LAYOUTS["anatomix"])
    torch.save(network.state_dict(), tmp_path / "anatomix.pth")
    asked = []

    def download(repo_id: str, filename: str) -> str:
        asked.append((repo_id, filename))
        return str(tmp_path / filename)

    hub(monkeypatch, download)
    extractor = build("anatomix", 3)
    assert asked == [("neeldey/anatomix", "anatomix.pth")]
    assert extractor.weights_hash == build("anatomix", 3, weights=tmp_path / "anatomix.pth").weights_hash


def test_a_download_that_fails_says_how_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo_id: str, filename: str) -> str:
        raise ConnectionError("no route to host.\nand more")

    hub(monkeypatch, download)
    with pytest.raises(ModelError, match=r"ConnectionError: no route to host\); get anatomix.pth of .* as weights$"):
        build("anatomix", 3)
    build("anatomix", 3, load=False)  # asks nobody
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install huggingface_hub\); or get anatomix-dev.pth of .*its path as"):
        build("anatomix-dev", 3)


def spoilt(state: dict[str, Tensor], how: str) -> Any:
    if how == "missing":
        del state["model.3.weight"]
    elif how == "renamed":
        state["net.3"] = state.pop("model.3.weight")
    elif how == "shape":
        state["model.0.weight"] = state["model.0.weight"][:2]
    elif how == "more":
        state["head.weight"] = torch.zeros(1)
    elif how == "nan":
        state["model.0.weight"][0] = torch.nan
    elif how == "checkpoint":
        return {"epoch": 3, "state_dict": state}
    elif how == "other":
        return FeatureUNet(2, 1, 4, 4, 2).state_dict()
    return state


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", r"'model.3.weight' is missing$"),
        ("renamed", r"'model.3.weight' is missing; it has 'net.3', which anatomix has not"),
        ("shape", r"'model.0.weight' has shape \[2, 1, 3, 3, 3\], wanted \[4, 1, 3, 3, 3\]"),
        ("more", r"'head.weight' is too many"),
        ("nan", r"'model.0.weight' has values that are not finite"),
        ("checkpoint", r"wanted a state dict \(names to tensors\), found a dict with 'epoch'"),
        ("other", r"'model.0.weight' has shape \[4, 1, 3, 3\]"),
    ],
)
def test_a_wrong_file_is_named_with_the_first_key_that_differs(tmp_path: Path, how: str, words: str) -> None:
    path = tmp_path / "w.pth"
    torch.save(spoilt(dict(pretrained(**LAYOUTS["anatomix"]).state_dict()), how), path)
    with pytest.raises(ModelError, match=words) as error:
        build("anatomix", 3, weights=path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(Path("evil-was-here").absolute()), "w"))


def test_a_file_that_is_none_or_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model.0.weight": Evil()}, "evil.pth")
    with pytest.raises(ModelError, match=r"evil.pth: damaged, or holds more than tensors .* could run code"):
        build("anatomix", 3, weights="evil.pth")
    assert not Path("evil-was-here").exists()
    Path("cut.pth").write_bytes(b"PK\x03\x04 cut")
    Path("cut.safetensors").write_bytes(b"\x08\x00")
    Path("words.pth").write_text("hello")
    Path("bracket.pth").write_text("(hi")
    Path("page.html").write_text("404")
    Path("empty.pth").touch()
    for name, words in [
        ("cut.pth", "cannot be read"),
        ("cut.safetensors", "cannot be read"),
        ("empty.pth", "cannot be read"),
        ("words.pth", "cannot be read"),
        ("bracket.pth", "cannot be read"),
        ("page.html", "ends in '.html'"),
        ("none.pth", "there is no such file"),
    ]:
        with pytest.raises(ModelError, match=f"weights {name}: .*{words}"):
            read_weights(name)


def test_ours_is_all_in_its_file(tmp_path: Path) -> None:
    network = pretrained(2, features=7, width=4, downs=1, norm="instance", upsampling="linear")
    path = write_ours(tmp_path / "own.safetensors", network, {"command": "elsewhere pretrain"}, output="voxel")
    stored = safetensors.torch.load_file(path)
    assert {v.dtype for v in stored.values() if v.ndim == 4} == {torch.float16}
    extractor = build("elsewhere-2d", 2, weights=path)
    assert extractor.features == 7
    wanted = features_of(network)
    torch.testing.assert_close(extractor(image(2)), wanted / wanted.norm(dim=1, keepdim=True), rtol=0, atol=2e-2)
    # A saved model on another machine: the layout from its config, which is YAML or JSON, and no file.
    layout = json.loads(json.dumps(extractor.layout))
    path.unlink()
    again = build("elsewhere-2d", 2, load=False, **layout)
    again.load_state_dict(extractor.state_dict(), strict=True)
    assert torch.equal(again(image(2)), extractor(image(2)))
    assert again.layout == extractor.layout


def test_ours_is_shipped_with_the_package_or_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="elsewhere-3d: this version of elsewhere ships no weights for it; make some"):
        build("elsewhere-3d", 3)
    with pytest.raises(ModelError, match="ships no weights"):
        build("elsewhere-3d", 3, load=False)
    network = pretrained(3, features=4, width=2, downs=1)
    write_ours(tmp_path / "shipped" / "elsewhere-3d.safetensors", network, scaling="zscore")
    extractor = build("elsewhere-3d", 3)
    assert extractor.layout["scaling"] == "zscore"
    assert build("elsewhere-3d", 3, load=False).state_dict().keys() == extractor.state_dict().keys()
    build("elsewhere-3d", 3, features=4)
    with pytest.raises(SettingsError, match=r"option features=8, but .* was made with 4"):
        build("elsewhere-3d", 3, features=8)


def test_batch_norm_is_kept_in_single_precision(tmp_path: Path) -> None:
    network = pretrained(2, features=4, width=4, downs=1)
    network.state_dict()["model.1.running_var"].fill_(1e6)  # more than float16 can say
    build("elsewhere-2d", 2, weights=write_ours(tmp_path / "own.safetensors", network))
    network.state_dict()["model.0.weight"].fill_(1e6)
    with pytest.raises(ModelError, match=r"'model.0.weight' has values that float16 cannot hold"):
        write_ours(tmp_path / "own.safetensors", network)


def test_a_file_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    network = pretrained(2, features=4, width=4, downs=1)

    def metadata(**changes: str) -> dict[str, str]:
        return {"format": ours.FORMAT, "config": json.dumps(network.config), **changes}

    wrong = json.dumps({**network.config, "norm": "layer"})
    for given, words in [
        (None, "does not say how its network is laid out"),
        (metadata(format="2"), "format '2', wanted"),
        (metadata(config="{"), "is no JSON"),
        (metadata(config="[1]"), r"is \[1\]; wanted names"),
        (metadata(config=wrong), "norm must be one of batch, instance"),
        (metadata(config='{"depth": 3}'), "unexpected keyword argument 'depth'"),
        (metadata(config=json.dumps({**network.config, "in_channels": 2})), "takes 2 channels"),
        (metadata(config=json.dumps({**network.config, "width": 8})), r"has shape .*, wanted"),
        (metadata(config=json.dumps({**network.config, "scaling": "ct"})), "scaling must be one of"),
        (metadata(config=json.dumps({**network.config, "dims": 3})), "are for 3D, elsewhere-2d is for 2D"),
    ]:
        safetensors.torch.save_file(network.state_dict(), path, metadata=given)
        with pytest.raises(ElsewhereError, match=words):
            build("elsewhere-2d", 2, weights=path)
    (tmp_path / "x.safetensors").write_text("no")
    with pytest.raises(ModelError, match="is no safetensors file"):
        build("elsewhere-2d", 2, weights=tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="there is no such file"):
        build("elsewhere-2d", 2, weights=tmp_path / "y.safetensors")


class Own(nn.Module):
    """Somebody's own features, by import path: one channel in, `width` out, sizes of a multiple of 2."""

    multiple = 2

    def __init__(self, dims: int, width: int = 3) -> None:
        super().__init__()
        self.convolution = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, width, 2, stride=2)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.up(self.convolution(image))
        return features


class Pooled(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3))


def test_any_module_by_import_path_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{__name__}:Own"
    monkeypatch.setattr(stable.registry, "_TRUSTED", {})
    with pytest.raises(SettingsError, match="runs the code that it names, and nobody allowed that"):
        build(path, 2)
    torch.manual_seed(3)
    extractor = build(path, 2, trust=True, width=5)
    torch.manual_seed(4)
    again = build(path, 2, width=5)  # trusted once, for this process; the weights are always the same
    assert extractor.weights_hash == again.weights_hash
    assert (extractor.features, extractor.layout, extractor.name) == (5, {"width": 5}, path)
    assert extractor(torch.rand(2, 3, 7, 9)).shape == (2, 15, 7, 9)
    state = {key: torch.ones_like(value) for key, value in Own(2, 5).state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "own.safetensors")
    loaded = build(path, 2, width=5, weights=tmp_path / "own.safetensors")
    assert torch.equal(loaded(torch.ones(1, 1, 4, 4)), torch.full((1, 5, 4, 4), 5.0))
    with pytest.raises(ModelError, match=r"'convolution.weight' has shape \[5, 1, 2, 2\], wanted \[3, 1, 2, 2\]"):
        build(path, 2, weights=tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    ("name", "dims", "options", "words"),
    [
        ("mindd", 2, {}, r"unknown extractor 'mindd' \(did you mean 'mind'\?\); there are: mind, elsewhere-3d"),
        ("anatomix", 2, {}, "not for 2D; for that there are: mind, elsewhere-2d"),
        ("anatomix", 3, {"width": 8}, "unknown option 'width'; it has none"),
        ("mind", 2, {"weights": "w.pth"}, "has no weights, found 'w.pth'"),
        ("nowhere.at:All", 2, {"trust": True}, "cannot be imported .*wanted package.module:Class"),
        ("pathlib:Path", 2, {"trust": True}, "is no class of torch.nn.Module"),
        (f"{__name__}:Own", 2, {"trust": True, "depth": 3}, "cannot be built with depth=3"),
        (f"{__name__}:Pooled", 2, {"trust": True}, r"gives shape \[1, 1\] for an image of shape \[1, 1, 32, 32\]"),
        ("torch.nn:Linear", 2, {"trust": True, "in_features": 3, "out_features": 2}, "fails on an image of shape"),
    ],
)
def test_a_wrong_name_or_option_is_said(name: str, dims: int, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        build(name, dims, **options)


def test_building_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build("anatomix", 3, load=False)
    build(f"{__name__}:Own", 2, trust=True)
    assert torch.equal(torch.get_rng_state(), before)
