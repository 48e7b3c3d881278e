"""A model is run on one channel of a file with four axes as on any file: a name, a state, and a mask on its grid."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
from public_sets import volume

from elsewhere.deploy.inputs import MASKS, find_inputs, read_input
from elsewhere.deploy.outputs import Labelling, output_path, write_mask
from elsewhere.study.preprocessing import Preprocessing

RULES = Preprocessing(dims=3, channels=("image",), intensity="image-zscore")


def test_predicting_a_channel(tmp_path: Path) -> None:
    path = volume(tmp_path / "BRATS_001.nii.gz", channels=4)
    asked = [path.with_name(f"{path.name}#{channel}") for channel in (0, 2)]
    found = find_inputs(asked, RULES, known={}).inputs
    assert [one.case for one in found] == ["BRATS_001-0", "BRATS_001-2"]
    case = read_input(found[1], RULES)
    assert np.array_equal(case.image[0], nib.load(path).get_fdata()[::-1, ::-1, :, 2])
    labels = np.random.default_rng(0).integers(0, 2, case.original.shape).astype(np.uint8)
    out = tmp_path / output_path(found[1], case.original, MASKS)
    write_mask(out, found[1], labels, case.original, Labelling(("background", "tumour"), (0, 1)))
    assert out.name == "BRATS_001-2.nii.gz"
    written = nib.load(out)
    assert np.array_equal(written.get_fdata(), labels)
    assert np.array_equal(written.affine, nib.load(path).affine)
    os.utime(path, (1, 1))
    again = find_inputs(asked, RULES, known={}).inputs
    assert all(new.fingerprint != old.fingerprint for new, old in zip(again, found, strict=True))
