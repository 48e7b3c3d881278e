"""`covariates.csv`: who every case of the study is, for subgroups."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from elsewhere.files import write_text

if TYPE_CHECKING:
    from elsewhere.study.study import Study

COVARIATES = "covariates.csv"

OWN = ("case", "patient", "site", "label")
"""Columns that are no covariates."""

FROM_MANIFEST = "manifest:"
"""Start of the name of a covariate that is called as one of OWN (`site`, where another column is the site)."""


def write_covariates(out: Path, study: Study) -> None:
    """Write a row for each case of a study: case, patient, site, the label of a classification, and every covariate.

    All of it as text, as in the manifest; an empty cell stays empty.

    Raises:
        RunError: it cannot be written.
    """
    names = list(dict.fromkeys(name for case in study.cases for name in case.covariates))
    labels = ["label"] if study.task == "classification" else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "site", *labels, *(FROM_MANIFEST * (name in OWN) + name for name in names)])
    for case in study.cases:
        own = [case.id, case.patient, case.site, *([case.label or ""] if labels else [])]
        writer.writerow([*own, *(case.covariates.get(name) or "" for name in names)])
    write_text(out / COVARIATES, text.getvalue())
