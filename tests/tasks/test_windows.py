"""Our sliding windows beside MONAI's: the same numbers, bit for bit."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from elsewhere.tasks import predict
from elsewhere.tasks.windows import slide


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize(("spatial", "patch"), [((30, 26), (16, 16)), ((5, 31), (8, 8)), ((13, 20, 9), (8, 9, 16))])
def test_the_numbers_are_monais(spatial: tuple[int, ...], patch: tuple[int, ...], overlap: float, at_once: int) -> None:
    torch.manual_seed(0)
    kind = nn.Conv2d if len(spatial) == 2 else nn.Conv3d
    model, image = kind(2, 3, 3, padding=1).eval(), torch.randn(1, 2, *spatial)
    with torch.inference_mode():
        wanted = sliding_window_inference(image, patch, at_once, model, overlap=overlap, mode="gaussian")
        found = slide(model, image, patch, overlap, at_once, torch.device("cpu"))
    assert isinstance(wanted, Tensor)
    assert found is not None
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("patch", [(16, 16), (32, 16), (40, 40), None])
def test_normalising_window_by_window_is_normalising_the_image(patch: tuple[int, int] | None) -> None:
    """Whatever is padded: the 0 is one of the normalised image, and integers of a file are left as they are."""
    torch.manual_seed(0)
    model, image = nn.Conv2d(2, 3, 3, padding=1).eval(), torch.randint(100, 900, (1, 2, 30, 26), dtype=torch.int16)
    before = image.clone()

    def normalise(part: Tensor) -> Tensor:
        return part.float().sub_(500).mul_(1 / 230)

    wanted = predict(model, normalise(image), patch, windows=2)
    assert torch.equal(predict(model, image, patch, windows=2, normalise=normalise), wanted)
    assert torch.equal(image, before)


def test_several_images_are_each_as_by_itself() -> None:
    torch.manual_seed(0)
    model, images = nn.Conv2d(2, 3, 3, padding=1).eval(), torch.randn(3, 2, 30, 26)
    with torch.inference_mode():
        together = slide(model, images, (16, 16), 0.5, 2, torch.device("cpu"))
        alone = [slide(model, image[None], (16, 16), 0.5, 2, torch.device("cpu")) for image in images]
    assert together is not None
    torch.testing.assert_close(together, torch.cat([one for one in alone if one is not None]))


def test_a_model_that_gives_one_answer_an_image_is_not_slid() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    with torch.inference_mode():
        assert slide(model, torch.randn(1, 1, 20, 20), (8, 8), 0.5, 1, torch.device("cpu")) is None


def test_what_the_model_gives_is_not_written_into() -> None:
    """A model may answer with what it keeps, or with its input."""
    kept = torch.randn(1, 2, 8, 8)

    class Keeps(nn.Module):
        def forward(self, window: Tensor) -> Tensor:
            return kept

    image = torch.randn(1, 2, 20, 20)
    before = kept.clone(), image.clone()
    for patch in ((8, 8), (32, 32), None):
        predict(Keeps() if patch == (8, 8) else nn.Identity(), image, patch)
    assert torch.equal(kept, before[0])
    assert torch.equal(image, before[1])
