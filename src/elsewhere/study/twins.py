"""The same image twice in a study: which pairs there are, and what each means for leave-one-site-out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elsewhere.study.case import Case
from elsewhere.study.examine import Findings, fine_thumbnails
from elsewhere.study.likeness import FINE_LIKENESS, SIDE, near_pairs
from elsewhere.study.problem import Problem
from elsewhere.study.workers import Workers

MOST_COMPARED = 20_000
"""Pairs that are compared from their files; the most alike first (8 KB an image)."""


class Prints:
    """Digests, hashes and thumbnails of all images of a study: about 1 KB an image, no pixels."""

    def __init__(self, n: int) -> None:
        self.seen = np.zeros(n, dtype=bool)
        self.digests = np.zeros((n, 2), dtype=np.uint64)
        self.hashes = np.zeros((n, 2), dtype=np.uint64)
        self.thumbnails = np.zeros((n, SIDE * SIDE), dtype=np.int8)

    def add(self, found: Findings) -> None:
        """Keep what identifies an image."""
        if found.digest is None:
            return
        self.seen[found.index] = True
        self.digests[found.index] = np.frombuffer(found.digest, dtype=np.uint64)
        self.hashes[found.index] = np.frombuffer(found.hash, dtype=np.uint64)
        self.thumbnails[found.index] = np.frombuffer(found.thumbnail, dtype=np.int8)


def find_twins(cases: Sequence[Case], where: Sequence[str], prints: Prints, jobs: int) -> list[Problem]:
    """Report exact and near duplicates, each image once, beside the earlier image it repeats.

    An exact duplicate at another site is an error: what is evaluated was trained on. A near duplicate there is a
    warning, since only a person can tell. Within a site duplicates are warnings; near ones only between patients, as
    splits keep a patient's images together.
    """
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for index in np.flatnonzero(prints.seen).tolist():
        groups[prints.digests[index].tobytes()].append(index)
    problems = [problem for group in groups.values() for problem in _exact(cases, where, group)]
    firsts = np.array([group[0] for group in groups.values()], dtype=np.intp)
    one, two, likeness, complete = near_pairs(prints.hashes[firsts], prints.thumbnails[firsts])
    one, two = firsts[one], firsts[two]
    telling = np.array(
        [_apart(cases[i], cases[j]) for i, j in zip(one.tolist(), two.tolist(), strict=True)], dtype=bool
    )
    order = np.flatnonzero(telling)[np.argsort(-likeness[telling], kind="stable")]
    if len(order) > MOST_COMPARED or not complete:
        message = (
            "very many images look alike (a film, slices of a volume?); only the most alike were compared closely, "
            "other near duplicates are not reported"
        )
        problems.append(Problem("warning", "many-alike", where[0].rpartition(" row ")[0], message))
        order = order[:MOST_COMPARED]
    return problems + _near(cases, where, list(zip(one[order].tolist(), two[order].tolist(), strict=True)), jobs)


def _exact(cases: Sequence[Case], where: Sequence[str], group: list[int]) -> list[Problem]:
    problems = []
    for position, index in enumerate(group[1:], start=1):
        elsewhere = [k for k in group[:position] if cases[k].site != cases[index].site]
        if elsewhere:
            message = (
                f"same pixels as row {cases[elsewhere[0]].row} of site '{cases[elsewhere[0]].site}' (this one is of "
                f"'{cases[index].site}'): what is held out would be trained on; remove one of the rows"
            )
            problems.append(Problem("error", "duplicate-across-sites", where[index], message))
        else:
            message = f"same pixels as row {cases[group[0]].row} of the same site; remove one, or it counts twice"
            problems.append(Problem("warning", "duplicate", where[index], message))
    return problems


def _near(cases: Sequence[Case], where: Sequence[str], pairs: list[tuple[int, int]], jobs: int) -> list[Problem]:
    """Compare pairs from their files; report for each image its best fellow, of another site if there is one."""
    images = sorted({index for pair in pairs for index in pair})
    fine: dict[int, NDArray[np.float32]] = {}
    with Workers(fine_thumbnails, lambda job: (job[0], None), min(jobs, 1 + len(images) // 32)) as workers:
        for chunk in workers.map((index, cases[index].images) for index in images):
            fine |= {index: np.frombuffer(found, dtype=np.float16) for index, found in chunk if found is not None}
    best: dict[int, tuple[bool, float, int]] = {}
    for i, j in pairs:
        likeness = float(fine[i].astype(np.float32) @ fine[j].astype(np.float32)) if i in fine and j in fine else -1.0
        if likeness >= FINE_LIKENESS:
            entry = (cases[i].site != cases[j].site, likeness, i)
            best[j] = max(best.get(j, entry), entry)
    problems = []
    for index, (across, likeness, fellow) in sorted(best.items()):
        other = f"row {cases[fellow].row}, patient '{cases[fellow].patient}' of site '{cases[fellow].site}'"
        if across:
            message = (
                f"nearly the same pixels as {other} (correlation {likeness:.2f}; this one is of "
                f"'{cases[index].site}'): look at both; if they are one image, remove a row"
            )
            problems.append(Problem("warning", "near-across-sites", where[index], message))
        else:
            message = (
                f"nearly the same pixels as {other} (correlation {likeness:.2f}): if it is one patient, give both rows "
                "the same patient"
            )
            problems.append(Problem("warning", "near-duplicate", where[index], message))
    return problems


def _apart(one: Case, two: Case) -> bool:
    """Whether the two could end on different sides of a split."""
    return one.site != two.site or one.patient != two.patient
