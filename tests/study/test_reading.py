"""Every format comes back with its own bits, its channels and its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from elsewhere.errors import StudyError
from elsewhere.study.case import Geometry
from elsewhere.study.entry import make_entry, read_entry, write_entry
from elsewhere.study.palette import disagreement
from elsewhere.study.reading import (
    GridError,
    grid_difference,
    read_colours,
    read_image,
    read_label,
    read_label_values,
    read_map,
)

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RGB = np.stack([GREY, GREY[::-1], GREY + 5], axis=-1)


def read(path: Path) -> Any:
    return read_image({"image": path}).array


def save_nifti(path: Path, array: Any, affine: Any = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_8_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, GREY) if suffix == ".tif" else Image.fromarray(GREY).save(path)
    picture = read_image({"image": path})
    assert picture.array.dtype == np.uint8
    assert np.array_equal(picture.array, GREY[None])
    assert picture.geometry == Geometry((3, 4))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_16_bit_is_kept(tmp_path: Path, suffix: str) -> None:
    deep = GREY.astype(np.uint16) * 257
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, deep) if suffix == ".tif" else Image.fromarray(deep).save(path)
    assert read(path).dtype == np.uint16
    assert np.array_equal(read(path)[0], deep)


def test_colour_16_bit_is_kept(tmp_path: Path) -> None:
    import imagecodecs

    deep = RGB.astype(np.uint16) * 257 + 1
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    assert np.array_equal(read(tmp_path / "a.png"), np.moveaxis(deep, -1, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_are_channels_and_transparency_is_dropped(tmp_path: Path, suffix: str) -> None:
    rgba = np.concatenate([RGB, np.full((3, 4, 1), 9, np.uint8)], axis=-1)
    for name, pixels in (("rgb", RGB), ("rgba", rgba)):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, pixels, photometric="rgb")
        else:
            Image.fromarray(pixels).save(path)
        assert np.array_equal(read(path), np.moveaxis(RGB, -1, 0))


COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]


def save_palette(path: Path, indices: np.ndarray, colours: list[tuple[int, int, int]]) -> None:
    if path.suffix == ".tif":
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(colours)] = np.array(colours).T * 257
        tifffile.imwrite(path, indices, photometric="palette", colormap=table)
        return
    image = Image.fromarray(indices, mode="P")
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_palette_is_colour_in_an_image_and_a_number_in_a_label(tmp_path: Path, suffix: str) -> None:
    indices = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    path = tmp_path / f"p{suffix}"
    save_palette(path, indices, COLOURS)
    assert (read(path)[:, 0, 1] // 255 > 0).tolist() == [True, False, False]
    assert np.array_equal(read_label(path).array, indices)
    assert read_label_values(path) == {0, 1, 2}
    assert read_colours(path) == dict(enumerate(COLOURS))


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_a_grey_palette_means_its_grey_values(tmp_path: Path, suffix: str) -> None:
    """A program that stores white as number 0 turns nothing round."""
    indices = np.array([[0, 1, 1], [1, 1, 0]], dtype=np.uint8)
    path = tmp_path / f"p{suffix}"
    save_palette(path, indices, [(255, 255, 255), (0, 0, 0)])
    label = read_label(path).array
    assert np.array_equal(label > 0, indices == 0)
    assert set(np.unique(label)) <= {0, 1, 255, 65535}
    assert read_colours(path) == {}


@pytest.mark.parametrize("second", [[0, 1], [0, 1, 2], [0, 2]])
def test_one_palette_for_all_masks(tmp_path: Path, second: list[int]) -> None:
    save_palette(tmp_path / "a.png", np.array([[0, 1, 2]], np.uint8), COLOURS)
    save_palette(tmp_path / "b.png", np.array([second], np.uint8), COLOURS)
    assert disagreement((name, read_colours(tmp_path / name)) for name in ("a.png", "b.png")) is None


def test_palettes_that_differ(tmp_path: Path) -> None:
    save_palette(tmp_path / "a.png", np.array([[0, 1, 2]], np.uint8), COLOURS)
    save_palette(tmp_path / "b.png", np.array([[0, 1]], np.uint8), [COLOURS[0], COLOURS[2]])
    found = disagreement((name, read_colours(tmp_path / name)) for name in ("a.png", "b.png"))
    assert found == ("b.png", "palettes differ: value 1 is #00ff00, but #ff0000 in a.png")
    swapped = {0: COLOURS[0], 3: COLOURS[1]}
    found = disagreement([("a.png", read_colours(tmp_path / "a.png")), ("c.png", swapped)])
    assert found == ("c.png", "palettes differ: #ff0000 is value 3, but 1 in a.png")


@pytest.mark.parametrize("bits", [1, 8])
def test_tiff_that_stores_white_as_zero(tmp_path: Path, bits: int) -> None:
    shown = np.zeros((8, 8), dtype=bool)
    shown[2:4] = True  # white
    stored = ~shown if bits == 1 else np.where(shown, 0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", stored, photometric="miniswhite")
    assert np.array_equal(read_label(tmp_path / "m.tif").array > 0, shown)


def test_grey_with_alpha_and_one_bit(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("LA").save(tmp_path / "la.png")
    assert np.array_equal(read(tmp_path / "la.png"), GREY[None])
    Image.fromarray(GREY > 100).save(tmp_path / "one.png")
    assert np.array_equal(read_label(tmp_path / "one.png").array, (GREY > 100).astype(np.uint8))


def test_orientation_tag_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[274] = 6  # shown after a quarter turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png")[0], np.rot90(GREY, -1))


def test_tiff_pages_are_a_stack_with_slices_last(tmp_path: Path) -> None:
    pages = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
    imagej = {"axes": "ZYX", "spacing": 3, "unit": "mm"}
    tifffile.imwrite(tmp_path / "a.tif", pages, imagej=True, resolution=(4, 2), metadata=imagej)
    picture = read_image({"image": tmp_path / "a.tif"})
    assert np.array_equal(picture.array[0], np.moveaxis(pages, 0, -1))
    assert picture.geometry.spacing == pytest.approx((0.5, 0.25, 3.0))  # rows, columns, slices


def test_tiff_spacing_in_centimetres_but_not_dots_per_inch(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cm.tif", GREY, resolution=(100, 50), resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "inch.tif", GREY, resolution=(72, 72), resolutionunit="INCH")
    assert read_image({"i": tmp_path / "cm.tif"}).geometry.spacing == pytest.approx((0.2, 0.1))
    assert read_image({"i": tmp_path / "inch.tif"}).geometry.spacing is None


@pytest.mark.parametrize("off", [0.0, 1e-7, -1e-7, 2e-5, -9e-4])
def test_float_labels_near_whole_numbers_are_these(tmp_path: Path, off: float) -> None:
    mask = np.zeros((4, 4, 4), np.float32)
    mask[1], mask[2] = 1 + off, 4 + off
    picture = read_label(save_nifti(tmp_path / "m.nii", mask))
    assert picture.array.dtype.kind == "i"
    assert np.unique(picture.array).tolist() == [0, 1, 4]
    assert bool(picture.notes) == bool((mask != np.rint(mask)).any())


def test_float_labels_with_a_scaled_header(tmp_path: Path) -> None:
    """int16 with a slope that makes 1 into 1.00002, as nibabel writes float arrays into an integer header."""
    path = save_nifti(tmp_path / "m.nii", np.ones((3, 3, 3), np.int16))
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(1.00002).tobytes()  # scl_slope
    path.write_bytes(bytes(content))
    assert nib.load(path).get_fdata()[0, 0, 0] != 1
    assert (read_label(path).array == 1).all()


def test_values_between_whole_numbers_are_refused_with_their_digits(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "m.nii", np.full((3, 3, 3), 3.9979, np.float32))
    with pytest.raises(StudyError, match=r"value 3\.9979\d* in a mask \(27 such\); wanted whole numbers"):
        read_label(path)


def without_codes(path: Path) -> Path:
    """A volume whose header does not say where it lies."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), 0)
    image.set_qform(np.diag([1.0, 2.0, 3.0, 1.0]), 0)
    nib.save(image, path)
    return path


def test_a_place_that_no_header_says_is_compared_with_nothing(tmp_path: Path) -> None:
    image = read_image({"image": without_codes(tmp_path / "image.nii")})
    elsewhere = np.diag([-1.0, -2.0, 3.0, 1.0])
    elsewhere[:3, 3] = 50
    mask = save_nifti(tmp_path / "mask.nii", np.ones((3, 4, 5), np.uint8), elsewhere)
    assert read_label(mask, image.geometry).array.shape == (3, 4, 5)
    placed = read_image({"image": save_nifti(tmp_path / "placed.nii", np.ones((3, 4, 5), np.int16))})
    with pytest.raises(GridError, match="has an affine that lies up to"):
        read_label(mask, placed.geometry)
    stored = make_entry(image.array, None, {}, image.geometry, image.geometry)
    write_entry(tmp_path / "x.case", stored)
    kept = read_entry(tmp_path / "x.case").original  # as `evaluate` has it
    assert read_label(mask, kept).array.shape == (3, 4, 5)
    finer = save_nifti(tmp_path / "finer.nii", np.ones((3, 4, 5), np.uint8), np.eye(4))
    with pytest.raises(GridError, match="has spacing"):
        read_label(finer, image.geometry)


def test_voxels_of_a_mask_whose_header_was_lost(tmp_path: Path) -> None:
    turned = np.array([[0, 2.0, 0, 5], [-1.0, 0, 0, 7], [0, 0, 3.0, 9], [0, 0, 0, 1]])
    image = read_image({"image": save_nifti(tmp_path / "image.nii", np.ones((3, 4, 5), np.int16), turned)})
    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    mask = save_nifti(tmp_path / "mask.nii", values, np.eye(4))
    with pytest.raises(GridError):
        read_label(mask, image.geometry)
    label = read_label(mask, image.geometry, "voxels")
    assert np.array_equal(label.array, values)
    assert label.geometry == image.geometry
    with pytest.raises(GridError, match="is 4x3x5"):
        read_label(save_nifti(tmp_path / "other.nii", np.ones((4, 3, 5), np.uint8)), image.geometry, "voxels")


def test_a_sform_of_zeros_gives_way_to_the_qform(tmp_path: Path) -> None:
    good = np.diag([1.0, 2.0, 3.0, 1.0])
    path = save_nifti(tmp_path / "zero.nii", np.ones((3, 4, 5), np.int16), good)
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([1, 1], np.int16).tobytes()  # qform_code, sform_code
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(bytes(content))
    geometry = read_image({"image": path}).geometry
    assert geometry.affine == pytest.approx(good)
    assert not geometry.unplaced


def test_nifti_keeps_type_spacing_and_affine(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 7
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 4, 1], [0, 0, 0, 1]])
    picture = read_image({"image": save_nifti(tmp_path / "a.nii.gz", array, affine)})
    assert picture.array.dtype == np.int16
    assert np.array_equal(picture.array[0], array)
    assert picture.geometry.spacing == pytest.approx((1.5, 2.0, 4.0))
    assert np.allclose(picture.geometry.affine, affine)


def test_nifti_axes(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    assert np.array_equal(read(save_nifti(tmp_path / "c.nii", channels)), np.moveaxis(channels, -1, 0))
    assert read(save_nifti(tmp_path / "one.nii", channels[..., :1])).shape == (1, 2, 3, 4)
    flat = read_image({"image": save_nifti(tmp_path / "flat.nii", channels[:, :, :1, 0])})
    assert np.array_equal(flat.array[0], channels[:, :, 0, 0].T)  # rows, columns
    assert flat.geometry.spacing == pytest.approx((2.0, 1.0))
    assert flat.geometry.affine is None


def test_nifti_scaled_values_and_units(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    picture = read_image({"image": tmp_path / "a.nii"})
    assert picture.array.dtype == np.float32
    assert picture.array.max() == 3.5
    assert picture.geometry.spacing == pytest.approx((1e-3,) * 3)


def test_channels_of_several_files_are_joined_in_order(tmp_path: Path) -> None:
    one = save_nifti(tmp_path / "t1.nii", np.full((2, 2, 2), 1, np.uint8))
    two = save_nifti(tmp_path / "t2.nii", np.full((2, 2, 2), 300, np.int16))
    array = read_image({"t2": two, "t1": one}).array
    assert array[:, 0, 0, 0].tolist() == [300, 1]
    assert array.dtype == np.int16


@pytest.mark.parametrize(
    ("other", "affine", "words"),
    [
        ((2, 3, 5), None, "is 2x3x5, its fellow channel 'a.nii' is 2x3x4"),
        ((2, 3, 4), np.diag([1.0, 2.0, 3.5, 1.0]), "has spacing 1x2x3.5 mm"),
        ((2, 3, 4), np.diag([-1.0, 2.0, 3.0, 1.0]), "has an affine"),
    ],
)
def test_channels_must_lie_on_one_grid(tmp_path: Path, other: tuple[int, ...], affine: Any, words: str) -> None:
    one = save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8))
    two = save_nifti(tmp_path / "b.nii", np.zeros(other, np.uint8), affine)
    with pytest.raises(GridError, match=words):
        read_image({"a": one, "b": two})


def test_single_precision_of_an_affine_is_no_difference() -> None:
    affine = np.diag([0.7, 0.7, 1.25, 1.0])
    affine[:3, 3] = [-180.33, -200.1, 33.3]
    shape, spacing = (512, 512, 300), (0.7, 0.7, 1.25)
    rounded = affine.astype(np.float32).astype(np.float64)
    assert grid_difference(Geometry(shape, spacing, affine), Geometry(shape, spacing, rounded)) is None
    half_voxel = affine.copy()
    half_voxel[0, 3] += 0.35
    assert grid_difference(Geometry(shape, spacing, affine), Geometry(shape, spacing, half_voxel)) is not None


def test_label_of_equal_channels_and_of_colours(tmp_path: Path) -> None:
    mask = (GREY > 100).astype(np.uint8) * 255
    Image.fromarray(np.stack([mask] * 3, axis=-1)).save(tmp_path / "same.png")
    assert np.array_equal(read_label(tmp_path / "same.png").array, mask)
    Image.fromarray(RGB).save(tmp_path / "colours.png")
    with pytest.raises(StudyError, match=r"colours.png: 3 channels that differ .* wanted a mask of one channel"):
        read_label(tmp_path / "colours.png")


def test_float_labels_must_be_whole_numbers(tmp_path: Path) -> None:
    whole = save_nifti(tmp_path / "whole.nii", np.array([[[0.0, 3.0]]]))
    assert read_label_values(whole) == {0, 3}
    for value in (0.5, np.nan):
        broken = save_nifti(tmp_path / "broken.nii", np.array([[[0.0, value], [1.0, 2.0]]]))
        with pytest.raises(StudyError, match=r"broken.nii: value .* in a mask \(1 such\); wanted whole numbers"):
            read_label(broken)


def test_label_and_map_must_lie_on_the_image(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "m.png")
    for reader in (read_label, read_map):
        with pytest.raises(GridError, match=r"m.png: the (label|map) is 3x4, its image is 3x5"):
            reader(tmp_path / "m.png", Geometry((3, 5)))
        assert np.array_equal(reader(tmp_path / "m.png", Geometry((3, 4))).array, GREY)
    assert read_map(tmp_path / "m.png").array.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"", "empty \\(0 bytes\\)"),
        ("a.png", b"not a png", "cannot be read as an image"),
        ("a.tif", b"II*\0 nonsense", "cannot be read as TIFF"),
        ("a.nii.gz", b"\x1f\x8b broken", "cannot be read as NIfTI"),
        ("a.nii", b"x" * 400, "cannot be read as NIfTI"),
        ("a.dcm", b"x" * 400, "not a DICOM file"),
        ("a.xyz", b"what is this", "unknown format; wanted PNG"),
        ("a.png", None, "there is no such file"),
    ],
)
def test_broken_files_give_one_sentence(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=f"{name}: .*{words}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".nii", ".nii.gz"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, noise)
    elif suffix.startswith(".nii"):
        save_nifti(path, noise[..., None])
    else:
        Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StudyError, match="truncated or corrupt"):
        read(path)


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(StudyError, match=r"a\.png"):
        read(tmp_path / "a.png")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_label_maps_survive_the_disk(tmp_path: Path, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]))
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 2, st.integers(2, 5)))
    values = st.integers(0, 200)
    array = data.draw(hnp.arrays(dtype, shape, elements=values))
    path = save_nifti(tmp_path / "x.nii.gz", array)
    assert np.array_equal(read_label(path).array, array)
    assert read_label_values(path) == set(array.ravel().tolist())
