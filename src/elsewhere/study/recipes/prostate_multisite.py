"""The multi-site prostate MR of Liu et al. (SAML, 2020): six hospitals and public sets are the sites.

Layout (liuquande.github.io/SAML; file names as in public code that reads them):

    RUNMC/Case00.nii.gz, RUNMC/Case00_segmentation.nii.gz      T2-weighted; `_Segmentation` at BMC
    BMC, I2CVB, UCL, BIDMC, HK                                 likewise

Two of the sites (RUNMC and BMC, of NCI-ISBI 2013) label two zones with 1 and 2, the others the whole gland with 1: both
values are the prostate. Numbers start anew at each site. A volume without a segmentation stays in the manifest, without
a label, and is not used.

The shift of DropGen: train on RUNMC and I2CVB, validate on UCL and HK, test on BIDMC and BMC; crops of 256 x 256 x 64
(its code). The spacing there, 0.51 x 0.52 x 0.125 mm, cannot be meant for slices that lie 1.25 to 4 mm apart: none is
set, and the median of the training cases is taken.
"""

from __future__ import annotations

from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.recipes.layout import contents, find_root, roles, volumes
from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.sources import Source

TITLE = "the multi-site prostate data set (SAML)"
SITES = ("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL")
MASK = "_segmentation"


def read(root: Path) -> Source:
    """Cases `RUNMC/Case00` and so on."""
    root = find_root(root, SITES, TITLE)
    cases = [case for site in SITES for case in _of_site(root / site)]
    return Source(
        cases,
        {
            "task": "segmentation",
            "classes": {"background": 0, "prostate": [1, 2]},
            "patch_size": [256, 256, 64],
            "roles": roles(root, cases, train=("RUNMC", "I2CVB"), validation=("UCL", "HK"), test=("BIDMC", "BMC")),
        },
    )


def _of_site(folder: Path) -> list[Case]:
    found = volumes(folder)
    labels = {stem[: -len(MASK)]: path for stem, path in found.items() if stem.lower().endswith(MASK)}
    images = {stem: path for stem, path in found.items() if not stem.lower().endswith(MASK)}
    for stem in sorted(labels.keys() - images.keys()):
        raise StudyError(f"{labels[stem]}: there is no image '{stem}.nii.gz' beside it; add it or remove the mask")
    if not labels:
        raise StudyError(
            f"{folder}: holds no mask such as Case00_segmentation.nii.gz; wanted those of {TITLE}, found "
            f"{contents(folder)}"
        )
    return [
        Case(
            id=f"{folder.name}/{stem}",
            images={"image": image},
            label=labels.get(stem),
            site=folder.name,
            patient=f"{folder.name}-{stem}",
        )
        for stem, image in sorted(images.items())
    ]


RECIPE = Recipe("prostate-multisite", TITLE, "hospital", "https://liuquande.github.io/SAML/", read)
