"""`elsewhere study check`: open every file of a study and report all that is wrong, at once.

What is an error and what a warning (an error stops a benchmark):

    code                       severity  what
    (those of the manifest)    both      see `manifest`: outside, duplicate-id, empty-cell, ...
    study                      error     the manifest or `study.yaml` as a whole is not what it should be
    missing, unreadable        error     a file is not there, or is truncated, corrupt or of another format
    grid                       error     mask, map or second channel of another size, spacing or affine than the image
    dimensions, channels       error     2D among 3D, or another number of channels than most cases have (a warning
                                         where it is grey among RGB)
    undeclared-value           error     a mask holds a value that `study.yaml` does not declare
    undeclared-class           error     a label is a class that `study.yaml` does not declare
    label-values               error     nothing is declared, and the masks' values cannot be classes
    label-values-differ        warning   nothing is declared, and two sites share no value but 0 (1 here, 255 there)
    lossy-label                error     nothing is declared, and a mask is a JPEG whose values are blurred
    palettes-differ            error     a value of a mask is another colour than in the masks before it
    no-labels                  error     no row has a label
    no-foreground              warning   every mask holds the background only
    adjusted                   warning   a mask's values were rounded, or contours reach beyond the image and were cut
    not-finite                 error     NaN or Inf
    empty-image                error     all pixels are equal
    empty-channel              warning   all pixels of one channel of several are equal
    crash                      error     reading the files of the row ended the process (memory, a decoder's crash)
    duplicate-across-sites     error     exactly the same pixels at two sites: leakage from development to held-out
    near-across-sites          warning   nearly the same pixels at two sites: look at both, this may be leakage
    duplicate, near-duplicate  warning   the same within one site; "near" only between different patients
    many-alike                 warning   so many images look alike that not all pairs were compared
    patient-in-two-sites       warning   the fold will leave that patient out of development
    few-patients, one-site     warning   a site too small for four parts; nothing to leave out
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from elsewhere.errors import StudyError
from elsewhere.study.config import CONFIG_NAME, StudyConfig, load_config
from elsewhere.study.examine import Findings, Row, examine_rows
from elsewhere.study.grey import fits_as_grey
from elsewhere.study.inference import (
    classes_of_names,
    classes_of_values,
    declared_classes,
    patients_at_several_sites,
    undeclared_names,
)
from elsewhere.study.manifest import Manifest, read_manifest
from elsewhere.study.palette import PALETTE_REMEDY, disagreement
from elsewhere.study.problem import Problem
from elsewhere.study.reading import LOSSY, MOST_LOSSLESS, is_lossy
from elsewhere.study.study import check_axes, check_roles, find_manifest
from elsewhere.study.twins import Prints, find_twins
from elsewhere.study.workers import Workers, available_cores

if TYPE_CHECKING:
    from rich.table import Table

PATIENTS_FOR_FOUR_PARTS = 6
"""Patients a site needs for train, validation, calibration and in-domain test (see `splits`)."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckReport:
    """All problems of a study, errors first, in the order of the manifest."""

    study: str
    n_cases: int
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that stop a benchmark."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems to look at."""
        return tuple(p for p in self.problems if p.severity == "warning")

    @property
    def failed(self) -> bool:
        """Whether any problem is an error."""
        return any(p.severity == "error" for p in self.problems)

    @property
    def summary(self) -> str:
        """One line: cases checked, errors, warnings."""
        return f"{self.n_cases} cases checked: {len(self.errors)} errors, {len(self.warnings)} warnings"

    def to_json(self) -> str:
        """The report for machines."""
        content = {
            "study": self.study,
            "cases": self.n_cases,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "problems": [asdict(problem) for problem in self.problems],
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    def table(self) -> Table:
        """The report for people, as a rich table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.summary, title_justify="left")
        for column in ("severity", "code", "where", "what"):
            table.add_column(column, overflow="fold", no_wrap=column in ("severity", "code"))
        for problem in self.problems:
            style = "red" if problem.severity == "error" else "yellow"
            cells = (problem.severity, problem.code, problem.where, problem.message)
            # Text, not markup: a file name may hold brackets.
            table.add_row(*(Text(cell, style=style if k == 0 else "") for k, cell in enumerate(cells)))
        return table


def check_study(
    path: Path | str,
    *,
    jobs: int | None = None,
    allow_outside: bool = False,
    site_column: str | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Open every file of a study and report all problems.

    Args:
        path: a study's folder, or a manifest.
        jobs: worker processes; all cores by default. With 1 everything runs in this process, and a decoder that
            crashes takes it along. With more, a script needs the usual `if __name__ == "__main__":`.
        allow_outside: take paths that leave the study's folder.
        site_column: the column that is the site.
        progress: called with (cases done, cases in all).

    Raises:
        StudyError: there is no manifest at `path`.
    """
    file = find_manifest(Path(path))
    root = str(file.parent)
    try:
        config = load_config(file.parent / CONFIG_NAME) if (file.parent / CONFIG_NAME).exists() else StudyConfig()
        column = site_column or config.site_column
        manifest = read_manifest(file, task=config.task, site_column=column, allow_outside=allow_outside)
        task = config.task or manifest.task or "segmentation"
        declared = declared_classes(config, task, CONFIG_NAME)
    except StudyError as error:
        message = str(error).removeprefix(root + os.sep)
        return CheckReport(str(path), 0, (Problem("error", "study", file.name, message),))
    problems = list(manifest.problems)
    cases, where = manifest.cases, [f"{file.name} row {case.row}" for case in manifest.cases]
    prints = Prints(len(cases))
    findings: list[Findings] = [Findings(k, ()) for k in range(len(cases))]
    rows = (Row(k, case, where[k], root, task == "segmentation", config.mask_place) for k, case in enumerate(cases))
    jobs = min(jobs or available_cores(), max(1, len(cases) // 8))
    done = 0
    with Workers(examine_rows, _crashed, jobs) as workers:
        for chunk in workers.map(rows):
            for found in chunk:
                prints.add(found)
                problems += found.problems
                findings[found.index] = replace(found, problems=(), digest=None, hash=b"", thumbnail=b"")
            done += len(chunk)
            if progress is not None:
                progress(done, len(cases))
    problems += _alike(findings, where)
    problems += _configured(config, manifest, findings)
    problems += _labels(manifest, where, findings, task, declared)
    problems += _sites(manifest)
    problems += find_twins(cases, where, prints, jobs)
    return CheckReport(str(path), len(cases), tuple(_in_order(problems)))


def _crashed(row: Row) -> Findings:
    images = ", ".join(f"'{str(image).removeprefix(row.root + os.sep)}'" for image in row.case.images.values())
    message = (
        f"reading {images} or what belongs to it ended the process (no memory left, or a decoder crashed on a corrupt "
        "file); replace the file or remove the row"
    )
    return Findings(row.index, (Problem("error", "crash", row.where, message),))


def _alike(findings: Sequence[Findings], where: Sequence[str]) -> list[Problem]:
    """Cases with other dimensions or another number of channels than most have."""
    read = [found for found in findings if found.dims]
    dims = _unusual("dimensions", "D", [found.dims for found in read], [where[found.index] for found in read])
    if not read:
        return []
    usual = Counter(found.dims for found in read).most_common(1)[0][0]
    read = [found for found in read if found.dims == usual]
    places = [where[found.index] for found in read]
    return dims + _unusual("channels", " channels", [found.n_channels for found in read], places, usual)


def _unusual(code: str, unit: str, values: Sequence[int], places: Sequence[str], dims: int = 0) -> list[Problem]:
    if len(set(values)) < 2:
        return []
    usual, number = Counter(values).most_common(1)[0]
    problems = []
    for value, place in zip(values, places, strict=True):
        if value == usual:
            continue
        if code == "channels" and fits_as_grey(value, usual, dims):
            message = f"image is grey, {number} others are RGB: its channel is taken three times"
            problems.append(Problem("warning", code, place, message))
        else:
            message = f"image is {value}{unit}, {number} others are {usual}{unit}"
            problems.append(Problem("error", code, place, message.replace(" 1 channels", " 1 channel")))
    return problems


def _configured(config: StudyConfig, manifest: Manifest, findings: Sequence[Findings]) -> list[Problem]:
    """What `study.yaml` says against the sites and the dimensions that there are."""
    usual = Counter(found.dims for found in findings if found.dims).most_common(1)
    problems = []
    for check in (partial(check_roles, config, sorted({case.site for case in manifest.cases})),
                  partial(check_axes, config, usual[0][0] if usual else 0)):  # fmt: skip
        try:
            check()
        except StudyError as error:
            problems.append(Problem("error", "study", CONFIG_NAME, str(error).removeprefix(f"{CONFIG_NAME}: ")))
    return problems


def _labels(
    manifest: Manifest,
    where: Sequence[str],
    findings: Sequence[Findings],
    task: str,
    declared: tuple[tuple[str, ...], dict[int, int]] | None,
) -> list[Problem]:
    """Values and classes against what is declared, or among themselves where nothing is."""
    name = manifest.path.name
    if manifest.cases and all(case.label is None for case in manifest.cases):
        message = "column 'label' is empty in every row: there is nothing to train on; fill it in"
        return [Problem("error", "no-labels", name, message)]
    if task == "classification":
        if declared is not None:
            return undeclared_names(manifest.cases, declared[0], name)
        try:
            classes_of_names(manifest.cases, name)
        except StudyError as error:
            return [Problem("error", "label-values", name, str(error).removeprefix(f"{name}: "))]
        return []
    coloured = (
        (f"'{case.label.name}' ({place})", found.colours)
        for case, found, place in zip(manifest.cases, findings, where, strict=True)
        if isinstance(case.label, Path)
    )
    if differing := disagreement(coloured):
        return [Problem("error", "palettes-differ", name, f"label {differing[0]}: {differing[1]}; {PALETTE_REMEDY}")]
    if declared is not None:
        wanted = declared[1]
        listed = ", ".join(map(str, sorted(wanted)))
        held = [set(found.values) for found in findings if found.values]
        if held and all(wanted.get(value) == 0 for values in held for value in values):
            message = f"every mask holds only '{declared[0][0]}', the background: there is nothing to be found in them"
            return [Problem("warning", "no-foreground", name, message)]
        return [
            Problem(
                "error",
                "undeclared-value",
                where[found.index],
                f"label holds {_listed(sorted(set(found.values) - set(wanted)))}; {CONFIG_NAME} declares {listed}"
                + (f"; {LOSSY}" if isinstance(case.label, Path) and is_lossy(case.label) else ""),
            )
            for case, found in zip(manifest.cases, findings, strict=True)
            if not set(found.values) <= set(wanted)
        ]
    blurred = [
        Problem("error", "lossy-label", where[found.index], f"label '{case.label.name}' holds {n} values; {LOSSY}")
        for case, found in zip(manifest.cases, findings, strict=True)
        if isinstance(case.label, Path) and is_lossy(case.label) and (n := len(found.values)) > MOST_LOSSLESS
    ]
    if blurred:
        return blurred
    values: defaultdict[str, set[int]] = defaultdict(set)
    for case, found in zip(manifest.cases, findings, strict=True):
        values[case.site] |= set(found.values)
    every = set().union(*values.values()) if values else set()
    if not every:
        return []
    try:
        classes_of_values(every, name)
    except StudyError as error:
        return [Problem("error", "label-values", name, str(error).removeprefix(f"{name}: "))]
    sites = sorted(site for site in values if values[site] - {0})
    for k, one in enumerate(sites):
        for other in sites[k + 1 :]:
            if not (values[one] & values[other]) - {0}:
                message = (
                    f"masks of site '{one}' hold {_listed(sorted(values[one] - {0}))}, those of '{other}' "
                    f"{_listed(sorted(values[other] - {0}))}; if they mean the same, declare 'classes' in {CONFIG_NAME}"
                )
                return [Problem("warning", "label-values-differ", name, message)]
    return []


def _sites(manifest: Manifest) -> list[Problem]:
    """Patients in two sites, sites that are too small, and only one site."""
    name = manifest.path.name
    patients: defaultdict[str, set[str]] = defaultdict(set)
    for case in manifest.cases:
        patients[case.site].add(case.patient)
    problems = [
        Problem(
            "warning",
            "patient-in-two-sites",
            name,
            f"patient '{patient}' is at sites {', '.join(sites)}; where one is held out, the patient is left out of "
            "development",
        )
        for patient, sites in sorted(patients_at_several_sites(manifest.cases).items())
    ]
    for site, found in sorted(patients.items()):
        if len(found) < PATIENTS_FOR_FOUR_PARTS:
            message = (
                f"site '{site}' has {len(found)} patient{'s' if len(found) > 1 else ''}; a split into train, "
                f"validation, calibration and test needs {PATIENTS_FOR_FOUR_PARTS}, parts will be given up"
            )
            problems.append(Problem("warning", "few-patients", name, message))
    if len(patients) == 1:
        message = f"'{next(iter(patients))}' is the only site; leaving one out needs two (see --site-column)"
        problems.append(Problem("warning", "one-site", name, message))
    return problems


def _listed(values: Sequence[int]) -> str:
    text = ", ".join(map(str, values[:8]))
    return text + (f", ... ({len(values)} values)" if len(values) > 8 else "")


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Errors first, then by row; what concerns the whole study before its rows."""

    def row_of(problem: Problem) -> int:
        last = problem.where.rpartition(" row ")[2]
        return int(last) if last.isdigit() else 0

    return sorted(problems, key=lambda problem: (problem.severity, row_of(problem)))
