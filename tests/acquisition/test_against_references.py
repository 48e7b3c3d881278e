"""Mechanisms beside their re-derivations in NumPy and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from elsewhere import acquisition
from elsewhere.acquisition import GIN, Curve, random_blend_map, smooth_blend, spline_field
from elsewhere.acquisition.blur import _convolve, _sum_of_shifts, gaussian_kernel
from reference import acquisition_reference as reference

SPATIAL = {2: (12, 15), 3: (8, 9, 7)}
both = pytest.mark.parametrize("dims", [2, 3])
seeds = st.integers(0, 10_000)


def pictures(seed: int, dims: int, channels: int = 2, batch: int = 2) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(batch, channels, *SPATIAL[dims])) * 40 + 10


def same(ours: torch.Tensor, theirs: list[NDArray[Any]], atol: float = 1e-8) -> None:
    np.testing.assert_allclose(ours.numpy(), np.stack(theirs), atol=atol, rtol=1e-8)


def tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float64))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, exponents=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)))
def test_gamma(seed: int, exponents: tuple[float, float]) -> None:
    image = pictures(seed, 2)
    ours = acquisition.gamma(tensor(image), tensor(exponents))
    same(ours, [reference.gamma(i, e) for i, e in zip(image, exponents, strict=True)])


@settings(max_examples=12, deadline=None)
@given(seed=seeds, knots=st.integers(2, 8), monotone=st.booleans())
def test_curve_is_pchip(seed: int, knots: int, monotone: bool) -> None:
    image = pictures(seed, 2)
    values = np.random.default_rng(seed + 1).random((2, knots))
    if monotone:
        values.sort(axis=1)
    ours = acquisition.curve(tensor(image), tensor(values))
    same(ours, [reference.curve(i, v) for i, v in zip(image, values, strict=True)])


@settings(max_examples=12, deadline=None)
@given(seed=seeds, knots=st.integers(2, 8), invert=st.sampled_from([0.0, 1.0]))
def test_drawn_curves_are_monotone_and_reach_both_ends(seed: int, knots: int, invert: float) -> None:
    ramp = torch.linspace(-3, 5, 200, dtype=torch.float64).view(1, 1, 10, 20)
    out = Curve((1.0, 3.0), knots=knots, invert=invert)(ramp, torch.Generator().manual_seed(seed)).flatten()
    steps = out.diff() * (-1 if invert else 1)
    assert steps.min() >= -1e-9
    torch.testing.assert_close(out.sort().values[[0, -1]], tensor([-3, 5]), atol=1e-5, rtol=0)


def test_inversion_swaps_the_ends() -> None:
    image = tensor([[[[2.0, 3.0], [7.0, 4.0]]]])
    assert torch.equal(acquisition.invert(image), tensor([[[[7.0, 6.0], [2.0, 5.0]]]]))


@both
@settings(max_examples=5, deadline=None)
@given(seed=seeds, low=st.floats(0, 1.5), high=st.floats(0, 3))
def test_blur_is_scipys(dims: int, seed: int, low: float, high: float) -> None:
    image = pictures(seed, dims)
    sigma = np.random.default_rng(seed).uniform(min(low, high), max(low, high), (2, dims))
    ours = acquisition.gaussian_blur(tensor(image), tensor(sigma))
    same(ours, [reference.gaussian_blur(i, np.maximum(s, 1e-3)) for i, s in zip(image, sigma, strict=True)])


@settings(max_examples=10, deadline=None)
@given(seed=seeds, factors=st.tuples(st.floats(1, 9), st.floats(1, 30)))
def test_resolution_loss_line_by_line(seed: int, factors: tuple[float, float]) -> None:
    image = pictures(seed, 2)
    ours = acquisition.resolution_loss(tensor(image), tensor([[1.0, f] for f in factors]))
    theirs = [np.apply_along_axis(reference.resolution_loss, 2, i, f) for i, f in zip(image, factors, strict=True)]
    same(ours, theirs)


def test_resolution_loss_on_each_axis_of_a_volume() -> None:
    image = pictures(0, 3, batch=1)
    expected = image[0]
    for axis, factor in enumerate((2.0, 1.0, 3.5)):
        expected = np.apply_along_axis(reference.resolution_loss, axis + 1, expected, factor)
    same(acquisition.resolution_loss(tensor(image), tensor([[2.0, 1.0, 3.5]])), [expected])


@pytest.mark.parametrize("order", [1, 2, 3])
@both
def test_spline_field_is_scipys(order: int, dims: int) -> None:
    control = np.random.default_rng(order).normal(size=(2, 1, 5, 6, 4)[: 2 + dims])
    ours = spline_field(tensor(control), SPATIAL[dims], order)
    same(ours, [reference.spline_field(c[0], SPATIAL[dims], order)[None] for c in control])


def test_bias_field_multiplies_the_signal() -> None:
    image = pictures(3, 2)
    control = np.random.default_rng(1).normal(size=(2, 1, 5, 5))
    ours = acquisition.bias_field(tensor(image), tensor(control))
    theirs = [
        (i - i.min()) * np.exp(reference.spline_field(c[0], SPATIAL[2], 3)) + i.min()
        for i, c in zip(image, control, strict=True)
    ]
    same(ours, theirs)


@both
@settings(max_examples=5, deadline=None)
@given(seed=seeds, strength=st.floats(0, 1), ghosts=st.integers(2, 9), axis=st.integers(0, 1))
def test_ghosting_line_by_line(dims: int, seed: int, strength: float, ghosts: int, axis: int) -> None:
    image = pictures(seed, dims)
    axes = [axis, dims - 1]
    ours = acquisition.ghosting(tensor(image), tensor([strength] * 2), tensor([ghosts] * 2), torch.tensor(axes))
    same(ours, [reference.ghosting(i, strength, ghosts, a) for i, a in zip(image, axes, strict=True)])


@both
@settings(max_examples=5, deadline=None)
@given(seed=seeds, shots=st.integers(2, 7))
def test_motion_shot_by_shot(dims: int, seed: int, shots: int) -> None:
    image = pictures(seed, dims)
    shift = np.random.default_rng(seed).normal(size=(2, shots, dims)) * 2
    axes = [0, dims - 1]
    ours = acquisition.motion(tensor(image), tensor(shift), torch.tensor(axes))
    same(ours, [reference.motion(i, s, a) for i, s, a in zip(image, shift, axes, strict=True)])


def test_motion_keeps_the_patient_where_the_centre_of_k_space_is() -> None:
    drawn = acquisition.Motion((2.0, 3.0), shots=5).draw((4, 1, 8, 8), torch.Generator().manual_seed(0))
    assert torch.equal(drawn["shift"][:, 2], torch.zeros(4, 2))
    assert drawn["shift"].abs().amax(dim=(1, 2)).min() > 0


@both
@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_gibbs_line_by_line(dims: int, seed: int) -> None:
    image = pictures(seed, dims)
    cutoff = np.random.default_rng(seed).random((2, dims))
    same(
        acquisition.gibbs(tensor(image), tensor(cutoff)),
        [reference.gibbs(i, c) for i, c in zip(image, cutoff, strict=True)],
    )


def test_gibbs_rings_at_an_edge() -> None:
    step = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    step[..., 16:48, :] = 1
    out = acquisition.gibbs(step, tensor([0.5]))
    assert 1.05 < out.max() < 1.12  # the overshoot of a truncated Fourier series is about 9 % of the jump


@both
@settings(max_examples=5, deadline=None)
@given(seed=seeds, strength=st.floats(0, 1))
def test_amplitude_mix_keeps_the_phase(dims: int, seed: int, strength: float) -> None:
    image, other = pictures(seed, dims), pictures(seed + 1, dims)
    ours = acquisition.amplitude_mix(tensor(image), tensor(other), tensor([strength] * 2), tensor([1.0]))
    same(ours, [reference.amplitude_mix(i, o, strength) for i, o in zip(image, other, strict=True)])


def test_amplitude_mix_of_the_lowest_frequency_takes_the_mean() -> None:
    image, other = tensor(pictures(0, 2)) + 50, tensor(pictures(1, 2)) + 500
    out = acquisition.amplitude_mix(image, other, tensor([1.0]), tensor([0.0]))
    torch.testing.assert_close(out - image, (other.mean((2, 3), True) - image.mean((2, 3), True)).expand_as(image))


def test_stain_pixel_by_pixel() -> None:
    image = pictures(0, 2, channels=3)
    gain, offset = np.random.default_rng(0).uniform(0.8, 1.2, (2, 3)), np.random.default_rng(1).normal(size=(2, 3)) / 10
    ours = acquisition.stain(tensor(image), tensor(gain), tensor(offset))
    same(ours, [reference.stain(i, g, o) for i, g, o in zip(image, gain, offset, strict=True)])


def test_colour_jitter_by_hand() -> None:
    one, zero, tint = tensor([1.0]), tensor([0.0]), tensor([[1.0, 1.0, 1.0]])
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    image[0, :, 0, 0] = tensor([1.0, 0.2, 0.4])
    image[0, :, 0, 1] = tensor([0.5, 0.5, 0.5])
    turned = acquisition.colour_jitter(image, one, one, one, tensor([1 / 3]), tint)
    torch.testing.assert_close(turned[0, :, 0, 0], tensor([0.4, 1.0, 0.2]))  # a third of a turn: red becomes green
    torch.testing.assert_close(turned[0, :, 0, 1], image[0, :, 0, 1])  # grey stays grey
    grey = acquisition.colour_jitter(image, one, one, zero, zero, tint)
    torch.testing.assert_close(grey[0, :, 0, 0], tensor([0.299 + 0.587 * 0.2 + 0.114 * 0.4]).expand(3))
    flat = acquisition.colour_jitter(image, one, zero, one, zero, tint)
    torch.testing.assert_close(flat, torch.full_like(flat, float(flat[0, 0, 0, 0])))


@both
def test_specular_spot_by_spot(dims: int) -> None:
    image = pictures(0, dims)
    random = np.random.default_rng(2)
    centre, radius, strength = (
        random.uniform(-1, 1, (2, 3, dims)),
        random.uniform(0.1, 0.9, (2, 3)),
        random.random((2, 3)),
    )
    ours = acquisition.specular(tensor(image), tensor(centre), tensor(radius), tensor(strength))
    same(ours, [reference.specular(*args) for args in zip(image, centre, radius, strength, strict=True)])


def test_light_from_one_side_and_vignette_by_hand() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[..., 1:] = 10
    lit = acquisition.uneven_light(image, tensor([[0.5, 0.0]]))
    torch.testing.assert_close(lit[0, 0, :, 1], tensor([6.0, 8.0, 10.0, 12.0, 14.0]))  # centres at -0.8 ... 0.8
    dark = acquisition.vignette(image, tensor([0.5]), tensor([[0.0, 0.0]]))
    assert float(dark[0, 0, 2, 2]) == 10
    assert float(dark[0, 0, 4, 4]) == pytest.approx(10 * (1 - 0.5 * 0.64))  # r^2 = (0.8^2 + 0.8^2) / 2


def test_rician_moments() -> None:
    """Second moment A^2 + 2 s^2, and the Rayleigh mean s sqrt(pi / 2) where there is no signal."""
    image = torch.zeros(1, 1, 400, 400, dtype=torch.float64)
    image[..., 200:, :] = 1.0
    noise = torch.randn((1, 2, 1, 400, 400), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = acquisition.rician_noise(image, tensor([0.2]), noise)[0, 0]
    assert float(out[:200].mean()) == pytest.approx(0.2 * np.sqrt(np.pi / 2), rel=0.01)
    assert float(out[200:].square().mean()) == pytest.approx(1 + 2 * 0.2**2, rel=0.01)


def test_poisson_variance_is_proportional_to_the_signal() -> None:
    image = torch.linspace(0, 4, 5, dtype=torch.float64).view(5, 1).expand(1, 1, 5, 40_000)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = acquisition.poisson_noise(image, tensor([0.1]), noise)
    expected = 0.4**2 * torch.linspace(0, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(out.var(-1).flatten(), expected, rtol=0.03, atol=1e-6)


@both
@settings(max_examples=4, deadline=None)
@given(seed=seeds)
def test_gin_image_by_image(dims: int, seed: int) -> None:
    image = pictures(seed, dims)
    gin = GIN()
    drawn = gin.draw(image.shape, torch.Generator().manual_seed(seed))
    plain = {name: value.double().numpy() for name, value in drawn.items()}
    theirs = [
        reference.random_network(
            image[b],
            [plain[f"weight{n}"][b] for n in range(4)],
            [plain[f"shift{n}"][b] for n in range(4)],
            plain["alpha"][b],
        )
        for b in range(2)
    ]
    same(gin.apply(tensor(image), drawn), theirs, atol=1e-6)


def test_gin_restores_the_frobenius_norm_and_has_the_published_shape() -> None:
    image = torch.rand(3, 1, 16, 16)
    sizes = set()
    for seed in range(6):
        drawn = GIN().draw(image.shape, torch.Generator().manual_seed(seed))
        sizes |= {drawn[f"weight{n}"].shape[1:] for n in range(4)}
        out = GIN().apply(image, drawn)
        torch.testing.assert_close(out.flatten(1).norm(dim=1), image.flatten(1).norm(dim=1))
    assert sizes == {(2, 1, 1, 1), (2, 1, 3, 3), (2, 2, 1, 1), (2, 2, 3, 3), (1, 2, 1, 1), (1, 2, 3, 3)}


@both
def test_blend_map_is_smooth_and_blends(dims: int) -> None:
    shape = (2, 1, *(32,) * dims)
    blend = random_blend_map(shape, torch.Generator().manual_seed(0))
    assert blend.shape == shape
    assert float(blend.amin()) == 0
    assert float(blend.amax()) == 1
    assert blend.diff(dim=-1).abs().max() < 0.25
    a, b = torch.rand(2, 3, *shape[2:]), torch.rand(2, 3, *shape[2:])
    torch.testing.assert_close(smooth_blend(a, b, blend), blend * a + (1 - blend) * b)


def test_blur_by_shifts_and_by_convolution_are_the_same() -> None:
    image, sigma = tensor(pictures(3, 2)), tensor([0.8, 2.4])
    kernel = gaussian_kernel(sigma, 10)
    for axis in (2, 3):
        wide = torch.nn.functional.pad(image, [10] * 4, mode="replicate")
        torch.testing.assert_close(_sum_of_shifts(wide, kernel, axis), _convolve(wide, kernel, axis))
