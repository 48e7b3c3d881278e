"""A development in memory: bright blobs on noise, from sites that differ in gain; no files, no cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elsewhere.study.case import Case, Geometry, Split, StoredCase
from elsewhere.study.preprocessing import Preprocessing


@dataclass
class FakeDevelopment:
    """What `train` uses of a `Development`; case ids are `SITE-NUMBER`, the last `n_validation` of a site validate."""

    task: str = "segmentation"
    dims: int = 2
    n: int = 6
    size: int = 32
    sites: tuple[str, ...] = ("A", "B")
    n_validation: int = 2
    patch_size: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ("background", "blob")
    fingerprint: Any = None
    stored: dict[str, StoredCase] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site_index = {site: i for i, site in enumerate(self.sites)}
        patch = (16,) * self.dims if self.task == "segmentation" and self.patch_size is None else self.patch_size
        self.preprocessing = Preprocessing(
            dims=self.dims, channels=("image",), intensity="image-zscore", patch_size=patch
        )
        roles: dict[str, list[str]] = {"train": [], "validation": []}
        for s, site in enumerate(self.sites):
            for i in range(self.n):
                stored = self._make(f"{site}-{i}", site, 1.0 + s, i)
                self.stored[stored.case.id] = stored
                roles["validation" if i >= self.n - self.n_validation else "train"].append(stored.case.id)
        self.split = Split(tuple(roles["train"]), tuple(roles["validation"]), (), ())
        self.sha256 = hashlib.sha256(repr(self.split).encode()).hexdigest()

    def _make(self, name: str, site: str, gain: float, number: int) -> StoredCase:
        rng = np.random.default_rng([len(site), ord(site[0]), number])
        shape = (self.size,) * self.dims
        image = rng.normal(size=(1, *shape)).astype(np.float32)
        label = np.zeros(shape, np.uint8)
        if self.task == "segmentation" or number % 2:
            corner = rng.integers(0, self.size // 2, self.dims)
            where = tuple(slice(c, c + self.size // 3) for c in corner)
            label[where] = 1
            image[(0, *where)] += 3
        image *= gain
        return StoredCase(
            case=Case(
                id=name,
                images={"image": Path(name)},
                label=None,
                site=site,
                patient=name,
                maps={"fov": Path("fov")} if number % 2 else {},
                covariates={"age": str(number)},
            ),
            image=image,
            label=label if self.task == "segmentation" else number % 2,
            maps={"fov": (label * 0.5).astype(np.float32)} if number % 2 else {},
            geometry=Geometry(shape, (1.0,) * self.dims),
            original=Geometry(shape, (1.0,) * self.dims),
            mean=(float(image.mean()),),
            std=(float(image.std()),),
        )

    def case(self, case_id: str) -> Case:
        return self.stored[case_id].case

    def load(self, case_id: str) -> StoredCase:
        self.loads.append(case_id)
        return self.stored[case_id]


SMALL: dict[str, Any] = {
    "network": "unet",
    "network_options": {"channels": [4, 8]},
    "steps": 12,
    "batch_size": 4,
    "validate_every": 4,
    "checkpoint_every": 3,
    "log_every": 2,
    "learning_rate": 0.01,
    "device": "cpu",
}
