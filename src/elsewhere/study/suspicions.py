"""What is allowed in a manifest but seldom meant."""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Sequence

from elsewhere.study.case import Case
from elsewhere.study.problem import Problem

SHOWN = 10
"""Groups of spellings that are warned of one by one; more of them are counted."""

MISSING = ("nan", "na", "n/a", "#n/a", "<na>", "null", "nil")
"""Labels that programs write for a cell without a value."""

LONGEST_NUMBER = 40

FIRST = frozenset("+-0123456789")
"""What a number begins with."""

_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:\.(\d*?)0*)?", re.ASCII)


def alike(text: str) -> str:
    """The same for spellings that are seldom meant to differ.

    Those of one number (7, 7.0, 007), and text in other case, with other blanks (several, or no-break spaces), or in
    another Unicode form of the same letters (NFKC).
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    plain = " ".join(text.split()).casefold()
    if plain[:1] not in FIRST or len(plain) > LONGEST_NUMBER:
        return plain
    number = _NUMBER.fullmatch(plain)
    if number is None:
        return plain
    sign, whole, fraction = number.groups()
    return f"{sign.strip('+')}{whole}" + (f".{fraction}" if fraction else "")


def similar_spellings(name: str, cases: Sequence[Case]) -> list[Problem]:
    """`Paris` and `paris` are two sites, `7` and `007` two patients, `1` and `1.0` two classes: seldom meant."""
    labels = {case.label for case in cases if isinstance(case.label, str)}
    found = []
    for code, one, values, then in (
        ("similar-sites", "site", {case.site for case in cases}, "if they are one"),
        ("similar-patients", "patient", {case.patient for case in cases}, "if they are one person"),
        ("similar-classes", "class", labels, "if they are one"),
    ):
        what = code.removeprefix("similar-")
        several = _groups(values)
        for group in several[:SHOWN]:
            message = f"{what} {_listed(group)} differ in spelling only; {then}, write the {one} alike in every row"
            found.append(Problem("warning", code, name, message))
        if len(several) > SHOWN:
            message = f"{len(several) - SHOWN} more groups of {what} differ in spelling only, such as "
            found.append(Problem("warning", code, name, message + _listed(several[SHOWN])))
    for label in sorted(label for label in labels if label.casefold() in MISSING):
        message = f"label '{label}' is a class of its own; where it stands for a missing label, leave the cell empty"
        found.append(Problem("warning", "missing-label", name, message))
    return found


def _groups(values: set[str]) -> list[list[str]]:
    """Values that are alike, in order."""
    first: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for value in values:
        plain = alike(value)
        other = first.setdefault(plain, value)
        if other != value:
            groups.setdefault(plain, [other]).append(value)
    return sorted(map(sorted, groups.values()))


def _listed(spellings: Sequence[str]) -> str:
    """Quoted; letters that may look alike on a screen are told apart by their code points."""
    shown = [f"'{text}'" + ("" if text.isascii() else f" ({ascii(text)[1:-1]})") for text in spellings]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


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
