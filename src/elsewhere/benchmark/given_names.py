"""Which file of a folder is whose prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.manifest import without_suffix
from elsewhere.study.reading import DICOMS, NIFTIS, PHOTOGRAPHS, TIFFS

if TYPE_CHECKING:
    from elsewhere.study.study import Study

ENDINGS = (*NIFTIS, *PHOTOGRAPHS, *TIFFS, *DICOMS)

NAMED = 8
"""Names that a sentence lists before it says how many more there are."""


@dataclass(frozen=True)
class Matched:
    """Which file is whose.

    Attributes:
        files: case id -> mask.
        missing: cases without a file.
        surplus: files without a case, relative to the folder.
    """

    files: Mapping[str, Path]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def match(folder: Path, study: Study, cases: Sequence[Case]) -> Matched:
    """Which file of a folder is whose.

    A path that is the case's own goes before a name, so `north/1.png` and `south/1.png` are told apart.

    Raises:
        StudyError: there is no mask, none fits, a file fits two cases, a case two files, or a file is the study's own.
    """
    files = _masks_in(folder)
    if not files:
        raise StudyError(f"{folder}: no mask here; wanted NIfTI, PNG or TIFF files named as the study's cases or masks")
    by_path, by_name = _keyed(folder, files)
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for case in cases:
        path = _file_of(case, study, by_path, by_name)
        if path is None:
            continue
        if isinstance(case.label, Path) and case.label.exists() and path.samefile(case.label):
            raise StudyError(f"{path}: is the study's own mask of case '{case.id}'; wanted a folder of predictions")
        if path in owners:
            raise StudyError(
                f"{path}: fits the cases '{owners[path]}' and '{case.id}'; put the masks into folders like the study's "
                f"({case.id}{_ending(path)})"
            )
        found[case.id] = path
        owners[path] = case.id
    if not found:
        raise StudyError(
            f"{folder}: none of its {len(files)} masks is named as a case of study {study.name}: found "
            f"'{files[0].relative_to(folder)}', wanted such as '{cases[0].id}{_ending(files[0])}'"
        )
    missing = tuple(case.id for case in cases if case.id not in found)
    surplus = tuple(str(path.relative_to(folder)) for path in files if path not in owners)
    return Matched(found, missing, surplus)


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 12 more`."""
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _masks_in(folder: Path) -> list[Path]:
    def hidden(path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(folder).parts)

    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS) and path.is_file() and not hidden(path)
    )


def _keyed(folder: Path, files: Iterable[Path]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    by_path: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_path.setdefault(without_suffix(path.relative_to(folder).as_posix()), []).append(path)
        by_name.setdefault(without_suffix(path.name), []).append(path)
    return by_path, by_name


def _file_of(
    case: Case, study: Study, by_path: Mapping[str, list[Path]], by_name: Mapping[str, list[Path]]
) -> Path | None:
    own = [path for path in (case.label, next(iter(case.images.values()), None)) if isinstance(path, Path)]
    paths = [case.id, *(without_suffix(_relative(path, study.root)) for path in own)]
    names = [case.id.rpartition("/")[2], *(without_suffix(path.name.partition("#")[0]) for path in own)]
    for keys in (paths, names):
        keys += [key.removesuffix("_0000") for key in keys if key.endswith("_0000")]
    for table, keys in ((by_path, paths), (by_name, names)):
        for key in keys:
            found = table.get(key, [])
            if len(found) > 1:
                raise StudyError(f"case '{case.id}' has two masks: {found[0]} and {found[1]}; keep one of them")
            if found:
                return found[0]
    return None


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


def _ending(path: Path) -> str:
    return path.name[len(without_suffix(path.name)) :]
