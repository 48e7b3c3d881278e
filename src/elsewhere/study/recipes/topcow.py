"""TopCoW 2024, the circle of Willis in angiographies: the sites are CTA and MRA of the same people.

Layout (Zenodo 15692630, TopCoW2024_Data_Release):

    imagesTr/topcow_ct_001_0000.nii.gz, topcow_mr_001_0000.nii.gz     125 pairs
    cow_seg_labelsTr/topcow_ct_001.nii.gz, topcow_mr_001.nii.gz
    roi_loc_labelsTr, antpos_edges_labelsTr                           other tasks of the challenge; not used

The values 13 and 14 are not used; the third A2 segment, which few people have, is 15.

The shift of DropGen: train on CTA, test on MRA, no person on both sides; 0.3 x 0.3 x 0.6 mm, crops of 192 x 160 x 128
(its code). Hounsfield rules mean nothing for MR, so each image is normalised by itself (our choice).
"""

from __future__ import annotations

import re
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.recipes.layout import find_root, matched, roles, volumes
from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.sources import Source

TITLE = "TopCoW 2024"
SITES = {"ct": "CTA", "mr": "MRA"}
VESSELS = {
    **{"background": 0, "BA": 1, "R-PCA": 2, "L-PCA": 3, "R-ICA": 4, "R-MCA": 5, "L-ICA": 6, "L-MCA": 7},
    **{"R-Pcom": 8, "L-Pcom": 9, "Acom": 10, "R-ACA": 11, "L-ACA": 12, "3rd-A2": 15},
}


def read(root: Path) -> Source:
    """Cases `topcow_ct_001` and so on; the patient is the number."""
    root = find_root(root, ("imagesTr", "cow_seg_labelsTr"), TITLE)
    folders = root / "imagesTr", root / "cow_seg_labelsTr"
    images = {stem.removesuffix("_0000"): path for stem, path in volumes(folders[0]).items()}
    labels = volumes(folders[1])
    cases = []
    for stem in matched(images, labels, folders):
        match = re.fullmatch(r"topcow_(ct|mr)_(\d{3})", stem)
        if match is None:
            raise StudyError(f"{images[stem]}: is not called topcow_ct_001_0000.nii.gz and so on, as in {TITLE}")
        cases.append(Case(stem, {"image": images[stem]}, labels[stem], SITES[match[1]], f"topcow_{match[2]}"))
    return Source(
        cases,
        {
            "task": "segmentation",
            "classes": VESSELS,
            "spacing": [0.3, 0.3, 0.6],
            "intensity": "image-zscore",
            "patch_size": [192, 160, 128],
            "roles": roles(root, cases, train=("CTA",), test=("MRA",)),
        },
    )


RECIPE = Recipe("topcow", TITLE, "modality: CTA, MRA", "https://doi.org/10.5281/zenodo.15692630", read)
