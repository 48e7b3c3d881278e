"""Run a model on files, series and studies: masks and a table in a folder, written as cases finish.

A case that fails has its sentence in the table and the others go on. The same command, repeated, keeps what is finished
and does the rest. Memory: one volume a process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elsewhere import __version__
from elsewhere.deploy.inputs import MASKS, PROBABILITIES, Input, find_inputs, nameless, read_input
from elsewhere.deploy.labelling import Labelling
from elsewhere.deploy.outputs import (
    class_counts,
    output_path,
    volume_ml,
    write_mask,
    write_probabilities,
)
from elsewhere.deploy.prediction_table import Row, Table, columns, require_same_model, write_maker
from elsewhere.errors import ElsewhereError, ModelError, SettingsError, StudyError
from elsewhere.files import folder_lock
from elsewhere.study.workers import Workers, available_cores

if TYPE_CHECKING:
    from elsewhere.deploy.model import Model, Prediction
    from elsewhere.deploy.predictor import Answer
    from elsewhere.study.case import StoredCase

IMAGES_AT_ONCE = 32
"""2D images that a classifier takes at once, at most."""

MASK = "mask"
"""Column of the table with the path of the mask."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Predicted:
    """What a command did.

    Attributes:
        table: path of `predictions.csv`.
        finished: cases predicted now.
        kept: cases that an earlier command had finished.
        failed: (case, sentence).
        unlike: cases, of all that are finished, that are flagged as unlike the development data.
        notes: a sentence for whatever was passed over.
    """

    table: Path
    finished: int
    kept: int
    failed: tuple[tuple[str, str], ...]
    unlike: tuple[str, ...]
    notes: tuple[str, ...]


def predict_cases(
    model: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    jobs: int = 1,
    probabilities: bool = False,
    keep_ids: bool = False,
    trust: bool = False,
    device: str = "auto",
    allow_outside: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """Predict every case that some paths name, but those that are finished.

    Args:
        model: folder of a model.
        paths: see `inputs.find_inputs`.
        out: folder of masks and the table; holds the predictions of one model.
        jobs: processes; they share the cores.
        probabilities: write those of a segmentation too.
        keep_ids: paths and SeriesInstanceUIDs of DICOM cases go into the table.
        trust: run a network that is named by its import path.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        allow_outside: take paths of a manifest that leave its folder.
        progress: called with (cases done, cases to do).

    Raises:
        ElsewhereError: no model, nothing to predict, or a folder that cannot be written. What is wrong with one case
            is in the table.
    """
    from elsewhere.deploy.model import load

    model, out = Path(model).absolute(), Path(os.path.abspath(out.expanduser()))
    if model.resolve() in (out.resolve(), *out.resolve().parents):
        raise SettingsError(f"{out}: lies in the model's folder, which holds nothing else; choose another folder")
    device = _device(device)
    loaded = load(model, trust=trust, device=device)
    config, preprocessing = loaded.config, loaded.preprocessing
    with folder_lock(out, "a prediction"):
        require_same_model(out, model)
        table = Table(out, columns(config["task"], config["classes"]))
        found = find_inputs(
            paths, preprocessing, known=table.known(), out=out, keep_ids=keep_ids, allow_outside=allow_outside
        )
        segments = config["task"] == "segmentation"
        waiting: list[Input] = []
        kept: list[Input] = []
        for one in found.inputs:
            finished = is_finished(table.rows.get(one.case), one, out, probabilities and segments)
            (kept if finished else waiting).append(one)
        for one in kept:  # what may be told of it is for this command to say
            table.rows[one.case] = {**table.rows[one.case], **who(one)}
        write_maker(out, model, __version__)
        table.rewrite(())
        jobs = max(1, min(jobs, len(waiting)))
        threads = None if jobs == 1 else max(1, available_cores() // jobs)
        work = Work(model, trust, device, out, probabilities and segments, threads)
        volumes = segments or preprocessing.dims == 3
        chunk = 1 if volumes else max(1, min(IMAGES_AT_ONCE, -(-len(waiting) // jobs)))
        try:
            if jobs == 1:
                _loaded[model, device] = loaded
            del loaded  # the workers have their own
            with Workers(work, lost, jobs, chunk) as workers:
                done = 0
                for rows in workers.map(waiting):
                    for row in rows:
                        table.add(row)
                    done += len(rows)
                    if progress is not None:
                        progress(done, len(waiting))
        finally:
            _loaded.clear()
            table.rewrite(one.case for one in found.inputs)
    here = [table.rows[one.case] for one in found.inputs]
    errors = tuple((row["case"], row["error"]) for row in here if row["error"])
    return Predicted(
        table.path,
        finished=len(waiting) - len(errors),
        kept=len(kept),
        failed=errors,
        unlike=tuple(row["case"] for row in here if row["unlike"] == "true"),
        notes=found.notes,
    )


@dataclass(frozen=True)
class Work:
    """Predicts some inputs, in this process or another; gives a row of the table for each.

    Attributes:
        model, trust, device: what `load` is called with.
        out: folder of the predictions.
        probabilities: write those of a segmentation too.
        threads: of torch; None: as it is.
    """

    model: Path
    trust: bool
    device: str
    out: Path
    probabilities: bool
    threads: int | None

    def __call__(self, chunk: list[Input]) -> list[Row]:
        """Read, predict and write each; what goes wrong with one is its row."""
        model = self._model()
        rows: dict[str, Row] = {}
        read: list[tuple[Input, StoredCase]] = []
        for one in chunk:
            try:
                read.append((one, read_input(one, model.preprocessing)))
            except Exception as error:
                rows[one.case] = failed(one, error)
        try:
            answers = model.predictor.answers([stored for _, stored in read])
            for (one, _), answer in zip(read, answers, strict=True):
                rows[one.case] = self._row(one, model, answer)
        except Exception as error:
            if len(read) == 1:
                rows[read[0][0].case] = failed(read[0][0], error)
            for one, _ in read if len(read) > 1 else []:  # one of them is to blame
                rows[one.case] = rows.get(one.case) or self([one])[0]
        return [rows[one.case] for one in chunk]

    def _model(self) -> Model:
        """Loaded once a process."""
        from elsewhere.deploy.model import load

        if (self.model, self.device) not in _loaded:
            if self.threads is not None:
                import torch

                torch.set_num_threads(self.threads)
            _loaded[self.model, self.device] = load(self.model, trust=self.trust, device=self.device)
        return _loaded[self.model, self.device]

    def _row(self, one: Input, model: Model, answer: Answer) -> Row:
        """Write what was predicted, and say it."""
        found = model.prediction(answer, in_place=True)
        if not math.isfinite(found.confidence):
            raise ModelError(f"{one.case}: the model answers with numbers that are not finite (NaN or Inf)")
        scores = model.statistics.score(answer.features, answer.inputs)
        row = {
            **who(one),
            "confidence": _number(found.confidence),
            "outlier": _number(scores.outlier),
            "outlier:mahalanobis": _number(scores.mahalanobis),
            "outlier:knn": _number(scores.knn),
            "outlier:input": _number(scores.input),
            "unlike": "" if found.unlike is None else str(found.unlike).lower(),
        }
        if found.label is not None:
            each = zip(model.classes, found.probabilities, strict=True)
            plausible = {} if found.plausible is None else {"plausible": "; ".join(found.plausible)}
            chances = {f"probability:{name}": repr(float(p)) for name, p in each}
            return row | {"predicted": found.label} | chances | plausible
        return row | self._write(one, model, found)

    def _write(self, one: Input, model: Model, found: Prediction) -> dict[str, str]:
        """Write the mask of a segmentation, and its probabilities where they are asked for."""
        geometry = found.stored.original
        row = {MASK: output_path(one, geometry, MASKS)}
        if self.probabilities:
            row[PROBABILITIES] = output_path(one, geometry, PROBABILITIES)
            write_probabilities(self.out / row[PROBABILITIES], one, found.probabilities, geometry)
        labels = np.asarray(found.labels)
        write_mask(self.out / row[MASK], one, labels, geometry, Labelling.of(model.config, model.folder.name))
        counts = class_counts(labels, len(model.classes))
        for name, count in zip(model.classes[1:], counts[1:], strict=True):
            row[f"voxels:{name}"] = str(count)
            row[f"volume_ml:{name}"] = _number(volume_ml(count, geometry))
        return row


_loaded: dict[tuple[Path, str], Model] = {}
"""Models of this process."""


def who(one: Input) -> dict[str, str]:
    """Which input a row is about."""
    return {"input": one.shown, "case": one.case, "series": one.series_uid, "fingerprint": one.fingerprint}


def failed(one: Input, error: Exception) -> Row:
    """The row of a case that could not be predicted."""
    return {**who(one), "error": _sentence(one, error)}


def lost(one: Input) -> Row:
    """The row of a case whose process died."""
    return {**who(one), "error": f"{one.case}: its process was killed (often: out of memory; then try fewer --jobs)"}


def is_finished(row: Row | None, one: Input, out: Path, probabilities: bool) -> bool:
    """Tell whether a row, and the files that it names, are of this very input."""
    if row is None or row["error"] or row["fingerprint"] != one.fingerprint:
        return False
    files = [row[name] for name in (MASK, PROBABILITIES) if row.get(name)]
    wanted = probabilities and MASK in row and not row[PROBABILITIES]
    return not wanted and all((out / name).is_file() for name in files)


def _sentence(one: Input, error: Exception) -> str:
    if isinstance(error, StudyError):
        return nameless(one, str(error))
    if isinstance(error, ElsewhereError):
        return str(error)
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
        return f"{one.case}: too large for the memory of this machine"
    said = "" if one.private else f": {' '.join(str(error).split())[:200]}"  # it may quote a header
    return f"{one.case}: unexpected {type(error).__name__}{said} (a bug of ours)"


def _number(value: float | None) -> str:
    """Empty where it is not known."""
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _device(name: str) -> str:
    """A device that is here.

    Raises:
        SettingsError: it is not.
    """
    import torch

    gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if gpu else "cpu"
    if name not in ("cpu", "cuda"):
        raise SettingsError(f"device '{name}' is unknown; wanted auto, cpu or cuda")
    if name == "cuda" and not gpu:
        raise SettingsError("device 'cuda': there is no GPU that torch can use; wanted cpu or auto")
    return name
