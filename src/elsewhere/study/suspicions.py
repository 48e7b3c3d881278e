"""What is allowed in a manifest but seldom meant."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from elsewhere.study.case import Case
from elsewhere.study.problem import Problem


def similar_sites(name: str, cases: Sequence[Case]) -> list[Problem]:
    """`Paris` and `paris` are two sites, which is seldom meant."""
    spellings: dict[str, str] = {}
    found = []
    for site in sorted({case.site for case in cases}):
        other = spellings.setdefault(site.casefold(), site)
        if other != site:
            message = (
                f"sites '{other}' and '{site}' differ in upper and lower case only; if they are one, spell it alike"
            )
            found.append(Problem("warning", "similar-sites", name, message))
    return found


def crowded_patients(name: str, cases: Sequence[Case]) -> list[Problem]:
    """A patient with far more cases than the others of the site is often a group that was mistaken for a patient.

    Far more: over 20, and over 20 times the site's median (our choice).
    """
    counts = Counter((case.site, case.patient) for case in cases)
    by_site: dict[str, list[int]] = {}
    for (site, _), count in counts.items():
        by_site.setdefault(site, []).append(count)
    usual = {site: statistics.median(found) for site, found in by_site.items()}
    return [
        Problem(
            "warning",
            "crowded-patient",
            name,
            f"patient '{patient}' has {count} of the {sum(by_site[site])} cases of site {site}, others there about "
            f"{usual[site]:g}; a patient is never divided, so check that this is one person",
        )
        for (site, patient), count in sorted(counts.items())
        if count > 20 and count > 20 * usual[site]
    ]
