"""Two windows of a case: where they lie, what they share, and that the place in a window is not stable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from elsewhere.acquisition import Invert, Scanner
from elsewhere.analysis import stability as looks
from elsewhere.analysis.acquisitions import generator_of
from elsewhere.analysis.stability import stability
from elsewhere.analysis.stability_extractors import Intensities, Position, named_extractors, with_controls
from elsewhere.analysis.stability_windows import (
    SHIFT,
    Meeting,
    Window,
    core,
    displaced,
    home_window,
    in_window,
    room,
    wanted_room,
)
from elsewhere.networks import stable
from elsewhere.study import open_study
from elsewhere.study.cache import Cache
from reference import stability_reference as reference
from study.small_studies import classification

CPU = torch.device("cpu")


class Ramp(stable.Extractor):
    """The coordinates within the window, from -1 to 1, and nothing of the image."""

    def __init__(self, dims: int) -> None:
        super().__init__("ramp", dims, dims)

    def extract(self, image: Tensor) -> Tensor:
        axes = [torch.linspace(-1, 1, n) for n in image.shape[2:]]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].expand(len(image), *[-1] * (self.dims + 1))


class Around(stable.Extractor):
    """The voxel and its neighbours, as they are."""

    def __init__(self, dims: int) -> None:
        super().__init__("around", dims, 1 + 2 * dims)

    def extract(self, image: Tensor) -> Tensor:
        moved = [image.roll(step, axis) for axis in range(2, image.ndim) for step in (1, -1)]
        return torch.cat([image, *moved], dim=1)


def smooth(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "spacing"), [((40, 21), None), ((30, 13, 3), (1.0, 0.5, 4.0)), ((102, 96, 8), None)])
def test_windows_lie_apart_along_each_axis_that_has_room(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    free = room(shape, spacing)
    starts = set()
    for seed in range(40):
        home = home_window(shape, spacing, generator_of(seed))
        other = displaced(home, shape, generator_of(seed, "other"))
        both, middle = home.meets(other), core(shape, spacing)
        for axis, n in enumerate(shape):
            assert home.size[axis] == other.size[axis] == n - free[axis]
            assert home.start[axis] in (0, free[axis])
            assert 0 <= other.start[axis] <= free[axis]
            away = abs(home.start[axis] - other.start[axis])
            assert free[axis] / 2 <= away <= free[axis]
            assert both.size[axis] == n - free[axis] - away
            for window in (home, other):
                assert window.start[axis] <= middle.start[axis]
                assert middle.start[axis] + middle.size[axis] <= window.start[axis] + window.size[axis]
        starts.add((home.start, other.start))
    assert len(starts) > 10  # drawn


def test_the_room_that_is_wanted_and_the_room_that_there_is() -> None:
    assert wanted_room(2, None) == (SHIFT, SHIFT) == (6, 6)
    assert wanted_room(3, (0.5, 1.0, 5.0)) == (12, 6, 6)  # 6 mm at least: half of it is 3 mm, the tolerance
    assert wanted_room(3, (0.01, 1.0, 1.0))[0] == 24  # a quarter of a window of 96
    assert room((102, 20, 3), None) == (6, 5, 0)  # a quarter of the axis; three slices are seen whole


@pytest.mark.parametrize(("shape", "spacing"), [((17, 22), (1.0, 1.5)), ((10, 12, 9), (1.0, 1.0, 2.0))])
def test_what_two_windows_share_is_compared(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    whole, inside = smooth(4, *shape, seed=0), smooth(*shape, seed=1) > -0.5
    home = home_window(shape, spacing, generator_of(3))
    other = displaced(home, shape, generator_of(4))
    assert home.start != other.start
    one, two = home.cut(whole), 3 - 2 * other.cut(whole) + 1.2 * smooth(4, *other.size, seed=2)
    meeting = Meeting(home, other, inside, spacing, generator_of(5), CPU)
    found = meeting.compare(in_window(one), in_window(two))
    wanted = reference.windows(
        one.double().numpy(), two.double().numpy(), home.start, other.start, inside.numpy(), spacing, 3.0
    )
    assert found == pytest.approx(wanted, abs=1e-4)
    assert -0.95 < found[0] < -0.5
    again = meeting.compare(in_window(one), in_window(-two))
    assert again[0] == pytest.approx(-found[0], abs=1e-5)
    assert again[1] > 1.5 * meeting.chance
    # The test would not see windows that are taken for one and the same otherwise.
    same = Meeting(home, home, inside, spacing, generator_of(5), CPU)
    assert same.compare(in_window(one), in_window(-two))[0] < 0.5 * again[0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("knows", [Ramp, Position])
def test_the_place_in_the_window_is_not_found_again(dims: int, knows: type[Ramp] | type[Position]) -> None:
    """Even where all of the body lies in both windows, with air around it, whose middle its features would show."""
    shape = (40,) * dims if dims == 2 else (28,) * dims
    image = torch.rand(1, *shape, generator=generator_of("image"))
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[(slice(10, -10),) * dims] = True
    extractor, shares, alike, chance = knows(dims), [], [], []
    for seed in range(8):
        home = home_window(shape, None, generator_of(seed))
        other = displaced(home, shape, generator_of(seed, "other"))
        meeting = Meeting(home, other, inside, None, generator_of(seed), CPU)
        one, two = (in_window(extractor(window.cut(image)[None])[0]) for window in (home, other))
        values = meeting.compare(one, two)
        alike.append(values[0])
        shares.append(values[1])
        chance.append(meeting.chance)
        assert Meeting(home, home, inside, None, generator_of(seed), CPU).compare(one, one)[1] > 0.8  # it could be
    # Of two coordinates the cosine sees a direction, which changes little far out.
    assert np.mean(shares) < np.mean(chance) + (0.1 if knows is Ramp else 0.05)
    if knows is Position:
        assert np.mean(alike) < 0.6


def test_where_no_body_is_shared_all_that_is_shared_counts() -> None:
    shape = (20, 20)
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[0, 0] = True
    one, other = Window((0, 0), (15, 15)), Window((5, 5), (15, 15))
    meeting = Meeting(one, other, inside, None, generator_of(0), CPU)
    image = smooth(1, *shape, seed=0)
    assert meeting.compare(in_window(one.cut(image)), in_window(other.cut(image)))[0] == pytest.approx(1, abs=1e-5)


def test_the_place_by_hand() -> None:
    found = Position(2)(torch.rand(1, 1, 20, 9))[0]
    assert found.shape == (12, 20, 9)
    assert found[0, 4, 3] == pytest.approx(1, abs=1e-6)  # a quarter of 16 voxels along the first axis
    assert found[9, 3, 8] == pytest.approx(0, abs=1e-6)  # a quarter of 32 along the second
    assert torch.equal(found, Position(2)(torch.rand(1, 1, 20, 9))[0])
    assert list(with_controls({"position": Intensities(2), "mind": stable.build("mind", 2)}, 2)) == [
        "image", "mind", "position",
    ]  # fmt: skip
    assert list(named_extractors("mind,position", 2)) == ["mind"]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classification(tmp_path_factory.mktemp("noise"), {"north": 2, "south": 2})


def test_nothing_is_lost_where_nothing_changes(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under no acquisition an image is what it was, and its surroundings are found again; the place is not."""
    monkeypatch.setattr(looks, "drawn_acquisitions", lambda strength: {"none": Scanner([(Invert(), 0.0)])})
    own = {"around": Around(2), "ramp": Ramp(2)}
    table = stability(open_study(noise), own, draws=2, cache=Cache(tmp_path))
    none = table[table["acquisition"] == "none"]
    value = none.groupby(["extractor", "measure"])["value"].mean()
    assert value["image", "alikeness"] == pytest.approx(1, abs=1e-5)
    assert none[(none["extractor"] == "image") & (none["measure"] == "alikeness")]["value"].min() > 0.9999
    assert value["around", "correspondence"] > 0.8  # the neighbours of what lies at a border of its window are others
    for knows, more in (("position", 0.05), ("ramp", 0.1)):
        assert value[knows, "correspondence"] < value["chance", "correspondence"] + more
