"""What a network says without an input channel, against the same by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from elsewhere.analysis import removal
from elsewhere.analysis.removal import answers, kept, removals
from elsewhere.errors import ModelError
from elsewhere.study.held_out import model_sha256
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.tasks import create, predict
from elsewhere.training.model_io import Deployed, build, describe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "deploy"))
from small_models import SMALL, case

CPU = torch.device("cpu")


def model(name: str = "unet", method: str = "dropgen", channels: int = 1, patch: int | None = None, **options: Any):
    kind = "segmentation" if name == "unet" else "classification"
    task = create(kind, 2, ("background", "a", "b"))
    preprocessing = Preprocessing(
        dims=2,
        channels=tuple(f"c{i}" for i in range(channels)),
        intensity="image-zscore",
        patch_size=None if patch is None else (patch, patch),
    )
    config = describe(method, options, name, SMALL[name], task, 2, preprocessing, None)
    return Deployed(build(config), preprocessing, config)


def by_hand(made: Deployed, stored: Any, gone: tuple[int, ...], patch: int | None = None) -> np.ndarray:
    """One removal alone: a network of its own around the method's parts."""

    class Without(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            channels = made.method.inputs(image).clone()
            for place in gone:
                channels[:, place] = 0
            return made.method.network(channels)

    image = (torch.from_numpy(stored.image) - stored.mean[0]) / stored.std[0]
    with torch.no_grad():
        if made.task.kind == "classification":
            return Without()(image[None])[0].double().softmax(0).numpy()
        size = None if patch is None else (patch, patch)
        return predict(Without().eval(), image[None], size, multiple_of=made.multiple_of)[0].numpy()


def test_channels_are_named_and_told_apart() -> None:
    found = removals(model(channels=2).method, ("t1", "flair"))
    assert [one.name for one in found[:4]] == ["t1", "flair", "t1: mind 1", "t1: mind 2"]
    assert [one.kind for one in found].count("feature") == len(found) - 4
    assert found[-2].channels == (0, 1)
    assert found[-1].channels == tuple(range(2, 2 + len(found) - 4))
    assert [one.kind for one in removals(model(method="erm").method, ("t1",))] == ["image"]
    alone = removals(model(image=False).method, ("t1",))
    assert {one.kind for one in alone} == {"feature"}, "all features of a network of features is all that it has"
    assert alone[0].channels == (0,)


def test_a_row_of_factors_for_each() -> None:
    rows = kept(removals(model().method, ("t1",)))
    assert rows[0].eq(1).all()
    assert torch.equal(rows[1:-1], 1 - torch.eye(rows.shape[1]))
    assert rows[-1].tolist() == [1.0] + [0.0] * (rows.shape[1] - 1)


@pytest.mark.parametrize(("name", "patch", "at_once"), [("unet", None, 8), ("unet", 16, 3), ("resnet18", None, 4)])
def test_answers_are_those_of_each_removal_by_hand(
    name: str, patch: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "MOST_AT_ONCE", at_once)
    made, stored = model(name, patch=patch), case(0, (32, 24))
    some = removals(made.method, ("t1",))
    before = model_sha256(made)
    found = list(answers(made, stored, kept(some), overlap=0.5, device=CPU))
    assert len(found) == 1 + len(some)
    for said, gone in zip(found, [(), *(one.channels for one in some)], strict=True):
        np.testing.assert_allclose(said, by_hand(made, stored, gone, patch), atol=2e-6)
    assert np.abs(found[1] - found[0]).max() > 1e-4, "an image that is gone is noticed"
    assert model_sha256(made) == before
    assert not made.method.network._forward_pre_hooks, "the model is left as it was"


def test_features_are_extracted_once_for_all_that_is_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stored, seen = model(), case(0), []
    made.method.stable.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    some = removals(made.method, ("t1",))
    list(answers(made, stored, kept(some), overlap=0.5, device=CPU))
    assert len(seen) == -(-(1 + len(some)) // removal.MOST_AT_ONCE)
    assert {shape[0] for shape in seen} == {1}


def test_a_network_of_other_channels_is_named() -> None:
    made = model()
    with pytest.raises(ModelError, match="takes 5 channels, and 3 of them have a name"):
        list(answers(made, case(0), torch.ones(1, 3), overlap=0.5, device=CPU))
