"""A MONAI bundle is run on files, and its probabilities compared with the model's."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elsewhere.deploy.bundle_inference import n_files, overlap
from elsewhere.deploy.inputs import stored_case
from elsewhere.deploy.predictor import Predictor
from elsewhere.deploy.runtimes import first_line
from elsewhere.errors import RunError
from elsewhere.evidence.temperature import scaled
from elsewhere.study.reading import read_image
from elsewhere.training.model_io import Deployed

FILE_TOLERANCE = 1e-3
"""Largest difference of a probability, from the file to the answer (our choice)."""


def parsed(folder: Path, changes: dict[str, Any]) -> Any:
    """MONAI's parser of a bundle's configs, on the CPU, with some entries changed."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser.read_config(str(folder / "configs" / "inference.json"))
        parser.read_meta(str(folder / "configs" / "metadata.json"))
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')", **changes})
    return parser


def compare_files(model: Deployed, folder: Path, temperature: float | None) -> None:
    """Two images written as files, one of them to be resampled: the bundle's probabilities must be ours.

    Raises:
        RunError: it does not run, or differs by more than `FILE_TOLERANCE`.
    """
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = _write_trials(model, Path(place))
        try:
            parser = parsed(folder, {"dataset_dir": place})
            bundle = parser.get_parsed_content("answer")
            with torch.no_grad():
                found = [np.asarray(bundle(item)["pred"]) for item in parser.get_parsed_content("dataset")]
        except Exception as error:  # MONAI wraps whatever was raised
            raise RunError(f"the bundle does not run on a file ({first_line(error.__cause__ or error)})") from error
        stored = [
            stored_case(read_image(paths), name, model.preprocessing, len(paths)) for name, paths in cases.items()
        ]
        place_of_model = next((p.device for p in model.parameters()), torch.device("cpu"))
        ours = Predictor(model, overlap(model), place_of_model)
        wanted = [_scaled(answer.probabilities, temperature) for answer in ours.answers(stored)]
    for one, other in zip(found, wanted, strict=True):
        difference = float(np.abs(one - other).max()) if one.shape == other.shape else float("nan")
        if not difference <= FILE_TOLERANCE:
            raise RunError(
                f"the bundle's probabilities for a file of {list(other.shape[1:])} differ from the model's by "
                f"{difference:.2g}; wanted at most {FILE_TOLERANCE:g}"
            )


def _scaled(probabilities: NDArray[Any], temperature: float | None) -> NDArray[Any]:
    return probabilities if temperature is None else scaled(probabilities, temperature, axis=0)


def _write_trials(model: Deployed, place: Path) -> dict[str, dict[str, Path]]:
    """Files of two cases, larger than a patch, turned as a scanner may turn them; case -> channel -> file."""
    rules = model.preprocessing
    n = n_files(rules.channels)
    size = rules.size or tuple(p + p // 3 + axis for axis, p in enumerate(model.patch_size or (48,) * rules.dims))
    coarser = np.array([1.0, 1.2, 0.8][: rules.dims])  # of the second case
    generator = np.random.default_rng(0)
    cases: dict[str, dict[str, Path]] = {}
    for number in range(2):
        paths: dict[str, Path] = {}
        for channel in range(n):
            centre, spread = _level(model, channel)
            colours = (len(rules.channels),) if n == 1 and len(rules.channels) > 1 else ()
            grid = tuple(round(n / c) for n, c in zip(size, coarser, strict=True)) if number and rules.size else size
            values = centre + spread * generator.standard_normal((*grid, *colours))
            path = place / f"case{number}_{channel:04d}{'.nii.gz' if rules.dims == 3 else '.png'}"
            spacing = np.array(rules.spacing or (1.0,) * rules.dims)
            _write_image(path, values, spacing * coarser if number else spacing)
            paths[str(channel)] = path
        cases[f"case{number}"] = paths
    return cases


def _level(model: Deployed, channel: int) -> tuple[float, float]:
    """A mean and a spread that the rule of intensities does not flatten."""
    rules = model.preprocessing
    if rules.mean is not None and rules.std is not None:
        return rules.mean[channel], rules.std[channel]
    return 120.0, 40.0


def _write_image(path: Path, values: NDArray[np.float64], spacing: NDArray[np.float64]) -> None:
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).save(path)
        return
    import nibabel

    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([*spacing, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS")
    )
    nibabel.save(image.as_reoriented(turn), path)
