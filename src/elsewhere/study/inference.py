"""What a study does not declare is inferred once, printed, and can be written down as `study.yaml`."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from elsewhere.errors import ElsewhereError, StudyError
from elsewhere.files import write_text
from elsewhere.study.case import Case
from elsewhere.study.config import StudyConfig
from elsewhere.study.folders import cache_folder
from elsewhere.study.palette import PALETTE_REMEDY, Colours, disagreement
from elsewhere.study.problem import Problem
from elsewhere.wording import did_you_mean

# More values than this in masks that nobody declared is a grey image or a lossy one, not a label map (our choice).
HEALTHY = ("normal", "healthy", "negative", "control", "benign", "none", "no", "absent", "background")
MOST_INFERRED_VALUES = 200
MOST_NUMBERS = 10
"""More different numbers than this, as labels that nobody declared, are a measurement (our choice)."""
_FLAT_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def infer_dims(cases: Sequence[Case]) -> int:
    """2 or 3, after the first image that can be read (flat formats are not even opened).

    Raises:
        StudyError: none of the first ten images can be read.
    """
    from elsewhere.study.reading import read_image

    failure: ElsewhereError | None = None
    for case in cases[:10]:
        path = next(iter(case.images.values()))
        if path.name.lower().endswith(_FLAT_SUFFIXES):
            return 2
        try:
            return len(read_image({"image": path}).geometry.shape)
        except ElsewhereError as error:
            failure = failure or error
    raise failure or StudyError("the study has no cases; wanted at least one row without an error")


def declared_classes(config: StudyConfig, task: str, where: str) -> tuple[tuple[str, ...], dict[int, int]] | None:
    """Class names and {value in the file: class index} as `study.yaml` has them, or None where it is silent.

    Raises:
        StudyError: values are given for a classification.
    """
    if config.classes is None:
        return None
    names = tuple(config.classes)
    if task == "classification":
        if isinstance(config.classes, dict):
            raise StudyError(
                f"{where}: key 'classes' gives values, but the labels are class names (classification); wanted a list "
                "of names, or 'task: segmentation'"
            )
        return names, {}
    if isinstance(config.classes, dict):
        return names, {value: i for i, values in enumerate(config.classes.values()) for value in values}
    return names, {index: index for index in range(len(names))}


def classes_of_names(cases: Sequence[Case], where: str) -> tuple[str, ...]:
    """Class names of a classification, in alphabetical (or numerical) order, a name of health before all others.

    The second of two classes is the positive one of F1, average precision and Brier score: it shall be the finding.

    Raises:
        StudyError: there is only one class, a cell holds several, labels are a measurement, or nearly every case has a
            class of its own.
    """
    counts = Counter(case.label for case in cases if isinstance(case.label, str))
    names = sorted(counts, key=_order)
    if len(names) < 2:
        found = f"only the class '{names[0]}'" if names else "no label"
        raise StudyError(f"{where}: column 'label' has {found}; declare 'classes' in study.yaml if there are others")
    several = next((name for name in names if any(mark in name for mark in ";|")), None)
    if several is not None:
        raise StudyError(
            f"{where}: column 'label' has '{several}', which looks like several labels; a case has one class here "
            "(declare 'classes' in study.yaml if this is one)"
        )
    if len(names) > MOST_NUMBERS and all(map(_is_number, names)):
        raise StudyError(
            f"{where}: column 'label' has {len(names)} different numbers, {names[0]} to {names[-1]}, which look like a "
            "measurement; wanted classes (declare 'classes' in study.yaml if these are)"
        )
    if len(names) > 20 and 2 * len(names) > counts.total():
        raise StudyError(
            f"{where}: column 'label' has {len(names)} different values in {counts.total()} rows, such as "
            f"'{names[0]}'; wanted class names or paths of masks (declare 'classes' in study.yaml if these are right)"
        )
    return tuple(names)


def _order(name: str) -> tuple[int, float, str]:
    if name.lower() in HEALTHY:
        return (0, 0.0, name)
    return (1, float(name), name) if _is_number(name) else (2, 0.0, name)


def classes_of_values(values: set[int], where: str) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names and {value: class index} for all the values that occur in masks; 0 is the background.

    Raises:
        StudyError: every mask is empty, a value is negative, or there are too many values for a label map.
    """
    foreground = sorted(values - {0})
    remedy = "declare 'classes' in study.yaml, such as 'classes: {background: 0, lesion: 255}'"
    if not foreground:
        raise StudyError(f"{where}: all masks are empty; {remedy}")
    if foreground[0] < 0:
        raise StudyError(f"{where}: a mask holds the value {foreground[0]}, wanted 0 and above; {remedy}")
    if len(foreground) > MOST_INFERRED_VALUES:
        raise StudyError(
            f"{where}: the masks hold {len(foreground)} values other than 0, as grey or JPEG-compressed images do; "
            f"save masks losslessly with one value a class, or {remedy}"
        )
    if len(foreground) == 1:
        return ("background", "foreground"), {0: 0, foreground[0]: 1}
    names = ("background", *(f"class_{value}" for value in foreground))
    return names, {0: 0} | {value: index for index, value in enumerate(foreground, start=1)}


def read_all_values(
    cases: Sequence[Case],
    manifest: bytes,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[set[int], list[Problem]]:
    """The values of all masks, each mask read once; known again from the cache as long as nothing changed.

    The result is kept as `inferred/KEY.yaml` in the cache folder, where KEY is of the manifest's bytes and each mask's
    path, size and time of change. Where the cache folder cannot be written it is just not kept.

    Args:
        cases: with masks as labels.
        manifest: content of the manifest.
        cache: the cache folder; the user's by default.
        progress: called with (masks read, masks in all).

    Returns:
        The values, and a problem for each mask that cannot be read.
    """
    labelled = {case.label: case for case in cases if isinstance(case.label, Path)}
    paths = list(labelled)
    kept = (cache or cache_folder()) / "inferred" / f"{_key(manifest, paths)}.yaml"
    known = _recall(kept)
    if known is not None:
        return known, []
    values: set[int] = set()
    colours: list[tuple[str, Colours]] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), 256):  # in portions, so that a mistake or Ctrl-C does not wait for all
            portion = paths[start : start + 256]
            for path, found in zip(portion, pool.map(_values_or_error, portion), strict=True):
                if isinstance(found, tuple):
                    values |= found[0]
                    colours += [(str(path), found[1])] * bool(found[1])
                else:
                    case = labelled[path]
                    problems.append(Problem("error", "unreadable", f"row {case.row}", f"label {found}"))
            if progress is not None:
                progress(min(start + 256, len(paths)), len(paths))
    if differing := disagreement(colours):
        case = labelled[Path(differing[0])]
        message = f"label {differing[0]}: {differing[1]}; {PALETTE_REMEDY}"
        problems.append(Problem("error", "palettes-differ", f"row {case.row}", message))
    if not problems:
        text = "# Values of all masks of a study, as elsewhere found them.\n" + yaml.safe_dump(
            {"values": sorted(values), "masks": len(paths)}, sort_keys=False
        )
        with contextlib.suppress(ElsewhereError):
            write_text(kept, text)
    return values, problems


def undeclared_names(cases: Sequence[Case], classes: Sequence[str], where: str) -> list[Problem]:
    """An error for each case whose class name is not among `classes`."""
    return [
        Problem(
            "error",
            "undeclared-class",
            f"{where} row {case.row}",
            f"label '{case.label}' is not a declared class{did_you_mean(case.label, classes)}; "
            f"wanted one of {', '.join(classes)}",
        )
        for case in cases
        if isinstance(case.label, str) and case.label not in classes
    ]


def patients_at_several_sites(cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
    """Patients with cases at more than one site, each with its sites in order."""
    sites: dict[str, set[str]] = {}
    for case in cases:
        sites.setdefault(case.patient, set()).add(case.site)
    return {patient: tuple(sorted(found)) for patient, found in sites.items() if len(found) > 1}


def _values_or_error(path: Path) -> tuple[set[int], Colours] | str:
    from elsewhere.study.reading import LOSSY, MOST_LOSSLESS, is_lossy, read_colours, read_label_values

    try:
        values = read_label_values(path)
        if is_lossy(path) and len(values) > MOST_LOSSLESS:
            return f"{path}: holds {len(values)} values; {LOSSY}, or declare 'classes' in study.yaml"
        return values, read_colours(path)
    except ElsewhereError as error:
        return str(error)


def _key(manifest: bytes, paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(manifest)
    for path in paths:
        try:
            stat = path.stat()
            digest.update(f"\n{path}\t{stat.st_size}\t{stat.st_mtime_ns}".encode("utf-8", "surrogateescape"))
        except OSError:
            digest.update(f"\n{path}\tabsent".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _recall(kept: Path) -> set[int] | None:
    """What was kept; None where it is absent or not what we write."""
    try:
        found = yaml.safe_load(kept.read_text(encoding="utf-8"))
        values = found["values"]
        return set(values) if values and all(type(value) is int for value in values) else None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
