"""Studies of a few small images, made in a moment; every site has another brightness."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SETTINGS = [
    "network_options={channels: [4, 8], num_res_units: 0}",
    "batch_size=4",
    "patch_size=[32, 32]",
    "augmentation=none",
    "validate_every=2",
    "checkpoint_every=2",
    "log_every=1",
    "device=cpu",
]

CLASSIFIER = ["network=resnet18", "network_options={width: 4}", "batch_size=4", "size=[32, 32]", "augmentation=none",
              "validate_every=2", "device=cpu"]  # fmt: skip


def segmentation(folder: Path, sites: Mapping[str, int], *, side: int = 32, covariates: bool = True) -> Path:
    """Bright discs; `sites` is name -> number of patients, one case each."""
    rows = []
    for number, (site, n) in enumerate(sites.items()):
        for i in range(n):
            rng = np.random.default_rng([number, i])
            centre, radius = rng.uniform(10, side - 10, 2), rng.uniform(4, 8)
            y, x = np.mgrid[:side, :side]
            mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            image = 60 + 20 * number + 60 * mask + rng.normal(0, 8, (side, side))
            name = f"s{number}-{i:02d}"
            save(folder / "images" / f"{name}.png", image)
            save(folder / "masks" / f"{name}.png", mask * 1)
            row = {
                "image": f"images/{name}.png",
                "label": f"masks/{name}.png",
                "site": site,
                "patient": f"{number}-{i}",
            }
            rows.append(row | ({"age": "" if i % 2 else str(40 + i)} if covariates else {}))
    return manifest(folder, rows)


def classification(
    folder: Path, sites: Mapping[str, int], classes: Mapping[str, tuple[str, ...]] | None = None
) -> Path:
    """Dark or bright squares, labels in turn; `classes` says which labels a site has."""
    rows = []
    for number, (site, n) in enumerate(sites.items()):
        labels = (classes or {}).get(site, ("dark", "light"))
        for i in range(n):
            rng = np.random.default_rng([number, i])
            label = labels[i % len(labels)]
            level = {"dark": 60, "light": 140, "rare": 220}[label] + 10 * number
            name = f"s{number}-{i:02d}"
            save(folder / "images" / f"{name}.png", level + rng.normal(0, 20, (32, 32)))
            rows.append({"image": f"images/{name}.png", "label": label, "site": site, "patient": f"{number}-{i}"})
    return manifest(folder, rows)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(array, 0, 255).astype(np.uint8)).save(path)


def manifest(folder: Path, rows: list[dict[str, str]]) -> Path:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
