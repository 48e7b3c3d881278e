"""A model for other programs: ONNX, TorchScript, or a MONAI bundle; run beside the original before it is kept.

What is exported is the network, with its weights: a normalised image (B, C, *spatial) to logits (B, K, *spatial) or
(B, K). How an image is normalised, the classes, the task and the temperature travel inside the file as one JSON text
(`describe`): in ONNX's `metadata_props` under "elsewhere", in TorchScript's extra file "elsewhere.json", in a bundle's
`configs/metadata.json` under "elsewhere". Nothing is left at the target where a step fails or the answers differ.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elsewhere import __version__
from elsewhere.deploy.bundle import write_bundle
from elsewhere.deploy.bundle_inference import overlap
from elsewhere.deploy.export_check import Shapes
from elsewhere.deploy.export_formats import write_onnx, write_torchscript
from elsewhere.deploy.folder import ORIENTATION, check_kept, is_model
from elsewhere.deploy.model import load
from elsewhere.errors import RunError, SettingsError
from elsewhere.files import atomic, beside, write_error
from elsewhere.training.model_io import Deployed, load_model

FORMATS: Mapping[str, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "torchscript": (".ts", ".pt"),
    "monai-bundle": (),
}
"""What can be exported to, and how its file must end."""

_CARRIED = (
    "method", "network", "selection", "step", "score", "n_sites", "sites", "spacing", "label_values",
    "temperature", "thresholds", "conformal",
)  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees.

    Attributes:
        path: the file, or the bundle's folder.
        inputs: the shapes on which both were run.
        difference: the largest difference of a logit, as a share of the largest logit (at least of 1).
    """

    path: Path
    inputs: Shapes
    difference: float


def export_model(model: Deployed, to: str, out: Path | str, *, name: str = "model") -> Exported:
    """Write a model for another program, after running both on several inputs and comparing.

    Args:
        model: on the CPU or a GPU; left as it is.
        to: a key of `FORMATS`.
        out: the file; for a bundle a folder that is not there yet, or empty.
        name: of a bundle.

    Raises:
        SettingsError: no such format, or `out` does not end as the format's files do.
        RunError: a package is missing, the network cannot be exported, the exported one answers differently, or `out`
            cannot be written. Then nothing is at `out` that was not there before.
    """
    out = Path(out)
    if to not in FORMATS:
        raise SettingsError(f"--to {to}: unknown format; wanted one of {', '.join(FORMATS)}")
    if FORMATS[to] and out.suffix.lower() not in FORMATS[to]:
        raise SettingsError(f"--out {out}: the name of a {to} file ends in {' or '.join(FORMATS[to])}")
    described = describe(model)
    if to == "monai-bundle":
        with _new_folder(out) as folder:
            difference, shapes = write_bundle(model, folder, described, name)
        return Exported(out, shapes, difference)
    if out.is_dir():
        raise RunError(f"{out}: is a folder; wanted the name of a file")
    write = write_onnx if to == "onnx" else write_torchscript
    with atomic(out) as temporary:
        difference, shapes = write(model, temporary, described)
    return Exported(out, shapes, difference)


def open_model(folder: Path | str, *, trust: bool = False) -> Deployed:
    """The network of a model's folder: as `elsewhere train` writes it, or as a benchmark's run keeps it.

    Raises:
        ElsewhereError: it is none, or damaged; see `elsewhere.load`.
    """
    if is_model(Path(folder)):
        return load(folder, trust=trust, device="cpu").deployed
    check_kept(Path(folder))
    return load_model(folder)


def describe(model: Deployed) -> dict[str, Any]:
    """All that somebody needs to run the exported network: preprocessing, classes, task, temperature."""
    config = model.config
    space = ", *spatial" if model.task.kind == "segmentation" else ""
    found = {
        "format": 1,
        "made_by": f"elsewhere {__version__}",
        "task": model.task.kind,
        "dims": model.task.dims,
        "classes": list(model.task.classes),
        "input": f"image (B, {len(model.preprocessing.channels)}, *spatial) float32, normalised as in 'preprocessing'",
        "output": f"logits (B, {len(model.task.classes)}{space}); softmax(logits / temperature) over axis 1",
        "preprocessing": model.preprocessing.model_dump(mode="json"),
        "orientation": ORIENTATION if model.task.dims == 3 else None,
        "multiple_of": list(model.multiple_of),
        "overlap": overlap(model),
        **{key: config[key] for key in _CARRIED if config.get(key) is not None},
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out`; on success it becomes `out`, on any error nothing is left.

    Raises:
        RunError: `out` is there and not empty, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is there already; wanted a folder that is new or empty")
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(out)
        temporary.mkdir()
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        raise write_error(out, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
