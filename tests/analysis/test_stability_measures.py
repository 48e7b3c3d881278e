"""The numbers of stability against slow re-derivations and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from elsewhere.analysis.acquisitions import HOME, SCANNER, drawn_acquisitions, generator_of
from elsewhere.analysis.stability_measures import (
    LinearProbe,
    alikeness,
    balanced_accuracy,
    correspondence,
    neighbours,
    standardised,
)
from elsewhere.analysis.stability_probe import Sample, probe_rows
from elsewhere.errors import SettingsError
from reference import stability_reference as reference


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 4)])
def test_alikeness_is_the_mean_correlation_within_the_body(shape: tuple[int, ...]) -> None:
    one, noise = 3 + 2 * random(4, *shape), random(4, *shape, seed=1)
    other = 0.6 * one + noise
    inside = random(*shape, seed=2) > 0
    found = alikeness(standardised(one, inside), standardised(other, inside))
    wanted = reference.alikeness(one.numpy(), other.numpy(), inside.numpy())
    assert found == pytest.approx(wanted, abs=1e-5)
    assert 0.3 < found < 0.9  # the test would not see a body that is ignored otherwise
    everywhere = torch.ones_like(inside)
    assert found != pytest.approx(alikeness(standardised(one, everywhere), standardised(other, everywhere)), abs=1e-4)


def test_contrast_does_not_matter_to_alikeness_and_its_sign_does() -> None:
    one, inside = random(3, 8, 8), torch.ones(8, 8, dtype=torch.bool)
    flat = standardised(one, inside)
    assert alikeness(flat, standardised(5 * one + 100, inside)) == pytest.approx(1, abs=1e-5)
    assert alikeness(flat, standardised(-one, inside)) == pytest.approx(-1, abs=1e-5)


def test_constant_channels() -> None:
    inside = torch.ones(8, 8, dtype=torch.bool)
    one = random(2, 8, 8)
    gone, never = one.clone(), one.clone()
    gone[1] = 7.0
    flat = standardised(one, inside)
    assert standardised(gone, inside)[1].abs().max() == 0
    assert alikeness(flat, standardised(gone, inside)) == pytest.approx(0.5, abs=1e-5)  # one of two is lost
    never[1] = 1e6 + 1e-3 * never[1]  # rounding only
    assert alikeness(standardised(never, inside), standardised(never, inside)) == pytest.approx(1, abs=1e-5)
    assert math.isnan(alikeness(torch.zeros(2, 9), torch.zeros(2, 9)))


@pytest.mark.parametrize("features", [1, 5])
def test_correspondence_finds_the_nearest_neighbour(features: int) -> None:
    rng = np.random.default_rng(0)
    places = rng.permutation(np.array(list(np.ndindex(5, 4, 3))))[:40]
    spacing, tolerance = (1.0, 2.0, 4.0), 2.0
    one = random(features, 40)
    other = one + 0.7 * random(features, 40, seed=1)
    near = neighbours(torch.from_numpy(places), spacing, tolerance)
    found = correspondence(one, other, near)
    assert found == pytest.approx(
        reference.correspondence(one.numpy(), other.numpy(), places, spacing, tolerance), abs=1e-12
    )
    assert found < 1
    assert correspondence(one, one, near) == 1


def test_the_same_place_is_so_many_millimetres_wide() -> None:
    places = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    near = neighbours(places, (1.0, 3.0), 3.0)
    assert near.tolist() == [[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1]]  # 3.16 mm along the diagonal
    assert neighbours(places, None, 1.0).tolist() == near.tolist()
    assert torch.equal(neighbours(places, (1.0, 3.0), 0.0), torch.eye(4, dtype=torch.bool))


def test_features_that_know_nothing_correspond_by_chance() -> None:
    places = torch.from_numpy(np.array(list(np.ndindex(12, 12, 7))))
    near = neighbours(places, None, 2.0)
    found = correspondence(random(6, len(places)), random(6, len(places), seed=1), near)
    chance = float(near.double().mean())
    assert abs(found - chance) < 4 * math.sqrt(chance / len(places))


def test_the_probe_is_a_balanced_multinomial_logistic_regression() -> None:
    rng = np.random.default_rng(3)
    target = np.repeat([0, 2, 5], [60, 25, 15])
    features = rng.normal(size=(100, 3)) + 0.8 * np.eye(3)[np.searchsorted([0, 2, 5], target)]
    new, truth = rng.normal(size=(400, 3)), rng.choice([0, 2, 5], 400)
    probe = LinearProbe(features, target)
    predicted = np.array([0, 2, 5])[reference.logistic_scores(features, target, new).argmax(1)]
    wanted = np.mean([(predicted[truth == c] == c).mean() for c in (0, 2, 5)])
    assert probe.balanced_accuracy(new, truth) == pytest.approx(wanted, abs=1 / 130)  # one voxel at a border
    assert probe.classes.tolist() == [0, 2, 5]


def test_a_structure_that_a_patient_lacks_costs_nothing() -> None:
    """A voxel is called one of the classes that are there, by the same regression."""
    rng = np.random.default_rng(4)
    target = np.repeat([0, 1, 2], [80, 60, 20])
    features = rng.normal(size=(160, 3)) + 0.8 * np.eye(3)[np.minimum(target, 1)]  # 2 looks like 1
    new, truth = rng.normal(size=(300, 3)) + 0.8 * np.eye(3)[np.repeat([0, 1], 150)], np.repeat([0, 1], 150)
    probe = LinearProbe(features, target)
    predicted = reference.logistic_scores(features, target, new)[:, :2].argmax(1)
    wanted = np.mean([(predicted[truth == c] == c).mean() for c in (0, 1)])
    assert probe.balanced_accuracy(new, truth) == pytest.approx(wanted, abs=1 / 150)
    assert wanted > 0.6
    assert math.isnan(probe.balanced_accuracy(new, np.zeros(300, np.int64)))


def test_a_rare_structure_does_not_move_the_probe_nor_its_chance() -> None:
    """On slices of hippocampus, 3 of 50 patients showed a third class, and MIND came out at 0.36 instead of 0.57."""
    rng = np.random.default_rng(5)

    def patients(rare: int) -> list[Sample]:
        made = []
        for n in range(20):
            target = np.repeat([0, 2 if n < rare else 1], 50)
            features = rng.normal(size=(100, 4)) + 0.3 * (target > 0)[:, None]
            made.append(Sample("one", f"p{n:02d}", "A", HOME, features, target))
        return made

    for rare in (0, 2):
        rows, _ = probe_rows(patients(rare), ["one"], ["A"], "segmentation")
        common = [row[4] for row in rows if row[0] == "one" and int(row[3][1:]) >= 2]
        assert np.mean(common) == pytest.approx(0.62, abs=0.05), rare  # a shift of 0.6 between spheres in all
        assert {row[4] for row in rows if row[0] == "chance"} == {0.5}


def test_balanced_accuracy_by_hand() -> None:
    predicted, target = np.array([0, 0, 1, 1, 2, 0]), np.array([0, 0, 0, 1, 1, 7])
    assert balanced_accuracy(predicted, target, np.array([0, 1, 2])) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert math.isnan(balanced_accuracy(predicted, target, np.array([1, 2])))


def test_acquisitions_depend_on_their_key_alone_and_grow_with_strength() -> None:
    image = random(1, 1, 24, 24, 12)
    weak, strong = drawn_acquisitions(0.2), drawn_acquisitions(1.0)
    assert list(strong) == ["curve", "inversion", "bias", "noise", "blur", "resolution", SCANNER]
    for name in strong:
        key = (0, "case", name, 1)
        first, again = (strong[name](image, generator_of(*key)) for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, image)
        if name in ("curve", "bias", "noise", "blur", "resolution"):
            little = weak[name](image, generator_of(*key))
            assert (little - image).square().mean() < (first - image).square().mean(), name
    inverted = strong["inversion"](image, generator_of(0))
    assert np.corrcoef(inverted.numpy().ravel(), image.numpy().ravel())[0, 1] == pytest.approx(-1)
    noise = strong["noise"](image, generator_of(1)) - image
    assert float(noise.std()) == pytest.approx(0.05 * float(image.max() - image.min()), rel=0.05)


@pytest.mark.parametrize("strength", [0, -1, float("nan"), 11])
def test_a_strength_that_is_none(strength: float) -> None:
    with pytest.raises(SettingsError, match="strength of the acquisitions"):
        drawn_acquisitions(strength)


@pytest.mark.parametrize(("shape", "wanted"), [((12, 12), 0.19), ((8, 8, 8), 0.13)])
def test_the_bias_field_is_as_strong_as_the_page_says(shape: tuple[int, ...], wanted: float) -> None:
    """Its logarithm at a voxel; the control points of the spline have 0.4."""
    image = torch.ones(1500, 1, *shape)
    image.view(1500, -1)[:, 0] = 0  # the field multiplies what lies above the least
    field = drawn_acquisitions()["bias"](image, generator_of("bias"))
    found = float(field.view(1500, -1)[:, 1:].log().std())
    assert found == pytest.approx(wanted, abs=0.01)
