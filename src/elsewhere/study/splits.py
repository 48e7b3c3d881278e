"""Folds and splits: which site is held out, and who of the others trains, validates, calibrates and tests.

A split depends on the cases of the study, the fold and the seed, and on nothing else: it is the same for every method.
Everything is by patient. The order of patients is that of a hash of seed and patient, so that a site that joins the
study does not reshuffle the others, and a patient seen at several sites has one role at all of them.

Of each development site 60 % of the patients train, 15 % validate, 10 % calibrate and 15 % are the in-domain test (our
choice), each class of a classification in about the same proportions. A site gives up a part for which it is too
small: training keeps at least half of the patients, every other part has at least one. So a site needs 6 patients for
four parts; with 4 or 5 it gives up calibration, with 2 or 3 also the in-domain test, and with 1 also validation.

**Patients on both sides.** A development patient who also appears at the held-out site is left out of development.
Where that would take half of the development patients or more, the sites are views of the same people (MR sequences,
say, with `site_column="sequence"`), and leaving them out would leave nothing to train on. Then the people are divided
instead (our choice): a third of those on both sides is evaluated at the held-out site, the same third at every seed,
and the others develop, at the development sites only.

**No held-out site.** The final model is trained on all sites: `Fold(())`. Each site is split as above, so at a given
seed a patient of one site and one class has the role that he or she has in the folds of a benchmark. Roles of sites in
`study.yaml` are for benchmarks and say nothing here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from elsewhere.errors import StudyError
from elsewhere.study.case import Case, Fold, Split
from elsewhere.study.study import Study

FRACTIONS: Mapping[str, float] = {"train": 0.6, "validation": 0.15, "calibration": 0.1, "test": 0.15}
REFERENCE_FRACTIONS: Mapping[str, float] = {"train": 0.7, "validation": 0.2, "calibration": 0.1}
REFERENCE_PARTS = 5
EVALUATED_OF_SHARED = 1 / 3

# What a site that is too small gives up, first to last.
_GIVEN_UP = ("calibration", "test", "validation")
_WORDS = {"train": "training", "test": "in-domain test"}


def plan_folds(
    study: Study, held_out: Sequence[str] | None = None, reference: bool = False, parts: int = REFERENCE_PARTS
) -> list[Fold]:
    """The folds of a benchmark.

    Args:
        study: with roles in its config there is exactly one fold, whose held-out sites are those with the role `test`.
        held_out: a site, or several joined by "+", per fold; each site in turn where None.
        reference: add, after the folds themselves, those of a patient-wise cross-validation within each fold's
            held-out sites (`Fold.part`); none for held-out sites of a single patient.
        parts: how many groups of patients a cross-validation has; as many as there are patients where those are fewer.

    Raises:
        StudyError: an unknown site, no site left for development, or `held_out` against the roles of `study.yaml`.
    """
    roles = study.config.roles
    if roles is not None:
        folds = [Fold(tuple(sorted(roles.test)))]
        asked = [_sites_of(study, text) for text in held_out or []]
        if asked and [set(sites) for sites in asked] != [set(roles.test)]:
            raise StudyError(
                f"study {study.name}: the roles in study.yaml hold out {folds[0].name}; leave --held-out away, or take "
                "the roles out of study.yaml"
            )
    else:
        folds = [Fold(_sites_of(study, text)) for text in (study.sites if held_out is None else held_out)]
        folds = list(dict.fromkeys(folds))
    for fold in folds:
        _require_development(study, fold)
    if reference:
        for fold in list(folds):
            k = min(parts, len({case.patient for case in _labelled(study.of_site(*fold.held_out))}))
            folds += [Fold(fold.held_out, (i, k)) for i in range(k) if k > 1]
    return folds


def split(study: Study, fold: Fold, seed: int) -> Split:
    """Who trains, validates, calibrates and tests in a fold.

    Each labelled case of the development sites is in exactly one role, or left out. Cases without a label have no
    role.

    Raises:
        StudyError: an unknown site, or nothing to train on.
    """
    sides = _divide(study, fold, seed)
    by_site: dict[str, list[Case]] = {}
    for case in sides.development:
        by_site.setdefault(case.site, []).append(case)
    strata = strata_of(study, sides.development)
    roles = study.config.roles if _is_protocol(study, fold) else None
    fractions = dict(FRACTIONS if fold.part is None else REFERENCE_FRACTIONS)
    assigned: dict[str, str] = {}
    if roles is not None and roles.validation:
        del fractions["validation"]
        validating = [case.patient for site in roles.validation for case in by_site.pop(site, [])]
        assigned = dict.fromkeys(validating, "validation")
    # Small sites first: they have the fewest ways to get all parts when some of their patients are seen elsewhere.
    for site in sorted(by_site, key=lambda name: (len({case.patient for case in by_site[name]}), name)):
        _assign(sorted({case.patient for case in by_site[site]}), fractions, strata, seed, assigned)
    ids: dict[str, list[str]] = {role: [] for role in FRACTIONS}
    for case in sides.development:
        ids[assigned[case.patient]].append(case.id)
    if not ids["train"]:
        where, remedy = (f", fold {fold.title}", "; hold out fewer sites") if fold.held_out else ("", "")
        raise StudyError(f"study {study.name}{where}: no patient is left to train on{remedy}")
    notes = [*sides.notes, *_notes(by_site, assigned, fractions), *_unlabelled_notes(study, fold)]
    left_out = tuple(case.id for case in sides.left_out)
    return Split(**{role: tuple(found) for role, found in ids.items()}, left_out=left_out, notes=tuple(notes))


def held_out_cases(study: Study, fold: Fold, seed: int) -> tuple[str, ...]:
    """Ids of the cases on which a fold is evaluated, in the order of the study.

    All labelled cases of the held-out sites, except where people are divided (see the module) and in a reference
    fold, which evaluates one group of patients. The seed matters for reference folds only.
    """
    return tuple(case.id for case in _divide(study, fold, seed).evaluated)


def parts_of_site(n_patients: int, fractions: Mapping[str, float] = FRACTIONS) -> dict[str, int]:
    """How many patients of a site with `n_patients` get each role; roles that the site gives up are absent.

    Other parts than training are rounded to at least one patient; training has the rest, at least half.
    """
    kept = [role for role in fractions if role != "train"]
    for role in (*_GIVEN_UP, None):
        total = sum(fractions[name] for name in (*kept, "train"))
        counts = {name: max(1, round(n_patients * fractions[name] / total)) for name in kept}
        train = n_patients - sum(counts.values())
        if 2 * train >= n_patients or role is None:
            break
        kept = [name for name in kept if name != role]
    return {"train": train, **counts}


@dataclass(frozen=True)
class _Sides:
    """The labelled cases of a fold: developed with, evaluated on, left out of development."""

    development: list[Case]
    evaluated: list[Case]
    left_out: list[Case]
    notes: list[str]


def _divide(study: Study, fold: Fold, seed: int) -> _Sides:
    if not fold.held_out:
        everybody = _labelled(study.cases)
        if not everybody:
            raise StudyError(f"study {study.name}: no case has a label to train on")
        return _Sides(everybody, [], [], [])
    study.require_sites(*fold.held_out)
    held_out = _labelled(study.of_site(*fold.held_out))
    if fold.part is not None:
        return _divide_reference(study, fold, seed, held_out)
    _require_development(study, fold)
    development = _labelled(case for case in study.cases if case.site not in fold.held_out)
    there = {case.patient for case in held_out}
    here = {case.patient for case in development}
    if not development:
        raise StudyError(f"study {study.name}, fold {fold.title}: no case of the other sites has a label to train on")
    shared = here & there
    if 2 * len(shared) < len(here) or len(shared) < 2:
        left_out = [case for case in development if case.patient in shared]
        kept = [case for case in development if case.patient not in shared]
        if not kept:
            raise StudyError(
                f"study {study.name}, fold {fold.title}: every patient with a label at the other sites is also at the "
                "held-out site, so nothing is left for development; hold out another site, or divide the patients"
            )
        return _Sides(kept, held_out, left_out, [])
    counts = {"evaluated": max(1, round(len(shared) * EVALUATED_OF_SHARED))}
    counts["development"] = len(shared) - counts["evaluated"]
    # Without the seed: every seed is evaluated on the same people.
    side = _deal(sorted(shared), counts, strata_of(study, held_out), "sides", {})
    evaluated = {patient for patient in there if side.get(patient) != "development"}
    note = (
        f"{len(shared)} of the {len(here)} development patients are also at {fold.title}: they are divided, "
        f"{counts['evaluated']} to be evaluated there and {counts['development']} for development"
    )
    return _Sides(
        [case for case in development if case.patient not in evaluated],
        [case for case in held_out if case.patient in evaluated],
        [case for case in development if case.patient in evaluated],
        [note],
    )


def _divide_reference(study: Study, fold: Fold, seed: int, cases: list[Case]) -> _Sides:
    """The held-out sites' own patients in k groups, of which the i-th is evaluated."""
    assert fold.part is not None
    i, k = fold.part
    patients = sorted({case.patient for case in cases})
    if not 0 <= i < k or k < 2 or len(patients) < k:
        raise StudyError(
            f"study {study.name}, reference of {fold.title}: part {i} of {k} groups cannot be made of {len(patients)} "
            "patients; wanted at least 2 groups, and a patient for each"
        )
    counts = {str(group): (len(patients) + k - 1 - group) // k for group in range(k)}
    groups = _deal(patients, counts, strata_of(study, cases, by_site=len(fold.held_out) > 1), f"reference {seed}", {})
    return _Sides(
        [case for case in cases if groups[case.patient] != str(i)],
        [case for case in cases if groups[case.patient] == str(i)],
        [],
        [],
    )


def _assign(
    patients: list[str], fractions: Mapping[str, float], strata: Mapping[str, str], seed: int, assigned: dict[str, str]
) -> None:
    """Give each patient of a site a role; those who have one from another site keep it and count towards the parts."""
    counts = parts_of_site(len(patients), fractions)
    assigned |= _deal(patients, counts, strata, f"roles {seed}", assigned)


def _deal(
    patients: Sequence[str], counts: Mapping[str, int], strata: Mapping[str, str], salt: str, given: Mapping[str, str]
) -> dict[str, str]:
    """Deal patients into parts of the given sizes, each stratum spread over the parts as evenly as can be.

    Patients are lined up stratum by stratum, in the order of their hash, and each goes to the part that is furthest
    behind its share of the line so far; so the totals are exact, and so within one or two are the shares of a stratum.
    """
    line = sorted(patients, key=lambda patient: (strata.get(patient, ""), hashed(salt, patient)))
    dealt = {patient: given[patient] for patient in line if patient in given}
    taken = Counter(dealt.values())
    waiting = [patient for patient in line if patient not in given]
    # What is left to deal, after those who came with a part.
    left = {part: max(0, size - taken[part]) for part, size in counts.items()}
    total = sum(left.values())
    done: Counter[str] = Counter()
    for position, patient in enumerate(waiting, start=1):
        open_parts = [part for part in left if done[part] < left[part]] or list(left)[:1]
        part = max(open_parts, key=lambda name: left[name] * position / max(1, total) - done[name])
        dealt[patient] = part
        done[part] += 1
    return dealt


def strata_of(study: Study, cases: Iterable[Case], by_site: bool = False) -> dict[str, str]:
    """What should be spread evenly over the parts: for classification the class, of a patient with several the rarest.

    In a reference fold over several sites the site, too.
    """
    cases = list(cases)
    counts = Counter(str(case.label) for case in cases)
    strata: dict[str, tuple[int, str]] = {}
    for case in cases:
        label = str(case.label) if study.task == "classification" else ""
        stratum = f"{case.site if by_site else ''}\n{label}"
        strata[case.patient] = min(strata.get(case.patient, (counts.total() + 1, "")), (counts[label], stratum))
    return {patient: stratum for patient, (_, stratum) in strata.items()}


def _notes(by_site: Mapping[str, list[Case]], assigned: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """A sentence for each site that lacks a part, or a class in a part."""
    wanted = list(wanted)
    notes = []
    for site in sorted(by_site):
        patients = {case.patient for case in by_site[site]}
        got = {assigned[patient] for patient in patients}
        lacking = [_WORDS.get(role, role) for role in wanted if role not in got]
        if lacking:
            people = "1 patient" if len(patients) == 1 else f"{len(patients)} patients"
            notes.append(f"site {site} has {people} for development: no {', no '.join(lacking)} part")
        for label in sorted({case.label for case in by_site[site] if isinstance(case.label, str)}):
            holders = {assigned[case.patient] for case in by_site[site] if case.label == label}
            without = [_WORDS.get(role, role) for role in wanted if role in got - holders]
            if without:
                notes.append(f"site {site} has too few patients of class {label}: none for {', '.join(without)}")
    return notes


def _unlabelled_notes(study: Study, fold: Fold) -> list[str]:
    counts = Counter(case.site for case in study.cases if case.label is None)
    own = fold.held_out if fold.part is not None else study.sites
    return [
        f"site {site}: {n} {'case' if n == 1 else 'cases'} without a label, used nowhere"
        for site, n in sorted(counts.items())
        if site in own
    ]


def _labelled(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if case.label is not None]


def _is_protocol(study: Study, fold: Fold) -> bool:
    roles = study.config.roles
    return roles is not None and fold.part is None and set(fold.held_out) == set(roles.test)


def _sites_of(study: Study, text: str) -> tuple[str, ...]:
    """`A+B` -> ("A", "B"), sorted; a site whose very name has a plus is that site."""
    if text in study.sites:
        return (text,)
    sites = sorted({name.strip() for name in text.split("+")})
    study.require_sites(*sites)
    return tuple(sites)


def _require_development(study: Study, fold: Fold) -> None:
    if set(fold.held_out) >= set(study.sites):
        raise StudyError(
            f"study {study.name}: holding out {fold.title} leaves no site for development; its sites: "
            f"{', '.join(study.sites)}"
        )
    if not _labelled(study.of_site(*fold.held_out)):
        raise StudyError(
            f"study {study.name}: no case of the held-out site {fold.title} has a label; there is nothing to evaluate, "
            "so name the sites to hold out (--held-out)"
        )


def hashed(salt: str, name: str) -> bytes:
    """Where a patient or a site comes in the order of a salt."""
    return hashlib.sha256(f"{salt}\n{name}".encode("utf-8", "surrogateescape")).digest()
