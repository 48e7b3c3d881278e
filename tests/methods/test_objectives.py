"""The methods' objectives against independent derivations in tests/reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problem import LoopContext, Net, make_batch, make_task

from elsewhere import acquisition, methods
from elsewhere.acquisition import GIN
from elsewhere.errors import SettingsError
from elsewhere.methods.gin import consistency
from elsewhere.methods.vrex import site_risks
from reference.objectives import jensen_shannon, vrex


def test_site_risks_by_hand() -> None:
    risks = site_risks(torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([4, 1, 4, 1]))
    assert torch.equal(risks, torch.tensor([5.0, 3.0]))


@pytest.mark.parametrize("step", [0, 5, 10, 60])
def test_vrex_against_numpy(step: int) -> None:
    task = make_task("segmentation", 2)
    method = methods.create("vrex", Net(2, 2, "segmentation"), task, n_sites=3, weight=7.0, ramp=0.1)
    batch = make_batch("segmentation", 2, n=7)
    context = LoopContext("segmentation", 2, step=step, total_steps=100)
    losses = task.loss(method(batch.image), batch.target).detach().double().numpy()
    expected = vrex(losses, batch.site.numpy(), 7.0 * min(1.0, step / 10))
    assert float(method.loss(batch, context)["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_vrex_gradient_is_that_of_the_formula() -> None:
    """d/dl of mean + w var over sites, by hand: 1/B + w 2 (R_e - mean R) / (E n_e)."""
    losses = torch.tensor([0.2, 0.9, 0.4, 1.3, 0.1], requires_grad=True)
    site = torch.tensor([0, 1, 0, 1, 2])
    (losses.mean() + 3.0 * site_risks(losses, site).var(unbiased=False)).backward()
    risks = np.array([0.3, 1.1, 0.1])
    by_hand = [
        1 / 5 + 3 * 2 * (risks[s] - risks.mean()) / (3 * n)
        for s, n in zip([0, 1, 0, 1, 2], [2, 2, 2, 2, 1], strict=True)
    ]
    assert losses.grad is not None
    np.testing.assert_allclose(losses.grad.numpy(), by_hand, rtol=1e-5, atol=1e-7)


def test_one_site_in_the_batch_is_no_penalty() -> None:
    method = methods.create("vrex", Net(2, 2, "segmentation"), make_task("segmentation", 2), n_sites=1)
    batch = make_batch("segmentation", 2).part(slice(0, 1))
    logged = method.loss(batch, LoopContext("segmentation", 2, step=50, total_steps=100))
    assert float(logged["penalty"]) == 0.0
    assert torch.isfinite(logged["loss"])


def test_consistency_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)
    flat = [t.movedim(1, -1).reshape(-1, 3).double().numpy() for t in (first, second)]
    assert float(consistency(first, second)) == pytest.approx(jensen_shannon(*flat), rel=1e-5)
    assert float(consistency(first, first)) == pytest.approx(0.0, abs=1e-6)


def test_consistency_does_not_depend_on_the_number_of_classes() -> None:
    """A class cut in two, or one more that nobody expects, adds nothing; apart is log 2 for any number."""
    generator = torch.Generator().manual_seed(1)
    pair = [torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2)]
    whole = float(consistency(*pair))
    share = torch.tensor([0.3, 0.7]).log().view(1, 2, 1, 1)
    cut = [torch.cat([logits[:, :2], logits[:, 2:] + share], 1) for logits in pair]
    more = [torch.cat([logits, torch.full((2, 4, 4, 5), -80.0)], 1) for logits in pair]
    assert float(consistency(*cut)) == pytest.approx(whole, rel=1e-5)
    assert float(consistency(*more)) == pytest.approx(whole, rel=1e-5)
    for k in (2, 5, 14):
        first, second = (torch.full((1, k, 1, 1), -40.0) for _ in range(2))
        first[:, 0], second[:, 1] = 40.0, 40.0
        assert float(consistency(first, second)) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (10, 0.2), (50, 1.0), (90, 1.0)])
def test_gin_weight_rises_over_the_ramp(step: int, share: float) -> None:
    make = {"net": Net(2, 2, "segmentation").eval(), "task": make_task("segmentation", 2)}
    context = {"step": step, "total_steps": 100}
    batch, found = make_batch("segmentation", 2), []
    for weight, ramp in ((0.0, 0.5), (4.0, 0.5), (4.0, 0.0)):
        method = methods.create("gin", make["net"], make["task"], consistency=weight or 1e-12, ramp=ramp)
        generator = torch.Generator().manual_seed(3)
        found.append(method.loss(batch, LoopContext("segmentation", 2, generator=generator, **context)))
    risk, rising, whole = (float(one["loss"].detach()) for one in found)
    assert rising - risk == pytest.approx(share * (whole - risk), abs=1e-6)
    assert whole - risk == pytest.approx(4.0 * float(found[0]["consistency"]), rel=1e-4)


def test_gin_ipa_map_has_as_many_intervals_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = acquisition.random_blend_map

    def note(shape: torch.Size, generator: torch.Generator, *, points: int = 4) -> torch.Tensor:
        seen.append(points)
        return real(shape, generator, points=points)

    monkeypatch.setattr(acquisition, "random_blend_map", note)
    task, batch = make_task("segmentation", 2), make_batch("segmentation", 2)
    for points in (2, 8):
        method = methods.create("gin", Net(2, 2, "segmentation"), task, ipa=True, ipa_points=points)
        method.loss(batch, LoopContext("segmentation", 2))
    assert seen == [2, 8]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"consistency": -1.0}, "consistency must be 0 or a finite number above, found -1"),
        ({"consistency": float("inf")}, "found inf"),
        ({"alpha": 1.5}, "alpha must be a number from 0 to 1, found 1.5"),
        ({"ramp": float("nan")}, "ramp must be a number from 0 to 1, found nan"),
        ({"ipa_points": 0}, "ipa_points must be a number from 1 to 64, found 0"),
    ],
)
def test_gin_refuses_options_that_make_no_sense(options: dict[str, float], found: str) -> None:
    card = methods.card("gin")
    methods.get("gin").check(card.defaults)
    with pytest.raises(SettingsError, match=found):
        methods.get("gin").check({**card.defaults, **options})


@pytest.mark.parametrize("ipa", [False, True])
def test_gin_loss_is_risk_on_both_views_plus_their_divergence(ipa: bool) -> None:
    task = make_task("segmentation", 2)
    net = Net(2, 2, "segmentation").eval()
    method = methods.create("gin", net, task, consistency=10.0, alpha=1.0, ipa=ipa)
    batch = make_batch("segmentation", 2)
    context = LoopContext("segmentation", 2, generator=torch.Generator().manual_seed(3))
    loss = float(method.loss(batch, context)["loss"].detach())

    generator = torch.Generator().manual_seed(3)
    views = [GIN()(batch.image, generator) for _ in range(2)]
    assert not torch.allclose(views[0], views[1])
    if ipa:
        blend = acquisition.random_blend_map(batch.image.shape, generator)
        views = [blend * one + (1 - blend) * other for one, other in (views, reversed(views))]
    logits = [net(view) for view in views]
    risk = sum(float(task.loss(x.detach(), batch.target).mean()) for x in logits) / 2
    flat = [x.detach().movedim(1, -1).reshape(-1, 2).double().numpy() for x in logits]
    assert loss == pytest.approx(risk + 10.0 * jensen_shannon(*flat), rel=1e-4)
