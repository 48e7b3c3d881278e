"""DropGen in nnU-Net: its options, the network that is saved, and a short real run where nnU-Net is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from elsewhere.errors import ModelError, SettingsError
from elsewhere.methods import card
from elsewhere.networks import stable
from elsewhere.nnunet import TRAINERS
from elsewhere.nnunet.network import DropGenNetwork, build
from elsewhere.nnunet.options import DEFAULTS, check_alike, chosen, record, record_of


class Plain(nn.Module):
    """Stands for nnU-Net's network: a decoder that knows of deep supervision; keeps what it was given."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.encoder = convolution(channels, 2, 3, padding=1)
        self.decoder = nn.Module()
        self.decoder.deep_supervision = True
        self.given: list[Tensor] = []

    def forward(self, channels: Tensor) -> Tensor | list[Tensor]:
        self.given.append(channels)
        logits: Tensor = self.encoder(channels)
        return [logits, logits[..., ::2, ::2]] if self.decoder.deep_supervision else logits


def make(dims: int = 2, images: int = 1, others: int = 0, **options: Any) -> DropGenNetwork:
    options = chosen(options, {})
    extractor = stable.build(options["extractor"], dims, weights=options["weights"] or None)
    kept = json.loads(json.dumps(record(options, extractor)))
    network = build(kept, dims, images, images + others, lambda channels: Plain(channels, dims))
    network.stable.extractor.load_state_dict(extractor.state_dict())
    return network


def a_file(folder: Path, dims: int = 3) -> Path:
    """Weights of a small extractor of ours."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = stable.FeatureUNet(dims, 1, features=4, width=4, downs=1)
    return stable.write_ours(folder / "small.safetensors", network)


def test_options_are_the_methods_and_the_environment_goes_first() -> None:
    assert chosen({}, {}) == {name: card("dropgen").defaults[name] for name in DEFAULTS}
    given = {"p": 0.5, "norm": "voxel"}
    environment = {"ELSEWHERE_P": "0.25", "ELSEWHERE_P_IMAGE": "0.95", "ELSEWHERE_SCALE": "", "ELSEWHERE_CACHE": "x"}
    assert chosen(given, environment) == {**DEFAULTS, "norm": "voxel", "p": 0.25, "p_image": 0.95}
    assert chosen({"p_image": 0.9}, {"ELSEWHERE_P_IMAGE": "null"})["p_image"] is None
    assert chosen({}, {"ELSEWHERE_IMAGE": "false"})["image"] is False


@pytest.mark.parametrize(
    ("given", "environment", "sentence"),
    [
        ({"dropout": 0.5}, {}, "unknown option 'dropout'"),
        ({"p": True}, {}, "dropgen: p must be a number, found True"),
        ({}, {"ELSEWHERE_P": "much"}, "ELSEWHERE_P must be a number, found 'much'"),
        ({}, {"ELSEWHERE_IMAGE": "0"}, "ELSEWHERE_IMAGE must be true or false, found 0"),
        ({"extractor": "none"}, {}, "use nnUNetTrainer"),
        ({"image": False, "p_image": 0.9}, {}, "image=false leaves none"),
    ],
)
def test_what_cannot_be_asked_for(given: Mapping[str, Any], environment: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        chosen(given, environment)


def test_a_probability_or_extractor_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match="below 1, found 1"):
        make(p=1)
    with pytest.raises(SettingsError, match="not for 2D"):
        make(2, extractor="anatomix")


@pytest.mark.parametrize(("dims", "features"), [(2, 4), (3, 12)])
def test_the_network_gets_image_and_features(dims: int, features: int) -> None:
    network, image = make(dims).eval(), torch.randn(2, 1, *(12,) * dims)
    network(image)
    (given,) = network.network.given
    expected = functional.instance_norm(stable.build("mind", dims)(image))
    assert given.shape[1] == 1 + features
    assert torch.equal(given, torch.cat([image, expected], dim=1))


def test_features_alone() -> None:
    image = torch.randn(1, 2, 12, 12)
    both, alone = make(images=2).eval(), make(images=2, image=False).eval()
    both(image)
    alone(image)
    assert torch.equal(alone.network.given[0], both.network.given[0][:, 2:])


def test_channels_are_dropped_in_training_but_not_those_of_the_stage_before() -> None:
    """13 channels of 40 images in training: each 0, or four times what it is in evaluation."""
    network, image = make(3, others=2), torch.randn(40, 3, 6, 6, 6)
    torch.manual_seed(0)
    network.eval()(image)
    network.train()(image)
    whole, dropped = network.network.given
    assert whole.shape[1] == 1 + 12 + 2
    assert torch.equal(dropped[:, -2:], image[:, 1:])
    kept = dropped[:, :-2].abs().amax((2, 3, 4)) > 0
    expected = torch.where(kept[..., None, None, None], 4 * whole[:, :-2], torch.zeros(()))
    assert torch.equal(dropped[:, :-2], expected)
    assert 0.19 < float(kept.float().mean()) < 0.31  # of 520 draws at 0.25: standard deviation 0.019
    assert 0 < float(kept[:, 0].float().mean()) < 1  # the image's among them


def test_the_extractor_does_not_see_the_stage_before() -> None:
    network, image = make(others=2).eval(), torch.randn(1, 3, 12, 12)
    network(image)
    network(torch.cat([image[:, :1], torch.randn(1, 2, 12, 12)], dim=1))
    one, other = network.network.given
    assert torch.equal(one[:, :-2], other[:, :-2])


def test_the_image_may_have_a_probability_of_its_own() -> None:
    network = make(p_image=0).train()
    image = torch.randn(30, 1, 8, 8)
    network(image)
    assert torch.equal(network.network.given[0][:, :1], image)


def test_deep_supervision_is_switched_as_nnunet_switches_it() -> None:
    network, image = make(), torch.randn(1, 1, 12, 12)
    assert [tuple(logits.shape) for logits in network(image)] == [(1, 2, 12, 12), (1, 2, 6, 6)]
    network.decoder.deep_supervision = False
    assert network(image).shape == (1, 2, 12, 12)


def test_a_state_dict_holds_the_extractor_and_needs_no_file(tmp_path: Path) -> None:
    path, image = a_file(tmp_path), torch.rand(1, 1, 10, 9, 8)
    trained = make(3, extractor="elsewhere-3d", weights=str(path)).eval()
    extractor = trained.stable.extractor
    kept = record(chosen({"extractor": "elsewhere-3d", "weights": str(path)}, {}), extractor)
    assert kept["weights_sha256"] == extractor.weights_hash != ""
    assert str(path) not in json.dumps(kept)
    path.unlink()
    again = build(json.loads(json.dumps(kept)), 3, 1, 1, lambda channels: Plain(channels, 3)).eval()
    assert again.stable.extractor.weights_hash != extractor.weights_hash
    again.load_state_dict(trained.state_dict())
    torch.testing.assert_close(again(image)[0], trained(image)[0], rtol=0, atol=0)
    assert {".".join(key.split(".")[:2]) for key in trained.state_dict()} == {"network.encoder", "stable.extractor"}


def test_nothing_of_the_extractor_is_trained(tmp_path: Path) -> None:
    network = make(3, extractor="elsewhere-3d", weights=str(a_file(tmp_path))).train()
    before = network.stable.extractor.weights_hash
    optimizer = torch.optim.SGD(network.parameters(), 1.0, momentum=0.99, weight_decay=0.1)  # as nnU-Net: of all
    network(torch.rand(2, 1, 8, 8, 8))[0].square().mean().backward()
    optimizer.step()
    assert network.stable.extractor.weights_hash == before
    assert network.network.encoder.weight.grad is not None


def test_plans_cannot_trust_code() -> None:
    kept = record(chosen({}, {}), stable.build("mind", 2))
    kept |= {"extractor": "somebodys:Code", "extractor_options": {"trust": True}}
    with pytest.raises(SettingsError, match="'trust' is no option of an extractor's own"):
        build(kept, 2, 1, 1, lambda channels: Plain(channels, 2))


def test_plans_without_a_record_are_no_model_of_this_trainer() -> None:
    assert record_of({"elsewhere": {"p": 0.5}}) == {"p": 0.5}
    with pytest.raises(ModelError, match="plans nnUNetPlans: no key 'elsewhere'"):
        record_of({"plans_name": "nnUNetPlans"})


def test_folds_of_a_folder_share_their_options(tmp_path: Path) -> None:
    mine = record(chosen({}, {}), stable.build("mind", 3))
    check_alike(tmp_path / "none", mine)
    (tmp_path / "plans.json").write_text(json.dumps({"elsewhere": {**mine, "p": 0.5, "version": "0"}}))
    check_alike(tmp_path, mine)  # nothing was trained there yet
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_best.pth").touch()
    with pytest.raises(SettingsError, match=r"plans.json: its folds were trained with p=0.5, asked for is 0.75"):
        check_alike(tmp_path, mine)
    check_alike(tmp_path, {**mine, "p": 0.5})


def test_where_nnunet_finds_the_trainer_is_printed_and_costs_nothing() -> None:
    code = (
        "import runpy, sys; runpy.run_module('elsewhere.nnunet', run_name='__main__'); sys.exit('torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert Path(printed.strip()) == TRAINERS
    assert "nnUNetTrainerDropGen" in (TRAINERS / "elsewhere_dropgen.py").read_text(encoding="utf-8")


# A real run: plan, preprocess, train, predict, by nnU-Net's own commands.

DATASET = "Dataset901_Hippocampus"

QUICK = '''
from elsewhere.nnunet.trainer import nnUNetTrainerDropGen


class nnUNetTrainerQuick(nnUNetTrainerDropGen):
    """One epoch of two iterations."""

    dropgen = {"extractor": "elsewhere-3d", "p": 0.5}

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
'''


@pytest.fixture
def nnunet(tmp_path: Path, shared_data: Path) -> dict[str, str]:
    """nnU-Net's environment around a raw dataset of five cases, and one to predict."""
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed: pip install 'elsewhere[nnunet]'")
    try:  # its search for a trainer imports all that it has
        import_module("nnunetv2.training.nnUNetTrainer.primus.primus_trainers")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"nnU-Net cannot import its own trainers here: {error}")
    raw = tmp_path / "raw" / DATASET
    files = sorted((shared_data / "hippocampus" / "images").glob("*.nii.gz"))[:6]
    for n, image in enumerate(files):
        folder = raw / ("imagesTr" if n < 5 else "imagesTs")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, folder / image.name.replace(".nii.gz", "_0000.nii.gz"))
        if n < 5:
            (raw / "labelsTr").mkdir(exist_ok=True)
            shutil.copyfile(image.parents[1] / "labels" / image.name, raw / "labelsTr" / image.name)
    about = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(about))
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "quick.py").write_text(QUICK)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("ELSEWHERE_")},
        **{f"nnUNet_{name}": str(tmp_path / name) for name in ("raw", "preprocessed", "results")},
        "nnUNet_extTrainer": os.pathsep.join([str(TRAINERS), str(tmp_path / "trainers")]),
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": "1",
    }


def run(environment: Mapping[str, str], command: str, *words: str) -> None:
    """One of nnU-Net's commands, of the environment that runs the tests."""
    program = Path(sys.executable).with_name(command)
    done = subprocess.run([str(program), *words], env=dict(environment), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.slow
def test_nnunet_plans_trains_and_predicts(tmp_path: Path, nnunet: dict[str, str]) -> None:
    weights = a_file(tmp_path)
    planning = ("-d", "901", "-c", "3d_fullres", "-npfp", "1", "-np", "1")
    run(nnunet, "nnUNetv2_plan_and_preprocess", *planning)
    plans = tmp_path / "preprocessed" / DATASET / "nnUNetPlans.json"
    planned = json.loads(plans.read_text())
    small = {"features_per_stage": [4, 8, 16, 32]}
    planned["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(small)
    plans.write_text(json.dumps(planned))
    training = {**nnunet, "nnUNet_n_proc_DA": "0", "ELSEWHERE_WEIGHTS": str(weights)}
    run(training, "nnUNetv2_train", "901", "3d_fullres", "0", "-tr", "nnUNetTrainerQuick", "-device", "cpu")

    folder = tmp_path / "results" / DATASET / "nnUNetTrainerQuick__nnUNetPlans__3d_fullres"
    kept = json.loads((folder / "plans.json").read_text())["elsewhere"]
    assert (kept["extractor"], kept["p"], kept["norm"]) == ("elsewhere-3d", 0.5, "instance")
    state = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    expected = stable.build("elsewhere-3d", 3, weights=weights)
    assert kept["weights_sha256"] == expected.weights_hash
    for key, value in expected.state_dict().items():
        assert torch.equal(state[f"stable.extractor.{key}"], value)
    first = next(value for key, value in state.items() if key.startswith("network.encoder") and value.ndim == 5)
    assert first.shape[1] == 1 + 4
    assert len(list((folder / "fold_0" / "validation").glob("*.nii.gz"))) == 1

    weights.unlink()  # prediction needs neither the file nor the options
    images = tmp_path / "raw" / DATASET / "imagesTs"
    where = ("-i", str(images), "-o", str(tmp_path / "out"), "-d", "901", "-c", "3d_fullres", "-f", "0")
    quickly = ("-device", "cpu", "-npp", "0", "-nps", "0")
    run(nnunet, "nnUNetv2_predict", *where, "-tr", "nnUNetTrainerQuick", *quickly)
    for image in images.iterdir():
        mask = nibabel.load(tmp_path / "out" / image.name.replace("_0000", ""))
        values = np.asarray(mask.dataobj)
        assert values.shape == nibabel.load(image).shape
        np.testing.assert_allclose(mask.affine, nibabel.load(image).affine, atol=1e-4)
        assert set(np.unique(values)) <= {0, 1, 2}
