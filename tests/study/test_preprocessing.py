from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from elsewhere.errors import SettingsError, StudyError
from elsewhere.study.case import Case, Geometry, StoredCase
from elsewhere.study.config import StudyConfig
from elsewhere.study.entry import Entry, make_entry
from elsewhere.study.preprocessing import Fingerprint, Preprocessing, Stats, chosen, decide, take_fingerprint


def entry(image: np.ndarray, label: np.ndarray | None = None, spacing: tuple[float, ...] | None = None) -> Entry:
    geometry = Geometry(image.shape[1:], spacing)
    return make_entry(image, label, {}, geometry, geometry)


def fingerprint(*found: Entry, classes: int = 2, counts: list[int] | None = None) -> Fingerprint:
    return take_fingerprint(iter(found), len(found), counts or [0] * classes)


def of_shape(*shapes: tuple[int, ...], dtype: Any = np.uint8, spacing: tuple[float, ...] | None = None) -> Fingerprint:
    rng = np.random.default_rng(0)
    return fingerprint(*(entry(rng.integers(0, 99, (1, *s)).astype(dtype), None, spacing) for s in shapes))


def decided(seen: Fingerprint, task: str = "segmentation", config: StudyConfig | None = None, **asked: Any) -> Any:
    return decide(config or StudyConfig(), seen, task=task, dims=len(seen.size), channels=("image",), **asked)


def test_a_fingerprint_is_numpys_statistics() -> None:
    rng = np.random.default_rng(3)
    images = [rng.normal(50 * i, 10, (2, 60, 50)).astype(np.float32) for i in range(1, 4)]
    label = np.zeros((60, 50), np.uint8)
    label[:30] = 1
    seen = fingerprint(*(entry(image, label) for image in images), classes=3)
    pooled = np.stack(images).transpose(1, 0, 2, 3).reshape(2, -1)
    for found, values in zip(seen.channels, pooled, strict=True):
        assert found.mean == pytest.approx(values.mean(), abs=2)
        assert found.std == pytest.approx(values.std(), rel=0.03)
        assert found.low == pytest.approx(np.percentile(values, 0.5), abs=4)
        assert found.high == pytest.approx(np.percentile(values, 99.5), abs=4)
    assert seen.class_frequencies == (0.5, 0.5, 0.0)
    assert (seen.n_cases, seen.dtypes, seen.spacing) == (3, {"float32": 3}, None)
    assert Fingerprint.model_validate_json(seen.model_dump_json()) == seen


def test_sizes_and_spacings_are_medians() -> None:
    volumes = [
        entry(np.zeros((1, 8, 9, n), np.int16), None, (1.0, 1.0, z)) for n, z in ((10, 2.0), (20, 3.0), (40, 9.0))
    ]
    seen = fingerprint(*volumes)
    assert (seen.size, seen.smallest, seen.largest) == ((8, 9, 20), (8, 9, 10), (8, 9, 40))
    assert seen.spacing == (1.0, 1.0, 3.0)


def test_grey_and_rgb_mix_and_other_numbers_of_channels_do_not() -> None:
    grey, rgb = (entry(np.ones((c, 8, 8), np.uint8)) for c in (1, 3))
    assert len(fingerprint(grey, rgb).channels) == 3
    with pytest.raises(StudyError, match="training images have 2 and 3 channels"):
        fingerprint(rgb, entry(np.ones((2, 8, 8), np.uint8)))


@pytest.mark.parametrize(
    ("shape", "task", "size", "patch"),
    [
        ((500, 700), "classification", (224, 224), None),
        ((100, 130), "classification", (96, 128), None),
        ((10, 20), "classification", (32, 32), None),
        ((128, 40, 33), "classification", (96, 32, 32), None),
        ((512, 592), "segmentation", None, (256, 256)),
        ((250, 100), "segmentation", None, (224, 96)),
        ((20, 100), "segmentation", None, (32, 96)),
        ((100, 97, 36), "segmentation", None, (96, 96, 32)),
        ((160, 160, 160), "segmentation", None, (96, 96, 64)),
        ((50, 200, 200), "segmentation", None, (48, 96, 96)),
        ((35, 51, 10), "segmentation", None, (32, 48, 16)),
    ],
)
def test_default_sizes(
    shape: tuple[int, ...], task: str, size: tuple[int, ...] | None, patch: tuple[int, ...] | None
) -> None:
    found = decided(of_shape(shape), task)
    assert (found.size, found.spacing, found.patch_size) == (size, None, patch)


def test_volumes_go_to_the_median_spacing_and_patches_follow() -> None:
    seen = of_shape((80, 80, 40), spacing=(1.0, 1.0, 3.0))
    assert decided(seen).spacing == (1.0, 1.0, 3.0)
    finer = decided(seen, spacing=(1, 1, 1))
    assert finer.spacing == (1.0, 1.0, 1.0)
    assert finer.patch_size == (80, 64, 96)
    assert decided(seen, size=48).spacing is None


@pytest.mark.parametrize(
    ("low", "dtype", "shape", "rule"),
    [
        (0, np.uint8, (20, 20), "study-zscore"),
        (0, np.uint16, (20, 20), "image-zscore"),
        (0, np.uint8, (9, 9, 9), "image-zscore"),
        (-1024, np.int16, (9, 9, 9), "ct"),
        (-1024, np.int16, (20, 20), "ct"),
        (-400, np.float32, (9, 9, 9), "image-zscore"),
    ],
)
def test_the_rule_for_intensities(low: int, dtype: Any, shape: tuple[int, ...], rule: str) -> None:
    image = np.random.default_rng(0).integers(0, 99, (1, *shape)).astype(dtype)
    image[0, 0] = low
    assert decided(fingerprint(entry(image))).intensity == rule


def test_arguments_go_before_the_configuration_and_that_before_the_defaults() -> None:
    seen = of_shape((100, 100))
    config = StudyConfig(size=[64, 96], intensity="none", patch_size=[32, 32])
    found = decided(seen, config=config)
    assert (found.size, found.intensity, found.patch_size) == ((64, 96), "none", (32, 32))
    found = decided(seen, config=config, size=48, intensity="image-zscore", patch_size=(16, 24))
    assert (found.size, found.intensity, found.patch_size) == ((48, 48), "image-zscore", (16, 24))
    found = decided(seen, config=config, spacing=0.5)
    assert (found.size, found.spacing) == (None, (0.5, 0.5))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"size": (1, 2, 3)}, r"size is 1, 2, 3; wanted 2 positive numbers for 2D images"),
        ({"patch_size": 0}, r"patch_size is 0, 0; wanted 2 positive numbers"),
        ({"size": 32, "spacing": 1.0}, "size and spacing are both given"),
        ({"intensity": "zscore"}, "intensity 'zscore' is unknown; wanted auto"),
    ],
)
def test_wrong_arguments(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        decided(of_shape((50, 50)), **asked)


def test_ct_is_clipped_to_the_foreground_and_scaled_by_it() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(-900, 50, (1, 20, 20, 20)).astype(np.float32)
    label = np.zeros((20, 20, 20), np.uint8)
    label[5:15, 5:15] = 1
    image[0][label > 0] = rng.normal(60, 10, int(label.sum()))
    found = decided(fingerprint(entry(image, label)))
    inside = image[0][label > 0]
    low, high = found.clip[0]
    assert (low, high) == pytest.approx(np.percentile(inside, [0.5, 99.5]), abs=3)
    out = found.normalise(torch.from_numpy(image))
    wanted = (np.clip(image, low, high) - found.mean[0]) / found.std[0]
    np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_normalising_a_batch_is_normalising_each_case() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 99, (2, 8, 9)).astype(np.int16) * (i + 1) for i in range(3)]
    cases = []
    for image in images:
        e = entry(image)
        geometry = e.geometry
        cases.append(StoredCase(Case("x", {}, None, "A", "p"), image, None, {}, geometry, geometry, e.mean, e.std))
    found = Preprocessing(dims=2, channels=("a", "b"), intensity="image-zscore")
    batch = found.normalise(torch.from_numpy(np.stack(images)), Stats.of(*cases))
    for out, image, case in zip(batch, images, cases, strict=True):
        torch.testing.assert_close(out, found.normalise(torch.from_numpy(image), case))
        mean, std = image.mean((1, 2), keepdims=True), image.std((1, 2), keepdims=True)
        np.testing.assert_allclose(out.numpy(), (image - mean) / std, rtol=1e-5, atol=1e-5)
    assert batch.dtype == torch.float32
    with pytest.raises(ValueError, match="needs the mean and std"):
        found.normalise(batch)


def test_normalising_leaves_its_input_alone() -> None:
    image = torch.arange(12.0).reshape(1, 3, 4)
    before = image.clone()
    for rule in ("study-zscore", "ct", "none"):
        Preprocessing(dims=2, channels=("x",), intensity=rule, mean=(5,), std=(2,), clip=((1, 9),)).normalise(image)
    torch.testing.assert_close(image, before, rtol=0, atol=0)


@pytest.mark.parametrize("value", [0, 7, 0.1])
def test_a_constant_image_becomes_zero(value: float) -> None:
    e = entry(np.full((1, 30, 30), value, np.float32))
    found = Preprocessing(dims=2, channels=("x",), intensity="image-zscore")
    stats = Stats(torch.tensor(e.mean), torch.tensor(e.std))
    out = found.normalise(torch.from_numpy(e.image), stats)
    torch.testing.assert_close(out, torch.zeros_like(out), atol=1e-6, rtol=0)
    constant = decided(fingerprint(entry(np.full((1, 30, 30), 9, np.uint8))))
    assert constant.normalise(torch.full((1, 30, 30), 9)).abs().max() == 0


def test_yaml_round_trip_and_its_errors() -> None:
    found = decided(of_shape((80, 80, 40), dtype=np.int16, spacing=(1.0, 1.0, 3.0)))
    assert Preprocessing.from_yaml(found.to_yaml()) == found
    assert Preprocessing.from_yaml(decided(of_shape((80, 80))).to_yaml()).intensity == "study-zscore"
    with pytest.raises(SettingsError, match="preprocessing: key 'sise': Extra inputs"):
        Preprocessing.from_yaml("dims: 2\nchannels: [x]\nsise: 3\n")


def test_of_many_cases_some_are_chosen_evenly() -> None:
    ids = [f"{i:05d}" for i in range(10_000)]
    found = chosen(ids[::-1])
    assert len(found) == len(set(found)) == 4000
    assert found == sorted(found)
    assert chosen(["b", "a"]) == ["a", "b"]
