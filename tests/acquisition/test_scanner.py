"""Scanners: probabilities, replay, a site's fixed scanner."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elsewhere.acquisition import (
    GIN,
    BiasField,
    Draw,
    Fixed,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Mechanism,
    Motion,
    Parameters,
    Resolution,
    RicianNoise,
    Scanner,
    Specular,
)
from elsewhere.errors import SettingsError


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scanner(probability: float = 0.5) -> Scanner:
    steps = [Gamma(), BiasField(), GaussianBlur(), Resolution(), Motion(), GIN(), GaussianNoise(), RicianNoise()]
    return Scanner([(step, probability) for step in steps])


class Counting(Mechanism):
    """Adds 1 and remembers how many images it was given."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def draw(self, shape: object, generator: torch.Generator) -> Parameters:
        return {"one": torch.ones(shape[0])}  # type: ignore[index]

    def apply(self, image: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        self.seen.append(len(image))
        return image + parameters["one"].view(-1, 1, 1, 1)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]), probability=st.floats(0, 1))
def test_a_draw_replays_also_from_disk(seed: int, dims: int, probability: float) -> None:
    image = torch.rand((4, 1, *(10,) * dims), generator=rng(seed))
    before = image.clone()
    with_draw = scanner(probability)
    draw = with_draw.draw(image.shape, rng(seed))
    out = with_draw.apply(image, draw)
    again = Draw.from_dict({name: value.clone() for name, value in draw.as_dict().items()})
    assert torch.equal(out, with_draw.apply(image, again))
    assert torch.equal(out, with_draw(image, rng(seed)))
    assert torch.equal(image, before)


def test_a_draw_survives_saving(tmp_path: Path) -> None:
    image = torch.rand(3, 1, 8, 8)
    draw = scanner().draw(image.shape, rng(0))
    torch.save(draw.as_dict(), tmp_path / "draw.pt")
    loaded = Draw.from_dict(torch.load(tmp_path / "draw.pt", weights_only=True))
    assert torch.equal(scanner().apply(image, draw), scanner().apply(image, loaded))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_only_the_images_that_are_on_are_computed(seed: int) -> None:
    first, second = Counting(), Counting()
    chain = Scanner([(first, 0.5), (second, 0.5)])
    image = torch.zeros(6, 1, 2, 2)
    draw = chain.draw(image.shape, rng(seed))
    out = chain.apply(image, draw)
    assert sum(first.seen) == int(draw.on[0].sum())
    assert sum(second.seen) == int(draw.on[1].sum())
    assert torch.equal(out[:, 0, 0, 0], draw.on[0].float() + draw.on[1].float())


def test_untouched_images_keep_every_bit() -> None:
    image = torch.rand(64, 1, 6, 6)
    chain = scanner(0.1)
    draw = chain.draw(image.shape, rng(0))
    touched = torch.stack(draw.on).any(0)
    out = chain.apply(image, draw)
    assert 0 < int(touched.sum()) < 64
    assert torch.equal(out[~touched], image[~touched])
    assert all(not torch.equal(a, b) for a, b in zip(out[touched], image[touched], strict=True))


def test_probabilities_hold() -> None:
    draw = Scanner([(Gamma(), 0.2), (Gamma(), 0.0), (Gamma(), 1.0)]).draw((4000, 1, 1, 1), rng(0))
    assert float(draw.on[0].float().mean()) == pytest.approx(0.2, abs=0.025)
    assert not draw.on[1].any()
    assert draw.on[2].all()


def test_gradients_flow_through_a_chain() -> None:
    image = torch.rand(5, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    chain = scanner()
    draw = chain.draw(image.shape, rng(2))
    chain.apply(image, draw).square().sum().backward()  # type: ignore[no-untyped-call]
    step = torch.randn(image.shape, generator=rng(1), dtype=torch.float64) * 1e-6
    with torch.no_grad():
        rise = chain.apply(image + step, draw).square().sum() - chain.apply(image - step, draw).square().sum()
    assert image.grad is not None
    assert float(rise / 2) == pytest.approx(float((image.grad * step).sum()), rel=1e-3)


def test_a_draw_for_one_is_a_site() -> None:
    image = torch.rand(3, 1, 9, 9).expand(3, 1, 9, 9)
    chain = Scanner([Gamma(), BiasField(), (GaussianBlur(), 0.0)])
    draw = chain.draw((1, 1, 9, 9), rng(0))
    out = chain.apply(image, draw)
    alone = torch.cat([chain.apply(image[b : b + 1], draw) for b in range(3)])
    torch.testing.assert_close(out, alone)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sites_scanner_keeps_all_but_the_noise(dims: int) -> None:
    site = Scanner([Gamma(), (BiasField(), 0.0), GaussianBlur(), GaussianNoise((0.05, 0.1)), Specular()]).site(
        rng(3), channels=2, dims=dims
    )
    image = torch.rand(2, 2, *(20, 17, 11)[:dims])
    first, second = site.draw(image.shape, rng(0)), site.draw(image.shape, rng(1))
    assert len(site.steps) == 4  # the bias field, never on, is not this site's
    for step, name in enumerate(["gamma", "sigma", "sigma"]):
        assert torch.equal(first.parameters[step][name], second.parameters[step][name])
        assert torch.equal(first.parameters[step][name][0], first.parameters[step][name][1])
    assert not torch.equal(first.parameters[2]["noise"], second.parameters[2]["noise"])
    assert not torch.equal(first.parameters[2]["noise"][0], first.parameters[2]["noise"][1])
    assert site(image, rng(0)).shape == image.shape


def test_parameters_given_by_hand() -> None:
    image = torch.rand(3, 1, 12, 12)
    site = Scanner.fixed([(Gamma(), {"gamma": 2.0}), (BiasField(), {"control": torch.zeros(1, 1, 5, 5)})])
    torch.testing.assert_close(site(image, rng(0)), Gamma(2.0)(image, rng(1)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Scanner([(Gamma(), 1.5)]), r"probability of step 0 \(Gamma\) is 1.5"),
        (lambda: Scanner([("gamma", 0.5)]), "step 0 is 'gamma', wanted a mechanism"),  # type: ignore[list-item]
        (lambda: Fixed(Gamma(), {"gama": 1.0}).draw((1, 1, 4, 4), rng(0)), "no parameter 'gama'; it has: gamma"),
        (lambda: Fixed(Gamma(), {"gamma": torch.ones(3)}).draw((2, 1, 4, 4), rng(0)), "'gamma' has shape"),
        (lambda: Draw.from_dict({"sigma": torch.ones(1)}), "key 'sigma' is not STEP.NAME"),
        (lambda: Draw.from_dict({"0.gamma": torch.ones(1)}), "no key '0.on'"),
        (
            lambda: Scanner([Gamma()]).apply(torch.rand(3, 1, 4, 4), Scanner([Gamma()]).draw((2, 1, 4, 4), rng(0))),
            "the draw is for 2 images, the batch has 3",
        ),
        (lambda: Scanner([Gamma()]).apply(torch.rand(3, 1, 4, 4), Draw((), ())), "0 steps, the scanner 1"),
    ],
)
def test_bad_use_says_what_is_wrong(make: object, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_parts_of_a_batch_are_the_batch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(5, 1, 12, 12, generator=rng(0))
    for_each, for_all = scanner().draw(image.shape, rng(4)), scanner().draw((1, 1, 12, 12), rng(4))
    whole = [scanner().apply(image, draw) for draw in (for_each, for_all)]
    monkeypatch.setattr("elsewhere.acquisition.scanner.images_at_once", lambda _: at_once)
    for draw, expected in zip((for_each, for_all), whole, strict=True):
        torch.testing.assert_close(scanner().apply(image, draw), expected)


def test_large_images_keep_every_bit_where_nothing_touches_them() -> None:
    image = torch.rand(4, 3, 300, 300)
    before = image.clone()
    chain = Scanner([(Gamma(), 0.5), (GaussianNoise((0.05, 0.1)), 0.3), (GaussianBlur(), 0.3)])
    draw = chain.draw(image.shape, rng(5))
    touched = torch.stack(draw.on).any(0)
    out = chain.apply(image, draw)
    assert 0 < int(touched.sum()) < 4
    assert torch.equal(out[~touched], before[~touched])
    assert torch.equal(image, before)
    assert torch.equal(out, chain.apply(image.clone(), draw, overwrite=True))
    torch.testing.assert_close(out, chain.apply(image.clone().requires_grad_(), draw))  # all at once, for gradients
