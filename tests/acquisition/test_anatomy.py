from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from elsewhere.acquisition.anatomy import (
    GivenLabels,
    Lesion,
    NestedOrgans,
    Organ,
    grow_lesion,
    render,
)
from elsewhere.acquisition.anatomy_shapes import blob, smooth_noise, smooth_shapes
from elsewhere.acquisition.geometry import Spatial
from elsewhere.errors import SettingsError

STILL = Spatial()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_smooth_noise_is_standard_and_smooth() -> None:
    noise = smooth_noise((300, 40, 40), 5, generator())
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.var()) == pytest.approx(1, abs=0.1)
    assert float(noise.diff(dim=1).std()) < 0.3
    assert float(smooth_noise((20, 16, 16, 16), 6, generator()).var()) == pytest.approx(1, abs=0.2)


def test_smooth_shapes_use_every_class_in_one_piece_each_way() -> None:
    labels = smooth_shapes((8, 64, 64), 3, 4, generator())
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == [0, 1, 2]
    share = torch.bincount(labels.flatten()) / labels.numel()
    assert float(share.min()) > 0.2
    # smooth: hardly any voxel differs from its neighbour
    assert float((labels.diff(dim=1) != 0).float().mean()) < 0.15


@pytest.mark.parametrize("spatial", [(200, 200), (60, 60, 60)])
def test_a_smooth_blob_has_the_volume_of_its_ellipsoid(spatial: tuple[int, ...]) -> None:
    dims = len(spatial)
    radius = torch.tensor([[0.5, 0.3, 0.4][:dims]])
    angle = torch.full((1, 1 if dims == 2 else 3), 25.0)
    mask = blob(spatial, torch.zeros(1, dims), radius, angle, 0.0, torch.zeros(1, *spatial))
    unit = torch.pi if dims == 2 else 4 / 3 * torch.pi
    assert float(mask.float().mean()) * 2**dims == pytest.approx(unit * float(radius.prod()), rel=0.02)
    flat = blob(spatial, torch.zeros(1, dims), radius, angle * 0, 0.0, torch.zeros(1, *spatial))[0]
    extent = [float(flat.any(tuple(a for a in range(dims) if a != d)).float().mean()) for d in range(dims)]
    assert extent == pytest.approx(radius[0].tolist(), abs=0.03)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), dims=st.sampled_from([2, 3]))
def test_organs_lie_within_what_holds_them(seed: int, dims: int) -> None:
    organs = (
        Organ("skull", radius=(0.7, 0.9)),
        Organ("brain", "skull", radius=(0.75, 0.9)),
        Organ("ventricle", "brain", wander=0.3, radius=(0.3, 0.6)),
    )
    anatomy = NestedOrgans(organs, Lesion("brain", number=(1, 3)))
    assert anatomy.classes == ("background", "skull", "brain", "ventricle", "lesion")
    shape = (3, 40, 48) if dims == 2 else (2, 24, 24, 20)
    labels = anatomy.draw(shape, generator(seed))
    assert labels.shape == shape
    assert labels.dtype == torch.int64
    for sample in labels.numpy():
        assert set(range(4)) <= set(sample.reshape(-1).tolist())
        # what holds an organ is filled where the organ is: no background voxel is shut in by it
        filled = ndimage.binary_fill_holes(sample > 0)
        assert (filled == (sample > 0)).mean() > 0.99


@pytest.mark.parametrize("shape", [(40, 64, 64), (10, 24, 24, 24)])
def test_lesions_are_where_they_are_asked_for_and_never_leave_the_organ(shape: tuple[int, ...]) -> None:
    anatomy = NestedOrgans()
    wanted = torch.arange(shape[0]) % 3 != 0
    with_lesions = anatomy.draw(shape, generator(3), wanted)
    without = anatomy.draw(shape, generator(3), torch.zeros(shape[0], dtype=torch.bool))
    lesion = with_lesions == anatomy.classes.index("lesion")
    assert torch.equal(lesion.flatten(1).any(1), wanted)
    assert torch.equal(with_lesions[~lesion], without[~lesion])
    assert bool((without[lesion] == anatomy.classes.index("organ")).all())


def test_lesions_have_their_size() -> None:
    organ = torch.ones(50, 100, 100, dtype=torch.int64)
    lesion = Lesion("organ", radius=0.2, roughness=0.0)
    grown = grow_lesion(organ, 1, 2, lesion, torch.ones(50, dtype=torch.bool), generator()) == 2
    area = grown.float().mean((1, 2)) * 4
    assert float(area.median()) == pytest.approx(torch.pi * 0.2**2, rel=0.02)
    assert float(area.min()) > 0.6 * torch.pi * 0.2**2


def test_a_lesion_without_its_organ_is_refused() -> None:
    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    with pytest.raises(SettingsError, match=r"sample 0: .*organ 1"):
        grow_lesion(labels, 1, 2, Lesion("organ"), torch.ones(2, dtype=torch.bool), generator())
    with pytest.raises(SettingsError, match="'liver'"):
        NestedOrgans(lesion=Lesion("liver"))
    with pytest.raises(SettingsError, match=r"'kidney'.*'body'"):
        NestedOrgans((Organ("kidney", "body"),), None)


def test_draws_replay_and_differ() -> None:
    anatomy = NestedOrgans()
    one, two = anatomy.draw((4, 32, 32), generator(1)), anatomy.draw((4, 32, 32), generator(1))
    assert torch.equal(one, two)
    assert not torch.equal(one, anatomy.draw((4, 32, 32), generator(2)))
    assert not torch.equal(one[0], one[1])


def test_given_label_maps_are_picked_bent_and_given_lesions() -> None:
    maps = smooth_shapes((3, 32, 32), 3, 3, generator())
    still = GivenLabels(maps, ("background", "white", "grey"), STILL)
    drawn = still.draw((20, 32, 32), generator(1))
    which = [[torch.equal(d, m) for m in maps].index(True) for d in drawn]
    assert set(which) == {0, 1, 2}
    bent = GivenLabels(maps, ("background", "white", "grey"), lesion=Lesion("white"))
    assert bent.classes[-1] == "lesion"
    labels = bent.draw((6, 64, 64), generator(1), torch.tensor([True, False] * 3))
    assert (labels == 3).flatten(1).any(1).tolist() == [True, False] * 3
    with pytest.raises(SettingsError, match=r"0 to 2.*0 to 1"):
        GivenLabels(maps, ("background", "white"))


def test_rendered_tissues_have_their_intensity_and_texture() -> None:
    labels = smooth_shapes((6, 96, 96), 3, 3, generator())
    intensities = torch.tensor([[0.1, 0.5, 0.9]])
    image = render(labels, intensities, generator(1), texture=torch.tensor([0.0, 0.1, 0.2]), softness=0)
    assert image.shape == (6, 1, 96, 96)
    for value, (mean, std) in enumerate([(0.1, 0.0), (0.5, 0.05), (0.9, 0.18)]):
        tissue = image[:, 0][labels == value]
        assert float(tissue.mean()) == pytest.approx(mean, abs=0.02)
        assert float(tissue.std()) == pytest.approx(std, abs=0.02)
    plain = render(labels, intensities, generator(1), texture=0.0, softness=0)
    assert torch.equal(plain[:, 0], intensities[0][labels])


def test_soft_borders_mix_tissues_and_colour_has_three_channels() -> None:
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[:, :, 5:] = 1
    image = render(labels, torch.tensor([[0.0, 1.0]]), generator(), texture=0.0, softness=0.5)
    assert 0.05 < float(image[0, 0, 4, 4]) < 0.5 < float(image[0, 0, 4, 5]) < 0.95
    colours = torch.rand(2, 2, 3, generator=generator())
    rgb = render(labels.expand(2, 9, 9), colours, generator(), texture=0.0, softness=0)
    assert torch.equal(rgb[1, :, 0, 0], colours[1, 0])
    assert torch.equal(rgb[0, :, 0, 8], colours[0, 1])
    with pytest.raises(SettingsError, match="label 1 has no intensity"):
        render(labels, torch.tensor([[0.5]]), generator())
