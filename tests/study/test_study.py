"""Opening a study: what is inferred, kept, printed, and what stops it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from elsewhere.errors import StudyError
from elsewhere.study import inference
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case
from elsewhere.study.check import check_study
from elsewhere.study.config import StudyConfig
from elsewhere.study.decode import Schema
from elsewhere.study.description import describe
from elsewhere.study.inference import classes_of_values
from elsewhere.study.store import Store
from elsewhere.study.study import Study, open_study, open_with_problems


def segmentation(folder: Path, *values: int, n: int = 6) -> Path:
    """A study of `n` masks at two sites that together hold `values`."""
    folder.mkdir(exist_ok=True)
    rows = ["image,label,site,patient"]
    for i in range(n):
        mask = np.zeros((4, 4), np.uint8)
        mask[0, 0] = values[i % len(values)] if values else 0
        Image.fromarray(mask).save(folder / f"m{i}.png")
        Image.fromarray(mask + 1).save(folder / f"i{i}.png")
        rows.append(f"i{i}.png,m{i}.png,{'AB'[i % 2]},p{i}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def test_classes_come_from_the_values_of_all_masks(tmp_path: Path) -> None:
    study = open_study(segmentation(tmp_path, 0, 0, 0, 0, 0, 255))
    assert (study.classes, study.label_values) == (("background", "foreground"), {0: 0, 255: 1})
    assert (study.task, study.dims, study.channels, study.name) == ("segmentation", 2, ("image",), tmp_path.name)
    study = open_study(segmentation(tmp_path, 4, 1, 2))
    assert study.classes == ("background", "class_1", "class_2", "class_4")
    assert study.label_values == {0: 0, 1: 1, 2: 2, 4: 3}
    assert "classes: background = 0, class_1 = 1, class_2 = 2, class_4 = 4 (inferred)" in describe(study)


def test_masks_are_read_once_and_again_when_one_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, reads = segmentation(tmp_path / "data", 1), []
    read = inference._values_or_error
    monkeypatch.setattr(inference, "_values_or_error", lambda path: reads.append(path) or read(path))
    cache = tmp_path / "cache"
    assert open_study(folder, cache=cache).classes == open_study(folder, cache=cache).classes
    assert len(reads) == 6
    (kept,) = (cache / "inferred").glob("*.yaml")
    assert "values:\n- 0\n- 1\n" in kept.read_text()
    kept.write_text("values: [0, spoilt")
    open_study(folder, cache=cache)
    assert len(reads) == 12
    mask = np.full((4, 4), 3, np.uint8)
    Image.fromarray(mask).save(folder / "m0.png")
    os.utime(folder / "m0.png", (1, 1))
    assert open_study(folder, cache=cache).classes == ("background", "class_1", "class_3")


def test_neither_data_nor_cache_need_be_writable(tmp_path: Path) -> None:
    folder = segmentation(tmp_path / "data", 1)
    before = sorted(path.name for path in folder.iterdir())
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache folder should be")
    assert open_study(folder, cache=blocked / "cache").classes == ("background", "foreground")
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({0}, "all masks are empty; declare 'classes'"),
        (set(range(256)), "255 values other than 0, as grey or JPEG"),
        ({0, -1}, "holds the value -1"),
    ],
)
def test_values_that_are_no_classes(values: set[int], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        classes_of_values(values, "manifest.csv")


def test_declared_classes_may_join_values_and_masks_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = segmentation(tmp_path, 1, 2, 4)
    (folder / "study.yaml").write_text("classes: {nothing: 0, tumour: [1, 4], oedema: 2}\n")
    monkeypatch.setattr(inference, "_values_or_error", None)
    study = open_study(folder)
    assert study.classes == ("nothing", "tumour", "oedema")
    assert study.label_values == {0: 0, 1: 1, 4: 1, 2: 2}


def test_an_unreadable_mask_is_named_with_its_row(tmp_path: Path) -> None:
    folder = segmentation(tmp_path, 1)
    (folder / "m2.png").write_bytes(b"spoilt")
    (folder / "m4.png").unlink()
    with pytest.raises(StudyError, match=r"manifest\.csv row 4: label .*m2\.png.*and 1 more such problem; see"):
        open_study(folder)
    study, problems = open_with_problems(folder)
    assert [problem.where for problem in problems] == ["manifest.csv row 4", "manifest.csv row 6"]
    assert study.classes == ("background", "foreground")


def classification(folder: Path, labels: list[str]) -> Path:
    rows = [f"{i}.png,{label},{'AB'[i % 2]},p{i}" for i, label in enumerate(labels)]
    (folder / "manifest.csv").write_text("\n".join(["image,label,site,patient", *rows]))
    return folder


def test_class_names_are_sorted_as_words_or_numbers_health_first(tmp_path: Path) -> None:
    assert open_study(classification(tmp_path, ["no", "yes", "maybe", "no"])).classes == ("no", "maybe", "yes")
    assert open_study(classification(tmp_path, ["10", "2", "1"])).classes == ("1", "2", "10")


def test_class_names_that_cannot_be_right(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="only the class 'yes'"):
        open_study(classification(tmp_path, ["yes", "yes"]))
    with pytest.raises(StudyError, match=r"30 different numbers, .* which look like a measurement"):
        open_study(classification(tmp_path, [f"{i / 7}" for i in range(30)]))
    with pytest.raises(StudyError, match="30 different values in 30 rows"):
        open_study(classification(tmp_path, [f"case {i}" for i in range(30)]))
    with pytest.raises(StudyError, match="column 'label' is empty in every row"):
        open_study(classification(tmp_path, ["", ""]))
    classification(tmp_path, ["yes", "no", "Yes"])
    (tmp_path / "study.yaml").write_text("classes: [no, yes]")
    with pytest.raises(StudyError, match=r"row 4: label 'Yes' is not a declared class \(did you mean 'yes'\?\)"):
        open_study(tmp_path)
    (tmp_path / "study.yaml").write_text("classes: {no: 0, yes: 1}")
    with pytest.raises(StudyError, match="gives values, but the labels are class names"):
        open_study(tmp_path)


def test_roles_must_fit_the_sites(tmp_path: Path) -> None:
    folder = classification(tmp_path, ["yes", "no", "yes", "no"])
    (folder / "study.yaml").write_text("roles: {train: [A], test: [C]}")
    with pytest.raises(StudyError, match="'roles' names the site 'C', which no case has; the sites: A, B"):
        open_study(folder)
    (folder / "study.yaml").write_text("roles: {train: [A], test: [B]}")
    assert open_study(folder).config.roles is not None
    assert open_study(folder, site_column="patient").config.roles is None  # they speak of other sites


def test_where_there_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such study"):
        open_study(tmp_path / "nowhere")
    with pytest.raises(StudyError, match=r"there is no manifest\.csv in this folder; see 'elsewhere study new'"):
        open_study(tmp_path)
    (tmp_path / "manifest-t1.csv").write_text("image,label,site\n")
    with pytest.raises(StudyError, match=r"it has manifest-t1\.csv: name the one you mean"):
        open_study(tmp_path)


def test_a_study_made_in_python() -> None:
    cases = [Case(f"c{i}", {"image": Path(f"{i}.png")}, "no" if i else "yes", "AB"[i % 2], f"p{i}") for i in range(4)]
    study = Study.from_cases("made", cases, config=StudyConfig(classes=["no", "yes"]))
    assert (study.sites, study.classes, study.manifest) == (("A", "B"), ("no", "yes"), None)
    assert [case.id for case in study.of_site("B")] == ["c1", "c3"]
    assert study.by_id["c2"] is cases[2]
    with pytest.raises(StudyError, match="has no site 'C'; its sites: A, B"):
        study.of_site("C")
    with pytest.raises(StudyError, match="two cases have the id 'c0'"):
        Study.from_cases("made", [cases[0], cases[0]])
    with pytest.raises(StudyError, match="no cases"):
        Study.from_cases("made", [])


@pytest.mark.parametrize(
    ("path", "options", "sites", "task", "dims", "classes"),
    [
        ("retina-vessels", {}, 4, "segmentation", 2, ("background", "foreground")),
        ("cxr", {}, 3, "classification", 2, ("normal", "abnormal")),
        ("tcga-lgg/manifest-flair.csv", {}, 4, "segmentation", 3, ("background", "foreground")),
        ("tcga-lgg/manifest.csv", {"site_column": "sequence"}, 3, "segmentation", 3, ("background", "foreground")),
        ("hippocampus", {}, 1, "segmentation", 3, ("background", "class_1", "class_2")),
    ],
)
def test_real_studies_open_as_they_are(
    shared_data: Path, path: str, options: dict[str, str], sites: int, task: str, dims: int, classes: tuple[str, ...]
) -> None:
    study = open_study(shared_data / path, **options)  # type: ignore[arg-type]
    assert (len(study.sites), study.task, study.dims, study.classes) == (sites, task, dims, classes)


def test_masks_that_are_taken_voxel_by_voxel(tmp_path: Path) -> None:
    """Declared, said, checked, read, and in the identity of what is trained on it."""
    rows = ["image,label,site,patient"]
    turned = np.diag([-1.0, -1.0, 2.0, 1.0])
    for i in range(4):
        volume = np.random.default_rng(i).integers(0, 900, (6, 5, 4), dtype=np.int16)
        nib.save(nib.Nifti1Image(volume, turned), tmp_path / f"{i}.nii.gz")
        nib.save(nib.Nifti1Image((volume > 450).astype(np.uint8), np.eye(4)), tmp_path / f"{i}-mask.nii.gz")
        rows.append(f"{i}.nii.gz,{i}-mask.nii.gz,{'AB'[i % 2]},p{i}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    assert [problem.code for problem in check_study(tmp_path, jobs=1).errors] == ["grid"] * 4
    (tmp_path / "study.yaml").write_text("mask_place: voxels\n")
    assert check_study(tmp_path, jobs=1).errors == ()
    study = open_study(tmp_path)
    assert any("mask_place: voxels" in line for line in describe(study))
    store = Store(Cache(tmp_path / "cache"), Schema.of(study), study.cases)
    for case in study.cases:
        loaded = store.load(case.id)
        assert np.array_equal(np.asarray(loaded.label) == 1, np.asarray(loaded.image[0]) > 450)
    as_headers_say = replace(Schema.of(study), mask_place="header")
    assert store.cache.key(study.cases[0], as_headers_say) != store.cache.key(study.cases[0], Schema.of(study))
    (tmp_path / "study.yaml").write_text("mask_place: viewer\n")
    with pytest.raises(StudyError, match="mask_place"):
        open_study(tmp_path)


def test_a_study_is_shown_in_a_few_lines(tmp_path: Path) -> None:
    study = open_study(classification(tmp_path, ["no", "yes"] * 200))
    shown = repr(study)
    assert len(shown.splitlines()) == 3
    assert len(shown) < 500
    assert f"{study.name}: classification, 2D, 400 cases" in shown
