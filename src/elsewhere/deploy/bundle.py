"""A MONAI bundle: the network as TorchScript, and configs that read images, run it and write answers with MONAI alone.

```
BUNDLE/
  configs/metadata.json    what MONAI asks of a bundle; under "elsewhere" all that `export.describe` says
  configs/inference.json   preprocessing, sliding window, postprocessing
  models/model.ts          TorchScript
  docs/README.md
```

What an image is brought to, and how answers go back, is the same as here, which `write_bundle` checks from file to
probabilities. No evaluator of ignite is used: plain expressions run the cases.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from elsewhere import __version__
from elsewhere.deploy.bundle_check import compare_files
from elsewhere.deploy.bundle_inference import inference, is_volume, n_files
from elsewhere.deploy.card_text import several as several_of
from elsewhere.deploy.card_text import text
from elsewhere.deploy.export_check import Shapes
from elsewhere.deploy.export_formats import write_torchscript
from elsewhere.errors import RunError
from elsewhere.files import write_text
from elsewhere.training.model_io import Deployed

_LANGUAGE = re.compile(r"[$@%]|.*[@%](::|#)|_[a-z]+_$", re.DOTALL)
"""Texts of a config that MONAI runs, looks up or replaces, also those of `metadata.json`."""

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""Named in every bundle's metadata; nothing here loads it."""


def write_bundle(model: Deployed, folder: Path, described: Mapping[str, Any], name: str) -> tuple[float, Shapes]:
    """Write a bundle into an empty folder; the network and the whole way from a file are compared with the model.

    Args:
        model: what is exported.
        folder: empty.
        described: see `export.describe`.
        name: of the bundle.

    Returns:
        the largest difference of the network's logits, and the shapes of the inputs.

    Raises:
        RunError: the model cannot be a bundle, or the bundle answers differently.
    """
    if model.task.kind == "segmentation" and model.patch_size is None:
        raise RunError(
            "the model segments whole images of any size, which MONAI's sliding window cannot; export to torchscript"
        )
    for word in _words({**described, "name": name}):
        if _LANGUAGE.match(word):
            raise RunError(
                f"{word[:60]!r} cannot stand in a MONAI bundle, whose configs are code: MONAI runs or looks up such a "
                "text; rename it, or export to torchscript or onnx"
            )
    path = folder / "models" / "model.ts"
    path.parent.mkdir(parents=True)
    difference, shapes = write_torchscript(model, path, described)
    write_text(folder / "configs" / "metadata.json", json.dumps(metadata(model, described, name), indent=2))
    write_text(folder / "configs" / "inference.json", json.dumps(inference(model, described), indent=2))
    write_text(folder / "docs" / "README.md", readme(model, name))
    compare_files(model, folder, described.get("temperature"))
    return difference, shapes


def _words(value: Any) -> Iterator[str]:
    """All texts of plain values, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (word for key, part in value.items() for word in (str(key), *_words(part)))
    elif isinstance(value, list | tuple):
        yield from (word for part in value for word in _words(part))


# ---- what is written


def metadata(model: Deployed, described: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`configs/metadata.json`, as MONAI's bundle specification asks for it."""
    patches = model.patch_size is not None and model.task.kind == "segmentation"
    patch = list((model.patch_size if patches else model.preprocessing.size) or ())
    shared = {"type": "image", "dtype": "float32", "value_range": [], "is_patch_data": patches}
    channels = {str(i): channel for i, channel in enumerate(model.preprocessing.channels)}
    classes = {str(i): label for i, label in enumerate(model.task.classes)}
    image = {**shared, "format": "magnitude", "num_channels": len(channels), "spatial_shape": patch}
    answer = {**shared, "format": model.task.kind, "num_channels": len(classes), "spatial_shape": patch}
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by elsewhere {__version__}"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": importlib.metadata.version("torch").partition("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {
            package: importlib.metadata.version(package) for package in ("nibabel" if is_volume(model) else "pillow",)
        },
        "name": name,
        "task": f"{model.task.dims}D {model.task.kind} of {', '.join(model.task.classes)}",
        "description": f"A model trained by elsewhere ({described.get('method', 'unknown method')}).",
        "authors": "",
        "copyright": "",
        "intended_use": "research; not a medical device",
        "network_data_format": {
            "inputs": {"image": {**image, "channel_def": channels}},
            "outputs": {"pred": {**answer, "channel_def": classes}},
        },
        "elsewhere": described,
    }


def readme(model: Deployed, name: str) -> str:
    """`docs/README.md`."""
    kind = "NIfTI volumes (.nii, .nii.gz)" if is_volume(model) else "photographs (.png, .jpg, .bmp)"
    n = n_files(model.preprocessing.channels)
    channels = ", ".join(f"CASE_{i:04d} {text(channel)}" for i, channel in enumerate(model.preprocessing.channels))
    several = f" Each case is {n} files: {channels}." if n > 1 else ""
    masks = ", a mask a case" if model.task.kind == "segmentation" else ", `predictions.csv`: a probability a class"
    return f"""# {text(name)}

{model.task.dims}D {model.task.kind} of {several_of(model.task.classes)}; exported by elsewhere {__version__}.
Research use; not a medical device.

Put {kind} into `input/` and run, in this folder:

    python -m monai.bundle run --config_file configs/inference.json --dataset_dir input --output_dir output

Answers are in `output/`{masks}.{several} `configs/metadata.json` says under "elsewhere" how images are preprocessed.
"""
