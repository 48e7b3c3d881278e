"""What a command is run on: found, told apart, and named so that a repeated command means the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deploy.predict_material import NUMBER, ct_voxels, write_series
from elsewhere.deploy.case_names import Names, file_name
from elsewhere.deploy.inputs import Found, find_inputs, read_input, stored_case
from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry, Picture


def takes(dims: int = 3, channels: tuple[str, ...] = ("image",), **grid: Any) -> Any:
    """What of a model's preprocessing is looked at here."""
    return SimpleNamespace(dims=dims, channels=channels, size=None, spacing=None, **grid)


def find(*paths: Path, dims: int = 3, known: dict[str, str] | None = None, **more: Any) -> Found:
    return find_inputs(list(paths), takes(dims), known=known or {}, **more)


def save_image(path: Path, shape: tuple[int, ...] = (8, 9), value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".png", ".jpg"):
        Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    else:
        nib.save(nib.Nifti1Image(np.full(shape, value, np.int16), np.diag([1.0, 2, 3, 1])), path)
    return path


def test_a_folder_is_walked_and_its_images_are_named_by_their_paths(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("b.nii.gz", "deep/er/a.nii", "deep/b.png", ".hidden/c.png", "._b.png"):
        save_image(data / name, (8, 9) if name.endswith("png") else (8, 9, 4))
    (data / "notes.txt").write_text("no image")
    (data / "masks").mkdir()
    save_image(data / "masks" / "b.nii.gz", (8, 9, 4))
    found = find(data, out=data / "masks")
    assert [(one.case, one.images["image"].name) for one in found.inputs] == [
        ("b", "b.nii.gz"),
        ("deep/b", "b.png"),
        ("deep/er/a", "a.nii"),
    ]
    assert found.notes == ("passed over 1 file: no image",)
    assert found.inputs[0].shown == str(data / "b.nii.gz")


def test_folders_that_are_not_walked_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_image(tmp_path / "elsewhere" / "b.png")
    save_image(tmp_path / "data" / "a.png")
    save_image(tmp_path / "data" / "secret" / "c.png")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    scandir = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = find(tmp_path / "data")
    assert [one.case for one in found.inputs] == ["a"]
    assert found.notes == (
        "passed over 1 link: to a folder, which is walked only where you name it",
        "passed over 1 folder: cannot be opened",
    )


def test_two_cases_of_one_name_have_two_names_and_keep_them(tmp_path: Path) -> None:
    one, two = save_image(tmp_path / "a" / "x.png"), save_image(tmp_path / "b" / "x.png")
    save_image(tmp_path / "b" / "x.jpg")
    first = {i.fingerprint: i.case for i in find(one, two, tmp_path / "b" / "x.jpg").inputs}
    assert sorted(first.values()) == ["x", "x-2", "x-3"]
    known = {fingerprint.partition("-")[0]: case for fingerprint, case in first.items()}
    again = {i.fingerprint: i.case for i in find(tmp_path / "b", known=known).inputs}
    assert again == {key: case for key, case in first.items() if case != "x"}
    assert find(one, one, tmp_path / "a").inputs == find(one).inputs  # the same file thrice is one case


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    path = save_image(tmp_path / "x.png")
    before = find(path).inputs[0].fingerprint
    assert find(path).inputs[0].fingerprint == before
    os.utime(path, ns=(1, 1))
    after = find(path).inputs[0].fingerprint
    assert after.split("-")[0] == before.split("-")[0]
    assert after != before


def test_series_are_numbered_and_their_paths_are_kept_to_ourselves(tmp_path: Path) -> None:
    folder = write_series(tmp_path / f"KLARA {NUMBER}", ct_voxels())
    write_series(folder / "more", ct_voxels(), series="1.2.4")
    found = find(tmp_path)
    assert sorted(one.case for one in found.inputs) == ["series-0001", "series-0002"]
    for one in found.inputs:
        told = f"{one.case} {one.shown} {one.series_uid} {one.fingerprint} {one.problem}"
        assert NUMBER not in told
        assert "1.2." not in told
        assert one.private
    told = find(tmp_path, keep_ids=True).inputs
    assert {(one.series_uid, one.shown) for one in told} == {("1.2.3", str(folder)), ("1.2.4", str(folder / "more"))}


def test_a_series_keeps_its_number_when_another_comes_before_it(tmp_path: Path) -> None:
    write_series(tmp_path / "b", ct_voxels(), series="1.2.4")
    (first,) = find(tmp_path).inputs
    write_series(tmp_path / "a", ct_voxels(), series="1.2.3")
    known = {first.fingerprint.partition("-")[0]: first.case}
    names = {one.series.uid: one.case for one in find(tmp_path, known=known).inputs if one.series}
    assert names == {"1.2.4": "series-0001", "1.2.3": "series-0002"}


def test_one_series_of_a_folder(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    write_series(folder, ct_voxels(), series="1.2.4")
    (one,) = find(folder.with_name("ct#1.2.4")).inputs
    assert one.series is not None
    assert one.series.uid == "1.2.4"
    with pytest.raises(StudyError, match="no image series of this SeriesInstanceUID"):
        find(folder.with_name("ct#1.2.9"))


def test_a_series_that_is_meant_twice_is_one(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), skip=(5,))
    shutil.copytree(write_series(tmp_path / "more", ct_voxels()), tmp_path / "again")
    found = find(folder.with_name("ct#1.2.3"), folder, folder)
    assert ([len(one.series.instances) for one in found.inputs if one.series], found.notes) == ([5], ())
    found = find(folder.with_name("ct#1.2.3"), tmp_path / "more", tmp_path / "again")
    assert [(one.case, len(one.series.instances)) for one in found.inputs if one.series] == [("series-0001", 6)]
    assert found.notes == ("passed over 11 files: a copy of another DICOM file (the same SOPInstanceUID)",)
    assert len(find(folder.with_name("ct#1.2.3"), dims=2).inputs) == 5


def test_two_series_without_a_uid_have_two_names(tmp_path: Path) -> None:
    for name in "ab":
        write_series(tmp_path / name, ct_voxels(), series=f"1.2.{ord(name)}", SeriesInstanceUID=None)
    assert [one.case for one in find(tmp_path).inputs] == ["series-0001", "series-0002"]


def test_what_was_written_into_the_folder_itself_is_no_input(tmp_path: Path) -> None:
    save_image(tmp_path / "a.nii.gz", (6, 7, 8))
    for name in ("masks", "probabilities"):
        save_image(tmp_path / name / "a.nii.gz", (6, 7, 8))
    assert [one.case for one in find(tmp_path, out=tmp_path).inputs] == ["a"]
    assert len(find(tmp_path, out=tmp_path / "out").inputs) == 3


def test_files_of_a_series_given_one_by_one_are_one_volume(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    (one,) = find(*sorted(folder.iterdir())).inputs
    assert np.array_equal(read_input(one, takes()).image[0].shape, (12, 10, 6))
    assert len(find(folder, dims=2).inputs) == 6


def test_what_cannot_be_read_is_a_case_that_fails(tmp_path: Path) -> None:
    folder = write_series(tmp_path / f"KLARA {NUMBER}", ct_voxels())
    (folder / f"{NUMBER}.dcm").write_bytes(b"no DICOM")
    (tmp_path / "empty.png").write_bytes(b"")
    problems = [one.problem for one in find(tmp_path).inputs]
    assert problems == [
        f"{tmp_path / 'empty.png'}: the file is empty (0 bytes)",
        "unreadable-0001: a file of this folder is no readable DICOM file; it is truncated or corrupt",
        None,
    ]
    told = [one.problem for one in find(tmp_path, keep_ids=True).inputs]
    assert told[1] == f"{folder / NUMBER}.dcm: is no readable DICOM file; it is truncated or corrupt"


def test_nothing_to_predict(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(StudyError, match="no image here; wanted PNG, JPEG, TIFF, NIfTI or DICOM"):
        find(tmp_path)
    with pytest.raises(StudyError, match="there is no such file"):
        find(tmp_path / "absent.png")
    with pytest.raises(StudyError, match="unknown format"):
        find(tmp_path / "notes.txt")


# ---- studies


def study(tmp_path: Path, text: str) -> Path:
    for name in ("a", "b"):
        save_image(tmp_path / "images" / f"{name}-t1.nii.gz", (6, 7, 8), 1)
        save_image(tmp_path / "images" / f"{name}-flair.nii.gz", (6, 7, 8), 2)
    (tmp_path / "manifest.csv").write_text(text)
    return tmp_path


def test_a_study_without_labels_with_channels_in_any_order(tmp_path: Path) -> None:
    folder = study(
        tmp_path,
        "image:flair,image:t1,case,age\n"
        "images/a-flair.nii.gz,images/a-t1.nii.gz,one,7\n\n"
        "images/b-flair.nii.gz,,two,8\n"
        "images/b-flair.nii.gz,../b-t1.nii.gz,three,8\n"
        "images/b-flair.nii.gz,images/b-t1.nii.gz\n",
    )
    channels = takes(channels=("t1", "flair"))
    inputs = find_inputs([folder], channels, known={}).inputs
    assert [one.case for one in inputs] == ["one", "row-4", "row-5", "row-6"]
    assert [one.problem for one in inputs] == [
        None,
        "manifest.csv row 4: image:t1 is empty; fill it in or remove the row",
        "manifest.csv row 5: image:t1 leaves the study's folder; move the file into it, or pass --allow-outside",
        "manifest.csv row 6: has 2 cells, the header has 4; quote cells that hold a comma",
    ]
    image = read_input(inputs[0], channels).image
    assert image[:, 0, 0, 0].tolist() == [1, 2]  # in the order of the model
    with pytest.raises(StudyError, match=r"manifest\.csv row 4: image:t1 is empty"):
        read_input(inputs[1], channels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("picture\na.png\n", "has no column 'image' or 'image:NAME'; found: picture"),
        ("image:t1,image:t2\na,b\n", "has the channels t1, t2; the model takes t1, flair"),
        ("image,case\na.png,x\nb.png,x\n", "manifest.csv row 3: case 'x' is already in row 2"),
    ],
)
def test_a_manifest_that_is_none_for_this_model(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        find_inputs([study(tmp_path, text)], takes(channels=("t1", "flair")), known={})


def test_a_study_of_series_without_names(tmp_path: Path) -> None:
    write_series(tmp_path / NUMBER, ct_voxels(), skip=(2,))
    (tmp_path / "manifest.csv").write_text(f"image,label\n{NUMBER},\n")
    (one,) = find(tmp_path).inputs
    assert (one.case, one.shown, one.dicom) == ("series-0001", "manifest.csv row 2", True)
    with pytest.raises(StudyError, match=r"^series-0001: 1 slice missing between 103") as caught:
        read_input(one, takes())
    assert NUMBER not in str(caught.value)
    (told,) = find(tmp_path, keep_ids=True).inputs
    assert (told.case, told.shown) == (NUMBER, str(tmp_path / NUMBER))


def test_rows_that_cannot_be_read_keep_their_paths_to_themselves(tmp_path: Path) -> None:
    for series in ("1.2.77", "1.2.78"):
        write_series(tmp_path / NUMBER, ct_voxels(), series=series)
    write_series(tmp_path / f"{NUMBER}-b", ct_voxels(), series="1.2.79")
    save_image(tmp_path / "t1.nii.gz", (6, 7, 8))
    told = []
    for text in (
        f"image\n{NUMBER}\n",  # two series
        f"image\n{NUMBER}#1.2.99\n",  # of which this is none
        f"image\n{NUMBER}-absent\n{NUMBER}-absent/1.dcm\n",
        f"image:t1,image:ct\nt1.nii.gz,{NUMBER}-b\n",  # the second channel is another grid
    ):
        (tmp_path / "manifest.csv").write_text(text)
        channels = ("t1", "ct") if "t1" in text else ("image",)
        for one in find_inputs([tmp_path], takes(channels=channels), known={}).inputs:
            assert (one.case[:6], one.shown) in {("series", "manifest.csv row 2"), ("series", "manifest.csv row 3")}
            with pytest.raises(StudyError, match=r"^series-000\d: ") as caught:
                read_input(one, takes(channels=channels))
            told.append(str(caught.value))
    (tmp_path / "manifest.csv").write_text(f"image\n{NUMBER}-b\n{NUMBER}-b\n")
    with pytest.raises(StudyError, match=r"manifest\.csv row 3: an image of this name is already in row 2") as caught:
        find(tmp_path)
    told.append(str(caught.value))
    assert len(told) == 6
    for sentence in told:
        assert NUMBER not in sentence
        assert "1.2." not in sentence
    (tmp_path / "manifest.csv").write_text("image\nabsent.nii.gz\n")  # a name that is the user's own
    with pytest.raises(StudyError, match=r"absent\.nii\.gz: there is no such file"):
        read_input(find(tmp_path).inputs[0], takes())


@pytest.mark.parametrize("column", ["", ",case"])
def test_a_row_keeps_its_name_wherever_it_stands(tmp_path: Path, column: str) -> None:
    """A row that is put before the others must not take their names, nor their answers."""

    def cases(names: str, known: dict[str, str]) -> dict[str, str]:
        lines = [f"{name}.nii.gz" + (f",case {name}" if column else "") for name in names]
        (tmp_path / "manifest.csv").write_text("\n".join([f"image{column}", *lines]) + "\n")
        return {one.fingerprint: f"{one.case} {Path(one.shown).name}" for one in find(tmp_path, known=known).inputs}

    for name in "abc":
        path = save_image(tmp_path / f"{name}.nii.gz", (6, 7, 8))
        os.utime(path, ns=(1, 1))  # as many archives are unpacked: all of one size and time
    called = "case {0} {0}.nii.gz" if column else "{0} {0}.nii.gz"
    first = cases("ab", {})
    assert list(first.values()) == [called.format(name) for name in "ab"]
    known = {key.partition("-")[0]: value.rpartition(" ")[0] for key, value in first.items()}
    again = cases("cab", known)
    assert list(again.values()) == [called.format(name) for name in "cab"]
    assert set(first) < set(again)


def test_rows_of_series_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    for name in "ab":
        for path in write_series(tmp_path / name, ct_voxels(), series=f"1.2.{ord(name)}").iterdir():
            os.utime(path, ns=(1, 1))
    found = []
    for name in "ab":
        (tmp_path / "manifest.csv").write_text(f"image\n{name}\n")
        found += find(tmp_path).inputs
    assert [(one.case, one.shown) for one in found] == [("series-0001", "manifest.csv row 2")] * 2
    assert found[0].fingerprint != found[1].fingerprint


# ---- onto the grid of the network


def picture(shape: tuple[int, ...], dtype: Any = np.int16) -> Picture:
    spatial = shape[1:]
    affine = np.array([[0, -2.0, 0, 9], [-1, 0, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1]]) if len(spatial) == 3 else None
    spacing = (1.0, 2.0, 3.0)[: len(spatial)]
    return Picture(np.random.default_rng(0).integers(0, 200, shape).astype(dtype), Geometry(spatial, spacing, affine))


def test_a_case_is_as_the_cache_of_a_study_has_it(tmp_path: Path) -> None:
    from elsewhere.study.cache import Cache
    from elsewhere.study.case import Case
    from elsewhere.study.decode import Schema
    from elsewhere.study.store import Store

    given = picture((1, 6, 7, 8))
    nib.save(nib.Nifti1Image(given.array[0], given.geometry.affine), tmp_path / "x.nii.gz")
    grid: dict[str, Any] = {"spacing": (1.5, 1.5, 2.0), "size": None}
    wanted = SimpleNamespace(dims=3, channels=("image",), **grid)
    case = Case("x", {"image": tmp_path / "x.nii.gz"}, None, "", "x")
    theirs = Store(Cache(tmp_path / "cache"), Schema((), dims=3), [case], 1, **grid).load("x")
    ours = read_input(find(tmp_path / "x.nii.gz").inputs[0], wanted)
    assert ours.geometry.shape != ours.original.shape
    assert np.array_equal(ours.image, theirs.image)
    assert (ours.mean, ours.std) == (theirs.mean, theirs.std)
    assert np.array_equal(ours.geometry.affine, theirs.geometry.affine)
    assert np.array_equal(ours.original.affine, theirs.original.affine)


@pytest.mark.parametrize(
    ("shape", "wanted", "words"),
    [
        ((1, 6, 7), takes(3), r"x: the image is 2D \(6x7\); the model takes images in 3D"),
        ((2, 6, 7), takes(2, ("red", "green", "blue")), "2 channels; the model takes 3 .* 'image:NAME'"),
        ((1, 6, 7, 8), takes(3, ("t1", "flair")), r"1 channel; the model takes 2 \(t1, flair\)"),
    ],
)
def test_an_image_that_the_model_does_not_take(shape: tuple[int, ...], wanted: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        stored_case(picture(shape), "x", wanted)


def test_a_grey_photograph_and_a_model_of_colour() -> None:
    grey = picture((1, 6, 7), np.uint8)
    stored = stored_case(grey, "x", takes(2, ("red", "green", "blue")))
    assert stored.image.shape == (3, 6, 7)
    assert (stored.image == grey.array).all()
    assert stored.mean == pytest.approx((grey.array.mean(),) * 3)


def test_nan_is_refused() -> None:
    broken = picture((1, 6, 7), np.float32)
    broken.array[0, 2, 3] = np.nan
    with pytest.raises(StudyError, match="x has 1 NaN or Inf values"):
        stored_case(broken, "x", takes(2))


# ---- names


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=20))
def test_names_are_unique_as_files_and_stay(cases: list[tuple[str, str]]) -> None:
    names = Names({})
    given_ = {identity: names.of(identity, wanted) for identity, wanted in cases}
    assert len({file_name(name) for name in given_.values()}) == len(given_)
    again = Names(given_)
    assert {identity: again.of(identity, "other") for identity in reversed(list(given_))} == given_


def test_names_that_no_table_or_disk_could_hold(tmp_path: Path) -> None:
    long = "é" * 120
    for name in (f"{long}1.png", f"{long}2.png", "a\nb.png", "a b.png", "X.png", "x.jpg"):
        save_image(tmp_path / name)
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(file, format="PNG")
    cases = [one.case for one in find(tmp_path, dims=2).inputs]
    assert {"a b", "a b-2", "X", "x-2"} < set(cases)
    names = [file_name(case) for case in cases]
    assert len({name.casefold() for name in names}) == 7
    assert max(len(part.encode()) for name in names for part in name.split("/")) <= 180
    for case in cases:
        case.encode()
        assert case.splitlines() == [case]


def test_numbers_are_not_taken_twice() -> None:
    names = Names({"a": "series-0001", "b": "series-0003"})
    assert [names.numbered(identity, "series") for identity in "cadb"] == [
        "series-0002",
        "series-0001",
        "series-0004",
        "series-0003",
    ]


def test_a_case_that_is_gone_is_said_when_it_is_read(tmp_path: Path) -> None:
    path = save_image(tmp_path / "x.png")
    (one,) = find(path, dims=2).inputs
    path.unlink()
    with pytest.raises(StudyError, match="there is no such file"):
        read_input(one, takes(2))
    folder = write_series(tmp_path / NUMBER, ct_voxels())
    (series,) = find(folder).inputs
    shutil.rmtree(folder)
    with pytest.raises(StudyError, match=r"^series-0001: cannot be read as DICOM") as caught:
        read_input(series, takes())
    assert NUMBER not in str(caught.value)
