from __future__ import annotations

import math

import pytest
import torch
from fake_development import FakeDevelopment
from lightning_fabric import Fabric
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from elsewhere import methods, tasks
from elsewhere.tasks.metrics import score_segmentation
from elsewhere.training.validation import mean_dice, validate


class Brightness(nn.Module):
    """Logits from how bright the image is."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.bias = nn.Parameter(torch.tensor(0.3))

    def forward(self, image: Tensor) -> Tensor:
        value = image if self.kind == "segmentation" else image.flatten(1).amax(1, keepdim=True)
        return torch.cat([torch.zeros_like(value), value - self.bias], 1)


def method(kind: str) -> methods.Method:
    task = tasks.create(kind, 2, ("background", "blob"))
    return methods.create("erm", Brightness(kind), task, n_sites=2).train()


@pytest.mark.parametrize("together", [False, True])
def test_auroc_is_the_mean_of_the_sites(together: bool) -> None:
    development = FakeDevelopment(task="classification", n=24, n_validation=20)
    if together:
        development.preprocessing = development.preprocessing.model_copy(update={"size": (32, 32)})
    model = method("classification")
    cases = development.split.validation
    found = validate(model, development, cases, Fabric(accelerator="cpu"), overlap=0.5, multiple_of=(1, 1))  # type: ignore[arg-type]
    assert model.training
    for site in development.sites:
        stored = [development.load(case) for case in cases if case.startswith(site)]
        bright = [(s.image.max() - s.mean[0]) / s.std[0] for s in stored]
        assert found.sites[site] == pytest.approx(roc_auc_score([s.label for s in stored], bright))
    assert found.score == pytest.approx(sum(found.sites.values()) / 2)


def test_where_a_site_has_one_class_the_others_decide() -> None:
    development = FakeDevelopment(task="classification", n=24, n_validation=20)
    cases = [case for case in development.split.validation if case.startswith("A") or int(case[2:]) % 2]
    fabric, model = Fabric(accelerator="cpu"), method("classification")
    found = validate(model, development, cases, fabric, overlap=0.5, multiple_of=(1, 1))  # type: ignore[arg-type]
    assert math.isnan(found.sites["B"])
    assert found.score == found.sites["A"]
    positive = [case for case in cases if int(case[2:]) % 2]
    found = validate(model, development, positive, fabric, overlap=0.5, multiple_of=(1, 1))  # type: ignore[arg-type]
    assert found.score == -found.loss


def test_dice_is_that_of_the_tables() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randint(0, 3, (2, 9, 9), generator=generator)
    table = score_segmentation(predicted.numpy(), target.numpy(), 4, None)
    assert mean_dice(predicted, target, 4) == pytest.approx(table["all", "dice"])  # class 3 is in neither
    empty = torch.zeros_like(target)
    assert mean_dice(empty, empty, 4) == score_segmentation(empty.numpy(), empty.numpy(), 4, None)["all", "dice"] == 1
