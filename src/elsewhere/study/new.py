"""`elsewhere study new`: a study folder made from what a person has; written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from elsewhere.errors import ElsewhereError, StudyError
from elsewhere.files import beside, write_error, write_text
from elsewhere.study.case import Case
from elsewhere.study.config import CONFIG_NAME, parse_config
from elsewhere.study.description import study_yaml
from elsewhere.study.manifest import MANIFEST_NAME
from elsewhere.study.nnunet import from_nnunet
from elsewhere.study.recipes import RECIPES
from elsewhere.study.sources import from_csv, from_folders
from elsewhere.study.study import Progress, Study, open_study
from elsewhere.wording import did_you_mean

KINDS = ("csv", "folders", "nnunet", *RECIPES)
COPIES = "files"


def new_study(
    folder: Path | str,
    kind: str,
    source: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    site: str | None = None,
    site_rule: str | None = None,
    patient_rule: str | None = None,
    name: str | None = None,
    copy: bool = False,
    allow_outside: bool = False,
    progress: Progress | None = None,
) -> Study:
    r"""Make a study folder: `manifest.csv` and a `study.yaml` with task and classes.

    Args:
        folder: of the new study. It may hold the data already; it may not hold a study.
        kind: "csv" (any table), "folders" (`SITE/images` + `SITE/masks`, or `SITE/CLASS/*.png`), "nnunet" (a raw
            dataset), or the name of a public data set (`recipes.RECIPES`).
        source: the table or folder.
        columns: for "csv", our column name -> the table's.
        site: name of the one site of all cases ("csv", "nnunet").
        site_rule: regular expression that finds the site in the image path ("csv") or case name ("nnunet"): its group
            `site`, else its first group, as in `^(?P<site>[A-Z]+)_\d+`.
        patient_rule: likewise for the patient, in the image path, file name or case name.
        name: of the study; by default the folder's.
        copy: copy the files into `files/` of the new study.
        allow_outside: let the manifest name files that lie outside `folder` (opening it needs the same).
        progress: called with (files done, files in all) while masks are read and files copied.

    Returns:
        The study, opened.

    Raises:
        StudyError: the source is not as it should be; nothing was written.
        RunError: the folder cannot be written, or the disk is full; nothing is left of it.
    """
    folder, source = Path(os.path.abspath(folder)), Path(os.path.abspath(source))
    for existing in (folder / MANIFEST_NAME, folder / CONFIG_NAME):
        # The table may well be `manifest.csv` of another folder, but a study is never overwritten.
        if existing.exists():
            raise StudyError(f"{existing}: is there already; choose another folder, or remove it")
    if not source.exists():
        raise StudyError(f"{source}: does not exist; wanted a {'table' if kind == 'csv' else 'folder'}")
    if kind == "csv":
        found = from_csv(source, columns=columns or {}, site=site, site_rule=site_rule, patient_rule=patient_rule)
    elif kind == "folders":
        _refuse(kind, site=site, site_rule=site_rule, columns=columns)
        found = from_folders(source, patient_rule=patient_rule)
    elif kind == "nnunet":
        _refuse(kind, columns=columns)
        found = from_nnunet(source, site=site, site_rule=site_rule, patient_rule=patient_rule)
    elif kind in RECIPES:
        _refuse(kind, site=site, site_rule=site_rule, patient_rule=patient_rule, columns=columns)
        found = RECIPES[kind].read(source)
    else:
        hint = did_you_mean(kind, KINDS)
        raise StudyError(f"a study cannot be made from '{kind}'{hint}; wanted {', '.join(KINDS)}")
    config = parse_config({"name": name or folder.name, **found.declared}, where=str(source))
    if not copy and not allow_outside:
        _require_inside(folder, found.cases)
    draft = Study.from_cases(config.name or folder.name, found.cases, config=config, root=folder)
    _write(folder, draft, source if source.is_dir() else source.parent, copy, progress)
    return open_study(folder, allow_outside=allow_outside)


def manifest_text(cases: tuple[Case, ...], folder: Path) -> str:
    """The text of `manifest.csv`, with paths relative to `folder` where they lie in it."""
    images = list(cases[0].images)
    maps = sorted({name for case in cases for name in case.maps})
    covariates = list(dict.fromkeys(name for case in cases for name in case.covariates))
    header = ["case", *("image" if images == ["image"] else f"image:{name}" for name in images)]
    header += ["label", "site", "patient", *(f"map:{name}" for name in maps), *covariates]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for case in cases:
        row = [case.id, *(_relative(path, folder) for path in case.images.values())]
        row.append(_relative(case.label, folder) if isinstance(case.label, Path) else case.label or "")
        row += [case.site, case.patient]
        row += [_relative(case.maps[name], folder) if name in case.maps else "" for name in maps]
        row += [case.covariates.get(name) or "" for name in covariates]
        writer.writerow(row)
    return buffer.getvalue()


def _refuse(kind: str, **options: object) -> None:
    for option, value in options.items():
        if value:
            what = option.replace("_", "-")
            raise StudyError(f"--{what} has no meaning for a study from {kind}; leave it away")


def _require_inside(folder: Path, cases: list[Case]) -> None:
    for case in cases:
        for path in _paths(case):
            if not path.is_relative_to(folder):
                raise StudyError(
                    f"{path}: lies outside the new study's folder {folder}; make the study in the folder that holds "
                    "the data, or pass --copy, or --allow-outside"
                )


def _write(folder: Path, draft: Study, source: Path, copy: bool, progress: Progress | None) -> None:
    """Copies first, the manifest last; what was written goes again if anything fails."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    written: list[Path] = []
    cases = draft.cases
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if copy:
            cases = _copy(folder, cases, source, written, progress)
        written.append(folder / CONFIG_NAME)
        write_text(folder / CONFIG_NAME, study_yaml(draft))
        written.append(folder / MANIFEST_NAME)
        write_text(folder / MANIFEST_NAME, manifest_text(cases, folder))
    except BaseException as error:
        for path in written:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, ElsewhereError):
            raise write_error(folder, error) from error
        raise


def _copy(
    folder: Path, cases: tuple[Case, ...], source: Path, written: list[Path], progress: Progress | None
) -> tuple[Case, ...]:
    """Copy every file once into `files/`, keeping its place under `source`."""
    target = folder / COPIES
    if target.exists():
        raise StudyError(f"{target}: is there already; copies go there, so choose another folder, or move it")
    wanted = list(dict.fromkeys(_split_selection(path)[0] for case in cases for path in _paths(case)))
    staging = beside(target)
    staging.mkdir()
    written.append(staging)
    places: dict[Path, Path] = {}
    for number, path in enumerate(wanted, start=1):
        inside = path.relative_to(source) if path.is_relative_to(source) else Path(f"elsewhere-{number}") / path.name
        places[path] = target / inside
        (staging / inside).parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, staging / inside, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, staging / inside)
        if progress is not None:
            progress(number, len(wanted))
    written.append(target)
    os.replace(staging, target)

    def moved(path: Path) -> Path:
        place, selection = _split_selection(path)
        return places[place].with_name(places[place].name + selection)

    return tuple(
        replace(
            case,
            images={name: moved(path) for name, path in case.images.items()},
            label=moved(case.label) if isinstance(case.label, Path) else case.label,
            maps={name: moved(path) for name, path in case.maps.items()},
        )
        for case in cases
    )


def _paths(case: Case) -> list[Path]:
    labels = [case.label] if isinstance(case.label, Path) else []
    return [*case.images.values(), *labels, *case.maps.values()]


def _split_selection(path: Path) -> tuple[Path, str]:
    """`series#UID` -> (`series`, `#UID`)."""
    name, mark, selection = path.name.rpartition("#")
    return (path.with_name(name), f"#{selection}") if mark and name and not path.exists() else (path, "")


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
