"""Augmentation speed beside MONAI's dictionary transforms: flip, affine, gamma, noise, blur of 256 px RGB and a mask.

Both sides start from the same uint8 arrays in memory, do the same operations with the same probabilities and ranges in
two worker processes of a `DataLoader`, and end with batches of float images and their masks. They take turns; the
figure is the median over pairs of elsewhere's images per second over MONAI's, with a bootstrapped 95 % interval.

    python benchmarks/augmentation.py --pairs 25 --out augmentation.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import monai
import numpy as np
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset as MonaiDataset
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
)
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from elsewhere.acquisition import Gamma, GaussianBlur, GaussianNoise, Scanner
from elsewhere.acquisition.geometry import Spatial

DEGREES, SCALE, GAMMA, NOISE, SIGMA = 15.0, (0.85, 1.2), (0.7, 1.5), 0.1, (0.25, 1.5)


def pictures(n: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Smooth RGB images (n, 3, size, size) and masks (n, size, size) of two classes."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((n, 3, 12, 12), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    image = (smooth * 255).to(torch.uint8)
    return image.numpy(), (image[:, 0] > 128).to(torch.uint8).numpy()


class OurBatches(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches, augmented at once; its index is a list of image numbers."""

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.uint8], probability: float) -> None:
        self.images, self.masks = torch.from_numpy(images), torch.from_numpy(masks)
        self.spatial = Spatial(
            flip_axes=(0, 1),
            flip_probability=probability,
            affine_probability=probability,
            rotation=(-DEGREES, DEGREES),
            scale=SCALE,
            fill="zeros",
        )
        self.scanner = Scanner(
            [
                (Gamma(GAMMA), probability),
                (GaussianNoise((0.0, NOISE)), probability),
                (GaussianBlur(SIGMA), probability),
            ]
        )

    def __getitem__(self, index: list[int]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        chosen = torch.tensor(index)
        image, mask = self.images.index_select(0, chosen).float(), self.masks.index_select(0, chosen)
        moved = self.spatial.apply(image, self.spatial.draw(image.shape, generator), mask)
        assert moved.target is not None
        return self.scanner(moved.image, generator, overwrite=True), moved.target.float()


def ours(
    images: NDArray[np.uint8], masks: NDArray[np.uint8], probability: float, batch: int, workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Elsewhere's side."""
    sampler = BatchSampler(SequentialSampler(range(len(images))), batch, drop_last=True)
    return DataLoader(
        OurBatches(images, masks, probability),
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def monais(
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    probability: float,
    batch: int,
    workers: int,
    metadata: bool = False,
) -> MonaiLoader:
    """MONAI's side; without its metadata, which is its default, it is faster."""
    both = ["image", "mask"]
    radians = np.deg2rad(DEGREES)
    transform = Compose(
        [
            EnsureTyped(both, dtype=torch.float32, track_meta=metadata),
            RandFlipd(both, prob=probability, spatial_axis=0),
            RandFlipd(both, prob=probability, spatial_axis=1),
            RandAffined(
                both,
                prob=probability,
                rotate_range=radians,
                scale_range=(SCALE[0] - 1, SCALE[1] - 1),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            RandAdjustContrastd("image", prob=probability, gamma=GAMMA),
            RandGaussianNoised("image", prob=probability, std=NOISE * 255),
            RandGaussianSmoothd("image", prob=probability, sigma_x=SIGMA, sigma_y=SIGMA),
        ]
    )
    data = [{"image": image, "mask": mask[None]} for image, mask in zip(images, masks, strict=True)]
    return MonaiLoader(
        MonaiDataset(data, transform),
        batch_size=batch,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )


def rate(loader: Iterable[Any], n: int) -> float:
    """Images per second over one epoch."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return n / (time.perf_counter() - start)


def median_interval(ratios: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Median and its bootstrapped 95 % interval."""
    values = np.asarray(ratios)
    picks = np.random.default_rng(seed).integers(len(values), size=(10_000, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--probability", type=float, default=0.5, help="of every operation")
    parser.add_argument("--metadata", action="store_true", help="let MONAI track metadata, as it does by default")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, masks = pictures(given.images, given.size, seed=0)
    common = (images, masks, given.probability, given.batch, given.workers)
    loaders: list[Iterable[Any]] = [ours(*common), monais(*common, metadata=given.metadata)]
    n = given.images // given.batch * given.batch
    for loader in loaders:  # start the workers, warm up
        rate(loader, n)
    pairs = []
    for turn in range(given.pairs):
        order = (0, 1) if turn % 2 == 0 else (1, 0)  # neither side is always the first
        rates = dict((side, rate(loaders[side], n)) for side in order)
        pairs.append((rates[0], rates[1]))
        print(f"pair {turn + 1}/{given.pairs}: elsewhere {rates[0]:.0f}/s, MONAI {rates[1]:.0f}/s", flush=True)
    ratio, low, high = median_interval([a / b for a, b in pairs])
    medians = [float(np.median([p[side] for p in pairs])) for side in (0, 1)]
    print(f"images per second (median): elsewhere {medians[0]:.0f}, MONAI {medians[1]:.0f}")
    print(f"ratio {ratio:.2f} (95 % interval of the median {low:.2f} to {high:.2f}, n = {len(pairs)} pairs)")
    if given.out:
        report = {
            "settings": {k: v for k, v in vars(given).items() if k != "out"},
            "pairs": pairs,
            "images_per_second": {"elsewhere": medians[0], "monai": medians[1]},
            "ratio": {"median": ratio, "lo": low, "hi": high},
            "versions": {"torch": torch.__version__, "monai": monai.__version__, "python": platform.python_version()},
            "cores": os.cpu_count(),
        }
        given.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
