from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fake_development import FakeDevelopment

from elsewhere.errors import StudyError
from elsewhere.methods import Batch
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.training import BatchMaker, Recipe, Sampler


def maker(development: FakeDevelopment, recipe: Recipe | None = None, **changes: Any) -> BatchMaker:
    cases: dict[str, list[str]] = {}
    for case_id in development.split.train:
        cases.setdefault(development.case(case_id).site, []).append(case_id)
    given = {
        "site_index": development.site_index,
        "recipe": recipe,
        "segmentation": development.task == "segmentation",
        "seed": 0,
        "maps": ("fov",),
        "patch_size": development.preprocessing.patch_size,
        "foreground": 0.5,
    }
    sampler = Sampler(cases, 4, 0, hands=changes.get("world", 1))
    return BatchMaker(development, sampler, development.preprocessing, **{**given, **changes})  # type: ignore[arg-type]


def equal(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.image, b.image)
        and torch.equal(a.target, b.target)
        and torch.equal(a.site, b.site)
        and all(torch.equal(a.maps[name], b.maps[name]) for name in a.maps)
        and a.case == b.case
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_a_batch_has_the_shapes_of_the_contract(dims: int) -> None:
    development = FakeDevelopment(dims=dims, size=24)
    batch = maker(development, Recipe(range(dims))).batch(0)
    patch = (16,) * dims
    assert (batch.image.shape, batch.image.dtype) == ((4, 1, *patch), torch.float32)
    assert (batch.target.shape, batch.target.dtype) == ((4, *patch), torch.int64)
    assert batch.maps["fov"].shape == (4, 1, *patch)
    assert batch.site.tolist() == [0, 1, 0, 1]
    assert batch.spacing is not None
    assert batch.spacing.shape == (4, dims)
    assert batch.attributes["age"] == [case.split("-")[1] for case in batch.case]


def test_classification_gives_whole_images_and_class_indices() -> None:
    development = FakeDevelopment(task="classification")
    batch = maker(development, Recipe((1,))).batch(0)
    assert batch.image.shape == (4, 1, 32, 32)
    assert batch.target.tolist() == [int(case.split("-")[1]) % 2 for case in batch.case]


@pytest.mark.parametrize("ahead", [False, True])
def test_any_step_can_be_made_in_any_order(ahead: bool) -> None:
    development = FakeDevelopment()
    forwards = maker(development, Recipe((0, 1)), ahead=ahead)
    batches = [forwards.batch(step) for step in range(5)]
    forwards.close()
    other = maker(development, Recipe((0, 1)))
    for step in (3, 0, 4):
        assert equal(other.batch(step), batches[step])
    assert not equal(batches[0], batches[1])


def test_global_randomness_is_neither_used_nor_changed() -> None:
    development = FakeDevelopment()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    first, state = maker(development, Recipe((0, 1))).batch(0), torch.get_rng_state()
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert equal(maker(development, Recipe((0, 1))).batch(0), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    np.random.seed(0)  # noqa: NPY002
    assert (np.random.get_state()[1] == numbers).all()  # noqa: NPY002


def test_patches_are_cut_from_the_normalised_image() -> None:
    development = FakeDevelopment()
    batch = maker(development).batch(0)
    for i, case_id in enumerate(batch.case):
        stored = development.load(case_id)
        image = (np.asarray(stored.image[0]) - stored.mean[0]) / stored.std[0]
        label = np.asarray(stored.label)
        found = [
            (r, c)
            for r in range(17)
            for c in range(17)
            if np.allclose(image[r : r + 16, c : c + 16], batch.image[i, 0].numpy(), atol=1e-5)
        ]
        assert len(found) == 1
        (r, c) = found[0]
        assert (label[r : r + 16, c : c + 16] == batch.target[i].numpy()).all()


def test_foreground_share_is_kept() -> None:
    development = FakeDevelopment(n=20, size=64, n_validation=0)
    always, never = maker(development, foreground=1.0), maker(development, foreground=0.0)
    seen = [bool((always.batch(step).target > 0).flatten(1).any(1).all()) for step in range(10)]
    assert all(seen)
    empty = [bool((never.batch(step).target > 0).flatten(1).any(1).all()) for step in range(10)]
    assert not all(empty)


def test_a_map_that_a_case_lacks_is_all_ones() -> None:
    batch = maker(FakeDevelopment()).batch(0)
    for i, case in enumerate(batch.case):
        if int(case.split("-")[1]) % 2:
            assert torch.equal(batch.maps["fov"][i, 0], batch.target[i] * 0.5)
        else:
            assert bool((batch.maps["fov"][i] == 1).all())


def test_small_images_are_padded_with_0_after_normalisation() -> None:
    development = FakeDevelopment(size=12)
    batch = maker(development).batch(0)
    assert batch.image.shape == (4, 1, 16, 16)
    assert bool((batch.image[:, :, :2] == 0).all())
    assert bool((batch.image[:, :, 2:14, 2:14] != 0).all())
    assert bool((batch.target[:, 14:] == 0).all())
    assert bool((batch.maps["fov"][:, :, 14:] == 0).all()), "of cases without the map, too"
    assert any(bool((image[:, 2:14, 2:14] == 1).all()) for image in batch.maps["fov"])


def test_whole_images_are_padded_to_what_the_network_halves() -> None:
    development = FakeDevelopment(task="classification", size=30)
    assert maker(development, multiple_of=(16, 8)).batch(0).image.shape == (4, 1, 32, 32)


def test_processes_share_a_step() -> None:
    development = FakeDevelopment()
    whole = maker(development).batch(2)
    halves = [maker(development, rank=rank, world=2).batch(2) for rank in (0, 1)]
    assert halves[0].case + halves[1].case == whole.case
    assert torch.equal(torch.cat([half.image for half in halves]), whole.image)


def test_whole_images_of_two_sizes_are_refused() -> None:
    development = FakeDevelopment(task="classification")
    stored = development.stored["B-0"]
    development.stored["B-0"] = replace(stored, image=stored.image[:, :20])
    batches = maker(development)
    with pytest.raises(StudyError, match=r"cannot be one batch: .*B-0 is 20x32.*; set size="):
        [batches.batch(step) for step in range(8)]


def test_unlabelled_batches_say_nothing() -> None:
    development = FakeDevelopment()
    development.stored = {
        k: replace(v, label=None, maps={}, case=replace(v.case, covariates={})) for k, v in development.stored.items()
    }
    batch = maker(development, Recipe((0, 1)), labelled=False, site_index={}).batch(0)
    assert bool((batch.target == -1).all())
    assert batch.target.shape == (4, 16, 16)
    assert batch.site.tolist() == [-1] * 4
    assert batch.attributes == {}


def test_a_case_without_a_label_is_refused() -> None:
    development = FakeDevelopment()
    development.stored = {k: replace(v, label=None) for k, v in development.stored.items()}
    with pytest.raises(StudyError, match="has no label"):
        maker(development).batch(0)


def test_integers_are_normalised_as_floats() -> None:
    development = FakeDevelopment()
    development.preprocessing = Preprocessing(
        dims=2, channels=("image",), intensity="study-zscore", mean=(100.0,), std=(50.0,), patch_size=(16, 16)
    )
    development.stored = {
        k: replace(v, image=np.full_like(v.image, 200).astype(np.uint8)) for k, v in development.stored.items()
    }
    assert bool((maker(development).batch(0).image == 2.0).all())
