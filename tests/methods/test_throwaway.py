"""The contract holds methods of very different needs, in a plain loop (the trainer's turn: tests/training)."""

from __future__ import annotations

import copy

import pytest
import torch
from problem import Factory, LoopContext, Net, make_batch, make_task, train
from throwaway import ALL, DANN, SAM, SWAD, Masked

from elsewhere.errors import SettingsError
from elsewhere.methods import Context, Method


def make(method: type[Method], kind: str, **options: object) -> Method:
    task = make_task(kind, 2)
    return method(Net(2, task.n_outputs, kind), task, n_sites=3, **options)


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
@pytest.mark.parametrize("method", ALL, ids=lambda m: m.card.name)
def test_trains_in_a_plain_loop(method: type[Method], kind: str) -> None:
    instance = make(method, kind)
    before = copy.deepcopy(instance.network.state_dict())
    losses = train(instance, kind, 2, 12)
    assert all(abs(x) < 1e3 for x in losses)
    assert any(not torch.equal(before[k], v) for k, v in instance.network.state_dict().items())


def test_dann_takes_turns() -> None:
    method = make(DANN, "segmentation")
    optimizers = method.optimizers(Factory())
    for step in (0, 1):
        network = copy.deepcopy(method.network.state_dict())
        judge = copy.deepcopy(method.discriminator.state_dict())
        context = LoopContext("segmentation", 2, step=step, total_steps=2, optimizers=optimizers)
        method.update(make_batch("segmentation", 2), context)
        weights = dict(method.network.named_parameters())
        moved = any(not torch.equal(network[k], v) for k, v in weights.items())
        judged = any(not torch.equal(judge[k], v) for k, v in method.discriminator.state_dict().items())
        assert (moved, judged) == ((True, False) if step == 0 else (False, True))


def test_sam_takes_the_gradient_at_the_climbed_weights() -> None:
    method, erm = make(SAM, "segmentation"), make(SAM, "segmentation", rho=0.0)
    for m in (method, erm):
        optimizers = m.optimizers(Factory("sgd", 0.1))
        m.update(make_batch("segmentation", 2), LoopContext("segmentation", 2, optimizers=optimizers))
    different = [not torch.equal(a, b) for a, b in zip(method.parameters(), erm.parameters(), strict=True)]
    assert any(different)


def test_swad_deploys_the_average_and_fresh_statistics() -> None:
    method = make(SWAD, "segmentation")
    train(method, "segmentation", 2, 10)
    assert int(method.count) >= 1
    for i, p in enumerate(method.network.parameters()):
        assert torch.equal(p, method.get_buffer(f"average{i}"))
    assert int(method.network.body[1].num_batches_tracked) == 3


def test_a_map_reaches_the_method() -> None:
    method = make(Masked, "segmentation")
    logged = method.loss(make_batch("segmentation", 2), LoopContext("segmentation", 2))
    assert float(logged["view"]) == 1.0


def test_unlabelled_images_must_be_declared() -> None:
    with pytest.raises(SettingsError, match="unlabelled_target=True"):
        Context().unlabelled()
