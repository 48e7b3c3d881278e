"""`study new`: from a table, folders or an nnU-Net dataset; whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_dicom import slice_dataset

from elsewhere.errors import ElsewhereError, StudyError
from elsewhere.study import new
from elsewhere.study.check import check_study
from elsewhere.study.new import new_study


def picture(path: Path, values: tuple[int, ...] = (0, 255)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, np.uint8), (8, 8))).save(path)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """Two sites with images and masks; at one of them masks are called `_mask`, and there is a map."""
    for i in range(3):
        picture(tmp_path / f"data/Paris/images/{i:03}.jpg")
        picture(tmp_path / f"data/Paris/masks/{i:03}_mask.png")
        picture(tmp_path / f"data/Paris/fov/{i:03}.png")
        picture(tmp_path / f"data/Lyon/images/{i:03}.png")
        picture(tmp_path / f"data/Lyon/labels/{i:03}.png")
    (tmp_path / "data/README.txt").write_text("about")
    return tmp_path / "data"


def test_images_and_masks(sites: Path) -> None:
    study = new_study(sites, "folders", sites)
    assert (study.task, study.classes, study.label_values) == (
        "segmentation",
        ("background", "foreground"),
        {0: 0, 255: 1},
    )
    assert study.sites == ("Lyon", "Paris")
    case = study.by_id["Paris/001"]
    assert case.label == sites / "Paris/masks/001_mask.png"
    assert case.maps == {"fov": sites / "Paris/fov/001.png"}
    assert case.patient == "Paris-001"
    assert study.by_id["Lyon/001"].patient == "Lyon-001"
    assert study.inferred == ("dims",)  # task and classes are written down
    assert "image,label,site,patient,map:fov" in (sites / "manifest.csv").read_text()


@pytest.mark.parametrize("suffix", ["", ".IMA", ".dicom", ".DCM"])
def test_dicom_by_any_name_and_each_file_a_patient(tmp_path: Path, suffix: str) -> None:
    """Scanners count anew in each folder: neg/IM0000 and pos/IM0000 are two people."""
    for site in ("A", "B"):
        for label in ("neg", "pos"):
            for number in range(2):
                path = tmp_path / site / label / f"IM{number:04}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                slice_dataset(number, f"1.2.{number}", "1.9", RescaleIntercept=0).save_as(path)
    study = new_study(tmp_path, "folders", tmp_path)
    assert sorted(case.patient for case in study.cases if case.site == "A") == [
        "A-neg-IM0000", "A-neg-IM0001", "A-pos-IM0000", "A-pos-IM0001",
    ]  # fmt: skip
    assert len(study.cases) == 8
    assert check_study(tmp_path, jobs=1).n_cases == 8
    for name in ("manifest.csv", "study.yaml"):
        (tmp_path / name).unlink()
    (tmp_path / "A/neg/notes.txt").write_text("no image")
    with pytest.raises(StudyError, match=r"notes\.txt: is not an image"):
        new_study(tmp_path, "folders", tmp_path)


def test_masks_that_are_nothing_lead_to_no_manifest_that_is_not_there(sites: Path) -> None:
    for path in (sites / "Paris/masks").iterdir():
        path.unlink()
    for i in range(3):
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(sites / f"Paris/masks/{i:03}.tif")
    with pytest.raises(StudyError) as caught:
        new_study(sites, "folders", sites)
    assert "row 0" not in str(caught.value)
    assert "study check" not in str(caught.value)
    assert "value 0.5 in a mask" in str(caught.value)


def test_classes_as_folders_with_a_rule_for_patients(tmp_path: Path) -> None:
    for site in ("A", "B"):
        for label in ("sick", "well"):
            for name in ("p1_left", "p1_right", "p2_left"):
                picture(tmp_path / site / label / f"{name}{label}.png")
    study = new_study(tmp_path / "study", "folders", tmp_path, patient_rule=r"^(p\d)", copy=True)
    assert (study.task, study.classes) == ("classification", ("sick", "well"))
    assert {case.patient for case in study.cases} == {"A-p1", "A-p2", "B-p1", "B-p2"}
    assert len(study.cases) == 12
    assert all(next(iter(case.images.values())).is_relative_to(tmp_path / "study/files") for case in study.cases)
    assert all(next(iter(case.images.values())).is_file() for case in study.cases)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ("Paris/masks/999.png", r"999\.png: there is no image of that name"),
        ("Paris/images/999.png", r"999\.png: has no mask in "),
        ("Paris/images/001.png", r"'001\.jpg' has the same name"),
        ("Paris/images/notes.txt", r"notes\.txt: is not an image"),
        ("Rome/sick/1.png", r"Lyon has images \+ masks but Rome has a folder per class"),
        ("Rome/images/1.png", r"Rome: has no folder 'masks'"),
    ],
)
def test_folders_that_do_not_fit_are_named_and_nothing_is_written(sites: Path, spoil: str, sentence: str) -> None:
    picture(sites / "one.png")
    target = sites / spoil
    target.parent.mkdir(parents=True, exist_ok=True)
    (sites / "one.png").rename(target)
    before = everything_in(sites)
    with pytest.raises(StudyError, match=sentence):
        new_study(sites, "folders", sites)
    assert everything_in(sites) == before


def test_data_outside_must_be_copied_or_allowed(sites: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep/study"
    with pytest.raises(StudyError, match=r"lies outside the new study's folder .* --copy, or --allow-outside"):
        new_study(target, "folders", sites)
    assert not (tmp_path / "deep").exists()
    outside = new_study(target, "folders", sites, allow_outside=True)
    assert outside.by_id["Lyon/000"].images["image"] == sites / "Lyon/images/000.png"
    copied = new_study(tmp_path / "copy", "folders", sites, copy=True)
    assert copied.by_id["Lyon/000"].images["image"] == tmp_path / "copy/files/Lyon/images/000.png"
    with pytest.raises(StudyError, match=r"manifest\.csv: is there already"):
        new_study(target, "folders", sites, allow_outside=True)


def test_a_full_disk_leaves_nothing_behind(sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = 0
    copyfile = new.shutil.copyfile

    def until_full(*args: object) -> object:
        nonlocal done
        done += 1
        if done > 4:
            raise OSError(28, "No space left on device")
        return copyfile(*args)

    monkeypatch.setattr(new.shutil, "copyfile", until_full)
    with pytest.raises(ElsewhereError, match="the disk is full"):
        new_study(tmp_path / "deep/copy", "folders", sites, copy=True)
    assert not (tmp_path / "deep").exists()


def table(folder: Path, text: str) -> Path:
    (folder / "table.csv").write_text(text)
    return folder / "table.csv"


def test_a_table_with_other_names(sites: Path) -> None:
    path = table(
        sites,
        ";hospital;file;truth;pid;age;site\n"
        "0;Paris;Paris/images/000.jpg;Paris/masks/000_mask.png;7;61;ward 1\n"
        "1;Lyon;Lyon/images/000.png;Lyon/labels/000.png;8;;ward 2\n",
    )
    columns = {"image": "file", "label": "truth", "site": "hospital", "patient": "pid"}
    study = new_study(sites, "csv", path, columns=columns)
    case = study.by_id["Paris/images/000"]
    assert (case.site, case.patient) == ("Paris", "7")
    assert case.covariates == {"column_1": "0", "age": "61", "source_site": "ward 1"}
    assert study.by_id["Lyon/images/000"].covariates["age"] is None


def test_a_table_without_sites_takes_them_from_the_path(sites: Path) -> None:
    path = table(sites, "image,label\nParis/images/000.jpg,sick\nLyon/images/000.png,well\n")
    study = new_study(sites, "csv", path, site_rule=r"^(\w+)/", patient_rule=r"(?P<patient>\w+/images/\d+)")
    assert study.sites == ("Lyon", "Paris")
    assert {case.patient for case in study.cases} == {"Paris/images/000", "Lyon/images/000"}


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("file,label,site\na,b,c\n", {}, r"no column 'image'.*--column image=NAME\); found: file, label, site"),
        ("image,label\nParis/images/000.jpg,x\n", {}, r"no column 'site'; say which it is .* --site-rule"),
        (
            "image,label\nParis/images/000.jpg,x\n",
            {"site_rule": "^(z+)"},
            "row 2: image 'Paris/images/000.jpg' does not match",
        ),
        ("image,label\nParis/images/000.jpg,x\n", {"site_rule": "("}, "is not a regular expression"),
        ("image,label\nParis/images/000.jpg,x\n", {"site_rule": "Paris"}, "has no group"),
        ("image,label,site\nno.png,x,A\n", {}, r"row 2: image 'no\.png' does not exist"),
        ("image,label,site\nParis/images/000.jpg,x,\n", {}, "row 2: column 'site' is empty"),
        ("image,label,site\nParis/images/000.jpg,x,A\n", {"columns": {"image": "imag"}}, r"did you mean 'image'\?"),
        ("image,label,site\nParis/images/000.jpg,x,A\n", {}, "only the class 'x'"),
    ],
)
def test_tables_that_do_not_fit(sites: Path, text: str, options: dict[str, object], sentence: str) -> None:
    path = table(sites, text)
    before = everything_in(sites)
    with pytest.raises(StudyError, match=sentence):
        new_study(sites, "csv", path, **options)  # type: ignore[arg-type]
    assert everything_in(sites) == before


def nnunet(folder: Path, labels: object, channels: dict[str, str], cases: list[str]) -> Path:
    folder.mkdir()
    described = {"channel_names": channels, "labels": labels, "file_ending": ".png", "numTraining": len(cases)}
    (folder / "dataset.json").write_text(json.dumps(described))
    for case in cases:
        for channel in channels:
            picture(folder / f"imagesTr/{case}_{int(channel):04}.png")
        picture(folder / f"labelsTr/{case}.png", (0, 1, 2, 3))
    return folder


def test_nnunet_dataset(tmp_path: Path) -> None:
    cases = ["paris_001", "paris_002", "lyon_001"]
    labels = {"background": 0, "liver": 1, "vessel": 3, "tumour": 2}
    source = nnunet(tmp_path / "Dataset007", labels, {"0": "T1", "1": "T2"}, cases)
    study = new_study(source, "nnunet", source, site_rule="^(?P<site>[a-z]+)_", patient_rule=r"_(\d+)")
    assert study.channels == ("T1", "T2")
    assert study.classes == ("background", "liver", "tumour", "vessel")
    assert study.label_values == {0: 0, 1: 1, 2: 2, 3: 3}
    assert study.sites == ("lyon", "paris")
    case = study.by_id["paris_002"]
    assert case.images == {"T1": source / "imagesTr/paris_002_0000.png", "T2": source / "imagesTr/paris_002_0001.png"}
    assert (case.label, case.patient) == (source / "labelsTr/paris_002.png", "002")


def test_nnunet_regions_become_a_class_per_value(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    source = nnunet(tmp_path / "d", labels, {"0": "CT"}, ["a_1", "b_1"])
    study = new_study(source, "nnunet", source, site_rule="^(.)")
    assert study.classes == ("background", "whole", "whole+core", "whole+core+enhancing")
    assert study.channels == ("image",)
    assert study.config.intensity == "ct"


def test_nnunet_errors(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "d", {"background": 0, "x": 1}, {"0": "CT"}, ["a_1", "b_1"])
    with pytest.raises(StudyError, match=r"does not say the site; .*--site-rule"):
        new_study(source, "nnunet", source)
    with pytest.raises(StudyError, match=r"case 'a_1' does not match the rule '\^\(b\)'"):
        new_study(source, "nnunet", source, site_rule="^(b)")
    os.remove(source / "labelsTr/b_1.png")
    with pytest.raises(StudyError, match="case 'b_1' is in imagesTr and not in labelsTr"):
        new_study(source, "nnunet", source, site_rule="^(.)")
    (source / "dataset.json").write_text("{")
    with pytest.raises(StudyError, match=r"dataset\.json: is not valid JSON"):
        new_study(source, "nnunet", source, site_rule="^(.)")
    assert not (source / "manifest.csv").exists()


def test_real_folders_give_the_study_that_their_manifest_describes(shared_data: Path, tmp_path: Path) -> None:
    study = new_study(tmp_path / "retina", "folders", shared_data / "retina-vessels", allow_outside=True)
    assert (len(study.cases), study.sites) == (125, ("CHASEDB1", "DRIVE", "HRF", "STARE"))
    assert study.label_values == {0: 0, 255: 1}
    assert all("fov" in case.maps for case in study.cases if case.site == "DRIVE")
