"""What is not the data set is said in one sentence: what was looked for, and what was found; nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from public_sets import SETS, volume

from elsewhere.errors import StudyError
from elsewhere.study.new import new_study
from elsewhere.study.reading import read_image, read_label


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("msd-brats", r"is not BraTS .*; looked for the folders 'imagesTr' and 'labelsTr', found notes\.txt, scans/$"),
        ("amos", r"is not AMOS22; looked for the folders 'imagesTr' and 'labelsTr', found notes\.txt, scans/$"),
        ("hvsmr", r"is not HVSMR-2\.0; looked for pat0_cropped\.nii\.gz .*, found notes\.txt, scans/$"),
        ("topcow", r"is not TopCoW 2024; looked for the folders 'imagesTr' and 'cow_seg_labelsTr', found notes\.txt"),
        ("prostate-multisite", r"looked for the folders 'BIDMC' and 'BMC' .*'UCL', found notes\.txt, scans/$"),
        ("pancreasdg", r"is not PancreasDG; looked for .*'in_domain'.*'train'.*, found notes\.txt, scans/$"),
    ],
)
def test_another_folder(tmp_path: Path, name: str, sentence: str) -> None:
    volume(tmp_path / "scans/a.nii.gz")
    (tmp_path / "notes.txt").write_text("about")
    with pytest.raises(StudyError, match=sentence):
        new_study(tmp_path, name, tmp_path)
    assert not (tmp_path / "manifest.csv").exists()


def test_a_file_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "amos22.zip").write_bytes(b"PK")
    for name in SETS:
        with pytest.raises(StudyError, match=r"amos22\.zip: cannot be read \(Not a directory\); wanted a folder"):
            new_study(tmp_path / "study", name, tmp_path / "amos22.zip")


@pytest.mark.parametrize(
    ("name", "spoil", "sentence"),
    [
        ("msd-brats", "labelsTr/BRATS_004.nii.gz", "case 'BRATS_004' is in 'imagesTr' and not in 'labelsTr'"),
        ("amos", "imagesVa/amos_0541.nii.gz", "case 'amos_0541' is in 'labelsVa' and not in 'imagesVa'"),
        ("hvsmr", "cropped/pat3_cropped_seg.nii.gz", r"pat3_cropped\.nii\.gz: has no mask 'pat3_cropped_seg\.nii\.gz'"),
        ("hvsmr", "hvsmr_clinical.csv", r"there is no hvsmr_clinical\.csv below it or beside it"),
        ("topcow", "imagesTr/topcow_mr_005_0000.nii.gz", "'topcow_mr_005' is in 'cow_seg_labelsTr' and not in"),
        (
            "prostate-multisite",
            "HK/Case01.nii.gz",
            r"Case01_segmentation\.nii\.gz: there is no image 'Case01\.nii\.gz'",
        ),
        ("pancreasdg", "out_of_domain/IU/labelsTr/iu_0003.nii.gz", "case 'iu_0003' is in 'imagesTr' and not in"),
    ],
)
def test_a_file_is_missing(tmp_path: Path, name: str, spoil: str, sentence: str) -> None:
    root = SETS[name](tmp_path)
    (root / spoil).unlink()
    with pytest.raises(StudyError, match=sentence):
        new_study(root, name, root)
    assert not (root / "manifest.csv").exists()


def test_a_site_is_missing(tmp_path: Path) -> None:
    root = SETS["amos"](tmp_path)
    for path in [*root.rglob("amos_05[0-9][1-9].nii.gz"), *root.rglob("amos_0510.nii.gz")]:
        path.unlink()
    with pytest.raises(StudyError, match=r"has no case of MR; the recipe trains on CT and tests on MR; complete"):
        new_study(root, "amos", root)


def test_names_that_are_not_the_sets(tmp_path: Path) -> None:
    for name, folders, stem in (
        ("amos", ("imagesTr", "labelsTr"), "liver_1"),
        ("topcow", ("imagesTr", "cow_seg_labelsTr"), "x"),
    ):
        root = SETS[name](tmp_path)
        for folder in folders:
            volume(root / folder / f"{stem}.nii.gz", values=(1,))
        with pytest.raises(StudyError, match=rf"{stem}\.nii\.gz: is not called {name}_"):
            new_study(root, name, root)


@pytest.mark.parametrize("text", ["{", "[]", '{"modality": {"0": "CT"}}', '{"channel_names": {"0": "FLAIR"}}'])
def test_brats_without_its_sequences(tmp_path: Path, text: str) -> None:
    root = SETS["msd-brats"](tmp_path)
    (root / "dataset.json").write_text(text)
    with pytest.raises(StudyError, match=r"dataset\.json: key 'modality' does not number the sequences FLAIR, T1w"):
        new_study(root, "msd-brats", root)


def test_brats_sequences_in_another_order(tmp_path: Path) -> None:
    root = SETS["msd-brats"](tmp_path)
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "T2w", "1": "T1w", "2": "t1gd", "3": "FLAIR"}}))
    study = new_study(root, "msd-brats", root)
    assert study.by_id["BRATS_001-FLAIR"].images["image"].name == "BRATS_001.nii.gz#3"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("Pat,Age,Severity\n0,3,mild\n", r"hvsmr_clinical\.csv: has no column 'Category'; found: Pat, Age, Severity"),
        (
            "Pat,Age,Category\n0,3,grave\n",
            r"row 2: patient '0' has the category 'grave'; wanted a number, and one of mild",
        ),
        ("Pat,Age,Category\n0,3,mild\n", r"hvsmr_clinical\.csv has no row for patient 1; add the row"),
    ],
)
def test_hvsmr_tables_that_do_not_fit(tmp_path: Path, table: str, sentence: str) -> None:
    root = SETS["hvsmr"](tmp_path)
    (root / "hvsmr_clinical.csv").write_text(table)
    with pytest.raises(StudyError, match=sentence):
        new_study(root, "hvsmr", root)


def test_a_set_twice(tmp_path: Path) -> None:
    SETS["topcow"](tmp_path / "a").rename(tmp_path / "one")
    SETS["topcow"](tmp_path / "b").rename(tmp_path / "two")
    with pytest.raises(StudyError, match=r"holds TopCoW 2024 several times \(one, two\); name one of them"):
        new_study(tmp_path, "topcow", tmp_path)


def test_options_without_a_meaning(tmp_path: Path) -> None:
    root = SETS["amos"](tmp_path)
    with pytest.raises(StudyError, match="--site-rule has no meaning for a study from amos"):
        new_study(root, "amos", root, site_rule="(.)")
    with pytest.raises(StudyError, match=r"cannot be made from 'brats' \(did you mean 'msd-brats'\?\)"):
        new_study(root, "brats", root)


# ---- one channel of a file with four axes


def four_axes(path: Path) -> np.ndarray:
    array = np.random.default_rng(0).integers(-5, 5, (4, 3, 2, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return array


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_channel_is_read_alone(tmp_path: Path, ending: str) -> None:
    array = four_axes(tmp_path / f"x{ending}")
    whole = read_image({"image": tmp_path / f"x{ending}"})
    for k in range(5):
        one = read_image({"image": tmp_path / f"x{ending}#{k}"})
        assert one.array.dtype == np.int16
        assert np.array_equal(one.array, array[None, ..., k])
        assert one.geometry.spacing == whole.geometry.spacing
        assert np.array_equal(one.geometry.affine, whole.geometry.affine)
    two = read_image({"b": tmp_path / f"x{ending}#3", "a": tmp_path / f"x{ending}#1"})
    assert np.array_equal(two.array, np.moveaxis(array, -1, 0)[[3, 1]])


def test_scaled_channels_and_masks(tmp_path: Path) -> None:
    array = four_axes(tmp_path / "x.nii")
    scaled = nib.load(tmp_path / "x.nii")
    scaled.header.set_slope_inter(0.5, 3)
    nib.save(nib.Nifti1Image(array, scaled.affine, scaled.header), tmp_path / "y.nii")
    whole, one = read_image({"i": tmp_path / "y.nii"}), read_image({"i": tmp_path / "y.nii#2"})
    assert one.array.dtype == whole.array.dtype
    assert np.array_equal(one.array[0], whole.array[2])
    assert np.array_equal(read_label(tmp_path / "x.nii#4").array, array[..., 4])


def test_channels_that_are_not_there(tmp_path: Path) -> None:
    four_axes(tmp_path / "x.nii")
    volume(tmp_path / "flat.nii")
    assert read_image({"i": tmp_path / "flat.nii#0"}).array.shape == (1, 9, 8, 7)
    for path, sentence in (
        ("x.nii#5", r"x\.nii#5: there is no channel '5'; the file has the channels 0 to 4"),
        ("x.nii#-1", "there is no channel '-1'"),
        ("x.nii#flair", "there is no channel 'flair'"),
        ("flat.nii#1", "there is no channel '1'; the file has a single channel, 0"),
        ("none.nii#0", r"none\.nii#0: there is no such file"),
    ):
        with pytest.raises(StudyError, match=sentence):
            read_image({"i": tmp_path / path})
