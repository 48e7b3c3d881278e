"""`elsewhere.load("MODEL")`: a finished model, ready for files, arrays and cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from elsewhere.deploy.folder import CARD, CONFIG, DEVELOPMENT, check_folder, read_config
from elsewhere.deploy.outliers import DevelopmentStatistics
from elsewhere.deploy.predictor import Answer, Predictor
from elsewhere.deploy.slabs import most_probable, temper
from elsewhere.errors import ElsewhereError, ModelError, StudyError
from elsewhere.evidence.confidence import case_confidence
from elsewhere.evidence.conformal import LabelSets, OuterMask, sets
from elsewhere.evidence.temperature import scaled
from elsewhere.methods.own_code import OwnCode
from elsewhere.study.case import Geometry, Picture, StoredCase
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.training.model_io import Deployed, load_model


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one case.

    Attributes:
        case: its name: the file's, or "array".
        labels: segmentation: (*spatial of the file) class indices, uint8 (int16 beyond 256 classes); classification:
            the index of the class. The most probable class; thresholds are for whoever asks for them.
        label: classification: name of the class; None for a segmentation.
        probabilities: (K, *spatial) float32, or (K,) float64; the model's temperature is applied.
        confidence: in [0, 1], of the case as a whole, from these probabilities (`evidence.confidence`).
        outlier: how unlike the development data the case is; higher is less like them.
        unlike: it is above the threshold of the calibration patients; None where there is none.
        plausible: classification: names of the classes in its prediction set; None where the model has no such sets.
        stored: the case on the grid of the network; `stored.original` is the geometry of the answer.
    """

    case: str
    labels: NDArray[Any] | int
    label: str | None
    probabilities: NDArray[Any]
    confidence: float
    outlier: float
    unlike: bool | None
    plausible: tuple[str, ...] | None
    stored: StoredCase


@dataclass(frozen=True, eq=False)
class Model:
    """A finished model, loaded.

    Attributes:
        folder: where it was read.
        config: all of `config.yaml`; its card as plain values, too.
        predictor: runs it; `predictor.model` is the network, a normalised image to logits.
        statistics: of the development data.
        temperature: applied to all probabilities; None: there is none.
        thresholds: of the probabilities, chosen on calibration patients, by the name of the class or "foreground"; see
            `positive` and `mask`.
        conformal: of prediction sets, see `outer_mask`, `Prediction.plausible` and `evidence.conformal`.
    """

    folder: Path
    config: Mapping[str, Any]
    predictor: Predictor
    statistics: DevelopmentStatistics
    temperature: float | None
    thresholds: Mapping[str, float]
    conformal: Mapping[str, Any]

    def __repr__(self) -> str:
        task = self.config.get("task", "unknown task")
        return f"Model {self.config.get('method', '')} ({task}): {', '.join(self.classes[:8])}\n  in {self.folder}"

    @property
    def deployed(self) -> Deployed:
        """The network as it is exported: a normalised image (B, C, *spatial) to logits."""
        return self.predictor.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the outputs; of a segmentation the background first."""
        return self.predictor.classes

    @property
    def task(self) -> str:
        """`segmentation` or `classification`."""
        return self.deployed.task.kind

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image first; `predict` does it."""
        return self.deployed.preprocessing

    @property
    def card(self) -> str:
        """The text of `card.md`.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            return (self.folder / CARD).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.folder / CARD}: cannot be read ({error})") from error

    def predict(
        self,
        source: Path | str | ArrayLike | StoredCase,
        *,
        spacing: Sequence[float] | None = None,
        affine: ArrayLike | None = None,
    ) -> Prediction:
        """Predict one case.

        Args:
            source: a file or a folder with one DICOM series; an array (*spatial) or (C, *spatial) with intensities as
                in the files of the study; or a case on the grid of the model's preprocessing.
            spacing: of an array, mm of each axis. An array without it is taken to be on the grid that the model wants.
            affine: of a 3D array, 4x4 from its indices to RAS+ mm, instead of `spacing`. Without it the axes are taken
                to lead to the patient's right, front and top.

        Raises:
            StudyError: the file cannot be read, or is no image for this model; a path that holds several.
        """
        if isinstance(source, StoredCase):
            stored = source
        elif isinstance(source, Path | str):
            stored = self._read(Path(source))
        else:
            stored = self._given(np.asarray(source), spacing, affine)
        return next(self.predictions([stored]))

    def predictions(self, cases: Iterable[StoredCase]) -> Iterator[Prediction]:
        """Predict cases in order; they are read as they are needed, and a volume is let go with its prediction."""
        for answer in self.predictor.answers(cases):
            yield self.prediction(answer, in_place=True)

    def prediction(self, answer: Answer, *, in_place: bool = False) -> Prediction:
        """What an answer of `predictor` says, with temperature, confidence and flag.

        Args:
            answer: of one case.
            in_place: apply the temperature to the answer's own probabilities, if it is of a segmentation: of a large
                volume there is then one copy of them and not two.
        """
        segments, probabilities = self.predictor.segments, answer.probabilities
        if self.temperature is not None:
            if segments and in_place:
                temper(probabilities, self.temperature)
            else:
                probabilities = scaled(probabilities, self.temperature, axis=0)
        found = self.statistics.score(answer.features, answer.inputs)
        labels = most_probable(probabilities) if segments else int(probabilities.argmax())
        return Prediction(
            case=answer.stored.case.id,
            labels=labels,
            label=None if segments else self.classes[int(labels)],
            probabilities=probabilities,
            confidence=case_confidence(probabilities),
            outlier=found.outlier,
            unlike=found.unlike,
            plausible=None if segments else self._plausible(probabilities),
            stored=answer.stored,
        )

    def positive(self, prediction: Prediction) -> dict[str, bool]:
        """Of a classification: each class with a threshold, and whether its probability reaches it."""
        found = dict(zip(self.classes, prediction.probabilities, strict=True)) if self.task == "classification" else {}
        return {name: bool(found[name] >= at) for name, at in self.thresholds.items() if name in found}

    def mask(self, prediction: Prediction) -> NDArray[Any]:
        """Of a segmentation: labels by the threshold of P(not background) instead of the most probable class.

        Where it is reached, the most probable foreground class; `prediction.labels` where there is no threshold.
        """
        if "foreground" not in self.thresholds:
            return np.asarray(prediction.labels)
        p = prediction.probabilities
        best: NDArray[Any] = (p[1:].argmax(axis=0) + 1).astype(np.asarray(prediction.labels).dtype)
        best[1 - p[0] < self.thresholds["foreground"]] = 0
        return best

    def outer_mask(self, prediction: Prediction) -> NDArray[np.bool_] | None:
        """Of a segmentation: the mask that rarely misses much of the foreground; None where the model has no such rule.

        Its promise is for patients like the calibration patients: see the card.
        """
        fitted = outer_mask_of(self.conformal)
        return None if fitted is None else np.asarray(1 - prediction.probabilities[0] >= fitted.threshold)

    def _plausible(self, probabilities: NDArray[Any]) -> tuple[str, ...] | None:
        fitted = label_sets_of(self.conformal)
        if fitted is None:
            return None
        return tuple(name for name, inside in zip(self.classes, sets(probabilities, fitted), strict=True) if inside)

    def _read(self, path: Path) -> StoredCase:
        from elsewhere.deploy.inputs import find_inputs, read_input

        inputs = find_inputs([path], self.preprocessing, known={}, keep_ids=True).inputs
        if len(inputs) != 1:
            raise StudyError(f"{path}: holds {len(inputs)} images; wanted one (`elsewhere predict` takes several)")
        return read_input(inputs[0], self.preprocessing)

    def _given(self, array: NDArray[Any], spacing: Sequence[float] | None, affine: ArrayLike | None) -> StoredCase:
        from elsewhere.deploy.inputs import stored_case

        dims = self.preprocessing.dims
        if array.ndim == dims:
            array = array[None]
        if array.ndim != dims + 1 or array.dtype.kind not in "uifb" or array.size == 0:
            raise StudyError(
                f"the array is {array.shape} of {array.dtype}; wanted numbers, (*spatial) or (C, *spatial) in {dims}D"
            )
        steps = None if spacing is None else tuple(float(s) for s in spacing)
        matrix = None if affine is None else np.asarray(affine, np.float64)
        if matrix is not None:
            if dims != 3 or matrix.shape != (4, 4) or steps is not None:
                raise StudyError("affine: wanted a 4x4 matrix for a 3D array, and no spacing beside it")
            steps = tuple(float(s) for s in np.linalg.norm(matrix[:3, :3], axis=0))
        if steps is not None and (len(steps) != dims or not all(0 < s < np.inf for s in steps)):
            raise StudyError(f"spacing is {steps}; wanted {dims} positive numbers, in mm")
        picture = Picture(array, Geometry(array.shape[1:], steps, matrix))
        return stored_case(picture, "array", self.preprocessing)


def label_sets_of(conformal: Mapping[str, Any]) -> LabelSets | None:
    """The rule of a classification's prediction sets, from plain values."""
    if conformal.get("kind") != "label sets":
        return None
    return LabelSets(**{field.name: conformal[field.name] for field in fields(LabelSets)})


def outer_mask_of(conformal: Mapping[str, Any]) -> OuterMask | None:
    """The rule of a segmentation's outer masks, from plain values."""
    if conformal.get("kind") != "outer mask":
        return None
    return OuterMask(**{field.name: conformal[field.name] for field in fields(OuterMask)})


def load(folder: Path | str, *, trust: bool = False, device: torch.device | str | None = None) -> Model:
    """Load a finished model. Nothing of its folder is run, and nothing is used before the whole folder was checked.

    Args:
        folder: as `elsewhere train` wrote it.
        trust: run the network's own code, where the model names a network by its import path (`elsewhere.networks.
            trust`). That code is not in the folder: it is whatever is installed here under that name.
        device: where to run; None: a GPU where there is one.

    Raises:
        ModelError: a pickle or a link in the folder, a file that is missing, not listed in SHA256SUMS or not what it
            was, a format that this version does not read, a network by import path without `trust`, weights that do
            not belong to the configuration.
    """
    folder = Path(folder)
    check_folder(folder)
    config = read_config(folder)
    place = torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _require_readable(folder, config)
    try:
        OwnCode.of(config["network"], config["method"], config["options"]).allow(trust, ModelError)
        deployed = load_model(folder, place)
    except ElsewhereError as error:
        raise ModelError(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from error
    return Model(
        folder=folder,
        config=config,
        predictor=Predictor(deployed, overlap=config["overlap"], device=place),
        statistics=DevelopmentStatistics.load(folder / DEVELOPMENT),
        temperature=config["temperature"],
        thresholds=config["thresholds"],
        conformal=config["conformal"],
    )


def _require_readable(folder: Path, config: Mapping[str, Any]) -> None:
    """What would else fail at the first prediction, or with a sentence that names no key.

    Raises:
        ModelError: preprocessing or prediction sets are not as they are written.
    """
    try:
        Preprocessing.model_validate(config["preprocessing"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("preprocessing", *first["loc"])))
        raise ModelError(f"{folder / CONFIG}: key '{key}': {first['msg']}") from error
    try:
        label_sets_of(config["conformal"])
        outer_mask_of(config["conformal"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: key 'conformal' cannot be read ({error})") from error
