"""What every mechanism promises, over all of them, in 2D and 3D."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elsewhere import acquisition
from elsewhere.acquisition import (
    GIN,
    AmplitudeMix,
    BiasField,
    ColourJitter,
    Curve,
    Fixed,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Ghosting,
    Gibbs,
    Illumination,
    Invert,
    Linear,
    Mechanism,
    Motion,
    PoissonNoise,
    Resolution,
    RicianNoise,
    Specular,
    Stain,
    Vignette,
)
from elsewhere.errors import SettingsError

ALL = [
    Gamma(),
    Linear(),
    Curve(invert=0.5),
    Invert((0.0, 1.0)),
    GaussianNoise(),
    RicianNoise(),
    PoissonNoise(),
    GaussianBlur(),
    GaussianBlur(anisotropic=True),
    Resolution(),
    Resolution(axes="each"),
    BiasField(),
    Illumination(),
    Vignette(),
    Specular(),
    Gibbs(),
    Ghosting(),
    Motion(),
    ColourJitter(),
    Stain(),
    GIN(),
    AmplitudeMix(window=(0.0, 1.0)),
    AmplitudeMix(),
]
IDENTITY = [
    Gamma(1.0),
    Linear(1.0, 0.0),
    Curve(0.0),
    Invert(0.0),
    GaussianNoise(0.0),
    RicianNoise(0.0),
    PoissonNoise(0.0),
    GaussianBlur(0.0),
    Resolution(1.0),
    BiasField(0.0),
    Illumination(0.0),
    Vignette(0.0),
    Specular(0.0),
    Gibbs(1.0),
    Ghosting(0.0),
    Motion(0.0),
    ColourJitter(1.0, 1.0, 1.0, 0.0, 1.0),
    Stain(1.0, 0.0),
    Fixed(GIN(), {"alpha": 0.0}),
    AmplitudeMix(0.0),
]
RGB_ONLY = (ColourJitter, Stain)
NOT_EQUIVARIANT = (GIN, AmplitudeMix)
SPATIAL = {2: (9, 12), 3: (6, 8, 7)}
every = pytest.mark.parametrize("mechanism", ALL, ids=lambda m: type(m).__name__)
both = pytest.mark.parametrize("dims", [2, 3])


def picture(
    mechanism: Mechanism, dims: int, seed: int, batch: int = 3, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    channels = 3 if isinstance(mechanism, RGB_ONLY) or seed % 2 else 1
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((batch, channels, *SPATIAL[dims]), generator=generator, dtype=torch.float64).to(dtype)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_public_mechanism_is_tested_here() -> None:
    public = {
        thing
        for thing in vars(acquisition).values()
        if isinstance(thing, type) and issubclass(thing, Mechanism) and thing not in (Mechanism, Fixed)
    }
    assert public == {type(m) for m in ALL}
    assert public == {type(m.mechanism if isinstance(m, Fixed) else m) for m in IDENTITY}


@every
@both
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_keeps_shape_and_dtype_replays_and_leaves_the_input_alone(mechanism: Mechanism, dims: int, seed: int) -> None:
    image = picture(mechanism, dims, seed)
    before = image.clone()
    parameters = mechanism.draw(image.shape, rng(seed))
    out = mechanism.apply(image, parameters)
    assert out.shape == image.shape
    assert out.dtype == image.dtype
    assert out.isfinite().all()
    assert torch.equal(image, before)
    assert all(value.shape[0] == len(image) for value in parameters.values())
    assert torch.equal(out, mechanism.apply(image, parameters))
    assert torch.equal(out, mechanism(image, rng(seed)))


@pytest.mark.parametrize("mechanism", IDENTITY, ids=lambda m: type(getattr(m, "mechanism", m)).__name__)
@both
def test_identity_parameters_change_nothing(mechanism: Mechanism, dims: int) -> None:
    image = picture(getattr(mechanism, "mechanism", mechanism), dims, seed=1) * 100 - 30
    torch.testing.assert_close(mechanism(image, rng(0)), image, atol=2e-4, rtol=1e-5)


@every
@both
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_batch_is_its_images_one_by_one(mechanism: Mechanism, dims: int, seed: int) -> None:
    image = picture(mechanism, dims, seed, dtype=torch.float64)
    if isinstance(mechanism, AmplitudeMix):  # whose partner is otherwise another of the batch
        mechanism = dataclasses.replace(mechanism, references=image.flip(-1))
    parameters = mechanism.draw(image.shape, rng(seed))
    whole = mechanism.apply(image, parameters)
    for b in range(len(image)):
        alone = mechanism.apply(image[b : b + 1], {name: value[b : b + 1] for name, value in parameters.items()})
        torch.testing.assert_close(whole[b : b + 1], alone, atol=1e-9, rtol=1e-9)


@every
@both
def test_a_draw_for_one_holds_for_every_image(mechanism: Mechanism, dims: int) -> None:
    image = picture(mechanism, dims, seed=3, dtype=torch.float64)
    parameters = mechanism.draw((1, *image.shape[1:]), rng(5))
    repeated = {name: value.expand(len(image), *value.shape[1:]) for name, value in parameters.items()}
    out = mechanism.apply(image, parameters)
    assert out.shape == image.shape
    torch.testing.assert_close(out, mechanism.apply(image, repeated), atol=1e-9, rtol=1e-9)


@every
@both
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 1000), offset=st.floats(-1000, 1000))
def test_strength_follows_the_range_of_the_image(
    mechanism: Mechanism, dims: int, seed: int, scale: float, offset: float
) -> None:
    if isinstance(mechanism, NOT_EQUIVARIANT):
        pytest.skip("promises no equivariance")
    image = picture(mechanism, dims, seed, dtype=torch.float64)
    parameters = mechanism.draw(image.shape, rng(seed))
    expected = mechanism.apply(image, parameters) * scale + offset
    changed = mechanism.apply(image * scale + offset, parameters)
    torch.testing.assert_close(changed, expected, atol=1e-6 * (scale + abs(offset)), rtol=1e-6)


@every
@both
def test_gradients_are_right(mechanism: Mechanism, dims: int) -> None:
    """Against finite differences, for the image and all continuous parameters."""
    generator = rng(11)
    channels = 3 if isinstance(mechanism, RGB_ONLY) else 1
    shape = (2, channels, *((4, 5) if dims == 2 else (3, 4, 3)))
    image = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    drawn = mechanism.draw(shape, generator)
    discrete = {"axis", "ghosts", "partner", "window"}
    if isinstance(mechanism, Resolution) and mechanism.axes == "one":
        discrete.add("factor")  # the other axes' factor of 1 is the end of its range: no slope on both sides
    names = [name for name in drawn if name not in discrete]
    values = [drawn[name].double().requires_grad_() for name in names]
    rest = {name: value for name, value in drawn.items() if name in discrete}

    def through(image: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return mechanism.apply(image, {**rest, **dict(zip(names, given, strict=True))})

    assert torch.autograd.gradcheck(through, (image, *values), eps=1e-7, atol=1e-4, rtol=1e-3, fast_mode=True)


@every
@both
def test_a_constant_image_stays_finite_with_finite_gradients(mechanism: Mechanism, dims: int) -> None:
    image = torch.full_like(picture(mechanism, dims, seed=1), 7.0).requires_grad_()
    out = mechanism(image, rng(0))
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert out.isfinite().all()
    assert image.grad is not None
    assert image.grad.isfinite().all()


@every
def test_draws_no_global_randomness(mechanism: Mechanism) -> None:
    state = torch.get_rng_state()
    mechanism(picture(mechanism, 2, seed=1), rng(0))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Gamma((1.5, 0.7)), r"Gamma: gamma is \(1.5, 0.7\), wanted the lower number first"),
        (lambda: Gamma(-1.0), "Gamma: gamma is .*wanted numbers from 0.001"),
        (lambda: GaussianNoise("much"), "GaussianNoise: sigma is 'much', wanted a number or a pair"),
        (lambda: GaussianNoise((0.0, 0.1, 0.2)), "wanted a number or a pair"),
        (lambda: GaussianBlur(math.nan), "GaussianBlur: sigma .*wanted finite numbers"),
        (lambda: Resolution(0.5), "Resolution: factor .* wanted numbers from 1 "),
        (lambda: Resolution(axes="some"), "Resolution: axes is 'some'"),
        (lambda: Curve(knots=1), "Curve: knots is 1"),
        (lambda: Curve(invert=2.0), "Curve: invert is 2.0, wanted a probability"),
        (lambda: GIN(kernels=(2,)), "GIN: kernels"),
        (lambda: BiasField(points=3), "BiasField: points"),
        (lambda: Stain()(torch.rand(1, 1, 4, 4), rng(0)), "stain: the image has 1 channels, wanted 3"),
    ],
)
def test_bad_settings_say_what_is_wrong(make: object, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        make()  # type: ignore[operator]


@settings(max_examples=20, deadline=None)
@given(low=st.floats(0.01, 10), width=st.floats(0, 10), seed=st.integers(0, 1000))
def test_draws_stay_in_their_range(low: float, width: float, seed: int) -> None:
    gamma = Gamma((low, low + width)).draw((64, 1, 4, 4), rng(seed))["gamma"]
    assert gamma.min() >= low * (1 - 1e-5)
    assert gamma.max() <= (low + width) * (1 + 1e-5)
