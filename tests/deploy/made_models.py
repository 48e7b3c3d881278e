"""Folders of finished models that nobody trained, for the tests of what is read and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from small_models import case, deployed

from elsewhere.deploy.features import input_tolerance
from elsewhere.deploy.folder import CONFIG, DEVELOPMENT, FORMAT, SUMS, WEIGHTS, sha256, write_folder
from elsewhere.deploy.outliers import DevelopmentStatistics
from elsewhere.deploy.predictor import Predictor
from elsewhere.training.model_io import weights


def model_folder(folder: Path, name: str = "unet", dims: int = 2, **config: Any) -> Path:
    """A model of 3 classes with random weights; `config` goes into its config.yaml."""
    model = deployed(name, dims, patch=16 if name == "unet" else None)
    made = folder.with_name(f"{folder.name}-made")
    made.mkdir(parents=True)
    (made / WEIGHTS).write_bytes(weights(model.method))
    _statistics(Predictor(model), dims).save(made / DEVELOPMENT)
    plain = json.loads(json.dumps(model.config))
    plain |= {"format": FORMAT, "overlap": 0.5, "temperature": 2.0, "thresholds": {}, "conformal": {}}
    return write_folder(folder, made / WEIGHTS, plain | config, made / DEVELOPMENT, "# A card\n")


def _statistics(predictor: Predictor, dims: int) -> DevelopmentStatistics:
    found = list(predictor.features(case(i, (32, 32, 16)[:dims]) for i in range(8)))
    features, inputs = (np.stack(part) for part in zip(*found, strict=True))
    fitted = DevelopmentStatistics.fit(features[:4], inputs[:4], ["a", "b", "c", "d"], input_tolerance(1, dims))
    return fitted.calibrate(features[4:], inputs[4:], ["e", "f", "g", "h"], 0.25)


def rehash(folder: Path) -> None:
    """List what there is now, as somebody would who wants a changed folder to pass."""
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def reconfigured(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change config.yaml, and its hash."""
    config = yaml.safe_load((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    rehash(folder)
