"""BraTS as the Medical Segmentation Decathlon distributes it: the sites are MR sequences of the same people.

Layout (medicaldecathlon.com, Task01_BrainTumour; its `dataset.json` as public code quotes it):

    dataset.json                  "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    imagesTr/BRATS_001.nii.gz     240 x 240 x 155 x 4 at 1 mm: the sequences along the fourth axis
    labelsTr/BRATS_001.nii.gz     240 x 240 x 155
    imagesTs                      without labels; not used

Each sequence is a case (`BRATS_001.nii.gz#0` is the FLAIR of 001), all of one patient. The shift of DropGen: train on
T1w, T1gd and T2w, test on FLAIR; 1 mm, crops of 128^3 (its code). DropGen selects on FLAIR; here the training sequences
select, and `--selection oracle` shows what the other rule would give.
"""

from __future__ import annotations

import json
from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.recipes.layout import find_root, matched, roles, volumes
from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.sources import Source

TITLE = "BraTS of the Medical Segmentation Decathlon (Task01_BrainTumour)"
SEQUENCES = ("FLAIR", "T1w", "T1gd", "T2w")


def read(root: Path) -> Source:
    """Cases `BRATS_001-FLAIR` and so on; the sequence is the site, the volume's name the patient."""
    root = find_root(root, ("imagesTr", "labelsTr"), TITLE)
    images, labels = volumes(root / "imagesTr"), volumes(root / "labelsTr")
    channels = _channels(root / "dataset.json")
    cases = [
        Case(
            id=f"{patient}-{sequence}",
            images={"image": images[patient].with_name(f"{images[patient].name}#{channels[sequence]}")},
            label=labels[patient],
            site=sequence,
            patient=patient,
        )
        for patient in matched(images, labels, (root / "imagesTr", root / "labelsTr"))
        for sequence in SEQUENCES
    ]
    return Source(
        cases,
        {
            "task": "segmentation",
            "classes": {"background": 0, "edema": 1, "non-enhancing tumour": 2, "enhancing tumour": 3},
            "spacing": [1.0, 1.0, 1.0],
            "patch_size": [128, 128, 128],
            "roles": roles(root, cases, train=("T1w", "T1gd", "T2w"), test=("FLAIR",)),
        },
    )


def _channels(path: Path) -> dict[str, int]:
    """Place of each sequence along the fourth axis."""
    try:
        modality = json.loads(path.read_text(encoding="utf-8"))["modality"]
        places = {str(name).lower(): int(place) for place, name in modality.items()}
        return {sequence: places[sequence.lower()] for sequence in SEQUENCES}
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error}); it is part of {TITLE}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path}: key 'modality' does not number the sequences {', '.join(SEQUENCES)}; wanted the file of {TITLE}, "
            'with {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}'
        ) from error


RECIPE = Recipe("msd-brats", TITLE, "MR sequence", "http://medicaldecathlon.com", read)
