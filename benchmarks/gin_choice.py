"""How GIN's defaults were chosen: a grid, judged by validation on development sites alone.

    python benchmarks/gin_choice.py ../shared/data RUNS --study retina-vessels      # resumable
    python benchmarks/gin_choice.py ../shared/data RUNS --study hippocampus
    python benchmarks/gin_choice.py ../shared/data RUNS --table                     # what is finished, in Markdown

Written down before the runs. `retina-vessels` is trained without STARE, whose images no run here reads; `hippocampus`
has one site, and all of it is development. 300 steps, 3 seeds, other settings as in docs/results.md. A run's score is
that of the model that source validation selects. Three stages, each with the choice of the stage before:

1. with `alpha` 1: `consistency` 0, 0.3, 1 and 3, and 3 and 10 with a `ramp` of 0.5 of the training (10 without a ramp
   is left out: it is known to collapse);
2. `alpha` 0.5, 0.25 and 0.1 with the chosen weight and ramp, and 0.25 with weight 0 (the random network's values are
   much larger than the image's, so at 1 half of the views correlate less than 0.4 with their image, at 0.1 less than
   0.97);
3. `ipa` with maps of 4 and 8 intervals, with the chosen weight, ramp and alpha.

The rule of choice: a setting's shortfall is how far its mean score lies below the best GIN setting of the stage, and
the setting with the smallest mean shortfall over both studies is chosen. A `consistency` of 0 is augmentation alone and
not the method, so it is shown and cannot be chosen, nor can ERM. Held-out sites have no part in any of it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elsewhere.files import write_text
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.seal import develop_all, seal
from elsewhere.study.study import open_study
from elsewhere.training import Settings, train

SEEDS = (0, 1, 2)
SHARED = {"steps": 300, "validate_every": 100, "overlap": 0.25}
STUDIES: dict[str, dict[str, Any]] = {
    "retina-vessels": {
        "patch_size": [128, 128],
        "batch_size": 8,
        "network_options": {"channels": [8, 16, 32, 64], "num_res_units": 1},
    },
    "hippocampus": {
        "patch_size": [32, 48, 32],
        "batch_size": 2,
        "network_options": {"channels": [16, 32, 64], "num_res_units": 1},
    },
}
HELD_OUT = {"retina-vessels": "STARE"}

GRID: list[dict[str, Any] | None] = [
    None,  # ERM
    {"consistency": 0.0},
    {"consistency": 0.3},
    {"consistency": 1.0},
    {"consistency": 3.0},
    {"consistency": 3.0, "ramp": 0.5},
    {"consistency": 10.0, "ramp": 0.5},
    *({"consistency": 0.3, "alpha": alpha} for alpha in (0.5, 0.25, 0.1)),
    {"consistency": 0.0, "alpha": 0.25},
    *({"consistency": 0.3, "alpha": 0.1, "ipa": True, "ipa_points": points} for points in (4, 8)),
]
"""Options of each setting, the three stages one after the other; `START` holds what a setting does not name."""

START: dict[str, Any] = {"alpha": 1.0, "ramp": 0.0, "ipa": False}


def name(options: dict[str, Any] | None) -> str:
    """Of a setting, for folders and tables."""
    if options is None:
        return "erm"
    return ", ".join(f"{key} {value:g}" for key, value in options.items())


def run(data: Path, out: Path, study: str, options: dict[str, Any] | None, seed: int) -> None:
    """One training, unless it is finished."""
    folder = out / study / name(options).replace(", ", "_").replace(" ", "-") / f"seed{seed}"
    if (folder / "found.json").exists():
        return
    settings = Settings.make({**SHARED, **STUDIES[study]})
    opened, cache = open_study(data / study), Cache(out / "cache")
    if study in HELD_OUT:
        fold = Fold((HELD_OUT[study],))
        development, _ = seal(opened, fold, seed, cache, patch_size=settings.patch_size)
    else:
        development = develop_all(opened, seed, cache, patch_size=settings.patch_size)
    began = time.monotonic()
    method, given = ("erm", None) if options is None else ("gin", {**START, **options})
    trained = train(development, method, settings, seed=seed, folder=folder, options=given)
    seconds = round(time.monotonic() - began)
    write_text(folder / "found.json", json.dumps({"scores": trained.scores, "seconds": seconds}))
    print(study, name(options), seed, f"{max(score for _, score in trained.scores):.3f}", f"{seconds} s", flush=True)


def table(out: Path) -> None:
    """Selected validation score of each setting: the seeds' mean, and the seeds."""
    best: dict[str, dict[str, list[float]]] = {}
    for options in GRID:
        for study in STUDIES:
            files = sorted((out / study / name(options).replace(", ", "_").replace(" ", "-")).glob("seed*/found.json"))
            scores = [max(score for _, score in json.loads(file.read_text())["scores"]) for file in files]
            best.setdefault(name(options), {})[study] = scores
    top = {s: max(np.mean(found[s]) for key, found in best.items() if key != "erm" and found[s]) for s in STUDIES}
    print("| setting | " + " | ".join(STUDIES) + " | mean shortfall |\n|" + "---|" * (len(STUDIES) + 2))
    for key, found in best.items():
        if all(found.values()):
            cells = [f"{np.mean(s):.3f} ({', '.join(f'{one:.3f}' for one in s)})" for s in found.values()]
            short = np.mean([top[study] - np.mean(scores) for study, scores in found.items()])
            print(f"| {key} | " + " | ".join(cells) + f" | {short:+.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--study", choices=list(STUDIES))
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for options in [] if asked.table else GRID:
        for seed in SEEDS:
            run(asked.data, asked.out, asked.study, options, seed)
    if asked.table:
        table(asked.out)
