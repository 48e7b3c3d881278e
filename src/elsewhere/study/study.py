"""A study: the cases of several sites, and what is asked of their images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.config import CONFIG_NAME, StudyConfig, load_config
from elsewhere.study.inference import (
    classes_of_names,
    classes_of_values,
    declared_classes,
    infer_dims,
    read_all_values,
    undeclared_names,
)
from elsewhere.study.manifest import MANIFEST_NAME, Manifest, read_manifest
from elsewhere.study.problem import Problem
from elsewhere.wording import did_you_mean

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Study:
    """The data of several sites. Nothing of an image is held; `reading` and `cache` read.

    Attributes:
        name: how tables call it.
        root: the folder that paths are relative to.
        manifest: its file; None for a study built in Python.
        task: "segmentation" or "classification".
        dims: 2 or 3.
        channels: names of the input channels (an RGB file is one name here and three channels when read).
        classes: names in the order of the outputs; for segmentation the background is first.
        label_values: {value in a mask file: class index}; empty for classification.
        cases: in the order of the manifest.
        config: what `study.yaml` declares.
        inferred: which of "task", "dims" and "classes" nobody declared.
    """

    name: str
    root: Path
    manifest: Path | None
    task: str
    dims: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    label_values: Mapping[int, int]
    cases: tuple[Case, ...]
    config: StudyConfig = field(default_factory=StudyConfig)
    inferred: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sites = ", ".join(f"{site} ({len(self._by_site[site])})" for site in self.sites[:8])
        more = f", and {len(self.sites) - 8} more" if len(self.sites) > 8 else ""
        return (
            f"Study {self.name}: {self.task}, {self.dims}D, {len(self.cases)} cases\n"
            f"  sites: {sites}{more}\n  classes: {', '.join(self.classes[:8])}{', ...' * (len(self.classes) > 8)}"
        )

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted(self._by_site))

    @cached_property
    def by_id(self) -> Mapping[str, Case]:
        """Cases by their id."""
        return {case.id: case for case in self.cases}

    @cached_property
    def _by_site(self) -> Mapping[str, tuple[Case, ...]]:
        found: dict[str, list[Case]] = {}
        for case in self.cases:
            found.setdefault(case.site, []).append(case)
        return {site: tuple(cases) for site, cases in found.items()}

    def of_site(self, *sites: str) -> tuple[Case, ...]:
        """The cases of one or several sites, in the order of the manifest.

        Raises:
            StudyError: there is no such site.
        """
        self.require_sites(*sites)
        if len(sites) == 1:
            return self._by_site[sites[0]]
        return tuple(case for case in self.cases if case.site in sites)

    def require_sites(self, *sites: str) -> None:
        """Raise a StudyError that names the sites there are, unless all of `sites` are among them."""
        for site in sites:
            if site not in self._by_site:
                raise StudyError(
                    f"study {self.name} has no site '{site}'{did_you_mean(site, self.sites)}; "
                    f"its sites: {', '.join(self.sites)}"
                )

    @classmethod
    def from_cases(
        cls,
        name: str,
        cases: Sequence[Case],
        *,
        config: StudyConfig | None = None,
        root: Path | None = None,
        dims: int | None = None,
        cache: Path | None = None,
    ) -> Study:
        """Build a study in Python; what `config` leaves open is inferred as for a manifest.

        Raises:
            StudyError: no cases, an id used twice, cases with other channels, or a class that is not declared.
        """
        if not cases:
            raise StudyError(f"study {name}: no cases; wanted at least one")
        seen: set[str] = set()
        for case in cases:
            if case.id in seen:
                raise StudyError(f"study {name}: two cases have the id '{case.id}'; make ids unique")
            if tuple(case.images) != tuple(cases[0].images):
                raise StudyError(
                    f"study {name}: case '{case.id}' has the channels {', '.join(case.images)}, "
                    f"case '{cases[0].id}' has {', '.join(cases[0].images)}; give all the same, in the same order"
                )
            seen.add(case.id)
        root = Path(os.path.abspath(root)) if root is not None else Path.cwd()
        labels = [case.label for case in cases if case.label is not None]
        task = ("segmentation" if isinstance(labels[0], Path) else "classification") if labels else None
        content = repr([(case.id, str(case.label)) for case in cases]).encode()
        study, problems = _complete(
            name, root, None, tuple(cases), tuple(cases[0].images), task, config or StudyConfig(), content, dims, cache
        )
        _raise_first(problems, None)
        return study


def open_study(
    path: Path | str,
    *,
    site_column: str | None = None,
    allow_outside: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Study:
    """Open a study: a folder with `manifest.csv`, or a manifest. Nothing is ever written into its folder.

    Images are not opened, the first one apart; whether files are there and sound is for `check_study` to say.

    Args:
        path: the folder, or a csv file; `study.yaml` is looked for beside it.
        site_column: the column that is the site, whatever `study.yaml` says.
        allow_outside: take paths that leave the study's folder.
        cache: folder in which inferred classes are kept; the user's cache folder by default.
        progress: called with (masks read, masks in all) while classes are inferred.

    Raises:
        StudyError: something is wrong; the sentence says what comes first and how much more there is.
    """
    study, problems = open_with_problems(
        path, site_column=site_column, allow_outside=allow_outside, cache=cache, progress=progress
    )
    _raise_first(problems, Path(path))
    return study


def open_with_problems(
    path: Path | str,
    *,
    site_column: str | None = None,
    allow_outside: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Study, list[Problem]]:
    """As `open_study`, but problems of single rows are returned, and their cases are left out of the study.

    Raises:
        StudyError: there is no study to speak of (no manifest, a column missing, `study.yaml` is wrong, no sound row,
            no classes to be found).
    """
    manifest_path = find_manifest(Path(path))
    config_path = manifest_path.parent / CONFIG_NAME
    config = load_config(config_path) if config_path.exists() else StudyConfig()
    if site_column is not None and site_column != (config.site_column or "site"):
        # Roles name the sites of another column.
        config = config.model_copy(update={"site_column": site_column, "roles": None})
    manifest = read_manifest(
        manifest_path, task=config.task, site_column=config.site_column, allow_outside=allow_outside
    )
    problems = list(manifest.problems)
    if not manifest.cases:
        _raise_first(problems, Path(path))
    study, more = _complete(
        config.name or _default_name(manifest),
        manifest_path.parent,
        manifest_path,
        manifest.cases,
        manifest.channels,
        manifest.task,
        config,
        manifest_path.read_bytes(),
        None,
        cache,
        progress,
    )
    return study, problems + more


def find_manifest(path: Path) -> Path:
    """The manifest of a study folder, or the manifest itself; absolute.

    Raises:
        StudyError: there is none.
    """
    path = Path(os.path.abspath(path.expanduser()))
    if path.is_dir():
        if not (path / MANIFEST_NAME).is_file():
            others = sorted(found.name for found in path.glob("*.csv") if found.is_file())
            hint = f"; it has {', '.join(others)}: name the one you mean" if others else "; see 'elsewhere study new'"
            raise StudyError(f"{path}: there is no {MANIFEST_NAME} in this folder{hint}")
        return path / MANIFEST_NAME
    if not path.exists():
        raise StudyError(f"{path}: there is no such study; wanted a folder with {MANIFEST_NAME}, or a manifest")
    return path


def _complete(
    name: str,
    root: Path,
    manifest: Path | None,
    cases: tuple[Case, ...],
    channels: tuple[str, ...],
    task: str | None,
    config: StudyConfig,
    content: bytes,
    dims: int | None,
    cache: Path | None,
    progress: Progress | None = None,
) -> tuple[Study, list[Problem]]:
    """Declare or infer the rest; `task` is what labels look like, `content` what names them all."""
    where = manifest.name if manifest is not None else f"study {name}"
    inferred = [] if config.task is not None else ["task"]
    task = config.task or task
    if task is None:
        raise StudyError(f"{where}: column 'label' is empty in every row; fill it in, or give 'task' in study.yaml")
    if dims is None:
        dims = infer_dims(cases)
        inferred.append("dims")
    problems: list[Problem] = []
    declared = declared_classes(config, task, CONFIG_NAME)
    if declared is not None:
        classes, label_values = declared
        if task == "classification":
            problems = undeclared_names(cases, classes, where)
            cases = tuple(case for case in cases if case.label is None or case.label in classes)
    else:
        inferred.append("classes")
        if task == "classification":
            classes, label_values = classes_of_names(cases, where), {}
        else:
            values, unreadable = read_all_values(cases, content, cache, progress)
            problems = [
                replace(problem, where=f"{where} {problem.where}" if manifest else where) for problem in unreadable
            ]
            if not values:
                _raise_first(problems, root if manifest else None)
            classes, label_values = classes_of_values(values, where)
    study = Study(name, root, manifest, task, dims, channels, classes, label_values, cases, config, tuple(inferred))
    check_roles(config, study.sites)
    check_axes(config, dims)
    return study, problems


def check_axes(config: StudyConfig, dims: int) -> None:
    """Raise a StudyError where `study.yaml` gives a grid of other dimensions than the images have (0: unknown)."""
    for key, found in (("size", config.size), ("spacing", config.spacing), ("patch_size", config.patch_size)):
        if dims and found is not None and len(found) != dims:
            raise StudyError(
                f"{CONFIG_NAME}: key '{key}' is {found}, but the images are {dims}D; wanted {dims} numbers"
            )


def check_roles(config: StudyConfig, sites: Sequence[str]) -> None:
    """Raise a StudyError where `study.yaml` names a site that no case has, or leaves one out."""
    if config.roles is None:
        return
    named = [*config.roles.train, *config.roles.validation, *config.roles.test]
    for site in named:
        if site not in sites:
            raise StudyError(
                f"{CONFIG_NAME}: key 'roles' names the site '{site}'{did_you_mean(site, sites)}, which no case has; "
                f"the sites: {', '.join(sites)}"
            )
    without = [site for site in sites if site not in named]
    if without:
        raise StudyError(
            f"{CONFIG_NAME}: key 'roles' gives no role to the site '{without[0]}'; add it to train, validation or "
            "test, or take its rows out of the manifest"
        )


def _raise_first(problems: Sequence[Problem], path: Path | None) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    more = ""
    if len(errors) > 1:
        see = f"; see 'elsewhere study check {path}'" if path is not None else ""
        more = f" (and {len(errors) - 1} more such {'problem' if len(errors) == 2 else 'problems'}{see})"
    raise StudyError(f"{errors[0]}{more}")


def _default_name(manifest: Manifest) -> str:
    """`tcga-lgg` for `tcga-lgg/manifest.csv`, `tcga-lgg-flair` for `tcga-lgg/manifest-flair.csv`."""
    folder = manifest.path.parent.name or "study"
    rest = manifest.path.stem.removeprefix("manifest").strip("-_ ")
    return f"{folder}-{rest}" if rest else folder
