"""HVSMR-2.0, hearts with congenital disease in cardiovascular MR: the sites are grades of severity.

Layout (Pace et al. 2024, Scientific Data; figshare 25226366 "cropped", 25226363 "cropped_norm"):

    hvsmr_clinical.csv                                     Pat, Age, Category (mild, moderate, severe), findings
    cropped/pat0_cropped.nii.gz                            the image around the heart
    cropped/pat0_cropped_seg.nii.gz                        4 chambers and 4 great vessels
    cropped/pat0_cropped_seg_endpoints.nii.gz              optional ends of the vessels; not used
    cropped_norm/pat0_cropped_norm.nii.gz                  intensities normalised; taken where `cropped` is absent

The table has 59 rows for 60 patients: 59 is missing. Table 1 of the paper counts 37 severe hearts and the file has 36,
so 59 is severe; the covariate `category` holds what the table says, hence nothing for 59.

The shift of DropGen: train on mild and moderate, test on severe. Its list of 23 training patients is exactly those of
these two grades. 0.77 x 0.72 x 0.72 mm, crops of 128 x 160 x 128 (its code, which counts the spacing along the axes of
the file; a study counts along R, A, S).
"""

from __future__ import annotations

import os
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.manifest import read_rows
from elsewhere.study.recipes.layout import contents, roles, volumes_below
from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.sources import Source

TITLE = "HVSMR-2.0"
TABLE = "hvsmr_clinical.csv"
VERSIONS = ("cropped", "cropped_norm")
GRADES = ("mild", "moderate", "severe")
NOT_IN_TABLE = {59: "severe"}
STRUCTURES = (
    *("background", "left ventricle", "right ventricle", "left atrium", "right atrium", "aorta", "pulmonary artery"),
    *("superior vena cava", "inferior vena cava"),
)


def read(root: Path) -> Source:
    """Cases `pat0` and so on; covariates `age` and `category` as in the table."""
    images: dict[int, Path] = {}
    for version in VERSIONS:
        images = images or _by_patient(root, rf"pat(\d+)_{version}")
    labels = _by_patient(root, r"pat(\d+)_cropped_seg")
    if not images:
        raise StudyError(
            f"{root}: is not {TITLE}; looked for pat0_cropped.nii.gz and so on below it, found {contents(root)}"
        )
    grades = _grades(_table(root))
    cases = []
    for patient, image in sorted(images.items()):
        if patient not in labels:
            raise StudyError(f"{image}: has no mask 'pat{patient}_cropped_seg.nii.gz'; add it or remove the image")
        age, category = grades.get(patient, ("", NOT_IN_TABLE.get(patient, "")))
        if not category:
            raise StudyError(f"{image}: {TABLE} has no row for patient {patient}; add the row or remove the image")
        told = category if patient in grades else None
        name = f"pat{patient}"
        covariates = {"age": age or None, "category": told}
        cases.append(Case(name, {"image": image}, labels[patient], category, name, covariates=covariates))
    return Source(
        cases,
        {
            "task": "segmentation",
            "classes": {structure: value for value, structure in enumerate(STRUCTURES)},
            "spacing": [0.77, 0.72, 0.72],
            "patch_size": [128, 160, 128],
            "roles": roles(root, cases, train=("mild", "moderate"), test=("severe",)),
        },
    )


def _by_patient(root: Path, pattern: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for match, path in volumes_below(root, pattern):
        if int(match[1]) in found:
            raise StudyError(f"{path}: is also at {found[int(match[1])]}; name the folder of one of them")
        found[int(match[1])] = path
    return found


def _table(root: Path) -> Path:
    """`hvsmr_clinical.csv` below `root`, or beside it (the archives hold the images alone)."""
    found = [Path(place) / TABLE for place, _, files in os.walk(root) if TABLE in files]
    found += [root.parent / TABLE] if (root.parent / TABLE).is_file() else []
    if not found:
        raise StudyError(
            f"{root}: there is no {TABLE} below it or beside it; it comes with {TITLE} and says how severe"
        )
    return sorted(found)[0]


def _grades(path: Path) -> dict[int, tuple[str, str]]:
    """Patient -> (age in years, category)."""
    header, rows = read_rows(path)
    for wanted in ("Pat", "Age", "Category"):
        if wanted not in header:
            raise StudyError(f"{path}: has no column '{wanted}'; found: {', '.join(header[:8])}")
    grades = {}
    for number, row in rows:
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        if not cells["Pat"].isdigit() or cells.get("Category", "").lower() not in GRADES:
            raise StudyError(
                f"{path} row {number}: patient '{cells['Pat']}' has the category '{cells.get('Category', '')}'; wanted "
                f"a number, and one of {', '.join(GRADES)}"
            )
        grades[int(cells["Pat"])] = cells["Age"], cells["Category"].lower()
    return grades


RECIPE = Recipe("hvsmr", TITLE, "severity of the disease", "https://doi.org/10.6084/m9.figshare.c.7074755", read)
