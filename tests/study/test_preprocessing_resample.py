from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from small_studies import volumes
from torch.nn.functional import interpolate

from elsewhere.study.cache import Cache
from elsewhere.study.case import Case, Geometry, StoredCase
from elsewhere.study.decode import Schema
from elsewhere.study.resample import (
    from_canonical,
    resize,
    resize_label,
    target_geometry,
    to_canonical,
    to_original,
)
from elsewhere.study.store import Store
from elsewhere.study.study import open_study

LESION = Schema(("background", "lesion"), {0: 0, 1: 1})
ORIENTATIONS = ["".join(p) for axes in itertools.permutations(["RL", "AP", "SI"]) for p in itertools.product(*axes)]


@pytest.mark.parametrize("shape", [(7, 9), (24, 31), (50, 12), (13, 31)])
def test_resize_is_torchs_antialiased_bilinear_in_2d(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(2, 24, 31)).astype(np.float32)
    wanted = interpolate(torch.from_numpy(image)[None], shape, mode="bilinear", antialias=True)[0].numpy()
    np.testing.assert_allclose(resize(image, shape), wanted, atol=5e-6)


def test_resize_is_torchs_trilinear_where_axes_grow() -> None:
    image = np.random.default_rng(0).normal(size=(1, 5, 8, 6)).astype(np.float32)
    wanted = interpolate(torch.from_numpy(image)[None], (9, 8, 17), mode="trilinear")[0].numpy()
    np.testing.assert_allclose(resize(image, (9, 8, 17)), wanted, atol=5e-6)


def test_eight_bit_stays_eight_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    out = resize(image, (11, 13))
    assert out.dtype == np.uint8
    np.testing.assert_allclose(out, resize(image.astype(np.float32), (11, 13)), atol=0.5001)
    assert resize(image.astype(np.int16), (11, 13)).dtype == np.float32


def test_labels_keep_their_classes_and_ties_go_to_the_foreground() -> None:
    label = np.zeros((8, 8), np.uint8)
    label[:, 2] = 3  # a line one pixel wide: half of each pixel of the smaller grid
    out = resize_label(label, (4, 4))
    assert set(np.unique(out)) == {0, 3}
    assert (out[:, 1] == 3).all()
    block = np.repeat(np.repeat(np.array([[0, 1], [2, 1]], np.uint8), 4, 0), 4, 1)
    np.testing.assert_array_equal(resize_label(block, (2, 2)), [[0, 1], [2, 1]])
    np.testing.assert_array_equal(resize_label(block, (16, 16)), np.repeat(np.repeat(block, 2, 0), 2, 1))


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_canonical_axes_are_nibabels_and_the_way_back_is_exact(axes: str) -> None:
    array = np.random.default_rng(1).normal(size=(4, 5, 6))
    oblique = np.array([[2, 0.1, 0, 3], [-0.1, 1, 0, 5], [0, 0, 3, -7], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(array, oblique).as_reoriented(nib.orientations.axcodes2ornt(axes))
    spacing = tuple(float(s) for s in nib.affines.voxel_sizes(image.affine))
    geometry = Geometry(image.shape, spacing, image.affine)
    turned, where = to_canonical(image.get_fdata()[None], geometry)
    wanted = nib.as_closest_canonical(image)
    np.testing.assert_array_equal(turned[0], wanted.get_fdata())
    np.testing.assert_allclose(where.affine, wanted.affine, atol=1e-12)
    assert where.shape == wanted.shape
    np.testing.assert_allclose(where.spacing, nib.affines.voxel_sizes(wanted.affine))
    np.testing.assert_array_equal(from_canonical(turned, geometry)[0], image.get_fdata())


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAL", "PIR"])
def test_what_is_predicted_comes_back_to_the_voxels_of_the_file(tmp_path: Path, axes: str) -> None:
    study = open_study(volumes(tmp_path / "data", {"a": 1, "b": 1}, axes=axes))
    store = Store(Cache(tmp_path / "cache"), LESION, study.cases, spacing=(1.0, 1.0, 1.5))
    stored = store.load(study.cases[0].id)
    assert stored.geometry.shape == (32, 30, 24)
    in_file = nib.load(str(study.cases[0].label)).get_fdata()
    assert stored.original.shape == in_file.shape
    back = to_original(np.stack([stored.label == 0, stored.label == 1]), stored)
    np.testing.assert_array_equal(back.argmax(0), in_file)
    label = store.original_label(study.cases[0].id)
    np.testing.assert_array_equal(label.array, in_file)
    np.testing.assert_allclose(label.geometry.affine, nib.load(str(study.cases[0].label)).affine)
    with pytest.raises(ValueError, match="not on the grid"):
        to_original(back, stored)


def test_a_place_in_mm_stays_where_it_is(tmp_path: Path) -> None:
    study = open_study(volumes(tmp_path / "data", {"a": 1, "b": 1}, axes="PIR"))
    file = nib.load(str(study.cases[0].label))
    stored = Store(Cache(tmp_path / "cache"), LESION, study.cases, spacing=(1.0, 2.0, 1.5)).load(study.cases[0].id)

    def centre(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
        return nib.affines.apply_affine(affine, np.argwhere(mask).mean(0))

    here, there = centre(stored.label == 1, stored.geometry.affine), centre(file.get_fdata() == 1, file.affine)
    np.testing.assert_allclose(here, there, atol=0.51)  # within half of a new voxel
    assert stored.geometry.spacing == pytest.approx((1.0, 2.0, 1.5))


def test_the_way_there_and_back_of_a_ramp_is_itself() -> None:
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None, :, None] * np.ones((1, 40, 20), np.float32)
    case = Case("x", {}, None, "A", "p")
    target = target_geometry(Geometry((40, 20)), size=(60, 20))
    stored = StoredCase(case, resize(ramp, (60, 20)), None, {}, target, Geometry((40, 20)), (0,), (1,))
    np.testing.assert_allclose(to_original(stored.image, stored)[:, 2:-2], ramp[:, 2:-2], atol=1e-3)


def test_an_axis_within_five_per_cent_is_left_alone() -> None:
    geometry = Geometry((100, 100, 50), (1.04, 2.0, 3.0), np.diag([1.04, 2.0, 3.0, 1]))
    assert target_geometry(geometry, spacing=(1.0, 2.0, 3.0)) is geometry
    assert target_geometry(geometry, spacing=(1.0, 1.0, 3.0)).shape == (100, 200, 50)
    assert target_geometry(Geometry((10, 10)), spacing=(1.0, 1.0)).shape == (10, 10)
    assert target_geometry(geometry, size=(8, 8, 8)).spacing == pytest.approx((13.0, 25.0, 18.75))


def test_real_volumes_go_to_another_grid_and_come_back(shared_data: Path, tmp_path: Path) -> None:
    study = open_study(shared_data / "hippocampus")
    schema = Schema(study.classes, study.label_values)
    store = Store(Cache(tmp_path / "cache"), schema, study.cases[:3], spacing=(0.6, 0.6, 0.6))
    for case_id in store.case_ids:
        stored, truth = store.load(case_id), store.original_label(case_id).array
        one_hot = np.stack([stored.label == i for i in range(len(study.classes))])
        back = to_original(one_hot, stored).argmax(0)
        for i in range(1, len(study.classes)):
            dice = 2 * ((back == i) & (truth == i)).sum() / ((back == i).sum() + (truth == i).sum())
            assert dice > 0.97
