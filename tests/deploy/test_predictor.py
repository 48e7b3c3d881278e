from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from numpy.testing import assert_allclose
from small_models import case, deployed
from torch import Tensor, nn

from benchmark import tiny
from elsewhere.deploy.features import FeatureTap
from elsewhere.deploy.predictor import BATCH, Predictor
from elsewhere.errors import ModelError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold, Geometry, StoredCase
from elsewhere.study.seal import seal
from elsewhere.study.study import open_study
from elsewhere.training.model_io import Deployed, build, describe


def normalised(model: Deployed, stored: StoredCase) -> Tensor:
    return model.preprocessing.normalise(torch.from_numpy(stored.image), stored)[None]


# --- classification


def test_a_classifier_gives_the_softmax_of_its_logits_whatever_the_batch() -> None:
    model = deployed("resnet18")
    cases = [case(i, label=0) for i in range(BATCH + 2)]
    answers = list(Predictor(model).answers(cases))
    assert [answer.stored for answer in answers] == cases
    for answer in (answers[0], answers[BATCH - 1], answers[-1]):
        with torch.no_grad():
            wanted = model(normalised(model, answer.stored)).double().softmax(1)[0]
        assert answer.probabilities.dtype == np.float64
        assert_allclose(answer.probabilities, wanted.numpy(), atol=1e-6)
        assert_allclose(answer.probabilities.sum(), 1, atol=1e-12)
    assert {answer.features.shape for answer in answers} == {(32,)}


def test_images_of_several_sizes_go_one_by_one() -> None:
    cases = [case(0, (32, 32), label=0), case(1, (48, 40), label=0), case(2, (32, 32), label=0)]
    together = list(Predictor(deployed("resnet18")).answers(cases))
    for stored, answer in zip(cases, together, strict=True):
        (alone,) = Predictor(deployed("resnet18")).answers([stored])
        assert_allclose(answer.probabilities, alone.probabilities, atol=1e-6)
        assert_allclose(answer.features, alone.features, atol=1e-5)


class Sure(nn.Module):
    """Logits far apart."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.0, 20.0, -20.0]))

    def forward(self, image: Tensor) -> Tensor:
        return self.scale * image.flatten(1).std(1, keepdim=True)


def test_probabilities_near_one_are_not_tied() -> None:
    cases = [case(0, label=0), replace(case(1, label=0), std=(10.0,))]
    sure, surer = Predictor(deployed("resnet18", network=Sure())).answers(cases)
    assert 0 < surer.probabilities[0] < sure.probabilities[0] < 1e-8
    assert np.float32(sure.probabilities[1]) == 1


class Picky(nn.Module):
    """Fails on images that are brighter than the others."""

    def __init__(self, segments: bool = False) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1) if segments else nn.Linear(1, 3)
        self.segments = segments

    def forward(self, image: Tensor) -> Tensor:
        if (image > 50).any():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory" if self.segments else "too\nbright")
        return self.layer(image if self.segments else image.flatten(1).mean(1, keepdim=True))


def test_what_goes_wrong_in_a_batch_names_its_case() -> None:
    cases = [replace(case(i, label=0), image=np.full((1, 32, 32), 100 * (i == 2), np.float32)) for i in range(4)]
    cases = [replace(one, mean=(0.0,), std=(1.0,)) for one in cases]
    model = deployed("resnet18", network=Picky())
    answers = Predictor(model).answers(cases)
    assert [next(answers).stored for _ in range(2)] == cases[:2]
    with pytest.raises(
        ModelError, match=rf"^case '{cases[2].case.id}': the model fails on it .RuntimeError: too bright"
    ):
        next(answers)
    (alone,) = Predictor(model).answers(cases[:1])
    (with_others, *_) = Predictor(model).answers([cases[0], cases[1], cases[3]])
    assert_allclose(alone.features, with_others.features)


def test_what_goes_wrong_with_a_volume_names_it() -> None:
    one = replace(case(7), image=np.full((1, 32, 32), 100, np.float32), mean=(0.0,), std=(1.0,))
    predictor = Predictor(deployed("unet", network=Picky(segments=True)))
    for run in (predictor.answers, predictor.features):
        with pytest.raises(ModelError, match=rf"^case '{one.case.id}': too large for the memory of this machine$"):
            list(run([one]))


# --- segmentation


@pytest.mark.parametrize(("dims", "shape", "patch"), [(2, (40, 56), 32), (3, (40, 32, 36), 32)])
def test_a_segmenter_slides_as_monai_does_and_its_features_are_the_mean_over_windows(
    dims: int, shape: tuple[int, ...], patch: int
) -> None:
    model = deployed("unet", dims, patch=patch)
    stored = case(0, shape)
    (answer,) = Predictor(model, overlap=0.25).answers([stored])
    image = normalised(model, stored)
    with torch.inference_mode():
        logits = sliding_window_inference(image, (patch,) * dims, 1, model, overlap=0.25, mode="gaussian")
        wanted = torch.as_tensor(logits).softmax(1)[0].numpy()
        rows = []
        for window in dense_patch_slices(shape, (patch,) * dims, (int(patch * 0.75),) * dims):
            tap = FeatureTap(model, "segmentation")
            with tap:
                model(image[(slice(None), slice(None), *window)])
            rows.append(tap.take(1)[0])
    assert answer.probabilities.shape == (3, *shape)
    assert answer.probabilities.dtype == np.float32
    assert_allclose(answer.probabilities, wanted, atol=1e-6)
    assert len(rows) > 1
    assert_allclose(answer.features, np.mean(rows, axis=0), atol=1e-5)


def test_probabilities_come_back_in_the_axes_and_the_grid_of_the_file() -> None:
    """The network says how bright a voxel is; the file has other axes and twice as many voxels along one."""

    class Bright(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image * 0, image * self.weight, image * 0 - 9], dim=1)

    ramp = np.linspace(-1, 1, 16, dtype=np.float32)[:, None, None] * np.ones((16, 10, 12), np.float32)
    # The file's first axis leads from superior to inferior, its second from left to right, its third to anterior.
    affine = np.array([[0, 1.0, 0, 0], [0, 0, 1.0, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1]])
    stored = replace(
        case(0, (16, 10, 12)),
        image=ramp[None],
        geometry=Geometry((16, 10, 12), (2.0, 1.0, 1.0)),
        original=Geometry((12, 32, 10), (1.0, 1.0, 1.0), affine),
        mean=(0.0,),
        std=(1.0,),
    )
    (answer,) = Predictor(deployed("unet", 3, patch=16, network=Bright())).answers([stored])
    assert answer.probabilities.shape == (3, 12, 32, 10)
    foreground = answer.probabilities[1]
    assert (np.diff(foreground.mean((0, 2))) >= 0).all()  # rises along the file's second axis alone
    assert foreground.std((0, 2)).max() < 1e-6
    assert foreground[0, 0, 0] == pytest.approx(1 / (1 + np.e + np.exp(-8)), abs=0.02)


def test_features_without_probabilities_are_the_same_and_cost_no_decoder() -> None:
    for name in ("unet", "dynunet"):
        model = deployed(name, patch=32)
        cases = [case(i, (40, 56)) for i in range(2)]
        full = [(answer.features, answer.inputs) for answer in Predictor(model).answers(cases)]
        head = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        hook = head.register_forward_hook(count)
        found = list(Predictor(model).features(cases))
        hook.remove()
        assert calls == 1  # the first window of all, by which the layer is found
        for (features, inputs), (wanted, wanted_inputs) in zip(found, full, strict=True):
            assert features.tobytes() == wanted.tobytes()
            assert inputs.tobytes() == wanted_inputs.tobytes()


# --- how it runs


@pytest.mark.parametrize("name", ["unet", "efficientnet-b0"])
def test_it_says_the_same_every_time(name: str) -> None:
    segments = name == "unet"
    cases = [case(i, label=None if segments else 0) for i in range(3)]
    predictor = Predictor(deployed(name, patch=16 if segments else None))
    torch.manual_seed(0)
    first = list(predictor.answers(cases))
    torch.manual_seed(1)
    for one, other in zip(first, predictor.answers(cases), strict=True):
        for what in ("probabilities", "features", "inputs"):
            assert getattr(one, what).tobytes() == getattr(other, what).tobytes()


def test_volumes_are_read_one_at_a_time_and_the_caller_keeps_its_own_mode() -> None:
    read = []

    def opened() -> Iterator[StoredCase]:
        for i in range(3):
            read.append(i)
            assert not torch.is_inference_mode_enabled()
            yield case(i)

    answers = Predictor(deployed("unet", patch=16)).answers(opened())
    assert read == []
    for number, _ in enumerate(answers, start=1):
        assert len(read) == number
        assert not torch.is_inference_mode_enabled()


def test_held_out_cases_are_predicted_through_the_door_of_the_seal(tmp_path: Path) -> None:
    study = open_study(tiny.segmentation(tmp_path / "data", {"A": 6, "B": 3}))
    development, held_out = seal(study, Fold(("B",)), 0, Cache(tmp_path / "cache"), patch_size=16)
    from elsewhere.tasks import create

    task = create("segmentation", 2, development.classes)
    options = {"channels": [4, 8], "num_res_units": 0}
    config = describe("erm", {}, "unet", options, task, 1, development.preprocessing, None)
    model = Deployed(build(config), development.preprocessing, config)
    predictor = Predictor(model)
    with held_out.open(model, reason="test", log=tmp_path / "log.jsonl") as reader:
        answers = list(predictor.answers(reader.load(name) for name in held_out.case_ids))
        assert len(list(predictor.features(reader))) == 3
    assert [answer.stored.case.site for answer in answers] == ["B"] * 3
