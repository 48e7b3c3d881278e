"""What a new study is made from: a table or folders (`nnunet` has the third); each gives cases with absolute paths."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.manifest import SUFFIXES, read_rows, task_of_labels, without_suffix
from elsewhere.study.reading import DICOMS, has_preamble
from elsewhere.wording import did_you_mean

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentations")
_MASK_ENDINGS = ("_mask", "-mask", "_seg", "-seg", "_label", "_gt", "_segmentation", "_manual1")
_IGNORED = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Source:
    """Cases as found, and what the source itself declares (keys of `study.yaml`)."""

    cases: list[Case]
    declared: dict[str, Any] = field(default_factory=dict)


def name_rule(pattern: str | None, option: str, group: str) -> Callable[[str], str | None]:
    """A function from a name to what `pattern` finds in it: the group called `group`, else the first group.

    Raises:
        StudyError: the pattern is not a regular expression, or has no group.
    """
    if pattern is None:
        return lambda name: None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise StudyError(f"{option} '{pattern}' is not a regular expression ({error})") from error
    if compiled.groups == 0:
        raise StudyError(f"{option} '{pattern}' has no group; put what names the {group} in brackets, as '^([A-Z]+)_'")
    wanted: str | int = group if group in compiled.groupindex else 1

    def find(name: str) -> str | None:
        match = compiled.search(name)
        return match.group(wanted) if match is not None else None

    return find


def from_csv(
    path: Path, *, columns: Mapping[str, str], site: str | None, site_rule: str | None, patient_rule: str | None
) -> Source:
    """Cases of any table (comma, semicolon or tab) whose columns have other names.

    Args:
        path: of the table; its paths are relative to its folder.
        columns: our name -> the table's (`{"image": "file", "site": "hospital"}`); columns that carry our name already
            need no entry.
        site: of all rows, where the table has no such column.
        site_rule, patient_rule: regular expressions that find site and patient in the image path.

    Raises:
        StudyError: a column is missing, a file is missing, or a rule does not match.
    """
    header, rows = read_rows(path, _delimiter(path))
    index = _match_columns(path.name, header, columns)
    find_site, find_patient = (
        name_rule(site_rule, "--site-rule", "site"),
        name_rule(patient_rule, "--patient-rule", "patient"),
    )
    if "site" not in index and site is None and site_rule is None:
        raise StudyError(
            f"{path.name}: has no column 'site'{did_you_mean('site', header)}; say which it is (--column site=NAME), "
            f"or give --site or --site-rule; found: {', '.join(header)}"
        )
    used = set(index.values())
    root = str(path.parent)
    labels = [row[index["label"]].strip() for _, row in rows if "label" in index and len(row) == len(header)]
    segmentation = task_of_labels(labels, root) == "segmentation"
    cases = []
    for number, row in rows:
        where = f"{path.name} row {number}"
        if len(row) != len(header):
            raise StudyError(f"{where}: has {len(row)} cells, the header has {len(header)}")
        cells = {name: row[i].strip() for name, i in index.items()}
        for needed in ("site", "patient", "case"):
            if cells.get(needed) == "":
                raise StudyError(f"{where}: column '{header[index[needed]]}' is empty; fill it in or remove the row")
        files = {
            name: _existing(path.parent, cells[name], f"{where}: {name}")
            for name in cells
            if _is_file(name) and (cells[name] or name.startswith("image"))
        }
        text = next(cells[name] for name in cells if name.split(":")[0] == "image")
        label: Path | str | None = cells.get("label") or None
        if segmentation and label is not None:
            label = _existing(path.parent, cells["label"], f"{where}: label")
        cases.append(
            Case(
                id=cells.get("case") or without_suffix(text),
                images={_channel(name): file for name, file in files.items() if name.startswith("image")},
                label=label,
                site=cells.get("site")
                or site
                or found_by_rule(find_site(text), site_rule, f"{where}: image '{text}'", "site"),
                patient=cells.get("patient")
                or (
                    found_by_rule(find_patient(text), patient_rule, f"{where}: image '{text}'", "patient")
                    if patient_rule
                    else ""
                )
                or without_suffix(text),
                maps={name.removeprefix("map:"): file for name, file in files.items() if name.startswith("map:")},
                covariates={_covariate(name, i): row[i].strip() for i, name in enumerate(header) if i not in used},
                row=number,
            )
        )
    return Source(cases)


def from_folders(source: Path, *, patient_rule: str | None) -> Source:
    """Cases of `SITE/images` + `SITE/masks`, matched by file name, or of `SITE/CLASS/*.png`.

    Any other folder beside `images` and `masks` whose files match the images is a per-case map. A mask may add
    `_mask`, `_seg` and the like to the name of its image. Patients are files, unless `patient_rule` finds them in
    the file name; they are the site's own.

    Raises:
        StudyError: no sites, an image without a mask, a mask without an image, or a mixture of the two layouts.
    """
    find_patient = name_rule(patient_rule, "--patient-rule", "patient")
    sites = _subfolders(source)
    if not sites:
        raise StudyError(f"{source}: has no folders; wanted one folder per site, with 'images' and 'masks' or classes")
    cases: list[Case] = []
    kinds: dict[str, str] = {}
    for site in sites:
        inner = {folder.name.lower(): folder for folder in _subfolders(site)}
        images = next((inner[name] for name in IMAGE_FOLDERS if name in inner), None)
        masks = next((inner[name] for name in MASK_FOLDERS if name in inner), None)
        if not inner:
            raise StudyError(f"{site}: has no folders; wanted 'images' and 'masks', or a folder per class")
        if (images is None) != (masks is None) and (images is not None or len(inner) == 1):
            lacking = "masks" if masks is None else "images"
            raise StudyError(f"{site}: has no folder '{lacking}'; wanted 'images' and 'masks', or a folder per class")
        if images is not None and masks is not None:
            kinds.setdefault("images + masks", site.name)
            found = _paired(
                site.name, images, masks, [inner[n] for n in sorted(inner) if inner[n] not in (images, masks)]
            )
        else:
            kinds.setdefault("a folder per class", site.name)
            found = _by_class(site.name, list(inner.values()))
        if not found:
            raise StudyError(f"{site}: holds no images; remove the folder or fill it")
        for case in found:
            stem = case.id.rpartition("/")[2]
            patient = case.patient
            if patient_rule is not None:
                patient = found_by_rule(find_patient(stem), patient_rule, f"{site}: '{stem}'", "patient")
            # Numbers start anew at each site: `001` here and there are two people.
            cases.append(_replace_patient(case, f"{site.name}-{patient}"))
    if len(kinds) > 1:
        told = " but ".join(f"{site} has {kind}" for kind, site in kinds.items())
        raise StudyError(f"{source}: {told}; wanted the same layout at each site")
    return Source(cases)


def _delimiter(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error})") from error
    return max(",;\t", key=first.count)


def _match_columns(name: str, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Our column name -> its place in the table."""
    for theirs in header:
        if header.count(theirs) > 1:
            raise StudyError(f"{name}: column '{theirs}' is there twice; rename or remove one")
    index: dict[str, int] = {}
    for ours, theirs in columns.items():
        if ours not in ("label", "site", "patient", "case") and not _is_file(ours):
            raise StudyError(f"column '{ours}' is not one of image, image:NAME, label, site, patient, case, map:NAME")
        if theirs not in header:
            raise StudyError(
                f"{name}: has no column '{theirs}'{did_you_mean(theirs, header)}; found: {', '.join(header)}"
            )
        index[ours] = header.index(theirs)
    several = any(ours.startswith("image:") for ours in columns)
    for place, theirs in enumerate(header):
        ours_already = theirs in ("label", "site", "patient", "case") or (_is_file(theirs) and not several)
        if (
            ours_already
            and theirs not in index
            and place not in index.values()
            and not (theirs.startswith("image") and any(ours.startswith("image") for ours in columns))
        ):
            index[theirs] = place
    if not any(ours.split(":")[0] == "image" for ours in index):
        raise StudyError(
            f"{name}: has no column 'image'{did_you_mean('image', header)}; say which it is (--column image=NAME); "
            f"found: {', '.join(header)}"
        )
    return index


def _covariate(name: str, place: int) -> str:
    """A name for a column that is none of ours: one that looks like ours says where it is from."""
    ours = name in ("site", "patient", "label", "case") or _is_file(name)
    return f"source_{name.replace(':', '_')}" if ours else name or f"column_{place + 1}"


def _is_file(column: str) -> bool:
    return column == "image" or column.startswith(("image:", "map:"))


def _channel(column: str) -> str:
    return column.removeprefix("image").removeprefix(":") or "image"


def _existing(root: Path, cell: str, where: str) -> Path:
    path = Path(os.path.normpath(os.path.join(root, cell)))
    without_selection = str(path).rpartition("#")[0] or path  # `series#UID` selects within a DICOM folder or file
    if not cell or not (path.exists() or Path(without_selection).exists()):
        raise StudyError(
            f"{where} '{cell}' does not exist (paths are relative to {root}); correct it or remove the row"
        )
    return path


def found_by_rule(found: str | None, rule: str | None, where: str, what: str) -> str:
    """What a rule found; a StudyError where that is nothing."""
    if not found:
        raise StudyError(f"{where} does not match the rule '{rule}' that should find the {what}; correct the rule")
    return found


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))
    except OSError as error:
        raise StudyError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _files(folder: Path) -> dict[str, Path]:
    """Images of a folder by name without suffix; a folder within is a DICOM series."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in _IGNORED:
            continue
        if not path.is_dir() and not path.name.lower().endswith((*SUFFIXES, *DICOMS)) and not has_preamble(path):
            raise StudyError(f"{path}: is not an image; move it out of the folder")
        stem = path.stem if path.name.lower().endswith(DICOMS) else without_suffix(path.name)
        if stem in found:
            raise StudyError(f"{path}: '{found[stem].name}' has the same name; rename or remove one")
        found[stem] = path
    return found


def _by_class(site: str, folders: Sequence[Path]) -> list[Case]:
    """Cases of a folder per class. Files of one name in two of them are two patients: scanners count anew."""
    files = [(folder.name, stem, path) for folder in folders for stem, path in _files(folder).items()]
    times = Counter(stem for _, stem, _ in files)
    return [
        Case(f"{site}/{name}/{stem}", {"image": path}, name, site, stem if times[stem] == 1 else f"{name}-{stem}")
        for name, stem, path in files
    ]


def _paired(site: str, images: Path, masks: Path, others: Sequence[Path]) -> list[Case]:
    found = _files(images)
    labels = _match(found, masks)
    for stem, path in found.items():
        if stem not in labels:
            raise StudyError(f"{path}: has no mask in {masks}; add '{stem}' there or remove the image")
    maps = {folder.name: _match(found, folder) for folder in others}
    return [
        Case(
            id=f"{site}/{stem}",
            images={"image": path},
            label=labels[stem],
            site=site,
            patient=stem,
            maps={name: matched[stem] for name, matched in maps.items() if stem in matched},
        )
        for stem, path in found.items()
    ]


def _match(images: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Files of `folder` by the name of the image they belong to."""
    matched: dict[str, Path] = {}
    for stem, path in _files(folder).items():
        endings = ("", *_MASK_ENDINGS, f"_{folder.name}")
        image = next((stem.removesuffix(end) for end in endings if stem.removesuffix(end) in images), None)
        if image is None:
            raise StudyError(f"{path}: there is no image of that name; add it or remove this file")
        if image in matched:
            raise StudyError(f"{path}: image '{image}' has '{matched[image].name}' already; remove one")
        matched[image] = path
    return matched


def _replace_patient(case: Case, patient: str) -> Case:
    return Case(case.id, case.images, case.label, case.site, patient, case.maps)
