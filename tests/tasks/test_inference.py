from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from elsewhere.errors import SettingsError
from elsewhere.tasks import predict


class Pointwise(nn.Module):
    """Logits of each pixel from that pixel alone: whatever the windows, the answer is known."""

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self.multiple = multiple
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        assert all(n % self.multiple == 0 for n in image.shape[2:])
        return torch.cat([image[:, :1], 2 * image[:, :1], -image[:, :1]], 1)


class WholeImage(nn.Module):
    """A classifier: one answer an image."""

    def forward(self, image: Tensor) -> Tensor:
        total = image.flatten(1).sum(1)
        return torch.stack([total, -total], 1)


def image_of(*spatial: int, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, *spatial, generator=torch.Generator().manual_seed(0))


def expected(image: Tensor) -> Tensor:
    return Pointwise()(image).softmax(1)


@pytest.mark.parametrize("spatial", [(33, 20), (17, 9, 21)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_give_each_pixel_its_answer(spatial: tuple[int, ...], overlap: float) -> None:
    image, model = image_of(*spatial), Pointwise()
    found = predict(model, image, (8,) * len(spatial), 3, overlap=overlap)
    torch.testing.assert_close(found, expected(image))
    assert {shape[2:] for shape in model.seen} == {(8,) * len(spatial)}
    assert len(model.seen) > 4


def test_windows_are_those_of_monai() -> None:
    from monai.inferers import sliding_window_inference

    torch.manual_seed(0)
    model, image = nn.Conv2d(1, 2, 5, padding=2).eval(), image_of(30, 26)
    with torch.no_grad():
        wanted = sliding_window_inference(image, (16, 16), 1, model, overlap=0.5, mode="gaussian")
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(predict(model, image, (16, 16)), wanted.softmax(1))


@pytest.mark.parametrize(("spatial", "patch"), [((7, 5), (8, 8)), ((8, 8), (8, 8)), ((3, 9, 4), (4, 9, 8))])
def test_an_image_that_fits_is_seen_once_padded_to_the_patch(spatial: tuple[int, ...], patch: tuple[int, ...]) -> None:
    image, model = image_of(*spatial), Pointwise()
    torch.testing.assert_close(predict(model, image, patch, 3), expected(image))
    assert model.seen == [(1, 1, *patch)]


def test_an_image_narrow_in_one_axis_and_long_in_another() -> None:
    image, model = image_of(5, 30), Pointwise()
    torch.testing.assert_close(predict(model, image, (8, 8), 3), expected(image))


@pytest.mark.parametrize(
    ("spatial", "multiple", "padded"),
    [((30, 17), 16, (32, 32)), ((32, 48), 16, (32, 48)), ((9, 12), 16, (16, 32)), ((9, 7, 5), (8, 8, 1), (16, 8, 5))],
)
def test_a_whole_image_is_padded_to_what_the_network_halves(
    spatial: tuple[int, ...], multiple: int | tuple[int, ...], padded: tuple[int, ...]
) -> None:
    image, model = image_of(*spatial), Pointwise()
    torch.testing.assert_close(predict(model, image, multiple_of=multiple), expected(image))
    assert model.seen == [(1, 1, *padded)]


@pytest.mark.parametrize("patch", [None, (4, 4), (64, 64)])
def test_a_classifier_sees_the_whole_image(patch: tuple[int, ...] | None) -> None:
    image = image_of(10, 11, channels=3) / 10
    torch.testing.assert_close(predict(WholeImage(), image, patch, 2), WholeImage()(image).softmax(1))


def test_a_real_network_takes_any_size_and_is_left_in_its_mode() -> None:
    from elsewhere import networks

    model = networks.build("unet", dims=2, in_channels=1, out_channels=2, channels=(4, 8, 8)).eval()
    multiple = networks.multiple_of("unet", {"channels": (4, 8, 8)}, 2)
    found = predict(model, image_of(13, 22), None, 2, multiple_of=multiple)
    assert found.shape == (1, 2, 13, 22)
    assert not found.requires_grad
    torch.testing.assert_close(found.sum(1), torch.ones(1, 13, 22))
    assert not model.training


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch_size": (8,)}, "does not fit an image of 2 dimensions"),
        ({"patch_size": (8, 0)}, "does not fit"),
        ({"overlap": 1.0}, "overlap must be"),
        ({"n_outputs": 2}, "gives 3 outputs, the task has 2"),
        ({"n_outputs": 2, "patch_size": (4, 4)}, "gives 3 outputs, the task has 2"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        predict(Pointwise(), image_of(9, 9), **options)  # type: ignore[arg-type]
