"""What the recipes share: finding the folder of a data set, its volumes, and the roles of its sites."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case

_ENDINGS = (".nii.gz", ".nii")
_MOST_LISTED = 6


def find_root(root: Path, folders: Sequence[str], title: str) -> Path:
    """Give the folder that holds all of `folders`: `root`, or one folder in it, as archives unpack.

    Raises:
        StudyError: none holds them all, or several do.
    """
    whole = [place for place in (root, *subfolders(root)) if all((place / name).is_dir() for name in folders)]
    if whole[:1] == [root] or len(whole) == 1:
        return whole[0]
    wanted = " and ".join(f"'{name}'" for name in folders)
    if whole:
        raise StudyError(f"{root}: holds {title} several times ({', '.join(p.name for p in whole)}); name one of them")
    raise StudyError(f"{root}: is not {title}; looked for the folders {wanted}, found {contents(root)}")


def contents(folder: Path) -> str:
    """Name the first things in a folder, for a message."""
    names = [place.name + "/" * place.is_dir() for place in _entries(folder)]
    more = f", ... ({len(names)} in all)" if len(names) > _MOST_LISTED else ""
    return (", ".join(names[:_MOST_LISTED]) or "nothing") + more


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, without hidden ones and what macOS leaves in archives."""
    return [place for place in _entries(folder) if place.is_dir()]


def volumes(folder: Path) -> dict[str, Path]:
    """NIfTI files of a folder by their names without the ending; files of another kind are passed over.

    Raises:
        StudyError: the folder cannot be read, or a name is there as `.nii` and as `.nii.gz`.
    """
    found: dict[str, Path] = {}
    for path in _entries(folder):
        stem = without_ending(path)
        if stem is None or path.is_dir():
            continue
        if stem in found:
            raise StudyError(f"{path}: '{found[stem].name}' is there, too; remove one of the two")
        found[stem] = path
    return found


def volumes_below(root: Path, pattern: str) -> Iterator[tuple[re.Match[str], Path]]:
    """NIfTI files anywhere below `root` whose name without the ending is `pattern` from end to end."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_left_over(name))
        for name in sorted(files):
            stem = without_ending(Path(name))
            match = re.fullmatch(pattern, stem) if stem is not None and not _is_left_over(name) else None
            if match is not None:
                yield match, Path(place) / name


def without_ending(path: Path) -> str | None:
    """`Case00` for `Case00.nii.gz`; None where the file is no NIfTI by its name."""
    ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)
    return None if ending is None else path.name.removesuffix(ending)


def matched(images: Mapping[str, Path], labels: Mapping[str, Path], folders: tuple[Path, Path]) -> list[str]:
    """Give the names that both hold, sorted.

    Raises:
        StudyError: there is none, or a name is in one folder only.
    """
    for stem in sorted(images.keys() ^ labels.keys()):
        there, lacking = folders if stem in images else folders[::-1]
        raise StudyError(
            f"{there.parent}: case '{stem}' is in '{there.name}' and not in '{lacking.name}'; add its file or remove it"
        )
    if not images:
        raise StudyError(f"{folders[0]}: holds no NIfTI file (.nii.gz); found {contents(folders[0])}")
    return sorted(images)


def roles(
    root: Path, cases: Iterable[Case], *, train: Sequence[str], test: Sequence[str], validation: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Give the roles of sites for `study.yaml`.

    Raises:
        StudyError: a site of the protocol has no case.
    """
    found = {case.site for case in cases}
    for site in (*train, *validation, *test):
        if site not in found:
            raise StudyError(
                f"{root}: has no case of {site}; the recipe trains on {', '.join(train)} and tests on "
                f"{', '.join(test)}; complete the data set, or make a study of what there is (--from csv)"
            )
    given = {"train": list(train), "validation": list(validation), "test": list(test)}
    return {role: sites for role, sites in given.items() if sites}


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(place for place in folder.iterdir() if not _is_left_over(place.name))
    except OSError as error:
        raise StudyError(f"{folder}: cannot be read ({error.strerror or error}); wanted a folder") from error


def _is_left_over(name: str) -> bool:
    """Hidden files (`._BRATS_001.nii.gz`), and the folder in which macOS puts such files."""
    return name.startswith(".") or name == "__MACOSX"
