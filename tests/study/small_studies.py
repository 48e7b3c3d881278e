"""Studies of a few small images, for the tests of the cache and the seal."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elsewhere.study.study import Study, open_study

SITES = {"north": 8, "south": 8, "west": 7}


def segmentation(
    folder: Path, sites: Mapping[str, int] = SITES, shape: tuple[int, int] = (24, 20), extra: Sequence[str] = ()
) -> Path:
    """RGB images with a square to find; two images a patient. `extra`: csv rows to add."""
    rng = np.random.default_rng(7)
    rows = []
    for site, n in sites.items():
        for i in range(n):
            image = rng.integers(0, 200, (*shape, 3), dtype=np.uint8)
            mask = np.zeros(shape, np.uint8)
            mask[4:12, 5 : 9 + i % 5] = 255
            image[mask > 0] += 50
            save(folder / f"{site}/{i}.png", image)
            save(folder / f"{site}/{i}-mask.png", mask)
            rows.append([f"{site}/{i}.png", f"{site}/{i}-mask.png", site, f"{site}-p{i}"])
    write_manifest(folder, ["image", "label", "site", "patient"], [*rows, *(row.split(",") for row in extra)])
    return folder


def classification(folder: Path, sites: Mapping[str, int] = SITES) -> Path:
    rng = np.random.default_rng(8)
    rows = []
    for site, n in sites.items():
        for i in range(n):
            save(folder / f"{site}/{i}.png", rng.integers(0, 255, (40, 36), dtype=np.uint8))
            rows.append([f"{site}/{i}.png", ["normal", "abnormal"][i % 2], site, f"{site}-p{i}", f"finding-{site}-{i}"])
    write_manifest(folder, ["image", "label", "site", "patient", "finding"], rows)
    return folder


def volumes(folder: Path, sites: Mapping[str, int] = SITES, axes: str = "LPS") -> Path:
    """NIfTI volumes of 2 x 1 x 3 mm whose axes point towards `axes`; the lesion is towards the right, front and top."""
    rng = np.random.default_rng(9)
    rows = []
    for site, n in sites.items():
        for i in range(n):
            array = rng.normal(100, 20, (16, 30, 12)).astype(np.float32)
            mask = np.zeros(array.shape, np.uint8)
            mask[10:14, 20:27, 7:10] = 1
            affine = np.diag([2.0, 1.0, 3.0, 1.0])
            for name, data in ((f"{site}/{i}.nii.gz", array), (f"{site}/{i}-mask.nii.gz", mask)):
                turned = nib.Nifti1Image(data, affine)
                turned = turned.as_reoriented(nib.orientations.axcodes2ornt(axes))
                (folder / site).mkdir(parents=True, exist_ok=True)
                nib.save(turned, folder / name)
            rows.append([f"{site}/{i}.nii.gz", f"{site}/{i}-mask.nii.gz", site, f"{site}-p{i}"])
    write_manifest(folder, ["image", "label", "site", "patient"], rows)
    return folder


def save(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_manifest(folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def opened(folder: Path) -> Study:
    return open_study(folder)
