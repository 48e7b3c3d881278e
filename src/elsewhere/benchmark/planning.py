"""From a question to runs: method x fold x seed, each with an identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsewhere import __version__
from elsewhere.benchmark.content import digest
from elsewhere.benchmark.spec import ORACLE, REFERENCE, RunSpec
from elsewhere.benchmark.variants import options_of, read_methods, require_different, require_used
from elsewhere.errors import SettingsError
from elsewhere.identity import identifying
from elsewhere.methods import by_content, get
from elsewhere.methods.own_code import OwnCode
from elsewhere.study.case import Fold
from elsewhere.study.preprocessing import per_axis
from elsewhere.study.splits import plan_folds
from elsewhere.training.rehearsal import rehearse

if TYPE_CHECKING:
    from elsewhere.study.study import Study
    from elsewhere.training.settings import Settings

ALGORITHM = 1
"""Raised when the same inputs would give another result: runs of an older number are made again."""

REFERENCE_PARTS = 3
"""Of the cross-validation within the held-out site: two thirds of its patients train, three trainings a seed."""

SELECTIONS = ("source-val", "last", ORACLE)

NOT_PART_OF_THE_RESULT = ("loggers", "log_every", "checkpoint_every")


def plan(
    study: Study,
    methods: Sequence[str],
    seeds: Iterable[int],
    held_out: Sequence[str] | None,
    settings: Settings,
    options: Mapping[str, Mapping[str, Any]],
    selection: Sequence[str],
    reference: bool,
    *,
    path: Path | None = None,
    site_column: str | None = None,
    allow_outside: bool = False,
    cache: Path | None = None,
    content: str = "",
    patients: int | None = None,
    trust: bool = False,
) -> list[RunSpec]:
    """All runs that answer the question, folds outermost within a method, in the order in which they are best run.

    The models `last` and `source-val` are kept by every run, so asking for one or the other changes what is evaluated
    and not what is trained. Where the oracle is asked for, runs look at the held-out site in each validation and keep
    its model too: they are runs of their own, and serve the other rules as well.

    Args:
        study: the opened study.
        methods: names of the registry, or "LABEL=METHOD" (`variants`).
        seeds: one run each.
        held_out: sites or groups ("A+B"), None for each site in turn.
        settings: of the training.
        options: of each method, by its name or its label.
        selection: rules, of "last", "source-val", "oracle".
        reference: also train within each held-out site.
        path: of the study, for the processes that open it again.
        site_column: as given to `open_study`.
        allow_outside: as given to `open_study`.
        cache: folder of decoded cases.
        content: hash of what the study holds (`study_digest`).
        patients: at most that many train, over all development sites together; a reference has all of its own.
        trust: networks and extractors may be import paths, whose code is run.

    Raises:
        SettingsError: an unknown selection rule, a method named twice, a label that cannot be one, options for a method
            that is not run; a network that there is not or that is for another task, or an option that it does not
            have; options that make no sense; an import path without `trust`; fewer than one patient.
        ModelError: weights that a method cannot use.
        StudyError: an unknown site.
    """
    named = read_methods(methods)
    require_used(named, options)
    for label, method in named.items():
        own = options_of(label, method, options)
        get(method).check(own)
        OwnCode.of(settings.network, method, own).allow(trust)
    require_different(named, options)
    _check_selection(selection)
    if patients is not None and patients < 1:
        raise SettingsError(f"--patients: found {patients}, wanted at least 1 training patient")
    seeds = list(seeds)
    settings = settings.resolved(study.task, study.dims)
    _check_grid(settings, study)
    rehearse(settings, study, [(method, options_of(label, method, options)) for label, method in named.items()])
    shared: dict[str, Any] = {
        "study": str(path.resolve() if path is not None else study.root),
        "site_column": site_column,
        "allow_outside": allow_outside,
        "cache": None if cache is None else str(cache.resolve()),
        "settings": settings.model_dump(mode="json"),
    }
    rules = tuple(rule for rule in SELECTIONS if rule in selection)

    specs: list[RunSpec] = []

    def add(method: str, trained_as: str, fold: Fold, seed: int, chosen: tuple[str, ...]) -> None:
        own = options_of(method, trained_as, options if method != REFERENCE else {})
        few = None if method == REFERENCE else patients
        code = OwnCode.of(settings.network, trained_as, own).content()
        identity = digest(
            {
                "algorithm": [__version__, ALGORITHM],
                "content": content,
                "method": trained_as,
                "options": by_content(trained_as, own),
                "fold": [sorted(fold.held_out), fold.part],
                "seed": seed,
                "settings": identifying(_that_matter(shared["settings"]), settings.LATER),
                "oracle": ORACLE in chosen,
                # Like later keys: runs that were finished before keep their name.
                **({} if few is None else {"patients": few}),
                **({"code": code} if code else {}),
            }
        )
        specs.append(
            RunSpec(
                method=method,
                trained_as=trained_as,
                fold=fold,
                seed=seed,
                options=own,
                selection=chosen,
                identity=identity,
                patients=few,
                **shared,
            )
        )

    folds = plan_folds(study, held_out)
    for seed in seeds:
        for fold in folds:
            for method, trained_as in named.items():
                add(method, trained_as, fold, seed, rules)
    if reference:
        # Selection within the site is never an oracle: its own validation patients choose.
        chosen = tuple(rule for rule in rules if rule != ORACLE) or ("source-val",)
        for seed in seeds:
            for fold in plan_folds(study, held_out, reference=True, parts=REFERENCE_PARTS):
                if fold.part is None:
                    continue
                add(REFERENCE, "erm", fold, seed, chosen)
    return specs


def _that_matter(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in NOT_PART_OF_THE_RESULT}


def _check_selection(selection: Sequence[str]) -> None:
    unknown = [rule for rule in selection if rule not in SELECTIONS]
    if unknown or not selection:
        found = repr(unknown[0]) if unknown else "nothing"
        raise SettingsError(f"--selection: found {found}, wanted one or more of: {', '.join(SELECTIONS)}")


def _check_grid(settings: Settings, study: Study) -> None:
    if settings.size is not None and settings.spacing is not None:
        raise SettingsError("size and spacing are both given; keep one of them")
    for key in ("size", "spacing", "patch_size"):
        per_axis(key, getattr(settings, key), study.dims)
    wrong = [axis for axis in settings.flip_axes or () if not 0 <= axis < study.dims]
    if wrong:
        raise SettingsError(
            f"flip_axes={settings.flip_axes}: {study.dims}D images have no axis {wrong[0]}; wanted some of "
            f"{list(range(study.dims))}"
        )
