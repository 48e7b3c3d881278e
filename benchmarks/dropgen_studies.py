"""Writes the studies on which DropGen was developed and judged, from the real data beside the project.

    python benchmarks/dropgen_studies.py ../shared/data STUDIES

    lgg-development   tcga-lgg, trained on `pre`; of other patients `pre` and `post`, as they are and with falling
                      contrast; none of them is a test patient below
    lgg-sequences     tcga-lgg, trained on `pre` and `post`, tested on `flair`; a third of each hospital's patients test
    hippocampus       T1 of 60 patients to train on; of the 40 others the T1 and versions of it under drawn acquisitions
    hippocampus-16    the same images: of the test patients the first 16 by name, of the drawn sites five
    hippocampus-slices
                      2D: of each patient the coronal slice with most of the structure, for `elsewhere stability`

Who is on which side is decided by a hash of the patient's name, so it is the same everywhere. All but
the second are development material: every choice is made on them. The second is opened once, when the choices are
written down (docs/results.md). Its test patients are in none of the others, with none of their sequences.

Falling contrast: 0 stays dark, the brightest lies at an eighth of the range; from there on what was brighter is darker.

The hippocampus acquisitions, each at strengths 0.25, 0.5, 0.75 and 1: `fold`, a contrast curve that turns falling at
intensity 1 - strength of the range, so that 1 is inverted (a fade to the inverse would be undone by the normalisation);
`bias`, a cubic spline whose logarithm has deviation 0.75 x strength at its 4 x 4 x 4 points, and about a third of that
at a voxel; `blur`, a Gaussian of 2 x strength voxels; `all` three. Bias fields are drawn for each patient.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import yaml
from torch import Tensor

from elsewhere.acquisition import bias_field, curve, gaussian_blur

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
FEW = ["all-1.0", "bias-1.0", "blur-1.0", "fold-0.5", "fold-1.0", "same-0"]
"""Sites of `hippocampus-16`."""

KNOTS = 9
FALLING = torch.cat([torch.tensor([0.0]), torch.linspace(1, 0, KNOTS - 1)])[None]


def first(patients: Iterable[str], share: float, salt: str) -> set[str]:
    """A share of the patients, by a hash of their names."""
    ordered = sorted(set(patients), key=lambda name: hashlib.sha256(f"{salt}\n{name}".encode()).digest())
    return set(ordered[: round(len(ordered) * share)])


def by_hospital(rows: list[dict[str, str]], share: float, salt: str) -> set[str]:
    """The same share of each hospital's patients."""
    hospitals = sorted({row["site"] for row in rows})
    return {p for h in hospitals for p in first((row["patient"] for row in rows if row["site"] == h), share, salt)}


def lgg(source: Path, out: Path) -> None:
    """The two studies across sequences; the hospital stays as a covariate."""
    with (source / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    test = by_hospital(rows, 1 / 3, "test")
    others = [row for row in rows if row["patient"] not in test]
    tried = by_hospital(others, 1 / 3, "tried")
    opened = [row for row in rows if (row["sequence"] == "flair") == (row["patient"] in test)]
    declare(out / "lgg-sequences", [case(source, row, row["sequence"]) for row in opened], ["post", "pre"])

    folder = out / "lgg-development"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    chosen = []
    for row in others:
        if row["sequence"] == "flair":
            continue
        if row["patient"] not in tried:
            if row["sequence"] == "pre":
                chosen.append(case(source, row, "pre"))
            continue
        chosen.append(case(source, row, f"{row['sequence']}-tried"))
        file, image = volume(source / row["image"])
        path = folder / "images" / f"{row['patient']}_{row['sequence']}-falling.nii.gz"
        save(curve(image, FALLING), file, path)
        chosen.append({**chosen[-1], "image": f"images/{path.name}", "site": f"{row['sequence']}-falling"})
    declare(folder, chosen, ["pre"])


def case(source: Path, row: dict[str, str], site: str) -> dict[str, str]:
    """A row of a manifest across sequences."""
    image, label = str(source / row["image"]), str(source / row["label"])
    return {"image": image, "label": label, "site": site, "patient": row["patient"], "hospital": row["site"]}


def declare(folder: Path, chosen: list[dict[str, str]], train: list[str]) -> None:
    """Trained at some sites, tested at the others."""
    roles = {"train": train, "test": sorted({row["site"] for row in chosen} - set(train))}
    write(folder, chosen, {"name": folder.name, "classes": {"background": 0, "tumour": 1}, "roles": roles})


def volume(path: Path) -> tuple[nib.Nifti1Image, Tensor]:
    """The file, and its voxels (1, 1, *spatial)."""
    file = nib.load(path)
    return file, torch.from_numpy(np.asarray(file.dataobj, dtype=np.float32))[None, None]


def save(image: Tensor, like: nib.Nifti1Image, path: Path) -> None:
    """In steps of 1 / 10000 of its range."""
    unit = (image - image.min()) / (image.max() - image.min())
    nib.save(nib.Nifti1Image(np.rint(unit[0, 0].numpy() * 10000).astype(np.int16), like.affine), path)


def fold(image: Tensor, strength: float) -> Tensor:
    """(1, 1, *spatial); the contrast curve that rises to 1 - strength of the range and falls from there."""
    u = torch.linspace(0, 1, KNOTS)
    turn = 1 - strength
    values = torch.where(u <= turn, u, 2 * turn - u)
    values = (values - values.min()) / (values.max() - values.min())
    return curve(image, values[None])


def acquire(image: Tensor, kind: str, strength: float, generator: torch.Generator) -> Tensor:
    """(1, 1, *spatial) as another scanner would have made it."""
    control = torch.randn((1, 1, 4, 4, 4), generator=generator)
    control = control / control.std() * 0.75 * strength
    if kind in ("fold", "all"):
        image = fold(image, strength)
    if kind in ("bias", "all"):
        image = bias_field(image, control)
    if kind in ("blur", "all"):
        image = gaussian_blur(image, torch.tensor([2 * strength]))
    return image


def hippocampus(source: Path, out: Path) -> None:
    """T1 to train on, and other patients' T1 under acquisitions; a site is a kind and a strength."""
    with (source / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    test = first((row["patient"] for row in rows), 0.4, "test")
    folder = out / "hippocampus"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    chosen = []
    for row in rows:
        label = str(source / row["label"])
        if row["patient"] not in test:
            chosen.append(
                {"image": str(source / row["image"]), "label": label, "site": "t1", "patient": row["patient"]}
            )
            continue
        file, image = volume(source / row["image"])
        generator = torch.Generator().manual_seed(int.from_bytes(row["patient"].encode()[-4:]))
        made = {"same-0": image}
        for kind in ("fold", "bias", "blur", "all"):
            made |= {f"{kind}-{s}": acquire(image, kind, s, generator) for s in STRENGTHS}
        for site, acquired in made.items():
            path = folder / "images" / f"{row['patient']}_{site}.nii.gz"
            save(acquired, file, path)
            chosen.append({"image": f"images/{path.name}", "label": label, "site": site, "patient": row["patient"]})
    sites = {row["site"] for row in chosen} - {"t1"}
    classes = {"background": 0, "anterior": 1, "posterior": 2}
    declared = {"name": "hippocampus", "classes": classes, "roles": {"train": ["t1"], "test": sorted(sites)}}
    write(folder, chosen, declared)

    people = sorted(test)[:16]
    few = [row for row in chosen if row["site"] == "t1" or (row["site"] in FEW and row["patient"] in people)]
    there = [{**row, "image": str((folder / row["image"]).resolve())} for row in few]  # T1 has a whole path already
    roles = {"train": ["t1"], "test": FEW}
    write(out / "hippocampus-16", there, {**declared, "name": "hippocampus-16", "roles": roles})


def slices(source: Path, out: Path) -> None:
    """One slice of each volume, across the second axis, as a 2D image with pixels of 1 mm."""
    with (source / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        image, label = (np.asarray(nib.load(source / row[key]).dataobj) for key in ("image", "label"))
        most = int((label > 0).sum((0, 2)).argmax())
        for key, voxels in (("image", image), ("label", label.astype(np.uint8))):
            path = out / "hippocampus-slices" / row[key]
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels[:, most, :, None], np.eye(4)), path)
    write(out / "hippocampus-slices", rows, {"name": "hippocampus-slices"})


def write(folder: Path, rows: list[dict[str, str]], declared: dict[str, object]) -> None:
    """manifest.csv and study.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "study.yaml").write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    people = {site: len({r["patient"] for r in rows if r["site"] == site}) for site in {r["site"] for r in rows}}
    print(f"{folder}: {len(rows)} cases; patients by site: {dict(sorted(people.items()))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that holds tcga-lgg and hippocampus")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    data = args.data.resolve()
    lgg(data / "tcga-lgg", args.out)
    hippocampus(data / "hippocampus", args.out)
    slices(data / "hippocampus", args.out)
