"""The 3D study of `volumes`, opened, without its network (and without torch)."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import tiny

from elsewhere.study.study import Study, open_study

SHAPE, SPACING = (12, 16, 8), (1.0, 1.5, 4.0)


def study(folder: Path, n: int = 2) -> Study:
    """A cuboid in volumes whose axes lead to S, A and R: none of them where the canonical ones do."""
    rows = []
    (folder / "images").mkdir(parents=True)
    for number, site in enumerate("AB"):
        for i in range(n):
            image = np.zeros(SHAPE, np.float32)
            image[3:9, 4:12, 2:6] = 100
            name = f"s{number}-{i}"
            for suffix, array in (("", image), ("-mask", (image > 50).astype(np.uint8))):
                ras = nibabel.Nifti1Image(array, np.diag([*SPACING, 1.0]))
                turn = nibabel.orientations.ornt_transform(
                    nibabel.io_orientation(ras.affine), nibabel.orientations.axcodes2ornt("SAR")
                )
                nibabel.save(ras.as_reoriented(turn), folder / "images" / f"{name}{suffix}.nii.gz")
            paths = {"image": f"images/{name}.nii.gz", "label": f"images/{name}-mask.nii.gz"}
            rows.append({**paths, "site": site, "patient": f"{number}-{i}"})
    return open_study(tiny.manifest(folder, rows))
