"""Small untrained models of each kind, in the folder that a run keeps and as `Deployed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elsewhere import tasks
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.training.model_io import Deployed, build, describe, load_model, save_model, weights

KINDS: dict[str, dict[str, Any]] = {
    "2D segmentation": {
        "network": "unet",
        "options": {"channels": [4, 8], "num_res_units": 1},
        "task": ("segmentation", 2, ("background", "vessel")),
        "rules": {"channels": ("red", "green", "blue"), "patch_size": (16, 16), "intensity": "study-zscore",
                  "mean": (120.0, 90.0, 60.0), "std": (40.0, 30.0, 20.0)},
    },
    "3D segmentation": {
        "network": "unet",
        "options": {"channels": [4, 8], "num_res_units": 0},
        "task": ("segmentation", 3, ("background", "tumour", "oedema")),
        "rules": {"channels": ("t1", "flair"), "patch_size": (16, 16, 8), "intensity": "image-zscore",
                  "spacing": (1.0, 1.0, 2.0)},
    },
    "CT by DynUNet": {
        "network": "dynunet",
        "options": {"filters": 4, "depth": 3},
        "task": ("segmentation", 3, ("background", "liver")),
        "rules": {"channels": ("image",), "patch_size": (16, 16, 16), "intensity": "ct", "mean": (50.0,),
                  "std": (80.0,), "clip": ((-200.0, 300.0),)},
    },
    "2D classification": {
        "network": "resnet18",
        "options": {"width": 4},
        "task": ("classification", 2, ("normal", "abnormal")),
        "rules": {"channels": ("image",), "size": (64, 48), "intensity": "image-zscore"},
    },
    "3D classification": {
        "network": "densenet121",
        "options": {"init_features": 8, "growth_rate": 4, "block_config": [2, 2]},
        "task": ("classification", 3, ("A", "B", "C")),
        "rules": {"channels": ("image",), "size": (32, 32, 32), "intensity": "none"},
    },
}  # fmt: skip


def config(kind: str, **more: Any) -> dict[str, Any]:
    what = KINDS[kind]
    name, dims, classes = what["task"]
    rules = Preprocessing(dims=dims, **what["rules"])
    task = tasks.create(name, dims, classes)
    return {**describe("erm", {}, what["network"], what["options"], task, 2, rules, rules.spacing), **more}


def saved(folder: Path, kind: str, **more: Any) -> Path:
    described = config(kind, **more)
    return save_model(folder, weights(build(described, seed=3)), described, "last")


def model(folder: Path, kind: str, **more: Any) -> Deployed:
    return load_model(saved(folder, kind, **more))
