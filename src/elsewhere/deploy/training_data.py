"""What a model was trained on, as plain values for its card: sites, classes, images, covariates; nobody in particular.

No id and no path. Of a column of numbers its range and quartiles, whose ends are single patients' values. A text column
is counted out only where most of its values repeat, and a column of long whole numbers of which most patients have
another is taken for a number of the patient.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from elsewhere.study.case import Case
from elsewhere.study.seal import ROLES, Development

MOST_VALUES = 12
"""Of a text column that are counted out (our choice)."""

FEW_NUMBERS = 5
"""Different numbers of a column up to which they are counted out, as a text is (our choice)."""

LONG = 10_000
"""Whole numbers from here on may be numbers of patients (our choice)."""


def describe_data(development: Development) -> dict[str, Any]:
    """Describe the cases of a development.

    Returns:
        `sites` (site -> role -> patients and cases), `classes` (cases of each class by role for a classification; for
        a segmentation the share of the training voxels), `unseen` (classes without a training case), `images` (of the
        training cases), `covariates` (of the training cases), `notes` (of the split).
    """
    cases = {role: development.role(role) for role in ROLES}
    by_site: dict[str, dict[str, dict[str, int]]] = {}
    for role, some in cases.items():
        for site in sorted({case.site for case in some}):
            own = [case for case in some if case.site == site]
            by_site.setdefault(site, {})[role] = {"patients": len({c.patient for c in own}), "cases": len(own)}
    fingerprint = development.fingerprint
    if development.task == "classification":
        counts = {role: Counter(str(case.label) for case in some) for role, some in cases.items()}
        classes: dict[str, Any] = {name: {role: counts[role][name] for role in ROLES} for name in development.classes}
    else:
        classes = dict(zip(development.classes, fingerprint.class_frequencies, strict=True))
    return {
        "sites": dict(sorted(by_site.items())),
        "classes": classes,
        "unseen": list(development.unseen_classes),
        "images": {
            "channels": list(development.channels),
            "size": list(fingerprint.size),
            "smallest": list(fingerprint.smallest),
            "largest": list(fingerprint.largest),
            "spacing": None if fingerprint.spacing is None else list(fingerprint.spacing),
            "types": dict(fingerprint.dtypes),
        },
        "covariates": covariates(cases["train"]),
        "notes": list(development.split.notes),
    }


def covariates(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Range or counts of every covariate; numbers by patient, the first case of each.

    Returns:
        By column: `missing` patients, and `numbers` (n; `quartiles` from least to greatest), or `values` (value ->
        patients), or `different` (how many, where they are not shown).
    """
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.patient, case)
    names = list(dict.fromkeys(name for case in cases for name in case.covariates))
    return {name: _column([case.covariates.get(name) for case in first.values()]) for name in names}


def _column(given: Sequence[str | None]) -> dict[str, Any]:
    texts = [text.strip() for text in given if text is not None and text.strip()]
    numbers = [number for text in texts if (number := _number(text)) is not None]
    if texts and len(numbers) == len(texts):
        finite = [number for number in numbers if math.isfinite(number)]
        missing = {"missing": len(given) - len(finite)}
        if not finite:
            return missing
        different = len(set(finite))
        if 2 * different > len(finite) and all(n.is_integer() and abs(n) >= LONG for n in finite):
            return {"different": different, **missing}
        if different <= FEW_NUMBERS and 2 * different <= len(finite):  # codes, grades: counts say more than quartiles
            return {"values": {f"{n:g}": count for n, count in sorted(Counter(finite).items())}, **missing}
        quartiles = [float(q) for q in np.quantile(finite, [0, 0.25, 0.5, 0.75, 1])]
        return {"numbers": {"n": len(finite), "quartiles": quartiles}, **missing}
    counts = Counter(texts)
    missing = {"missing": len(given) - len(texts)}
    if len(counts) > MOST_VALUES or 2 * len(counts) > len(texts) > 0:
        return {"different": len(counts), **missing}
    return {"values": dict(counts.most_common()), **missing}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
