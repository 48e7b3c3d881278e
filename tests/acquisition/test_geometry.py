from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import interpolate, ndimage
from torch import Tensor

from elsewhere.acquisition.geometry import Spatial, affine, crop, elastic, flip
from elsewhere.acquisition.geometry_grid import affine_matrix, resample
from elsewhere.acquisition.smooth import spline_basis, spline_field
from elsewhere.errors import SettingsError

EVERYTHING = dict(
    flip_axes=(0, 1), affine_probability=0.6, elastic_probability=0.6, rotation=(-40, 40), shear=(-0.1, 0.1),
    translation=(-0.1, 0.1),
)  # fmt: skip


def smooth(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A batch of smooth images, on which interpolation errors are small."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(np.stack([[ndimage.gaussian_filter(c, 2) for c in s] for s in noise]) * 10).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inside(size: tuple[int, ...], margin: int) -> tuple[slice, ...]:
    return (..., *[slice(margin, n - margin) for n in size])


@pytest.mark.parametrize("degrees", [0.0, 17.0, -64.0])
def test_affine_2d_is_scipys(degrees: float) -> None:
    image = smooth((1, 1, 40, 56))
    scale, shear, shift = (1.1, 0.9), 0.07, (0.05, -0.03)
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[c, -s], [s, c]]) @ np.array([[1, shear], [0, 1]]) @ np.diag(scale)
    back, centre = np.linalg.inv(matrix), (np.array([40, 56]) - 1) / 2
    offset = centre - back @ (centre + np.array(shift) * np.array([40, 56]))
    expected = ndimage.affine_transform(image[0, 0].numpy(), back, offset, order=1, mode="grid-constant")
    got = affine(
        image,
        rotation=torch.tensor([[degrees]]),
        scale=torch.tensor([scale]),
        shear=torch.tensor([[shear]]),
        translation=torch.tensor([shift]),
    )
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=2e-4)


def test_affine_3d_is_scipys_in_millimetres() -> None:
    image, spacing = smooth((1, 1, 30, 28, 12)), np.array([1.0, 1.5, 4.0])
    angles = np.radians([12.0, -20.0, 33.0])

    def turn(angle: float, i: int, j: int) -> np.ndarray:
        m = np.eye(3)
        m[i, i] = m[j, j] = math.cos(angle)
        m[i, j], m[j, i] = -math.sin(angle), math.sin(angle)
        return m

    body = turn(angles[0], 1, 2) @ turn(angles[1], 0, 2) @ turn(angles[2], 0, 1)
    back = np.linalg.inv(np.diag(1 / spacing) @ body @ np.diag(spacing))
    centre = (np.array(image.shape[2:]) - 1) / 2
    expected = ndimage.affine_transform(
        image[0, 0].numpy(), back, centre - back @ centre, order=1, mode="grid-constant"
    )
    got = affine(image, rotation=torch.tensor([[12.0, -20.0, 33.0]]), spacing=torch.tensor(spacing[None]).float())
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=5e-4)


@settings(max_examples=30, deadline=None)
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), spacing=st.tuples(*[st.floats(0.3, 6)] * 3))
def test_rotations_keep_distances_in_millimetres(
    angles: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    matrix = affine_matrix(torch.tensor([angles]), one, zero, torch.tensor([spacing]))[0].numpy()
    voxel = np.array([3.0, -2.0, 5.0])
    assert np.linalg.norm(matrix @ voxel * spacing) == pytest.approx(np.linalg.norm(voxel * spacing), rel=1e-4)


@pytest.mark.parametrize(("length", "control"), [(9, 4), (64, 7), (5, 9)])
def test_spline_weights_are_the_cubic_b_spline(length: int, control: int) -> None:
    knots = np.arange(-3, control + 1, dtype=float)
    at = (np.arange(length) + 0.5) / length * (control - 3)
    expected = interpolate.BSpline.design_matrix(at, knots, 3).toarray()
    np.testing.assert_allclose(spline_basis(control, length, 3, torch.zeros(1)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 52), (20, 24, 16)])
def test_elastic_is_scipys_map_coordinates(size: tuple[int, ...]) -> None:
    dims = len(size)
    image = smooth((1, 2, *size))
    points = (torch.rand(1, dims, *[6] * dims, generator=generator(3)) - 0.5) * 0.2
    letters = "xyz"[:dims]
    recipe = ",".join(f"{a}{b}" for a, b in zip(letters, "ijk", strict=False))
    field = np.einsum(
        f"d{'ijk'[:dims]},{recipe}->d{letters}",
        points[0].numpy(),
        *[spline_basis(6, n, 3, torch.zeros(1)).numpy() for n in size],
    )
    where = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij")) + field * np.array(size).reshape(
        -1, *[1] * dims
    )
    got = elastic(image, points)
    for channel in range(2):
        expected = ndimage.map_coordinates(image[0, channel].numpy(), where, order=1, mode="grid-constant")
        np.testing.assert_allclose(got[0, channel].numpy(), expected, atol=2e-3)


def test_elastic_never_folds_at_the_largest_magnitude_allowed() -> None:
    extreme = torch.where(torch.rand(20, 2, 7, 7, generator=generator()) < 0.5, -0.1, 0.1)
    field = spline_field(extreme, (64, 64)) * 64
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    y, x = field[:, 0] + rows, field[:, 1] + columns
    (yr, yc), (xr, xc) = torch.gradient(y, dim=(1, 2)), torch.gradient(x, dim=(1, 2))
    assert float((yr * xc - yc * xr).min()) > 0
    with pytest.raises(SettingsError, match=r"elastic_magnitude .*is \(0, 0.2\).* 0 to 0.1"):
        Spatial(elastic_magnitude=(0, 0.2))


@pytest.mark.parametrize("size", [(7, 10), (5, 6, 7)])
def test_flips_are_exact_and_move_all_alike(size: tuple[int, ...]) -> None:
    n, dims = 16, len(size)
    image = torch.randn(n, 2, *size)
    target = torch.randint(0, 900, (n, *size))
    maps = {"fov": torch.rand(n, 1, *size)}
    spatial = Spatial(flip_axes=tuple(range(dims)))
    parameters = spatial.draw(image.shape, generator(1))
    assert 0 < int(parameters["flip"].sum()) < n * dims
    moved = spatial.apply(image, parameters, target, maps)
    assert moved.target is not None
    assert moved.target.dtype == torch.int64
    for i in range(n):
        axes = [a for a in range(dims) if parameters["flip"][i, a]]
        assert torch.equal(moved.image[i : i + 1], flip(image[i : i + 1], axes))
        assert np.array_equal(moved.image[i, 0].numpy(), np.flip(image[i, 0].numpy(), axes))
        assert np.array_equal(moved.target[i].numpy(), np.flip(target[i].numpy(), axes))
        assert np.array_equal(moved.maps["fov"][i, 0].numpy(), np.flip(maps["fov"][i, 0].numpy(), axes))


def test_flips_have_their_probability() -> None:
    drawn = Spatial(flip_axes=(1,), flip_probability=0.3).draw((20000, 1, 2, 2), generator())["flip"]
    assert not bool(drawn[:, 0].any())
    assert float(drawn[:, 1].float().mean()) == pytest.approx(0.3, abs=0.015)


def test_nothing_drawn_gives_back_the_very_tensors() -> None:
    image, target = torch.randn(3, 1, 8, 8), torch.ones(3, 8, 8, dtype=torch.int64)
    moved = Spatial()(image, generator(), target)
    assert moved.image is image
    assert moved.target is target


def test_samples_that_are_off_are_untouched_bit_for_bit() -> None:
    image = torch.randn(24, 3, 20, 20)
    spatial = Spatial(affine_probability=0.3, elastic_probability=0.2)
    parameters = spatial.draw(image.shape, generator(2))
    on = parameters["affine_on"] | parameters["elastic_on"]
    assert 0 < int(on.sum()) < 24
    out = spatial.apply(image, parameters).image
    assert torch.equal(out[~on], image[~on])
    assert not any(torch.equal(out[i], image[i]) for i in on.nonzero()[:, 0])


@pytest.mark.parametrize("size", [(32, 48), (16, 20, 12)])
def test_an_identity_map_changes_nothing(size: tuple[int, ...]) -> None:
    image = torch.randn(2, 1, *size)
    target = torch.randint(0, 3000, (2, *size))
    still = Spatial(
        affine_probability=1, rotation=(0, 0), scale=(1, 1), elastic_probability=1, elastic_magnitude=(0, 0)
    )
    moved = still(image, generator(), target)
    torch.testing.assert_close(moved.image, image, atol=2e-4, rtol=0)
    assert moved.target is not None
    assert torch.equal(moved.target, target)


@pytest.mark.parametrize(("size", "spacing"), [((48, 56), None), ((24, 28, 12), (1.0, 1.0, 3.0))])
def test_image_target_and_map_stay_aligned(size: tuple[int, ...], spacing: tuple[float, ...] | None) -> None:
    rng = np.random.default_rng(0)
    shapes = np.stack([ndimage.gaussian_filter(rng.standard_normal(size), 3) for _ in range(12)])
    target = torch.tensor(shapes > 0.0).long() * 7
    image = target.float()[:, None]
    flips = tuple(range(len(size)))
    spatial = Spatial(**{**EVERYTHING, "flip_axes": flips}, spacing=spacing, fill="zeros")
    moved = spatial(image, generator(4), target, {"disk": image})
    assert moved.target is not None
    assert set(moved.target.unique().tolist()) == {0, 7}
    assert torch.equal(moved.image, moved.maps["disk"])
    agree = (moved.image[:, 0] > 3.5) == (moved.target == 7)
    assert float(agree.float().mean()) > 0.985
    assert float(((image[:, 0] > 3.5) == (moved.target == 7)).float().mean()) < 0.8


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    size=st.one_of(st.tuples(*[st.integers(4, 20)] * 2), st.tuples(*[st.integers(4, 12)] * 3)),
    patch=st.integers(3, 16),
)
def test_a_draw_replays_exactly_and_keeps_classes(seed: int, n: int, size: tuple[int, ...], patch: int) -> None:
    image = torch.randn(n, 2, *size, generator=generator(seed))
    target = torch.randint(0, 5, (n, *size), generator=generator(seed)) * 100
    spatial = Spatial(**EVERYTHING, size=(patch,) * len(size))
    parameters = spatial.draw(image.shape, generator(seed))
    one, two = spatial.apply(image, parameters, target), spatial(image, generator(seed), target)
    assert one.target is not None
    assert two.target is not None
    assert one.image.shape == (n, 2, *spatial.size)
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.target, two.target)
    assert set(one.target.unique().tolist()) <= {0, *target.unique().tolist()}
    assert float(one.image.min()) >= float(image.min()) - 1e-4
    assert float(one.image.max()) <= float(image.max()) + 1e-4


def test_parameters_of_one_sample_serve_a_batch() -> None:
    image = smooth((3, 1, 24, 24))
    spatial = Spatial(affine_probability=1, elastic_probability=1, flip_axes=(0,))
    parameters = spatial.draw((1, 1, 24, 24), generator())
    together = spatial.apply(image, parameters).image
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], spatial.apply(image[i : i + 1], parameters).image)


def test_flip_then_affine_in_one_grid_is_one_after_the_other() -> None:
    image = smooth((4, 1, 30, 36))
    spatial = Spatial(flip_axes=(0, 1), flip_probability=1, affine_probability=1, translation=(-0.2, 0.2), fill="zeros")
    p = spatial.draw(image.shape, generator(5))
    one = spatial.apply(image, p).image
    both = affine(
        flip(image, (0, 1)), rotation=p["rotation"], scale=p["scale"], translation=p["translation"], fill="zeros"
    )
    torch.testing.assert_close(one, both, atol=1e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    origin=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    fill=st.sampled_from(["zeros", "minimum"]),
)
def test_crop_is_numpys_padding(origin: tuple[int, int], size: tuple[int, int], fill: str) -> None:
    image = torch.randn(1, 2, 9, 6, generator=generator())
    big = 30
    lows = [0.0, 0.0] if fill == "zeros" else [float(c.min()) for c in image[0]]
    for channel, low in enumerate(lows):
        padded = np.pad(image[0, channel].numpy(), big, constant_values=low)
        expected = padded[tuple(slice(big + o, big + o + s) for o, s in zip(origin, size, strict=True))]
        got = crop(image, origin, size, fill)[0, channel].numpy()  # type: ignore[arg-type]
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_crops_are_exact_pieces_and_reach_every_place() -> None:
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    spatial = Spatial(size=(4, 5))
    corners = {float(spatial(image, generator(s)).image[0, 0, 0, 0]) for s in range(60)}
    assert corners == {6.0 * i + j for i, j in product(range(3), range(2))}
    centre = Spatial(size=(2, 2), place="centre")(image, generator()).image
    assert torch.equal(centre, image[:, :, 2:4, 2:4])
    small = Spatial(size=(8, 10), fill="zeros")(image, generator()).image
    assert torch.equal(small, torch.nn.functional.pad(image, (2, 2, 1, 1)))


def test_crop_within_the_grid_is_the_crop_of_the_moved_image() -> None:
    image = smooth((1, 1, 40, 40))
    points = {"elastic_probability": 0.0, "affine_probability": 1.0, "rotation": (0, 0), "scale": (1, 1)}
    moved = Spatial(**points, size=(16, 20))(image, generator(3)).image
    origin = Spatial(**points, size=(16, 20)).draw(image.shape, generator(3))["origin"][0].tolist()
    torch.testing.assert_close(moved, crop(image, origin, (16, 20)), atol=2e-4, rtol=0)


def test_outside_is_the_image_minimum_or_zero_or_its_border() -> None:
    image = smooth((1, 1, 20, 20)).abs() + 5
    shift = torch.tensor([[0.5, 0.0]])
    assert float(affine(image, translation=shift)[0, 0, :9].abs().max()) == 0
    low = affine(image, translation=shift, fill="minimum")[0, 0, :9]
    torch.testing.assert_close(low, image.min().expand_as(low))
    border = affine(image, translation=shift, fill="border")[0, 0, :9]
    torch.testing.assert_close(border, image[0, 0, :1].expand_as(border), atol=1e-4, rtol=0)


def test_gradients_flow_to_the_image() -> None:
    image = torch.randn(2, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    spatial = Spatial(flip_axes=(0,), affine_probability=0.5, elastic_probability=0.5, size=(5, 5), fill="zeros")
    parameters = spatial.draw(image.shape, generator(8))
    on = parameters["affine_on"] | parameters["elastic_on"]
    assert sorted(on.tolist()) == [False, True]
    assert torch.autograd.gradcheck(lambda x: spatial.apply(x, parameters).image, (image,))


def test_half_precision_images_come_back_in_half() -> None:
    image = torch.randn(2, 1, 16, 16)
    spatial = Spatial(affine_probability=1)
    half = spatial(image.bfloat16(), generator()).image
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), spatial(image, generator()).image, atol=0.03, rtol=0.02)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rotation": (10, -10)}, "rotation"),
        ({"affine_probability": 1.5}, "affine_probability is 1.5"),
        ({"scale": (0, 1)}, "scale"),
        ({"control": 3}, "control=3"),
        ({"spacing": (1, 0)}, "spacing"),
    ],
)
def test_impossible_ranges_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Spatial(**options)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused_when_drawn() -> None:
    with pytest.raises(SettingsError, match="flip_axes"):
        Spatial(flip_axes=(2,)).draw((1, 1, 8, 8), generator())
    with pytest.raises(SettingsError, match="size"):
        Spatial(size=(4, 4, 4)).draw((1, 1, 8, 8), generator())
    with pytest.raises(SettingsError, match="2 or 3 spatial axes"):
        Spatial().draw((1, 8, 8), generator())


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_parts_of_a_batch_are_the_batch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, target = smooth((5, 2, 20, 24)), torch.randint(0, 3, (5, 20, 24))
    spatial = Spatial(flip_axes=(0, 1), affine_probability=0.5, elastic_probability=0.3)
    drawn = spatial.draw(image.shape, generator(3))
    assert 0 < int(drawn["affine_on"].sum()) < 5
    whole = spatial.apply(image, drawn, target)
    monkeypatch.setattr("elsewhere.acquisition.geometry.images_at_once", lambda _: at_once)
    parts = spatial.apply(image, drawn, target)
    assert whole.target is not None
    assert parts.target is not None
    assert torch.equal(parts.target, whole.target)
    torch.testing.assert_close(parts.image, whole.image)


def test_wide_rows_are_looked_up_alike() -> None:
    image = smooth((2, 2, 64, 128))
    turned = torch.tensor([[[0.9, -0.3, 0.1], [0.3, 0.9, 0.0]]]).expand(2, 2, 3)
    grid = torch.nn.functional.affine_grid(turned, [2, 2, 64, 128], align_corners=False)
    for fill in ("zeros", "border"):
        plain = torch.nn.functional.grid_sample(image, grid, padding_mode=fill, align_corners=False)
        assert torch.equal(resample(image, grid, fill=fill), plain)
