"""AMOS22, abdominal organs in CT and MR: the sites are the two modalities.

Layout (Zenodo 7262581, its readme.md):

    imagesTr/amos_0001.nii.gz, labelsTr/amos_0001.nii.gz     240 scans: 200 CT, 40 MR
    imagesVa, labelsVa                                       120 scans: 100 CT, 20 MR
    imagesTs, labelsTs                                       labels are not public: `labelsTs` is empty

The readme says that numbers below 500 are CT; by its intensities 0500 is CT, too (second-hand: seen in public notes on
the files), as 500 CT and 100 MR scans with the numbers 1 to 600 ask for. In MR the bladder and the prostate or uterus
are not labelled (second-hand, the same notes): a score of these two classes says nothing there. The release does not
tell which scans are of one person; each scan counts as a patient.

The shift of DropGen: train on CT, test on MR; 1 x 1 x 1.5 mm, crops of 192 x 192 x 128 (its code). DropGen selects on
MR; here CT patients select, and `--selection oracle` shows what the other rule would give. Hounsfield rules mean
nothing for MR, so each image is normalised by itself (our choice).
"""

from __future__ import annotations

import re
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.recipes.layout import find_root, matched, roles, volumes
from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.sources import Source

TITLE = "AMOS22"
LAST_CT = 500
PARTS = {"Tr": "train", "Va": "validation", "Ts": "test"}
ORGANS = (
    *("background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("postcava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate/uterus"),
)


def read(root: Path) -> Source:
    """Cases `amos_0001` and so on of every part that has labels; covariate `part`: that of the challenge."""
    root = find_root(root, ("imagesTr", "labelsTr"), TITLE)
    cases = []
    for ending, part in PARTS.items():
        folders = root / f"images{ending}", root / f"labels{ending}"
        labels = volumes(folders[1]) if folders[1].is_dir() else {}
        if not labels and ending != "Tr":
            continue
        images = volumes(folders[0])
        for stem in matched(images, labels, folders):
            match = re.fullmatch(r"amos_(\d{4})", stem)
            if match is None:
                raise StudyError(f"{images[stem]}: is not called amos_0001.nii.gz and so on, as files of {TITLE} are")
            site = "CT" if int(match[1]) <= LAST_CT else "MR"
            cases.append(Case(stem, {"image": images[stem]}, labels[stem], site, stem, covariates={"part": part}))
    return Source(
        cases,
        {
            "task": "segmentation",
            "classes": {organ: value for value, organ in enumerate(ORGANS)},
            "spacing": [1.0, 1.0, 1.5],
            "intensity": "image-zscore",
            "patch_size": [192, 192, 128],
            "roles": roles(root, cases, train=("CT",), test=("MR",)),
        },
    )


RECIPE = Recipe("amos", TITLE, "modality: CT, MR", "https://doi.org/10.5281/zenodo.7262581", read)
