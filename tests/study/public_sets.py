"""The public data sets of the recipes in miniature: true names and folders, volumes of a few voxels."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (9, 8, 7)


def volume(path: Path, *, channels: int = 0, values: tuple[int, ...] = (), dtype: type = np.int16) -> Path:
    """An image of noise that differs from path to path, or (`values`) a mask that holds these values."""
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    if values:
        array = np.zeros(SHAPE, dtype)
        for place, value in enumerate(values):
            array[place // 4 + 1, place % 4 + 1, 1:4] = value
    else:
        array = rng.integers(1, 2000, (*SHAPE, channels) if channels else SHAPE).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    return path


def msd_brats(root: Path) -> Path:
    root = root / "Task01_BrainTumour"
    for number in range(1, 13):
        volume(root / f"imagesTr/BRATS_{number:03}.nii.gz", channels=4, dtype=np.float32)
        volume(root / f"labelsTr/BRATS_{number:03}.nii.gz", values=(1, 2, 3))
    volume(root / "imagesTs/BRATS_485.nii.gz", channels=4)
    (root / "imagesTr/._BRATS_001.nii.gz").write_bytes(b"what macOS leaves in the archive")
    described = {
        "name": "BRATS",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "numTraining": 484,
        "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
    }
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def amos(root: Path) -> Path:
    root = root / "amos22"
    (root / "readme.md").parent.mkdir(parents=True)
    (root / "readme.md").write_text("# AMOS")
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "spleen"}}))
    for part, numbers in {"Tr": (1, 4, 5, 6, 7, 507, 508, 510), "Va": (8, 500, 541, 554), "Ts": (2, 561)}.items():
        for number in numbers:
            volume(root / f"images{part}/amos_{number:04}.nii.gz", dtype=np.float32)
            if part != "Ts":
                last = 16 if number <= 500 else 14
                volume(root / f"labels{part}/amos_{number:04}.nii.gz", values=tuple(range(1, last)))
    (root / "labelsTs").mkdir()
    return root


GRADES = {0: "moderate", 1: "mild", 2: "mild", 3: "severe", 4: "severe", 5: "mild", 7: "moderate", 9: "severe"}


def hvsmr(root: Path) -> Path:
    root = root / "25226366"
    for patient in (*GRADES, 59):
        start = root / f"cropped/pat{patient}_cropped"
        volume(start.with_name(f"{start.name}.nii.gz"))
        volume(start.with_name(f"{start.name}_seg.nii.gz"), values=tuple(range(1, 9)))
        volume(start.with_name(f"{start.name}_seg_endpoints.nii.gz"), values=(3, 5))
        (root / "__MACOSX/cropped").mkdir(parents=True, exist_ok=True)
        (root / f"__MACOSX/cropped/._{start.name}.nii.gz").write_bytes(b"resource fork")
    rows = [f"{patient},{10 + patient},{grade},,,X" for patient, grade in GRADES.items()]
    (root / "hvsmr_clinical.csv").write_text("\n".join(["Pat,Age,Category,Normal,MildModerateDilation,VSD", *rows, ""]))
    (root / "hvsmr_technical.csv").write_text("Pat,TE,TR\n0,2.1,4.1\n")
    return root


def topcow(root: Path) -> Path:
    root = root / "TopCoW2024_Data_Release"
    for number in (*range(1, 10), 131, 132, 165):
        for modality in ("ct", "mr"):
            volume(root / f"imagesTr/topcow_{modality}_{number:03}_0000.nii.gz")
            volume(root / f"cow_seg_labelsTr/topcow_{modality}_{number:03}.nii.gz", values=(*range(1, 13), 15))
            (root / "roi_loc_labelsTr").mkdir(exist_ok=True)
            (root / f"roi_loc_labelsTr/topcow_{modality}_{number:03}.txt").write_text("--- ROI Meta Data ---")
    return root


def prostate_multisite(root: Path) -> Path:
    root = root / "Prostate"
    for site in ("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL"):
        for number in range(6):
            volume(root / f"{site}/Case{number:02}.nii.gz", dtype=np.float32)
            ending = "Segmentation" if site == "BMC" else "segmentation"
            values = (1, 2) if site in ("RUNMC", "BMC") else (1,)
            volume(root / f"{site}/Case{number:02}_{ending}.nii.gz", values=values, dtype=np.float32)
    return root


CENTRES = {
    "in_domain": ("MCF", "NYU"),
    "out_of_domain": ("EMC", "IU", "NU", "OutPhaseEMC", "OutPhaseNU"),
}


def pancreasdg(root: Path) -> Path:
    root = root / "Task310_PancreasT1DG"
    for domain, sites in CENTRES.items():
        for site in sites:
            for number in range(7):
                name = f"{site.removeprefix('OutPhase').lower()}_{number:04}"
                volume(root / f"{domain}/{site}/imagesTr/{name}_0000.nii.gz")
                volume(root / f"{domain}/{site}/labelsTr/{name}.nii.gz", values=(1,))
    return root


def pancreasdg_of_dropgen(root: Path) -> Path:
    root = root / "PancreasDG"
    for part, numbers in {"train": range(8), "val": range(8, 11), "test": range(11, 15)}.items():
        for number in numbers:
            volume(root / f"{part}/images/pancreas_{number:03}.nii.gz")
            volume(root / f"{part}/labels/pancreas_{number:03}.nii.gz", values=(1,))
    return root


SETS: Mapping[str, Callable[[Path], Path]] = {
    "msd-brats": msd_brats,
    "amos": amos,
    "hvsmr": hvsmr,
    "topcow": topcow,
    "prostate-multisite": prostate_multisite,
    "pancreasdg": pancreasdg,
}
