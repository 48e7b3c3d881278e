"""Writing a simulated study: a study folder like any other, with the truth about its sites beside it."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from elsewhere.acquisition.anatomy import Anatomy, NestedOrgans
from elsewhere.errors import StudyError
from elsewhere.files import beside, write_error
from elsewhere.simulate.site import Appearance, SimulatedSite, seed_of, simulate_patient
from elsewhere.simulate.truth import site_to_plain

TaskName = Literal["segmentation", "classification"]
FINDINGS = ("no-lesion", "lesion")
"""Classes of a classification study, in output order."""
TARGETS: Mapping[str, tuple[str, ...]] = {"organ": ("organ",), "lesion": ("lesion",)}
"""What the masks of the default anatomy show: the organ around the lesion, and the lesion."""
WINDOW = (0.0, 1.2)
"""Intensities at the ends of the files' range; tissues lie in 0 to 1, and noise above that still fits."""


def simulate_study(
    folder: Path,
    sites: Sequence[SimulatedSite],
    anatomy: Anatomy | None = None,
    *,
    task: TaskName = "segmentation",
    dims: int = 2,
    size: int | Sequence[int] = 96,
    seed: int = 0,
    name: str = "simulated",
    appearance: Appearance | None = None,
    targets: Mapping[str, Sequence[str]] | None = None,
    spacing: Sequence[float] | None = None,
    bits: Literal[8, 16] = 8,
) -> Path:
    """Write a study of `sites` to `folder`; it is there whole or not at all, and the same bytes for the same arguments.

    Args:
        folder: must not exist yet, or be empty.
        sites: the hospitals.
        anatomy: who is imaged; `NestedOrgans()` by default.
        task: segmentation (masks) or classification (lesion or none).
        dims: 2 (PNG) or 3 (NIfTI, int16).
        size: spatial shape; one number is the length of the first two axes (in 3D the third is half of it).
        seed: all of a case's randomness comes from the seed, the site's name and the patient's number.
        name: of the study.
        appearance: intensities of the anatomy's classes.
        targets: name of each foreground class of the masks -> the anatomy's classes that it is made of.
        spacing: mm (3D); (1, 1, 2) by default.
        bits: of 2D images; colour images have 8.

    Returns:
        `folder`, with manifest.csv (image, label, site, patient, age, sex, lesion), study.yaml, truth.yaml, images/
        and, for segmentation, masks/.

    Raises:
        StudyError: the folder is not empty, or the arguments do not fit together; nothing is written.
        RunError: the disk is full or the folder cannot be written; nothing is left.
    """
    anatomy = NestedOrgans() if anatomy is None else anatomy
    appearance = Appearance() if appearance is None else appearance
    targets = TARGETS if targets is None else targets
    spatial = _shape(size, dims)
    mm = None if dims == 2 else tuple(float(s) for s in (spacing or (1.0, 1.0, 2.0)))
    values = _check(sites, anatomy, appearance, targets, task)
    channels = int(appearance.table().shape[2])
    suffix = ".png" if dims == 2 else ".nii.gz"
    rows: list[dict[str, str | int]] = []
    truth: dict[str, Any] = {}
    with _whole(folder) as part:
        (part / "images").mkdir()
        if task == "segmentation":
            (part / "masks").mkdir()
        for site in sites:
            scanner = site.own_scanner(seed, channels=channels, dims=dims)
            lesions = site.lesions(seed)
            truth[site.name] = site_to_plain(site, scanner, lesions)
            for patient, lesion in enumerate(lesions):
                person = np.random.default_rng(seed_of(seed, site.name, patient, "person"))
                age = int(np.clip(round(person.normal(*site.age)), 18, 100))
                sex = "FM"[int(person.integers(2))]
                cases = simulate_patient(site, scanner, patient, lesion, anatomy, appearance, spatial, seed)
                for number, case in enumerate(cases):
                    patient_name = f"{site.name}-{patient:03d}"
                    stem = patient_name + (f"-{number}" if site.images_per_patient > 1 else "")
                    image, label = f"images/{stem}{suffix}", FINDINGS[lesion]
                    _write_image(part / image, case.image.numpy(), mm, bits)
                    if task == "segmentation":
                        label = f"masks/{stem}{suffix}"
                        _write_mask(part / label, values[case.labels.numpy()], mm)
                    rows.append(
                        {
                            "image": image,
                            "label": label,
                            "site": site.name,
                            "patient": patient_name,
                            "age": age,
                            "sex": sex,
                            "lesion": int(lesion),
                        }
                    )
        with (part / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        declared: dict[str, Any] = {"name": name, "task": task}
        if task == "classification":
            declared["classes"] = list(FINDINGS)
        else:
            declared["classes"] = {"background": 0} | {target: i for i, target in enumerate(targets, start=1)}
        if mm is not None:
            declared["spacing"] = list(mm)
        _write_yaml(part / "study.yaml", declared)
        _write_yaml(
            part / "truth.yaml",
            {
                "seed": seed,
                "task": task,
                "size": list(spatial),
                "spacing": None if mm is None else list(mm),
                "anatomy": {"kind": type(anatomy).__name__, "classes": list(anatomy.classes)} | _plain(anatomy),
                "appearance": _plain(appearance),
                "sites": truth,
            },
        )
    return folder


def _shape(size: int | Sequence[int], dims: int) -> tuple[int, ...]:
    if dims not in (2, 3):
        raise StudyError(f"dims is {dims}, wanted 2 or 3")
    shape = ((size, size) if dims == 2 else (size, size, max(size // 2, 1))) if isinstance(size, int) else tuple(size)
    if len(shape) != dims or min(shape) < 16:
        raise StudyError(f"size is {size}, wanted {dims} lengths of at least 16")
    return shape


def _check(
    sites: Sequence[SimulatedSite],
    anatomy: Anatomy,
    appearance: Appearance,
    targets: Mapping[str, Sequence[str]],
    task: str,
) -> NDArray[np.uint8]:
    """The value in the masks of each of the anatomy's classes, if all fits together."""
    names = [site.name for site in sites]
    if not names or len(set(names)) < len(names):
        raise StudyError(f"sites are {names}, wanted at least one, each with a name of its own")
    if task not in ("segmentation", "classification"):
        raise StudyError(f"task is {task!r}, wanted 'segmentation' or 'classification'")
    if len(appearance.intensities) != len(anatomy.classes):
        raise StudyError(
            f"the appearance has {len(appearance.intensities)} intensities, wanted one for each of "
            f"{', '.join(anatomy.classes)}"
        )
    values = np.zeros(len(anatomy.classes), np.uint8)
    if task == "segmentation":
        for value, (target, members) in enumerate(targets.items(), start=1):
            for member in members:
                if member not in anatomy.classes:
                    raise StudyError(f"target {target!r} is made of {member!r}, wanted one of {anatomy.classes}")
                values[anatomy.classes.index(member)] = value
    return values


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that becomes it when all went well, and is gone otherwise."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder}: is there already and is not empty; choose a folder that is not")
    part: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = beside(folder)
        part.mkdir()
        yield part
        os.replace(part, folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _write_image(path: Path, image: NDArray[np.float32], mm: Sequence[float] | None, bits: int) -> None:
    unit = np.clip((image - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
    if mm is not None:
        _write_nifti(path, np.rint(unit * 1000).astype(np.int16), mm)
    elif len(unit) == 1 and bits == 16:
        Image.fromarray(np.rint(unit[0] * 65535).astype(np.uint16)).save(path)
    else:
        eight = np.rint(unit * 255).astype(np.uint8)
        Image.fromarray(eight[0] if len(eight) == 1 else np.moveaxis(eight, 0, -1)).save(path)


def _write_mask(path: Path, mask: NDArray[np.uint8], mm: Sequence[float] | None) -> None:
    if mm is None:
        Image.fromarray(mask).save(path)
    else:
        _write_nifti(path, mask[None], mm)


def _write_nifti(path: Path, array: NDArray[Any], mm: Sequence[float]) -> None:
    """(C, *spatial); several channels become NIfTI's vector axis."""
    affine = np.diag([*mm, 1.0])
    affine[:3, 3] = -(np.array(array.shape[1:]) - 1) / 2 * np.array(mm)
    volume = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)[:, :, :, None]
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _plain(thing: Any) -> dict[str, Any]:
    """A dataclass as YAML can hold it; arrays are left out."""

    def simple(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return simple(asdict(value))
        if isinstance(value, Mapping):
            return {key: simple(v) for key, v in value.items() if not hasattr(v, "shape")}
        if isinstance(value, list | tuple):
            return [simple(v) for v in value]
        return value

    plain: dict[str, Any] = simple(thing)
    return plain


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None), encoding="utf-8")
