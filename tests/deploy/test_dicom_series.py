"""Series told apart and put in order, beside SimpleITK; what is told of them names nobody."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from deploy.predict_material import AXIAL, NAME, NUMBER, ct_voxels, oblique, write_multiframe, write_series
from elsewhere.deploy.dicom_series import Series, read_series, scan, series_at, silenced, sources, without_paths
from elsewhere.errors import StudyError


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only(folder: Path) -> Series:
    found = scan(files(folder)).series
    assert len(found) == 1
    return found[0]


def test_series_of_one_folder_and_of_several_are_told_apart(tmp_path: Path) -> None:
    voxels = ct_voxels()
    write_series(tmp_path / "ct", voxels, series="1.2.3")
    write_series(tmp_path / "ct", voxels[:4], series="1.2.4")
    for number, path in enumerate(sorted((tmp_path / "ct").iterdir())):  # as an export of a PACS: split in folders
        (tmp_path / "ct" / f"part{number % 2}").mkdir(exist_ok=True)
        path.rename(tmp_path / "ct" / f"part{number % 2}" / path.name)
    found = scan(files(tmp_path))
    assert {(series.uid, len(series.instances)) for series in found.series} == {("1.2.3", 6), ("1.2.4", 4)}
    assert (found.unreadable, found.others, found.copies) == ((), 0, 0)
    for series, expected in zip(sorted(found.series, key=lambda s: s.uid), (voxels, voxels[:4]), strict=True):
        assert np.array_equal(read_series(series, "s").array[0], expected.transpose(2, 1, 0))


def test_copies_and_what_is_no_image_are_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    first = files(folder)[0]
    (folder / "copy.dcm").write_bytes(first.read_bytes())
    report = pydicom.dcmread(first)
    del report.PixelData, report.Rows
    report.Modality, report.SOPInstanceUID, report.SOPClassUID = "SR", "1.5.5", "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(folder / "report.dcm")
    (folder / "broken.dcm").write_bytes(first.read_bytes()[:140])
    headless = pydicom.dcmread(first)  # cut off after its SOPClassUID
    for tag in ("PixelData", "Rows", "Columns"):
        delattr(headless, tag)
    headless.save_as(folder / "headless.dcm")
    found = scan(files(folder))
    assert [len(series.instances) for series in found.series] == [6]
    assert (found.others, found.copies) == (1, 1)
    assert [path.name for path, _ in found.unreadable] == ["broken.dcm", "headless.dcm"]


@pytest.mark.parametrize("orientation", [AXIAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), oblique()])
def test_voxels_and_their_places_are_those_of_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    folder = write_series(tmp_path / "ct", ct_voxels(), orientation=orientation, slope=2, intercept=-1200)
    picture = read_series(only(folder), "series-0001")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = picture.geometry.affine
    assert affine is not None
    theirs = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    for index in [(0, 0, 0), (11, 9, 5), (3, 4, 2), (5, 8, 1)]:
        place = (affine @ [*index, 1])[:3] * [-1, -1, 1]
        there = image.TransformPhysicalPointToIndex(place.tolist())
        assert image.TransformIndexToPhysicalPoint(there) == pytest.approx(place, abs=1e-4)
        assert picture.array[(0, *index)] == theirs[there]


@pytest.mark.parametrize("orientation", [AXIAL, oblique()])
def test_a_multiframe_file_reads_as_the_series_that_it_was_made_of(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), orientation=orientation)
    order = [3, 0, 5, 1, 4, 2]
    with silenced():
        path = write_multiframe(tmp_path / "enhanced.dcm", folder, order)
    one, many = read_series(series_at(path), "a"), read_series(only(folder), "b")
    assert np.array_equal(one.array, many.array)
    assert one.geometry.affine == pytest.approx(many.geometry.affine)
    datasets, frames = sources(series_at(path))
    assert len(datasets) == 1
    # By hand: frame i of the file shows the slice order[i], and that is what a segmentation of the file needs.
    assert frames.tolist() == order


def test_sources_are_sorted_as_the_slices_are(tmp_path: Path) -> None:
    datasets, frames = sources(only(write_series(tmp_path / "ct", ct_voxels())))
    assert [int(data.InstanceNumber) for data in datasets] == [0, 1, 2, 3, 4, 5]
    assert frames.tolist() == [0, 1, 2, 3, 4, 5]
    assert all("PixelData" not in data for data in datasets)


def test_a_missing_slice_is_named_by_its_position_and_nobody_is(tmp_path: Path) -> None:
    folder = write_series(tmp_path / NUMBER, ct_voxels(), skip=(2, 3))
    with pytest.raises(
        StudyError, match=r"^series-0007: 2 slices missing between 103\.00 and 112\.00 mm .* 3\.00 mm apart$"
    ):
        read_series(only(folder), "series-0007")


def test_a_damaged_slice_is_told_without_its_name(tmp_path: Path) -> None:
    folder = write_series(tmp_path / NUMBER, ct_voxels())
    path = files(folder)[2]
    data = pydicom.dcmread(path)
    data.PixelData = data.PixelData[:20]
    data.save_as(path)
    with pytest.raises(StudyError, match=r"^series-0001: the pixels cannot be decoded") as caught:
        read_series(only(folder), "series-0001")
    assert NUMBER not in str(caught.value)
    assert caught.value.__cause__ is None  # nor in a traceback


def test_each_file_by_itself(tmp_path: Path) -> None:
    found = scan(files(write_series(tmp_path / "ct", ct_voxels())), singly=True).series
    assert len({series.identity for series in found}) == 6
    assert read_series(found[0], "s").geometry.shape == (10, 12)


def test_identity_is_of_the_series_and_content_of_its_instances(tmp_path: Path) -> None:
    whole = only(write_series(tmp_path / "a", ct_voxels()))
    moved = only(write_series(tmp_path / "b", ct_voxels()))
    fewer = only(write_series(tmp_path / "c", ct_voxels(), skip=(5,)))
    other = only(write_series(tmp_path / "d", ct_voxels(), series="1.2.5"))
    assert (whole.identity, whole.content) == (moved.identity, moved.content)
    assert whole.identity == fewer.identity != other.identity
    assert whole.content != fewer.content
    assert NUMBER not in whole.identity + whole.content


def test_files_without_a_series_belong_to_their_folder(tmp_path: Path) -> None:
    for name in "ab":
        write_series(tmp_path / name, ct_voxels(), series=f"1.2.{ord(name)}", SeriesInstanceUID=None)
    found = scan(files(tmp_path)).series
    assert [(series.uid, len(series.instances)) for series in found] == [("", 6), ("", 6)]


def test_files_without_any_uid_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    """As some anonymisers leave them: one size, no SeriesInstanceUID, no SOPInstanceUID."""
    gone = {"SeriesInstanceUID": None, "SOPInstanceUID": None}
    for name, seed in (("a", 0), ("b", 1), ("copy of b", 1)):
        write_series(tmp_path / name, ct_voxels(seed), **gone)
    found = scan(files(tmp_path))
    assert [len(series.instances) for series in found.series] == [6, 6]
    assert found.copies == 6
    assert len({series.identity for series in found.series}) == 2
    assert len({part.identity for part in scan(files(tmp_path), singly=True).series}) == 12
    assert scan(files(tmp_path / "b")).series[0].identity == found.series[1].identity


def test_a_slice_that_lies_beside_the_others_is_said(tmp_path: Path) -> None:
    """One affine cannot say where it is: its mask would lie elsewhere."""
    for number, sideways in enumerate((25.0, 0.1)):
        folder = write_series(tmp_path / str(number), ct_voxels(), series=f"1.2.{number}")
        for path in folder.iterdir():
            data = pydicom.dcmread(path)
            if data.InstanceNumber == 3:
                data.ImagePositionPatient = [-20.0 + sideways, 15.0, 109.0]
                data.save_as(path)
    with pytest.raises(StudyError, match=r"s: the slices lie sideways of each other, by 25\.00 mm at 109\.00 mm along"):
        read_series(only(tmp_path / "0"), "s")
    assert read_series(only(tmp_path / "1"), "s").array.shape == (1, 12, 10, 6)


def test_a_tilted_gantry_is_a_sheared_volume(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        index = int(data.InstanceNumber)
        data.ImagePositionPatient = [-20.0, 15.0 + 1.2 * index, 100.0 + 3.0 * index]
        data.save_as(path)
    affine = read_series(only(folder), "s").geometry.affine
    assert affine is not None
    assert affine[:3, 2] == pytest.approx([0, -1.2, 3])


def test_paths_are_taken_out_of_messages() -> None:
    folder = Path("/data/KLARA G")
    message = f"{folder}/1.dcm: wanted 1 image; its fellow channel '1.dcm' in {folder} has 1 slice"
    told = without_paths(message, [folder / "1.dcm", folder / "2.dcm"], "series-0001")
    assert told == "series-0001: wanted 1 image; its fellow channel 'series-0001' in series-0001 has 1 slice"
    message = f"{folder}: 2 series: 1.2.840.113 (6 files), 1.2.3 (1.25 mm); name one as 'KLARA G#SERIES'"
    told = without_paths(message, [folder], "series-0001")
    assert told == "series-0001: 2 series: UID (6 files), UID (1.25 mm); name one as 'series-0001#SERIES'"


def test_libraries_are_silenced_and_let_go(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("highdicom.base")
    with silenced(), warnings.catch_warnings(record=True) as warned:
        logger.warning("potentially invalid: %s", NAME)
        warnings.warn(NAME, stacklevel=1)
    assert not caplog.records
    assert not warned
    logger.warning("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]
