"""What a study holds, as one hash: the part of a run's identity that comes from the data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsewhere.identity import identifying
from elsewhere.study.hashes import FileHashes

if TYPE_CHECKING:
    from elsewhere.study.case import Case
    from elsewhere.study.study import Study

UNREADABLE = "unreadable"


def study_digest(study: Study, hashes: FileHashes) -> str:
    """Hash of cases, classes, configuration and the bytes of every file of a study.

    Bytes, not times or places: a study that is copied elsewhere keeps its runs, one whose image is replaced does not. A
    file that is missing counts as such: whoever needs it will say so, and the runs that never touch it go on.
    """

    def of(path: Path) -> str:
        try:
            return hashes.of(path)
        except OSError:
            return UNREADABLE

    cases = [
        {
            "id": case.id,
            "images": {name: of(path) for name, path in case.images.items()},
            "label": of(case.label) if isinstance(case.label, Path) else case.label,
            "site": case.site,
            "patient": case.patient,
            "maps": {name: of(path) for name, path in case.maps.items()},
            "covariates": dict(case.covariates),
        }
        for case in study.cases
    ]
    return digest(
        {
            "cases": cases,
            "task": study.task,
            "dims": study.dims,
            "channels": list(study.channels),
            "classes": list(study.classes),
            "values": sorted((int(value), int(index)) for value, index in study.label_values.items()),
            # The column of the sites shows in the sites of the cases.
            "config": identifying(
                study.config.model_dump(mode="json", exclude={"name", "site_column"}), study.config.LATER
            ),
        }
    )


def repeated(study: Study, hashes: FileHashes) -> dict[str, Any]:
    """Cases whose images have the same bytes, as `plan.json` keeps it; no pixel is read, and no file twice.

    Returns:
        `at_two_sites`, `of_two_patients`: how many cases are in groups of the same images at several sites, or of
        several patients of one site; `such_as`: up to three groups of case ids. Empty where there are none. The same
        picture in another file format is not found here: `elsewhere study check` compares pixels.
    """
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in study.cases:
        try:
            groups.setdefault(tuple(hashes.of(path) for path in case.images.values()), []).append(case)
        except OSError:  # whoever needs it will say so
            continue
    sites = [group for group in groups.values() if len({case.site for case in group}) > 1]
    patients = [group for group in groups.values() if group not in sites and len({case.patient for case in group}) > 1]
    if not sites and not patients:
        return {}
    return {
        "at_two_sites": sum(map(len, sites)),
        "of_two_patients": sum(map(len, patients)),
        "such_as": [[case.id for case in group] for group in [*sites, *patients][:3]],
    }


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
