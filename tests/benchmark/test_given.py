"""Predictions of somebody else: which file is whose, what values mean, tables of probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import given
import nibabel
import numpy as np
import pytest
import small_volumes
import tiny

from elsewhere.benchmark.given_masks import read_masks
from elsewhere.benchmark.given_names import listed, match
from elsewhere.benchmark.given_table import read_table
from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry
from elsewhere.study.study import open_study

FLAT = Geometry((32, 32))


@pytest.mark.parametrize("names", ["stem", "id"])
def test_masks_are_found_by_the_name_of_the_mask_and_by_the_id(tmp_path: Path, names: str) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "out", names=names)
    (folder / "extra.png").write_bytes((folder / next(folder.rglob("*.png")).relative_to(folder)).read_bytes())
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "plans.json").write_text("{}")
    first = next(path for path in sorted(folder.rglob("*.png")) if path.stem == "s0-00")
    first.unlink()
    matched = match(folder, study, study.cases)
    assert matched.missing == ("images/s0-00",)
    assert matched.surplus == ("extra.png",)
    assert len(matched.files) == 11
    assert all(path.stem == Path(case).name for case, path in matched.files.items())


def test_folders_tell_cases_of_one_name_apart(tmp_path: Path) -> None:
    rows = []
    for site in ("north", "south"):
        for kind in ("image", "mask"):
            tiny.save(tmp_path / site / f"{kind}s" / "1.png", np.eye(32) * (kind == "mask"))
        row = {"image": f"{site}/images/1.png", "label": f"{site}/masks/1.png", "site": site, "patient": site}
        rows.append(row)
    study = open_study(tiny.manifest(tmp_path, rows))
    out = tmp_path / "out"
    tiny.save(out / "1.png", np.eye(32))
    with pytest.raises(StudyError, match=r"fits the cases 'north/images/1' and 'south/images/1'; put the masks"):
        match(out, study, study.cases)
    (out / "1.png").unlink()
    for site in ("north", "south"):
        tiny.save(out / site / "masks" / "1.png", np.eye(32))
    matched = match(out, study, study.cases)
    assert {case: path.parts[-3] for case, path in matched.files.items()} == {
        "north/images/1": "north",
        "south/images/1": "south",
    }


def test_what_fits_nothing_is_said(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(StudyError, match="no mask here"):
        match(out, study, study.cases)
    tiny.save(out / "other.png", np.zeros((32, 32)))
    with pytest.raises(
        StudyError, match=r"none of its 1 masks .* found 'other.png', wanted such as 'images/s0-00.png'"
    ):
        match(out, study, study.cases)
    tiny.save(out / "s0-00.png", np.zeros((32, 32)))
    (out / "s0-00.bmp").write_bytes((out / "s0-00.png").read_bytes())
    with pytest.raises(StudyError, match="has two masks"):
        match(out, study, study.cases)
    assert listed([str(i) for i in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


@pytest.mark.parametrize(
    ("of_study", "foreground", "said"),
    [
        ((0, 1), 1, None),
        ((0, 255), 255, "as in the study's masks"),
        ((0, 255), 1, "by the number"),
        ((0, 1), 255, "one value"),
    ],
)
def test_values_are_understood(tmp_path: Path, of_study: tuple[int, int], foreground: int, said: str | None) -> None:
    study = given.masks_study(tmp_path / "study", of_study)
    folder = given.predicted(study, tmp_path / "out", foreground)
    masks = read_masks(folder, study, study.cases)
    assert [said in note for note in masks.notes] == ([True] if said else [])
    case = study.cases[0]
    assert isinstance(case.label, Path)
    wanted = given.shifted((given.pixels(case.label) > 0).astype(np.uint8))
    np.testing.assert_array_equal(masks.mask(case.id, FLAT), wanted)
    assert masks.probabilities(case.id, FLAT) is None


def test_a_value_that_is_no_class_is_named(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "out", 1)
    tiny.save(folder / "s0-01.png", np.full((32, 32), 7))
    with pytest.raises(StudyError, match=r"s0-01.png: has the value 7, which is no class; wanted 0, 1"):
        read_masks(folder, study, study.cases)


def test_nnunet_names_its_values(tmp_path: Path) -> None:
    """Its dataset.json says which value is which class, whatever the study's masks have."""
    study = given.masks_study(tmp_path / "study", (0, 255))
    folder = given.predicted(study, tmp_path / "out", 1)
    labels = {"background": 0, "class 255": 1}
    names = dict(zip(study.classes, labels.values(), strict=True))
    (folder / "dataset.json").write_text(json.dumps({"labels": names}))
    masks = read_masks(folder, study, study.cases)
    assert masks.values == {0: 0, 1: 1}
    assert "dataset.json" in masks.notes[0]


def test_nnunet_may_ignore_and_may_call_classes_otherwise(tmp_path: Path) -> None:
    """`ignore` is no class of a prediction; names that are not the study's are not passed over in silence."""
    study = given.masks_study(tmp_path / "study", (0, 255))
    folder = given.predicted(study, tmp_path / "out", 1)
    described = folder / "dataset.json"
    described.write_text(json.dumps({"labels": {"background": 0, study.classes[1]: 1, "ignore": 2}}))
    masks = read_masks(folder, study, study.cases)
    assert masks.values == {0: 0, 1: 1}
    assert len(masks.notes) == 1
    assert "by the names in dataset.json" in masks.notes[0]
    described.write_text(json.dumps({"labels": {"background": 0, "vein": 1}}))
    masks = read_masks(folder, study, study.cases)
    assert masks.values == {0: 0, 1: 1}
    assert f"other names than the study (background, vein; background, {study.classes[1]})" in masks.notes[1]
    described.write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2]}}))
    assert len(read_masks(folder, study, study.cases).notes) == 1


def test_the_truth_is_no_prediction(tmp_path: Path) -> None:
    """The study's own masks, its manifest: whoever names them by mistake must not read a perfect score."""
    study = given.masks_study(tmp_path / "study")
    with pytest.raises(StudyError, match=r"s0-00.png: is the study's own mask of case 'images/s0-00'; wanted a folder"):
        read_masks(study.root / "masks", study, study.cases)
    labels = given.labels_study(tmp_path / "labels")
    with pytest.raises(StudyError, match=r"found the columns image, label, .*or 'prediction' for labels"):
        read_table(labels.root / "manifest.csv", labels, labels.cases)


def test_channels_are_told_apart_in_folders_too(tmp_path: Path) -> None:
    """nnU-Net's `_0000` on images of one name in the folders of two sites."""
    rows = []
    for site in ("north", "south"):
        tiny.save(tmp_path / site / "1_0000.png", np.eye(32))
        tiny.save(tmp_path / site / "truth.png", np.eye(32))
        rows.append({"image": f"{site}/1_0000.png", "label": f"{site}/truth.png", "site": site, "patient": site})
        tiny.save(tmp_path / "out" / site / "1.png", np.eye(32))
    study = open_study(tiny.manifest(tmp_path, rows))
    matched = match(tmp_path / "out", study, study.cases)
    assert {case: path.parts[-2] for case, path in matched.files.items()} == {
        "north/1_0000": "north",
        "south/1_0000": "south",
    }


def test_a_mask_of_another_size_or_grid_is_refused(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "out")
    with pytest.raises(StudyError, match=r"s0-00.png: the prediction is 32x32, its image is 32x30"):
        read_masks(folder, study, study.cases).mask("images/s0-00", Geometry((32, 30)))


def test_nnunet_output_of_volumes_is_turned_to_the_image(tmp_path: Path) -> None:
    """Masks in other axes than the image, and probabilities as SimpleITK orders them, come out on the image's grid."""
    study = small_volumes.study(tmp_path / "study")
    case = study.cases[0]
    image = nibabel.load(next(iter(case.images.values())))
    ras = nibabel.as_closest_canonical(image)
    truth = np.zeros(ras.shape, np.uint8)
    truth[2:6, 3:9, 1:3] = 1
    mask = nibabel.Nifti1Image(truth, ras.affine)
    out = tmp_path / "out"
    out.mkdir()
    nibabel.save(mask, out / "s0-0.nii.gz")
    p = np.where(truth, 0.9, 0.2).astype(np.float16)
    np.savez_compressed(out / "s0-0.npz", probabilities=np.stack([1 - p, p]).transpose(0, 3, 2, 1))
    masks = read_masks(out, study, [case])
    geometry = Geometry(image.shape, tuple(float(z) for z in image.header.get_zooms()), image.affine)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(ras.affine), nibabel.io_orientation(image.affine))
    wanted = nibabel.orientations.apply_orientation(truth, turn)
    assert wanted.shape != truth.shape  # the axes did change
    np.testing.assert_array_equal(masks.mask(case.id, geometry), wanted)
    probabilities = masks.probabilities(case.id, geometry)
    assert probabilities is not None
    np.testing.assert_allclose(probabilities[1], np.where(wanted, 0.9, 0.2), atol=1e-3)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)


def test_probabilities_that_do_not_fit(tmp_path: Path) -> None:
    study = given.masks_study(tmp_path / "study")
    folder = given.predicted(study, tmp_path / "out")
    for path in sorted(folder.iterdir()):
        np.savez(path.with_suffix(".npz"), probabilities=np.full((3, 1, 32, 32), 1 / 3))
    masks = read_masks(folder, study, study.cases)
    assert not masks.saved
    assert "3 channels, the masks 2 values" in masks.notes[-1]
    for path in folder.glob("*.npz"):
        np.savez(path, probabilities=np.full((2, 1, 32, 32), 0.9))
    masks = read_masks(folder, study, study.cases)
    with pytest.raises(StudyError, match=r"s0-00.npz: probabilities add up to 1.8"):
        masks.probabilities("images/s0-00", FLAT)
    for path in folder.glob("*.npz"):
        np.savez(path, probabilities=np.stack([np.full((1, 32, 32), -0.5), np.full((1, 32, 32), 1.5)]))
    with pytest.raises(StudyError, match=r"s0-00.npz: has the value -0.5; wanted probabilities between 0 and 1"):
        read_masks(folder, study, study.cases).probabilities("images/s0-00", FLAT)
    some = next(folder.glob("*.npz"))
    np.savez_compressed(some, probabilities=np.random.default_rng(0).random((2, 1, 32, 32)))
    whole = some.read_bytes()
    for damaged in (whole[:1000], b"", whole[:300] + bytes(2000) + whole[2300:]):  # cut; empty; a part of it zeros
        some.write_bytes(damaged)
        with pytest.raises(StudyError, match=rf"{some.name}: cannot be read"):
            masks.probabilities(f"images/{some.stem}", FLAT)
    some.unlink()
    assert "1 masks have no .npz" in read_masks(folder, study, study.cases).notes[-1]


def table(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_of_probabilities(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    rows = [f"{case.id},{0.1 * (i % 10):.2f},{1 - 0.1 * (i % 10):.2f}" for i, case in enumerate(study.cases)]
    found = read_table(table(tmp_path / "a.csv", "case,light,dark", rows), study, study.cases)
    assert study.classes == ("dark", "light")
    np.testing.assert_allclose(found.probabilities[study.cases[3].id], [0.7, 0.3])
    assert (found.labels_only, found.missing, found.surplus, found.notes) == (False, (), (), ())
    one = [f"{next(iter(case.images.values())).name},0.25" for case in study.cases[1:]] + ["nobody.png,0.5"]
    found = read_table(table(tmp_path / "b.csv", "image,light", one), study, study.cases)
    np.testing.assert_allclose(found.probabilities[study.cases[1].id], [0.75, 0.25])
    assert (found.missing, found.surplus) == ((study.cases[0].id,), ("nobody.png",))
    assert "probability of class 'light'" in found.notes[0]
    of_first = read_table(table(tmp_path / "c.csv", "image,dark", one), study, study.cases)
    np.testing.assert_allclose(of_first.probabilities[study.cases[1].id], [0.25, 0.75])


def test_a_table_of_rounded_probabilities(tmp_path: Path) -> None:
    """Thirds of two decimals add up to 0.99."""
    study = given.labels_study(tmp_path / "study", ("dark", "light", "rare"))
    rows = [f"{case.id},0.33,0.33,0.33" for case in study.cases]
    found = read_table(table(tmp_path / "a.csv", "case,dark,light,rare", rows), study, study.cases)
    np.testing.assert_allclose(found.probabilities[study.cases[0].id], 1 / 3)
    rows[1] = f"{study.cases[1].id},0.33,0.33,0.31"
    with pytest.raises(StudyError, match=r"row 3: the probabilities of the 3 classes add up to 0.97; wanted 1"):
        read_table(table(tmp_path / "a.csv", "case,dark,light,rare", rows), study, study.cases)


def test_a_table_of_labels(tmp_path: Path) -> None:
    study = given.labels_study(tmp_path / "study")
    rows = [f"{case.id},{['light', '0'][i % 2]}" for i, case in enumerate(study.cases)]
    found = read_table(table(tmp_path / "a.csv", "case,prediction", rows), study, study.cases)
    assert found.labels_only
    np.testing.assert_array_equal(found.probabilities[study.cases[0].id], [0, 1])
    np.testing.assert_array_equal(found.probabilities[study.cases[1].id], [1, 0])
    assert "auroc" in found.notes[0]


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("who,light", "x,0.5", r"found the columns who, light; wanted 'case'"),
        ("case,other", "images/s0-00,0.5", r"wanted one for each class \(dark, light\), or one of the two"),
        ("case,light", "images/s0-00,1.5", r"row 2: column 'light' is '1.5'; wanted a probability"),
        ("case,light", "images/s0-00,high", r"column 'light' is 'high'"),
        ("case,dark,light", "images/s0-00,0.5,0.9", r"add up to 1.4; wanted 1"),
        ("case,prediction", "images/s0-00,grey", r"label 'grey' is no class; wanted one of dark, light"),
        ("case,light", "images/s0-00,0.5\nimages/s0-00,0.6", r"row 3: case 'images/s0-00' is in row 2 too"),
        ("case,light", "nobody,0.5", r"none of its 1 rows names a case .* found 'nobody'"),
        ("case,light", "", r"holds no rows"),
        ("case,light, light", "images/s0-00,0.1,0.9", r"has the column 'light' twice; keep one of them"),
        ("case,dark,light", "images/s0-00,-3.2,4.1", r"column 'dark' is '-3.2'; wanted a probability"),
        ("case,dark,light", "images/s0-00,nan,nan", r"column 'dark' is 'nan'; wanted a probability"),
        ("case,dark,light", "images/s0-00,0.5", r"column 'light' is ''; wanted a probability"),
        ("case,prediction,score", "images/s0-00,dark,0.9\nimages/s0-01,light,0.8", r"no 'score' is below 0.5, and"),
    ],
)
def test_a_bad_table_is_said(tmp_path: Path, header: str, row: str, said: str) -> None:
    study = given.labels_study(tmp_path / "study")
    with pytest.raises(StudyError, match=said):
        read_table(table(tmp_path / "a.csv", header, [row] if row else []), study, study.cases)
