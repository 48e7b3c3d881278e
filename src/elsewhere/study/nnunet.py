"""An nnU-Net raw dataset (v1 or v2) as the source of a new study."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.sources import Source, found_by_rule, name_rule


def from_nnunet(source: Path, *, site: str | None, site_rule: str | None, patient_rule: str | None) -> Source:
    """Cases of an nnU-Net raw dataset (v1 or v2): `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`.

    Labels that are overlapping regions become one class per value, named after all the regions it is in.

    Args:
        source: the dataset's folder.
        site: of all cases, if it is only one.
        site_rule: regular expression that finds the site in the case name.
        patient_rule: the same for the patient; by default each case is one.

    Raises:
        StudyError: a file is missing or has no counterpart, or the rule does not match a case.
    """
    described = _dataset_json(source / "dataset.json")
    if site is None and site_rule is None:
        raise StudyError(
            f"{source}: an nnU-Net dataset does not say the site; give a rule that finds it in the case name, such as "
            "--site-rule '^([A-Za-z]+)_'"
        )
    ending = str(described.get("file_ending", ".nii.gz"))
    channels = described.get("channel_names") or described.get("modality")
    if not isinstance(channels, dict) or not channels:
        raise StudyError(f'{source / "dataset.json"}: key \'channel_names\' is missing; wanted {{"0": "NAME"}}')
    names = [str(channels[key]).strip() for key in sorted(channels, key=int)]
    images = _nnunet_images(source / "imagesTr", ending)
    labels = _nnunet_labels(source / "labelsTr", ending)
    for stem in images.keys() ^ labels.keys():
        one, other = ("imagesTr", "labelsTr") if stem in images else ("labelsTr", "imagesTr")
        raise StudyError(f"{source}: case '{stem}' is in {one} and not in {other}; add its file or remove it")
    find_site = name_rule(site_rule, "--site-rule", "site")
    find_patient = name_rule(patient_rule, "--patient-rule", "patient")
    cases = []
    for stem, files in images.items():
        # A photograph holds its colours in one file, whatever dataset.json calls them.
        photograph = len(files) == 1 and len(names) > 1 and ending in (".png", ".bmp", ".tif")
        columns = ["image"] if photograph or len(names) == 1 else names
        if len(files) != len(columns):
            raise StudyError(
                f"{source / 'imagesTr'}: case '{stem}' has {len(files)} files, dataset.json names {len(names)} channels"
            )
        where = f"{source.name}: case '{stem}'"
        cases.append(
            Case(
                id=stem,
                images=dict(zip(columns, files, strict=True)),
                label=labels[stem],
                site=site or found_by_rule(find_site(stem), site_rule, where, "site"),
                patient=found_by_rule(find_patient(stem), patient_rule, where, "patient") if patient_rule else stem,
            )
        )
    declared: dict[str, Any] = {"task": "segmentation", "classes": _nnunet_classes(described, source)}
    if {name.upper() for name in names} == {"CT"}:
        declared["intensity"] = "ct"
    return Source(cases, declared)


def _dataset_json(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(
            f"{path}: cannot be read ({error.strerror or error}); wanted an nnU-Net raw dataset"
        ) from error
    except ValueError as error:
        raise StudyError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(described, dict):
        raise StudyError(f"{path}: holds no keys; wanted 'channel_names', 'labels' and 'file_ending'")
    return described


def _nnunet_images(folder: Path, ending: str) -> dict[str, list[Path]]:
    """Files of each case, in the order of their channel numbers."""
    found: dict[str, list[Path]] = {}
    for path in _with_ending(folder, ending):
        match = re.fullmatch(r"(.+)_(\d{4})", path.name.removesuffix(ending))
        if match is None:
            raise StudyError(f"{path}: the name does not end in a channel number, as CASE_0000{ending}")
        files = found.setdefault(match.group(1), [])
        if int(match.group(2)) != len(files):
            raise StudyError(f"{path}: channel {len(files):04d} of the case is missing before it")
        files.append(path)
    if not found:
        raise StudyError(f"{folder}: holds no file that ends in '{ending}' (file_ending of dataset.json)")
    return found


def _nnunet_labels(folder: Path, ending: str) -> dict[str, Path]:
    return {path.name.removesuffix(ending): path for path in _with_ending(folder, ending)}


def _with_ending(folder: Path, ending: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(ending) and path.name[0] != ".")
    except OSError as error:
        raise StudyError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _nnunet_classes(described: Mapping[str, Any], source: Path) -> dict[str, list[int]]:
    where = source / "dataset.json"
    labels = described.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise StudyError(f'{where}: key \'labels\' is missing; wanted {{"background": 0, "NAME": 1}}')
    if all(str(key).isdigit() for key in labels):  # v1 has it the other way round
        labels = {str(name): int(value) for value, name in labels.items()}
    if "ignore" in labels:
        raise StudyError(f"{where}: has an 'ignore' label, which elsewhere does not know; give those pixels a class")
    regions = {name: set(value) if isinstance(value, list) else {int(value)} for name, value in labels.items()}
    names: dict[int, list[str]] = {}
    for name, values in regions.items():
        for value in sorted(values):
            names.setdefault(int(value), []).append(name)
    if all(len(inside) == 1 for inside in names.values()):
        ordered = sorted(regions, key=lambda name: min(regions[name]))
        return {name: sorted(regions[name]) for name in ordered}
    return {"+".join(inside): [value] for value, inside in sorted(names.items())}
