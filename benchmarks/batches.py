"""What making batches adds to a training step, from the second epoch on: retina vessels, default recipe and network.

A step on a fresh batch beside the same step on one fixed batch, in turns. Target: under 1.05 x.

    python benchmarks/batches.py ../shared/data/retina-vessels --pairs 40 --out batches.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.seal import seal
from elsewhere.study.study import open_study
from elsewhere.training.makers import Makers
from elsewhere.training.settings import Settings
from pairs import compare
from training_step import Fixed, build, make_loop, step_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--held-out", default="DRIVE")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keep decoded cases here; by default they go with the benchmark")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(steps=100_000, patch_size=[256, 256]).resolved("segmentation", 2)
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder) / "cache"
        study = open_study(options.study, cache=cache)
        development, _ = seal(study, Fold((options.held_out,)), 0, Cache(cache), patch_size=settings.patch_size)
        fabric = Fabric(accelerator="cpu", devices=1)
        batches = Makers(fabric, development, settings, 0, (16, 16)).training("train")
        epoch = -(-max(map(len, batches.sampler.sites)) * len(batches.sampler.sites) // batches.sampler.batch_size)
        for step in range(epoch):  # the first epoch opens every case
            batches.batch(step)
        alone = []
        for step in range(epoch, epoch + 20):
            start = time.process_time()
            batches.batch(step)
            alone.append(time.process_time() - start)
        method = build(2)
        fresh = make_loop(method, batches, settings, Path(folder) / "fresh")
        fresh.state.step = epoch
        fixed = make_loop(method, Fixed(batches.batch(epoch)), settings, Path(folder) / "fixed")
        found = compare(step_of(fresh), step_of(fixed), options.pairs, warm_up=2)
    text = json.dumps(
        {
            "study": study.name,
            "patch": list(development.preprocessing.patch_size or ()),
            "batch": batches.sampler.batch_size,
            "cases": batches.sampler.n,
            "making_a_batch_seconds": round(float(np.median(alone)), 4),
            **found,
            "target": 1.05,
        },
        indent=1,
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
