"""DICOM series, SEG and RTSTRUCT, written with pydicom and highdicom and read back on one grid."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RTStructureSetStorage,
    generate_uid,
)

from elsewhere.deploy.dicom_series import files_at, read_series, scan
from elsewhere.errors import StudyError
from elsewhere.study.contours import fill_polygon
from elsewhere.study.dicom import read_tags
from elsewhere.study.reading import read_image, read_label, read_label_values
from elsewhere.study.revision import revision

ROWS, COLUMNS, SLICES = 10, 12, 5
SPACING = (0.5, 0.8, 3.0)  # rows, columns, slices
ORIGIN = np.array([-20.0, 15.0, 100.0])
VOXELS = np.random.default_rng(0).integers(0, 2000, (SLICES, ROWS, COLUMNS), dtype=np.uint16)


def slice_dataset(index: int, series: str, frame: str, **changes: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientSex, data.PatientBirthDate = "Secret^Name", "4711", "O", ""
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = frame + ".1", series, frame
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "", "", "", ""
    data.ReferringPhysicianName, data.SeriesNumber, data.InstanceNumber, data.Modality = "", 1, index, "CT"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing, data.ImageOrientationPatient = list(SPACING[:2]), [1, 0, 0, 0, 1, 0]
    data.SliceThickness = SPACING[2]
    data.ImagePositionPatient = [*ORIGIN[:2], float(ORIGIN[2] + SPACING[2] * index)]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = VOXELS[index % SLICES].tobytes()
    for name, value in changes.items():
        delattr(data, name) if value is None else setattr(data, name, value)
    return data


def write_series(folder: Path, skip: tuple[int, ...] = (), series: str = "1.2.3", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(1).permutation(SLICES)  # file names in no order of position
    for name, index in enumerate(order):
        if index not in skip:
            slice_dataset(int(index), series, "1.9.9", **changes).save_as(folder / f"{series}-{name}.dcm")
    return folder


def test_series_is_sorted_rescaled_and_placed(tmp_path: Path) -> None:
    picture = read_image({"image": write_series(tmp_path / "ct")})
    expected = VOXELS.transpose(2, 1, 0).astype(int) - 1024  # columns, rows, slices
    assert np.array_equal(picture.array[0], expected)
    assert picture.array.dtype == np.int16
    assert picture.geometry.spacing == pytest.approx((0.8, 0.5, 3.0))
    affine = picture.geometry.affine
    assert affine is not None
    # By hand: voxel (2, 3, 4) is 2 columns right, 3 rows down, 4 slices up of the origin, in LPS; RAS flips x and y.
    assert affine @ [2, 3, 4, 1] == pytest.approx([-(-20 + 2 * 0.8), -(15 + 3 * 0.5), 100 + 4 * 3, 1])


def test_affine_is_that_of_simpleitk(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    turned = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]  # sagittal
    folder = tmp_path / "ct"
    folder.mkdir()
    for index in range(SLICES):
        place = [float(3 * index), 2.0, 7.0]
        data = slice_dataset(index, "1.2.3", "1.9.9", ImageOrientationPatient=turned, ImagePositionPatient=place)
        data.save_as(folder / f"{9 - index}.dcm")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    picture = read_image({"image": folder})
    ours = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    assert picture.geometry.affine is not None
    corner = picture.geometry.affine @ [3, 2, 1, 1] * [-1, -1, 1, 1]
    x, y, z = image.TransformPhysicalPointToIndex(corner[:3].tolist())
    assert picture.array[0, 3, 2, 1] == ours[x, y, z]
    assert image.TransformIndexToPhysicalPoint((x, y, z)) == pytest.approx(corner[:3])


def test_missing_slice_is_named_by_position(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"ct: 1 slice missing between 103\.00 and 109\.00 mm .* 3\.00 mm apart"):
        read_image({"image": write_series(tmp_path / "ct", skip=(2,))})


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_jpeg_gives_the_very_pixels(tmp_path: Path, syntax: str, signed: bool) -> None:
    stored = VOXELS[0].astype(np.int16) - (1000 if signed else 0)
    data = slice_dataset(0, "1", "1.9", PixelRepresentation=int(signed), RescaleIntercept=0)
    frame = imagecodecs.ljpeg_encode((stored & 0xFFF).astype(np.uint16), bitspersample=12)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([frame])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "one.dcm")
    assert np.array_equal(read_image({"image": tmp_path / "one.dcm"}).array[0], stored)


def test_jpeg_of_12_bits(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4000, COLUMNS), (ROWS, 1)).astype(np.uint16)
    data = slice_dataset(0, "1", "1.9", RescaleIntercept=0)
    data.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    data.PixelData = encapsulate([imagecodecs.jpeg_encode(ramp, level=98, bitspersample=12)])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "one.dcm")
    found = read_image({"image": tmp_path / "one.dcm"}).array[0]
    assert found.astype(int) == pytest.approx(ramp.astype(int), abs=40), "lossy, within one percent of the range"


def test_copies_of_an_instance_are_passed_over_by_study_and_predict(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    whole = read_image({"image": folder}).array
    slice_dataset(3, "1.2.3", "1.9.9").save_as(folder / "s003 (1).dcm")
    assert np.array_equal(read_image({"image": folder}).array, whole)
    found = scan(files_at(folder))
    assert (len(found.series), found.copies) == (1, 1)
    assert np.array_equal(read_series(found.series[0], "series-0001").array, whole)


def test_images_of_one_uid_and_no_place_are_copies_only_where_their_bytes_are_the_same(tmp_path: Path) -> None:
    unplaced = {"SOPInstanceUID": "1.2.3.4", "ImagePositionPatient": None, "ImageOrientationPatient": None}
    for index in range(2):
        slice_dataset(index, "1.2.3", "1.9.9", **unplaced).save_as(tmp_path / f"{index}.dcm")
    with pytest.raises(StudyError, match="2 slices or frames of which 2 have no position"):
        read_image({"image": tmp_path})
    (tmp_path / "1.dcm").write_bytes((tmp_path / "0.dcm").read_bytes())
    assert read_image({"image": tmp_path}).array.shape == (1, ROWS, COLUMNS)


def test_slices_that_were_all_given_one_uid_are_no_copies(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", SOPInstanceUID="1.2.3.4")
    assert read_image({"image": folder}).array.shape == (1, COLUMNS, ROWS, SLICES)
    found = scan(files_at(folder))
    assert (len(found.series[0].instances), found.copies) == (SLICES, 0)
    singly = scan(files_at(folder), singly=True).series
    assert len({series.identity for series in singly}) == SLICES
    assert all(len(series.instances) == 1 for series in singly)


@pytest.mark.parametrize(
    ("index", "changes", "words"),
    [
        (1, {"ImagePositionPatient": [-20, 15, 100]}, "two slices at 100.00 mm"),
        (1, {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "several orientations"),
        (1, {"PixelSpacing": [1, 1]}, "slices with pixel spacing"),
        (4, {"ImagePositionPatient": [-20, 15, 113]}, "slices are 3.00 to 4.00 mm apart; wanted equal steps"),
        (1, {"ImagePositionPatient": None}, "5 slices or frames of which 1 have no position"),
        (1, {"PixelData": None}, "the DICOM file has no pixels"),
        (1, {"PixelData": b"\0\0"}, "the pixels cannot be decoded"),
    ],
)
def test_irregular_series(tmp_path: Path, index: int, changes: dict[str, Any], words: str) -> None:
    folder = write_series(tmp_path / "ct", skip=(index,))
    slice_dataset(index, "1.2.3", "1.9.9", **changes).save_as(folder / "odd.dcm")
    with pytest.raises(StudyError, match=words) as caught:
        read_image({"image": folder})
    assert "Secret" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_several_series_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    write_series(folder, series="1.2.4", RescaleIntercept=0)
    with pytest.raises(StudyError, match=r"2 series: 1\.2\.3 \(5 files\), 1\.2\.4 .*; name one as 'ct#SERIES'"):
        read_image({"image": folder})
    chosen = read_image({"image": folder.with_name("ct#1.2.4")}).array
    assert np.array_equal(chosen[0], VOXELS.transpose(2, 1, 0))
    with pytest.raises(StudyError, match=r"no series 1\.2\.9; there are 1\.2\.3"):
        read_image({"image": folder.with_name("ct#1.2.9")})


def test_no_tag_that_names_a_patient_is_read(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    tags = read_tags(next(folder.iterdir()))
    assert "PatientName" not in tags
    assert "PatientID" not in tags


def test_single_file_is_2d_and_monochrome1_is_inverted(tmp_path: Path) -> None:
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        slice_dataset(0, "1", "1.9", PhotometricInterpretation=kind, RescaleIntercept=0).save_as(tmp_path / kind)
    plain = read_image({"image": tmp_path / "MONOCHROME2"})
    assert np.array_equal(plain.array[0], VOXELS[0])
    assert plain.geometry.spacing == (0.5, 0.8)
    assert plain.geometry.affine is None
    assert np.array_equal(read_image({"image": tmp_path / "MONOCHROME1"}).array[0], 4095 - VOXELS[0].astype(int))


def test_fractional_slope_gives_float(tmp_path: Path) -> None:
    slice_dataset(0, "1", "1.9", RescaleSlope=0.5, RescaleIntercept=1).save_as(tmp_path / "a.dcm")
    array = read_image({"image": tmp_path / "a.dcm"}).array
    assert array.dtype == np.float32
    assert np.allclose(array[0], VOXELS[0] * 0.5 + 1)


def test_colour_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (ROWS, COLUMNS, 3), dtype=np.uint8)
    changes = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    changes |= {"PhotometricInterpretation": "RGB", "PixelData": pixels.tobytes(), "RescaleIntercept": None}
    slice_dataset(0, "1", "1.9", **changes).save_as(tmp_path / "a.dcm")
    assert np.array_equal(read_image({"image": tmp_path / "a.dcm"}).array, pixels.transpose(2, 0, 1))


def nested_masks() -> np.ndarray:
    """(slices, rows, columns, 2): an organ with a lesion inside, both absent from the first slice."""
    masks = np.zeros((SLICES, ROWS, COLUMNS, 2), dtype=np.uint8)
    masks[1:4, 2:8, 3:9, 0] = 1
    masks[2, 4:6, 5:7, 1] = 1
    return masks


def write_seg(path: Path, folder: Path, kind: str) -> None:
    sources = sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda d: d.ImagePositionPatient[2])
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in ((1, "organ"), (2, "lesion"))
    ]
    masks = nested_masks()
    pixels = np.where(masks[..., 1], 2, masks[..., 0]).astype(np.uint8) if kind == "LABELMAP" else masks
    hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels.astype(np.float32) if kind == "FRACTIONAL" else pixels,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="elsewhere",
        manufacturer_model_name="test",
        software_versions="0",
        device_serial_number="0",
    ).save_as(path)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_seg_lies_on_the_image_though_empty_slices_are_left_out(tmp_path: Path, kind: str) -> None:
    folder = write_series(tmp_path / "ct")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_seg(tmp_path / "seg.dcm", folder, kind)
    image = read_image({"image": folder})
    label = read_label(tmp_path / "seg.dcm", image.geometry)
    masks = nested_masks()
    expected = np.where(masks[..., 1], 2, masks[..., 0]).transpose(2, 1, 0)
    assert np.array_equal(label.array, expected)
    assert label.geometry == image.geometry
    assert read_label_values(tmp_path / "seg.dcm") == {0, 1, 2}
    only = read_label(tmp_path / "seg.dcm#2", image.geometry)
    assert np.array_equal(only.array, expected // 2 * 2)
    with pytest.raises(StudyError, match="no structure number 7; there are 1, 2"):
        read_label(tmp_path / "seg.dcm#7", image.geometry)
    alone = read_label(tmp_path / "seg.dcm")
    assert (alone.array > 0).sum() == (expected > 0).sum()


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(("bits", "vr"), [(12, "US"), (16, "US"), (16, "OW")])
def test_modality_lut_stands_in_the_place_of_slope_and_intercept(
    tmp_path: Path, photometric: str, bits: int, vr: str
) -> None:
    """Stored 10 to 109 mean 3000 to 1020, falling: what a LUT says, and no slope."""
    table = 3000 - 20 * np.arange(100)
    stored = (VOXELS[0] % 100).astype(np.uint16)
    data = slice_dataset(0, "1.2.3", "1.9.9", PhotometricInterpretation=photometric)
    data.PixelData = stored.tobytes()
    for name in ("RescaleSlope", "RescaleIntercept"):
        if name in data:
            delattr(data, name)
    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [100, 10, bits], "US"  # the first entry is for 10: below it, the same
    lut.LUTData = table.astype("<u2").tobytes() if vr == "OW" else [int(value) for value in table]
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", vr
    data.ModalityLUTSequence = [lut]
    data.save_as(tmp_path / "lut.dcm")
    meant = table[np.maximum(stored.astype(int) - 10, 0)]
    found = read_image({"image": tmp_path / "lut.dcm"}).array[0]
    assert np.array_equal(found, meant if photometric == "MONOCHROME2" else 2**bits - 1 - meant)
    series = tmp_path / "series"
    series.mkdir()
    (series / "README").write_text("about")  # comes before the image by name
    data.save_as(series / "lut.dcm")
    assert revision(series, as_label=False) == 2
    assert (revision(tmp_path / "lut.dcm", as_label=False), revision(tmp_path / "lut.dcm", as_label=True)) == (2, 1)


def write_rtstruct(path: Path, contours: dict[int, list[np.ndarray]]) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientName = "RTSTRUCT", "Secret^Name"
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, outlines in contours.items():
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, f"roi {number}"
        item.ReferencedROINumber, item.ContourSequence = number, []
        for outline in outlines:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(outline)
            contour.ContourData = [round(float(v), 6) for v in outline.ravel()]
            item.ContourSequence.append(contour)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(item)
    data.save_as(path)


def outline_mm(columns: Any, rows: Any, index: float) -> np.ndarray:
    """Contour in patient mm of points given in columns and rows of a slice."""
    columns, rows = np.asarray(columns, float), np.asarray(rows, float)
    place = [ORIGIN[0] + columns * SPACING[1], ORIGIN[1] + rows * SPACING[0], np.full(len(rows), ORIGIN[2] + 3 * index)]
    return np.stack(place, axis=-1)


def test_rtstruct_square_with_a_hole(tmp_path: Path) -> None:
    image = read_image({"image": write_series(tmp_path / "ct")})
    outer = outline_mm([1.5, 8.5, 8.5, 1.5], [2.5, 2.5, 7.5, 7.5], 3)
    hole = outline_mm([3.5, 5.5, 5.5, 3.5], [3.5, 3.5, 5.5, 5.5], 3)
    write_rtstruct(tmp_path / "rtss.dcm", {4: [outer, hole]})
    expected = np.zeros((COLUMNS, ROWS, SLICES), dtype=int)
    expected[2:9, 3:8, 3] = 4
    expected[4:6, 4:6, 3] = 0
    assert np.array_equal(read_label(tmp_path / "rtss.dcm", image.geometry).array, expected)
    assert read_label_values(tmp_path / "rtss.dcm") == {0, 4}


def test_rtstruct_smaller_structures_lie_on_top(tmp_path: Path) -> None:
    image = read_image({"image": write_series(tmp_path / "ct")})
    body = outline_mm([0.5, 10.5, 10.5, 0.5], [0.5, 0.5, 8.5, 8.5], 2)
    lesion = outline_mm([3.5, 5.5, 5.5, 3.5], [3.5, 3.5, 5.5, 5.5], 2)
    write_rtstruct(tmp_path / "rtss.dcm", {1: [lesion], 9: [body]})
    label = read_label(tmp_path / "rtss.dcm", image.geometry).array
    assert (label == 1).sum() == 4
    assert (label == 9).sum() == 10 * 8 - 4


@pytest.mark.parametrize(("index", "words"), [(2.6, None), (7, "lies outside"), (-3, "lies outside")])
def test_rtstruct_planes(tmp_path: Path, index: float, words: str | None) -> None:
    image = read_image({"image": write_series(tmp_path / "ct")})
    write_rtstruct(tmp_path / "rtss.dcm", {1: [outline_mm([1, 5, 5], [1, 1, 5], index)]})
    if words is None:
        label = read_label(tmp_path / "rtss.dcm", image.geometry).array
        assert np.unique(np.nonzero(label)[2]).tolist() == [3]
    else:
        with pytest.raises(StudyError, match=words):
            read_label(tmp_path / "rtss.dcm", image.geometry)


def disc(index: float, radius: float = 3.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return outline_mm(5.2 + radius * np.cos(angle), 4.9 + radius * np.sin(angle), index)


def areas(folder: Path, indices: Sequence[float], radii: Sequence[float] | None = None) -> list[int]:
    """Pixels in each slice of a structure drawn as discs at these heights, in slices."""
    folder.mkdir(exist_ok=True)
    image = read_image({"image": write_series(folder / "ct")})
    outlines = [disc(index, 3.0 if radii is None else radii[i]) for i, index in enumerate(indices)]
    write_rtstruct(folder / "rtss.dcm", {1: outlines})
    label = read_label(folder / "rtss.dcm", image.geometry).array
    return [int(n) for n in (label > 0).sum(axis=(0, 1))]


@pytest.mark.parametrize(
    ("indices", "filled"),
    [
        ([1.25, 1.75, 2.25, 2.75, 3.25], [1, 2, 3]),  # two planes fall on a slice: not even-odd between them
        ([1.0, 1.5, 2.0, 2.5, 3.0], [1, 2, 3]),
        ([0.5, 1.5, 2.5, 3.5], [1, 2, 3, 4]),  # half way between slices: as many slices as planes
        ([0.667, 1.167, 1.667, 2.167, 2.667], [1, 2, 3]),
        ([0.0, 1.5, 3.0, 4.5], [0, 1, 2, 3, 4, 5]),  # sparser than the slices: interpolated
        ([0.0, 2.0, 4.0], [0, 1, 2, 3, 4]),
        ([0.0, 1.0, 4.0, 5.0], [0, 1, 4, 5]),  # two parts stay two
    ],
)
def test_planes_of_contours_and_slices_of_the_image(tmp_path: Path, indices: list[float], filled: list[int]) -> None:
    whole = areas(tmp_path / "one", [2.0])[2]
    assert whole > 20
    assert areas(tmp_path / "many", indices) == [whole if index in filled else 0 for index in range(SLICES)]


def test_a_slice_takes_the_nearest_plane_and_what_lies_between_is_between(tmp_path: Path) -> None:
    small, large = (areas(tmp_path / str(r), [2.0], [r])[2] for r in (2.0, 4.0))
    assert areas(tmp_path / "near", [1.6, 2.1], [2.0, 4.0])[2] == large
    assert areas(tmp_path / "far", [1.9, 2.4], [2.0, 4.0])[2] == small
    between = areas(tmp_path / "cone", [0.0, 2.0, 4.0], [2.0, 4.0, 4.0])
    middle = areas(tmp_path / "three", [2.0], [3.0])[2]
    assert (between[0], between[2]) == (small, large)
    assert between[1] == pytest.approx(middle, abs=4), "the disc of the mean radius, to the pixels at its border"


def test_two_planes_far_apart_are_not_joined_and_it_is_said(tmp_path: Path) -> None:
    image = read_image({"image": write_series(tmp_path / "ct")})
    for last, said in ((3, True), (1, False)):
        write_rtstruct(tmp_path / "rtss.dcm", {1: [disc(0), disc(last)]})
        label = read_label(tmp_path / "rtss.dcm", image.geometry)
        assert np.flatnonzero((label.array > 0).any(axis=(0, 1))).tolist() == [0, last]
        assert bool(label.notes) is said
    write_rtstruct(tmp_path / "rtss.dcm", {1: [disc(0), disc(3)]})
    notes = read_label(tmp_path / "rtss.dcm", image.geometry).notes
    assert notes == ("ROI 1 is drawn in two planes, 3 slices apart; between them it is empty",)


def test_a_structure_that_leaves_the_image_is_cut_and_said(tmp_path: Path) -> None:
    image = read_image({"image": write_series(tmp_path / "ct")})
    write_rtstruct(tmp_path / "rtss.dcm", {1: [disc(index) for index in range(-2, SLICES)]})
    label = read_label(tmp_path / "rtss.dcm", image.geometry)
    assert (label.array > 0).any(axis=(0, 1)).all()
    assert label.notes == (f"2 of {SLICES + 2} contours of ROI 1 reach beyond the image and are cut there",)
    write_rtstruct(tmp_path / "inside.dcm", {1: [disc(2)]})
    assert revision(tmp_path / "inside.dcm", as_label=True) == 2
    assert revision(tmp_path / "ct", as_label=False) == 1
    assert read_label(tmp_path / "inside.dcm", image.geometry).notes == ()


def test_rtstruct_needs_its_image(tmp_path: Path) -> None:
    write_rtstruct(tmp_path / "rtss.dcm", {1: [outline_mm([1, 5, 5], [1, 1, 5], 0)]})
    with pytest.raises(StudyError, match="contours \\(RTSTRUCT\\) have no grid of their own"):
        read_label(tmp_path / "rtss.dcm")


def test_circle_has_the_area_of_a_circle() -> None:
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = np.stack([50.3 + 30 * np.cos(angle), 48.7 + 30 * np.sin(angle)], axis=-1)
    mask = fill_polygon(circle, (100, 100))
    assert mask.sum() == pytest.approx(np.pi * 30**2, rel=0.01)
    rows, columns = np.nonzero(mask)
    assert (np.hypot(rows - 50.3, columns - 48.7) <= 30.0).all()


def test_even_odd_fill_of_a_star() -> None:
    corner = np.pi / 2 + np.arange(5) * 4 * np.pi / 5  # a pentagram crosses itself: its heart is outside
    star = 50 + 40 * np.stack([np.cos(corner), np.sin(corner)], axis=-1)
    mask = fill_polygon(star, (101, 101))
    assert not mask[50, 50]
    assert mask[50, 75]
