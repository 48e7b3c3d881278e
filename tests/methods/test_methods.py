"""The suite that every registered method passes: to register a method is to have it tested."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
import torch
from problem import Factory, LoopContext, Net, make_batch, make_task, train
from torch import Tensor

from elsewhere import methods
from elsewhere.errors import SettingsError

SETTINGS = [
    (name, kind, dims)
    for name, kind, dims in product(methods.names(), ("segmentation", "classification"), (2, 3))
    if kind in methods.card(name).tasks and dims in methods.card(name).dims
]
every = pytest.mark.parametrize(("name", "kind", "dims"), SETTINGS)
WITH_NULL = [setting for setting in SETTINGS if methods.card(setting[0]).null is not None]
every_with_null = pytest.mark.parametrize(("name", "kind", "dims"), [s for s in WITH_NULL if s[0] != "erm"])


def make(name: str, kind: str, dims: int, **options: Any) -> methods.Method:
    task = make_task(kind, dims)
    return methods.create(name, Net(dims, task.n_outputs, kind), task, n_sites=3, **options)


def gradient(method: methods.Method, kind: str, dims: int) -> dict[str, Tensor]:
    """Gradient of the loss at the end of a training, where every ramp is up, by the weight's name."""
    context = LoopContext(kind, dims, step=99, total_steps=100, n_sites=3, generator=torch.Generator().manual_seed(5))
    method.train()
    method.zero_grad()
    method.loss(make_batch(kind, dims), context)["loss"].backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def risk(method: methods.Method, kind: str, dims: int) -> float:
    """The task's loss of what is deployed."""
    batch = make_batch(kind, dims)
    with torch.no_grad():
        return float(method.task.loss(method.eval()(batch.image), batch.target).mean())


@every
def test_trains_and_what_is_deployed_gets_better(name: str, kind: str, dims: int) -> None:
    method = make(name, kind, dims)
    before, untrained = copy.deepcopy(method.state_dict()), risk(method, kind, dims)
    losses = train(method, kind, dims, 60)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert risk(method, kind, dims) < 0.9 * untrained
    assert any(not torch.equal(before[k], v) for k, v in method.state_dict().items())


@pytest.mark.parametrize(
    ("name", "kind", "dims", "changes"),
    [(*one, {}) for one in SETTINGS] + [(*one, {"ipa": True}) for one in SETTINGS if one[0] == "gin"],
)
def test_under_bf16_its_loss_is_that_of_float32(name: str, kind: str, dims: int, changes: dict[str, Any]) -> None:
    found = []
    for low in (False, True):
        torch.manual_seed(0)
        method = make(name, kind, dims, **changes)
        context = LoopContext(
            kind, dims, step=99, total_steps=100, n_sites=3, generator=torch.Generator().manual_seed(5)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = method.train().loss(make_batch(kind, dims), context)["loss"]
        loss.backward()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert gradients
        assert all(bool(torch.isfinite(one).all()) for one in gradients)
        found.append(float(loss.detach()))
    assert found[1] == pytest.approx(found[0], rel=0.05)


@every
def test_survives_save_and_load(name: str, kind: str, dims: int) -> None:
    method = make(name, kind, dims)
    train(method, kind, dims, 3)
    other = make(name, kind, dims)
    other.load_state_dict(method.state_dict())
    image = make_batch(kind, dims, seed=7).image
    assert torch.equal(method.eval()(image), other.eval()(image))


@every
def test_seeds_replay_it(name: str, kind: str, dims: int) -> None:
    losses = []
    for state in (1, 2):
        torch.manual_seed(0)  # what a method builds itself is drawn from here
        method = make(name, kind, dims)
        torch.manual_seed(state)  # and must not matter after that
        losses.append(train(method, kind, dims, 4))
    assert losses[0] == losses[1]


@every_with_null
def test_what_it_adds_to_erm_reaches_the_weights(name: str, kind: str, dims: int) -> None:
    of_method, of_erm = (gradient(make(each, kind, dims), kind, dims) for each in (name, "erm"))
    assert all(torch.isfinite(value).all() for value in of_method.values())
    same = [key for key, value in of_erm.items() if key in of_method and of_method[key].shape == value.shape]
    assert same
    assert not all(torch.allclose(of_method[key], of_erm[key]) for key in same)


@every_with_null
def test_its_null_setting_is_erm(name: str, kind: str, dims: int) -> None:
    method, erm = make(name, kind, dims, **(methods.card(name).null or {})), make("erm", kind, dims)
    factory = Factory("sgd", 0.05)
    assert train(method, kind, dims, 4, factory) == train(erm, kind, dims, 4, factory)
    for key, value in erm.state_dict().items():
        assert torch.equal(method.state_dict()[key], value), key


@every
def test_leaves_the_global_generator_alone(name: str, kind: str, dims: int) -> None:
    method = make(name, kind, dims)
    state = torch.get_rng_state()
    train(method, kind, dims, 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", methods.names())
def test_card_is_complete(name: str) -> None:
    card = methods.card(name)
    assert card.name == name
    assert len(card.title) > 3
    assert len(card.paper) > 3
    assert len(card.assumption) > 10
    assert set(card.ranges) <= set(card.defaults)
    assert set(card.null or {}) <= set(card.defaults)
    assert set(card.shift) <= {"acquisition", "population", "prevalence", "annotation", "manifestation"}
    for key, (low, high) in card.ranges.items():
        assert low < high
        assert card.defaults[key] is None or low <= card.defaults[key] <= high


def test_erm_is_first_and_the_registry_knows_its_own() -> None:
    assert methods.names()[0] == "erm"
    assert {"erm", "gin", "vrex"} <= set(methods.names())


def test_unknown_method_and_option_are_named() -> None:
    with pytest.raises(SettingsError, match=r"unknown method 'ern' \(did you mean 'erm'\?\)"):
        methods.get("ern")
    with pytest.raises(SettingsError, match="vrex: unknown option 'wieght'; it has: ramp, weight"):
        make("vrex", "segmentation", 2, wieght=1)
