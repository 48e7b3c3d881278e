"""Few-shot: at most N patients train, over all development sites together; everybody else is as in the split.

Validation, calibration and in-domain test stay whole (our choice): the points of a learning curve differ in who
trained, and in nothing else. So the selection may know more patients than the training does.

**Who.** Patients are taken one by one, so those of 3 are among those of 5. The next one is of the site that has the
fewest so far; of its patients the one whose class has none so far, else whose class is furthest behind its share of all
training patients (our choice: proportions as in the split, but every class once before any is there for a second time).
Whatever is left open is decided by a hash of seed and name, the same for every method.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from elsewhere.errors import StudyError
from elsewhere.study.case import Case, Split
from elsewhere.study.splits import hashed, strata_of
from elsewhere.study.study import Study


def keep_few(study: Study, parts: Split, patients: int | None, seed: int) -> Split:
    """The same split with at most that many training patients, and a note that says how many.

    Args:
        study: whose cases these are.
        parts: of a fold.
        patients: training patients over all development sites together; None: all.
        seed: of the split.

    Raises:
        StudyError: fewer than one patient.
    """
    if patients is None:
        return parts
    if patients < 1:
        raise StudyError(f"patients is {patients}; wanted at least 1 training patient")
    training = [study.by_id[case_id] for case_id in parts.train]
    there = len({case.patient for case in training})
    if patients >= there:
        note = f"few-shot: {patients} training patients were asked for and there are {there}: all of them train"
        return replace(parts, notes=(*parts.notes, note))
    kept = set(islice(one_by_one(training, strata_of(study, training), seed), patients))
    few = [case for case in training if case.patient in kept]
    return replace(
        parts,
        train=tuple(case.id for case in few),
        left_out=(*parts.left_out, *(case.id for case in training if case.patient not in kept)),
        notes=(*parts.notes, *_notes(few, training)),
    )


def one_by_one(cases: Sequence[Case], strata: Mapping[str, str], seed: int) -> Iterator[str]:
    """All patients of these cases in the order in which they are taken.

    Args:
        cases: labelled; a patient may have several, at several sites.
        strata: what should be spread evenly, by patient.
        seed: of the split.
    """
    salt = f"few {seed}"
    sites_of: dict[str, set[str]] = {}
    for case in cases:
        sites_of.setdefault(case.patient, set()).add(case.site)
    size = Counter(strata[patient] for patient in sites_of)
    waiting: dict[str, dict[str, deque[str]]] = {}
    for patient in sorted(sites_of, key=lambda name: hashed(salt, name)):
        for site in sites_of[patient]:
            waiting.setdefault(site, {}).setdefault(strata[patient], deque()).append(patient)
    of_site: Counter[str] = Counter()
    of_stratum: Counter[str] = Counter()
    taken: set[str] = set()
    while True:
        for site, queues in waiting.items():  # patients of several sites may have been taken at another
            for queue in queues.values():
                while queue and queue[0] in taken:
                    queue.popleft()
            waiting[site] = {stratum: queue for stratum, queue in queues.items() if queue}
        open_sites = [site for site, queues in waiting.items() if queues]
        if not open_sites:
            return
        site = min(open_sites, key=lambda name: (of_site[name], hashed(salt, name)))

        def last(stratum: str, place: int = len(taken) + 1, site: str = site) -> tuple[bool, int, bytes]:
            behind = size[stratum] * place - of_stratum[stratum] * len(sites_of)
            return of_stratum[stratum] > 0, -behind, hashed(salt, waiting[site][stratum][0])

        patient = waiting[site][min(waiting[site], key=last)].popleft()
        taken.add(patient)
        of_stratum[strata[patient]] += 1
        of_site.update(sites_of[patient])
        yield patient


def _notes(few: Sequence[Case], training: Sequence[Case]) -> list[str]:
    """How many train, which sites and classes they leave without a training patient, and that one site is alone."""
    at = {site: len({case.patient for case in few if case.site == site}) for site in sorted({c.site for c in training})}
    n, of = (len({case.patient for case in cases}) for cases in (few, training))
    where = ", ".join(f"{site} {number}" for site, number in at.items())
    notes = [f"few-shot: {n} of {of} training patients {'trains' if n == 1 else 'train'} ({where})"]
    classes = {case.label for case in training if isinstance(case.label, str)}
    lacking = sorted(classes - {case.label for case in few})
    if lacking:
        notes.append(f"few-shot: no training patient of class {', '.join(lacking)}")
    here = [site for site, number in at.items() if number]
    if len(here) == 1 < len(at):
        notes.append(
            f"few-shot: site {here[0]} trains alone, so methods that compare training sites have none to compare"
        )
    return notes
