"""Masks on the grid of their input, read back by others: nibabel, Pillow, tifffile, highdicom, SimpleITK."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deploy.predict_material import AXIAL, NAME, NUMBER, ct_voxels, oblique, write_multiframe, write_series
from elsewhere.deploy.case_names import file_name
from elsewhere.deploy.dicom_series import read_series, scan, series_at, silenced
from elsewhere.deploy.inputs import MASKS, PROBABILITIES, Input
from elsewhere.deploy.labelling import Labelling
from elsewhere.deploy.outputs import (
    class_counts,
    mask_values,
    output_path,
    volume_ml,
    write_mask,
    write_probabilities,
)
from elsewhere.errors import RunError
from elsewhere.study.case import Geometry
from elsewhere.study.reading import read_image, read_label

THREE = Labelling(("background", "organ", "lesion"), (0, 1, 2))


def labels_of(shape: tuple[int, ...], seed: int = 1) -> np.ndarray[Any, Any]:
    """Three classes without any symmetry; empty in the last slice."""
    labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    labels[..., -1] = 0
    return labels


def as_input(path: Path) -> Input:
    return Input("case", str(path), {"image": path}, "x-y")


def write(folder: Path, found: Input, labels: np.ndarray[Any, Any], geometry: Geometry, labelling: Labelling) -> Path:
    path = folder / output_path(found, geometry, MASKS)
    write_mask(path, found, labels, geometry, labelling)
    return path


# ---- NIfTI


AFFINES = {
    "as stored by ITK": np.array([[-0.8, 0, 0, 20], [0, -0.5, 0, -15], [0, 0, 3, 100], [0, 0, 0, 1.0]]),
    "axes in another order": np.array([[0, 0, 2.0, 1], [1.5, 0, 0, -3], [0, -0.7, 0, 5], [0, 0, 0, 1]]),
    "oblique": np.array([[0.7, -0.2, 0.3, 4], [0.1, 0.9, -0.4, -7], [-0.2, 0.3, 1.8, 9], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("name", AFFINES)
def test_nifti_keeps_its_grid_and_nothing_else(tmp_path: Path, name: str) -> None:
    image = nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), AFFINES[name])
    image.set_qform(AFFINES[name], code=1)
    image.set_sform(AFFINES[name], code=2)
    image.header.set_xyzt_units("micron", "sec")
    image.header["descrip"], image.header["db_name"] = NAME.encode(), NUMBER.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
    nib.save(image, tmp_path / "image.nii.gz")
    source = as_input(tmp_path / "image.nii.gz")
    geometry = read_image(source.images).geometry
    labels = labels_of((5, 6, 7))
    path = write(tmp_path / "out", source, labels, geometry, Labelling(("b", "o", "l"), (0, 4, 300)))
    assert path == tmp_path / "out" / "masks" / "case.nii.gz"
    back = nib.load(path)
    assert back.get_data_dtype() == np.uint16
    assert np.array_equal(np.asarray(back.dataobj), np.array([0, 4, 300])[labels])
    for form in ("get_sform", "get_qform"):
        ours, theirs = getattr(back, form)(coded=True), getattr(image, form)(coded=True)
        assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
        assert ours[1] == theirs[1]
    assert back.header.get_xyzt_units()[0] == "micron"
    data = gzip.decompress(path.read_bytes())
    assert NAME.encode() not in data
    assert NUMBER.encode() not in data
    assert np.array_equal(read_label(path, geometry).array, np.asarray(back.dataobj))


def test_nifti_without_codes_lies_where_nibabel_puts_it(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    image.header.set_zooms((2, 3, 4))
    nib.save(image, tmp_path / "image.nii")
    source = as_input(tmp_path / "image.nii")
    path = write(tmp_path, source, labels_of((4, 5, 6)), read_image(source.images).geometry, THREE)
    assert nib.load(path).affine == pytest.approx(nib.load(tmp_path / "image.nii").affine)


def test_a_nifti_of_one_slice_stays_one(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 1), np.float32), np.diag([2.0, 3, 1, 1])), tmp_path / "image.nii.gz")
    source = as_input(tmp_path / "image.nii.gz")
    picture = read_image(source.images)
    labels = labels_of(picture.geometry.shape)  # rows, columns: j, i
    path = write(tmp_path, source, labels, picture.geometry, THREE)
    back = nib.load(path)
    assert np.array_equal(np.asarray(back.dataobj)[..., 0], labels.T)
    assert back.affine == pytest.approx(np.diag([2.0, 3, 1, 1]))


def test_probabilities_of_a_volume_are_a_fourth_axis(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), AFFINES["oblique"]), tmp_path / "image.nii.gz")
    source = as_input(tmp_path / "image.nii.gz")
    geometry = read_image(source.images).geometry
    found = np.random.default_rng(0).random((3, 5, 6, 7)).astype(np.float32)
    path = tmp_path / output_path(source, geometry, PROBABILITIES)
    write_probabilities(path, source, found, geometry)
    back = nib.load(path)
    assert np.array_equal(np.moveaxis(np.asarray(back.dataobj), -1, 0), found)
    assert back.affine == pytest.approx(AFFINES["oblique"], abs=1e-5)
    assert np.array_equal(read_image({"image": path}).array, found)


# ---- PNG and TIFF


@pytest.mark.parametrize("values", [(0, 128, 255), (0, 1, 700)])
def test_png_has_the_values_of_the_study(tmp_path: Path, values: tuple[int, ...]) -> None:
    Image.new("L", (9, 7)).save(tmp_path / "image.png")
    labels = labels_of((7, 9))
    path = write(
        tmp_path, as_input(tmp_path / "image.png"), labels, Geometry((7, 9)), Labelling(("b", "o", "l"), values)
    )
    assert path.name == "case.png"
    assert np.array_equal(np.array(Image.open(path)), np.array(values)[labels])
    assert np.array_equal(read_label(path).array, np.array(values)[labels])


def test_a_value_that_no_png_holds(tmp_path: Path) -> None:
    Image.new("L", (9, 7)).save(tmp_path / "image.png")
    with pytest.raises(RunError, match=r"the class values \(0, 1, -1\) do not fit a PNG"):
        write(
            tmp_path,
            as_input(tmp_path / "image.png"),
            labels_of((7, 9)),
            Geometry((7, 9)),
            Labelling(tuple("bol"), (0, 1, -1)),
        )
    assert not (tmp_path / "masks").exists()


def test_a_stack_gives_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((4, 7, 9), np.uint8), photometric="minisblack")
    source = as_input(tmp_path / "image.tif")
    geometry = read_image(source.images).geometry
    labels = labels_of((7, 9, 4))
    path = write(tmp_path, source, labels, geometry, THREE)
    assert np.array_equal(tifffile.imread(path), labels.transpose(2, 0, 1))
    assert np.array_equal(read_label(path).array, labels)


def test_probabilities_of_an_image_are_pages(tmp_path: Path) -> None:
    Image.new("L", (9, 7)).save(tmp_path / "image.png")
    source = as_input(tmp_path / "image.png")
    found = np.random.default_rng(0).random((3, 7, 9)).astype(np.float32)
    path = tmp_path / output_path(source, Geometry((7, 9)), PROBABILITIES)
    write_probabilities(path, source, found, Geometry((7, 9)))
    assert path.name == "case.tif"
    assert np.array_equal(tifffile.imread(path), found)


# ---- DICOM SEG


def series_input(files: list[Path], name: str = "series-0001") -> Input:
    series = scan(sorted(files)).series[0]
    return Input(name, name, {}, "x-y", series=series, dicom=True, private=True)


@pytest.mark.parametrize("orientation", [AXIAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), oblique()])
def test_each_slice_has_its_mask_as_highdicom_reads_it(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), orientation=orientation)
    source = series_input(list(folder.iterdir()))
    assert source.series is not None
    geometry = read_series(source.series, "s").geometry
    labels = labels_of(geometry.shape)
    path = write(tmp_path, source, labels, geometry, THREE)
    seg = hd.seg.segread(path)
    assert [(s.SegmentNumber, s.SegmentLabel) for s in seg.SegmentSequence] == [(1, "organ"), (2, "lesion")]
    # By the instance that a frame was made of: nothing of ours is used to say where it lies.
    uids = [f"1.2.3.{i + 1}" for i in range(6)]
    with silenced():
        found = seg.get_pixels_by_source_instance(
            uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
    assert np.array_equal(found, labels.transpose(2, 1, 0))
    # And by place: the volume that highdicom builds of the frames, in LPS mm.
    volume = seg.get_volume(combine_segments=True)
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    inside = np.argwhere(volume.array)
    where = np.rint(np.linalg.inv(geometry.affine) @ (affine @ np.c_[inside, np.ones(len(inside))].T))[:3].T.astype(int)
    assert np.array_equal(labels[tuple(where.T)], volume.array[tuple(inside.T)])
    assert len(inside) == np.count_nonzero(labels)
    assert np.array_equal(read_label(path, geometry).array, labels)


def test_a_multiframe_source(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), orientation=oblique())
    order = [3, 0, 5, 1, 4, 2]
    with silenced():
        enhanced = write_multiframe(tmp_path / "enhanced.dcm", folder, order)
    series = series_at(enhanced)
    source = Input("series-0001", "", {}, "x-y", series=series, dicom=True, private=True)
    geometry = read_series(series, "s").geometry
    labels = labels_of(geometry.shape)
    path = write(tmp_path, source, labels, geometry, THREE)
    seg = hd.seg.segread(path)
    with silenced():
        found = seg.get_pixels_by_source_frame(
            series.part,
            list(range(1, 7)),
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    assert np.array_equal(found, labels.transpose(2, 1, 0)[order])
    assert np.array_equal(read_label(path, geometry).array, labels)


def test_the_object_is_of_its_patient_study_and_frame_of_reference(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    source = series_input(list(folder.iterdir()))
    assert source.series is not None
    geometry = read_series(source.series, "s").geometry
    labelling = Labelling(("background", "Läsion", "骨" * 70), (0, 7, 9))
    path = write(tmp_path, source, labels_of(geometry.shape), geometry, labelling)
    seg, image = pydicom.dcmread(path), pydicom.dcmread(next(iter(folder.iterdir())))
    for tag in ("PatientName", "PatientID", "PatientSex", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert seg[tag].value == image[tag].value
    assert seg.SeriesInstanceUID != image.SeriesInstanceUID
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Läsion", "骨" * 64]
    assert {item.ReferencedSOPInstanceUID for item in seg.SourceImageSequence} == {f"1.2.3.{i + 1}" for i in range(6)}


def test_of_the_patient_the_object_says_no_more_than_whose_it_is(tmp_path: Path) -> None:
    private = {
        "PatientComments": "zuckerkrank", "AdditionalPatientHistory": "Sturz", "Occupation": "Glasbläserin",
        "PatientAge": "073Y", "PatientAddress": "Hauptstraße", "OtherPatientIDs": "AOK-77", "MilitaryRank": "Major",
        "ClinicalTrialSubjectID": "TRIAL-9", "NameOfPhysiciansReadingStudy": "Brinkmann^Klaus",
        "PhysiciansOfRecord": "Frank^Stefan", "AdmittingDiagnosesDescription": "Verdacht", "AdmissionID": "V-1",
        "InstitutionName": "Schwarzwald", "OperatorsName": "Mischa^S", "ProtocolName": "Kopf Klara",
        "ReasonForVisit": "Sturz", "SeriesDescription": "Klara nativ",
    }  # fmt: skip
    folder = write_series(
        tmp_path / "ct", ct_voxels(), SpecificCharacterSet="ISO_IR 192", IssuerOfPatientID="HIS-1", **private
    )
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "Klara, geheim")
        data.save_as(path)
    source = series_input(list(folder.iterdir()))
    assert source.series is not None
    geometry = read_series(source.series, "s").geometry
    path = write(tmp_path, source, labels_of(geometry.shape), geometry, THREE)
    data, seg = path.read_bytes(), pydicom.dcmread(path)
    for text in (*private.values(), "geheim", str(tmp_path)):
        assert text.encode() not in data
    kept = {element.keyword for element in seg if element.tag.group in (0x10, 0x12, 0x32, 0x38)}
    assert kept == {"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"}
    assert not any(element.tag.is_private for element in seg)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "PatientID": None,
            "PatientName": None,
            "AccessionNumber": None,
            "StudyID": None,
            "ReferringPhysicianName": None,
        },
        {"PatientSex": "FEMALE", "PatientBirthDate": "", "StudyDate": "", "StudyTime": None},
        {"PatientName": "NO CARET", "SliceThickness": None},
    ],
)
def test_headers_that_anonymisers_leave(
    tmp_path: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = write_series(tmp_path / "ct", ct_voxels(), **changes)
    caplog.clear()
    capfd.readouterr()
    source = series_input(list(folder.iterdir()))
    assert source.series is not None
    geometry = read_series(source.series, "s").geometry
    labels = labels_of(geometry.shape)
    path = write(tmp_path, source, labels, geometry, THREE)
    assert np.array_equal(read_label(path, geometry).array, labels)
    printed = capfd.readouterr()
    assert not caplog.records
    assert printed == ("", "")


def test_orientations_that_differ_by_rounding(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    data = pydicom.dcmread(path := next(iter(folder.iterdir())))
    data.ImageOrientationPatient = [1, 0.000001, 0, 0, 1, 0]
    data.save_as(path)
    source = series_input(list(folder.iterdir()))
    assert source.series is not None
    geometry = read_series(source.series, "s").geometry
    labels = labels_of(geometry.shape)
    assert np.array_equal(read_label(write(tmp_path, source, labels, geometry, THREE), geometry).array, labels)


def test_a_multiframe_file_that_says_all_of_each_frame(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), orientation=oblique())
    with silenced():
        path = write_multiframe(tmp_path / "enhanced.dcm", folder, range(6))
    data = pydicom.dcmread(path)
    shared = data.SharedFunctionalGroupsSequence[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        for frame in data.PerFrameFunctionalGroupsSequence:
            setattr(frame, keyword, shared[keyword].value)
        delattr(shared, keyword)
    data.save_as(path)
    series = series_at(path)
    source = Input("series-0001", "", {}, "x-y", series=series, dicom=True, private=True)
    geometry = read_series(series, "s").geometry
    labels = labels_of(geometry.shape)
    assert np.array_equal(read_label(write(tmp_path, source, labels, geometry, THREE), geometry).array, labels)


def test_an_empty_mask(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    source = series_input(list(folder.iterdir()))
    assert source.series is not None
    geometry = read_series(source.series, "s").geometry
    path = write(tmp_path, source, np.zeros(geometry.shape, np.uint8), geometry, THREE)
    assert not read_label(path, geometry).array.any()


def test_a_single_image_without_a_place(tmp_path: Path) -> None:
    gone = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SliceThickness"))
    digital = "1.2.840.10008.5.1.4.1.1.1.1"
    folder = write_series(tmp_path / "dx", ct_voxels()[:1], **gone, Modality="DX", SOPClassUID=digital)
    source = series_input(list(folder.iterdir()))
    labels = labels_of((10, 12))
    path = write(tmp_path, source, labels, Geometry((10, 12), (0.5, 0.8)), THREE)
    with silenced():
        found = hd.seg.segread(path).get_pixels_by_source_instance(["1.2.3.1"], combine_segments=True)
    assert np.array_equal(found[0], labels)


def test_a_series_that_makes_no_seg_is_said_without_its_headers(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels(), FrameOfReferenceUID=None)
    source = series_input(list(folder.iterdir()))
    with pytest.raises(RunError, match=r"^series-0001: no DICOM SEG can be made .*no FrameOfReferenceUID\)$"):
        write(tmp_path, source, labels_of((12, 10, 6)), Geometry((12, 10, 6)), THREE)


# ---- numbers


def test_label_values_of_a_model() -> None:
    config = {"classes": ["background", "cartilage"], "label_values": {0: 0, 3: 1, 5: 1}}
    assert Labelling.of(config, "knees") == Labelling(("background", "cartilage"), (0, 3), "knees")
    assert Labelling.of({"classes": ["background", "a", "b"]}, "m").values == (0, 1, 2)
    assert mask_values(np.array([0, 1]), Labelling(("a", "b"), (0, 70_000))).dtype == np.int32


def test_volume_is_that_of_the_parallelepiped() -> None:
    sheared = np.array([[1.0, 0, 0.5, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    spacing = tuple(float(s) for s in np.linalg.norm(sheared[:3, :3], axis=0))
    assert volume_ml(1000, Geometry((9, 9, 9), spacing, sheared)) == pytest.approx(6.0)
    assert volume_ml(1000, Geometry((9, 9, 9), (1.0, 2.0, 3.0))) == pytest.approx(6.0)
    assert volume_ml(1000, Geometry((9, 9, 9))) is None
    assert volume_ml(1000, Geometry((9, 9), (1.0, 1.0))) is None
    assert class_counts(np.array([[0, 2], [2, 0]], np.uint8), 4) == [2, 0, 2, 0]


@given(st.text(max_size=30))
def test_no_case_leaves_the_folder(case: str) -> None:
    root = Path("/out/masks")
    name = file_name(case)
    path = root / f"{name}.png"
    assert root in path.parents
    assert ".." not in path.parts
    assert not any(part.startswith(".") for part in name.split("/"))
    assert "\0" not in name
