"""Mistakes of people who bring their own scans: `study check` reports each, and opening or sealing says it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from small_studies import classification, segmentation, volumes

from elsewhere.errors import ElsewhereError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.check import check_study
from elsewhere.study.seal import seal
from elsewhere.study.study import open_study

TWO = {"north": 4, "south": 4}


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "manifest.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def label_is_image(folder: Path) -> None:
    edit(segmentation(folder, TWO), "north/1-mask.png", "north/1.png")


def jpeg_masks(folder: Path) -> None:
    for mask in segmentation(folder, TWO).rglob("*-mask.png"):
        noisy = np.asarray(Image.open(mask)).astype(int) - np.arange(24)[:, None] * (np.asarray(Image.open(mask)) > 0)
        Image.fromarray(noisy.astype(np.uint8)).save(mask.with_suffix(".jpg"), quality=60)
    edit(folder, "-mask.png", "-mask.jpg")


def declared_jpeg_masks(folder: Path) -> None:
    jpeg_masks(folder)
    (folder / "study.yaml").write_text("classes: {background: 0, square: 255}\n")


def masks_as_classes(folder: Path) -> None:
    (segmentation(folder, TWO) / "study.yaml").write_text("task: classification\n")


def one_class(folder: Path) -> None:
    edit(classification(folder, TWO), ",abnormal,", ",normal,")


def no_labels(folder: Path) -> None:
    edit(classification(folder, TWO), ",normal,", ",,")
    edit(folder, ",abnormal,", ",,")


def flat_among_volumes(folder: Path) -> None:
    volumes(folder, TWO)
    for name in ("north/1.nii.gz", "north/1-mask.nii.gz"):
        image = nib.load(folder / name)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., 6:7], image.affine), folder / name)


def film_among_volumes(folder: Path) -> None:
    volumes(folder, TWO)
    image = nib.load(folder / "north/1.nii.gz")
    frames = np.stack([np.asarray(image.dataobj) + k for k in range(3)], axis=-1)
    nib.save(nib.Nifti1Image(frames, image.affine), folder / "north/1.nii.gz")


def animation(folder: Path) -> None:
    segmentation(folder, TWO)
    frames = [Image.fromarray(np.full((24, 20), 40 * k, np.uint8)) for k in range(3)]
    frames[0].save(folder / "north/1.png", save_all=True, append_images=frames[1:])


def backslashes(folder: Path) -> None:
    edit(segmentation(folder, TWO), "north/1.png", "north\\1.png")


def role_of_nobody(folder: Path) -> None:
    (segmentation(folder, TWO) / "study.yaml").write_text("roles: {train: [north], test: [sauth]}\n")


def size_of_volumes(folder: Path) -> None:
    (segmentation(folder, TWO) / "study.yaml").write_text("size: [32, 32, 32]\n")


def use(folder: Path) -> None:
    """Read every case as training does."""
    for site in ("north", "south"):
        development, _ = seal(open_study(folder), Fold((site,)), 0, Cache())
        for case in development.case_ids:
            development.load(case)


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (label_is_image, "label-is-image", "label 'north/1.png' is the image itself; wanted its mask"),
        (jpeg_masks, "lossy-label", "JPEG compression blurs the values of a mask; save masks as PNG"),
        (declared_jpeg_masks, "undeclared-value", "JPEG compression blurs the values of a mask; save masks as PNG"),
        (masks_as_classes, "study", "the task is classification, but column 'label' holds files such as 'north/0-mask"),
        (one_class, "label-values", "column 'label' has only the class 'normal'"),
        (no_labels, "no-labels", "column 'label' is empty in every row"),
        (flat_among_volumes, "dimensions", " is 2D, "),
        (film_among_volumes, "channels", " channels"),
        (animation, "unreadable", "an animation of 3 frames; wanted one image"),
        (backslashes, "missing", "separate folders by / instead of \\"),
        (role_of_nobody, "study", "key 'roles' names the site 'sauth' (did you mean 'south'?)"),
        (size_of_volumes, "study", "key 'size' is [32, 32, 32], but the images are 2D; wanted 2 numbers"),
    ],
)
def test_check_and_use_say_the_same(tmp_path: Path, make: Callable[[Path], None], code: str, says: str) -> None:
    make(tmp_path)
    report = check_study(tmp_path, jobs=1)
    found = [problem for problem in report.errors if problem.code == code]
    assert found, report.to_json()
    assert says in found[0].message
    with pytest.raises(ElsewhereError) as caught:
        use(tmp_path)
    assert says.split(" (did")[0] in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


def test_an_empty_cell_of_the_column_that_is_the_site_is_named(tmp_path: Path) -> None:
    edit(classification(tmp_path, TWO), "finding-north-1", "")
    with pytest.raises(ElsewhereError, match="row 3: finding is empty; fill it in"):
        open_study(tmp_path, site_column="finding")


def test_grey_files_saved_as_rgb_are_grey(tmp_path: Path) -> None:
    """As chest radiographs of two hospitals are: one saves grey, the other the same as RGB."""
    classification(tmp_path, TWO)
    for path in (tmp_path / "south").glob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert not check_study(tmp_path, jobs=1).failed
    development, _ = seal(open_study(tmp_path), Fold(("north",)), 0, Cache())
    assert development.n_channels == 1


def test_grey_among_rgb_is_a_warning(tmp_path: Path) -> None:
    segmentation(tmp_path, TWO)
    Image.open(tmp_path / "north/1.png").convert("L").save(tmp_path / "north/1.png")
    report = check_study(tmp_path, jobs=1)
    assert [p.severity for p in report.problems if p.code == "channels"] == ["warning"]
    assert not report.failed


def test_masks_without_anything_in_them_are_a_warning(tmp_path: Path) -> None:
    segmentation(tmp_path, TWO)
    for mask in tmp_path.rglob("*-mask.png"):
        Image.fromarray(np.zeros((24, 20), np.uint8)).save(mask)
    (tmp_path / "study.yaml").write_text("classes: {background: 0, square: 255}\n")
    report = check_study(tmp_path, jobs=1)
    assert [p.severity for p in report.problems if p.code == "no-foreground"] == ["warning"]


def test_huge_integers_are_compared_without_overflow(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    volumes(tmp_path, TWO)
    image = np.random.default_rng(0).integers(-(2**60), 2**60, (16, 30, 12))
    affine = nib.load(tmp_path / "north/1-mask.nii.gz").affine
    nib.save(nib.Nifti1Image(image, affine, dtype=np.int64), tmp_path / "north/1.nii.gz")
    assert not check_study(tmp_path, jobs=1).failed
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
