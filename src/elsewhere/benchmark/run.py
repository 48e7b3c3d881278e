"""One run from end to end: seal, train, freeze, open the held-out site, score, write down. The only file that opens."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from elsewhere.benchmark import examples
from elsewhere.benchmark.attempt import Emit
from elsewhere.benchmark.evaluate import Judge, Judged, Read, case_rows, labelled, prediction_row
from elsewhere.benchmark.oracle import Oracle
from elsewhere.benchmark.record import DONE, finished, read_done, write_config
from elsewhere.benchmark.spec import REFERENCE, RunSpec
from elsewhere.files import atomic, write_text
from elsewhere.methods import card
from elsewhere.study.cache import Cache
from elsewhere.study.config import CONFIG_NAME
from elsewhere.study.held_out import HeldOut
from elsewhere.study.seal import Development, seal
from elsewhere.study.study import Study, find_manifest, open_study
from elsewhere.training import Settings, Trained, load_model, train
from elsewhere.training.model_io import CONFIG, WEIGHTS

HELD_OUT, HOME = "held-out", "in-domain"

OPENINGS = "openings.jsonl"

CASE_COLUMNS = [
    "method", "held_out", "seed", "selection", "split", "case", "patient", "site", "class", "metric", "value",
]  # fmt: skip

EVENT_EVERY = 0.2
"""Seconds between two messages of a run: more would only make the display slow."""


@dataclass
class _Sheets:
    """What a run writes about its cases, gathered over rules and splits."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def execute(spec: RunSpec, folder: Path, emit: Emit) -> None:
    """Do a run in `folder`, going on from whatever is there; `done.json` is written last.

    Training resumes where it stopped; the evaluation, which is short, is made again as a whole. A finished run keeps
    its models and not its checkpoints, which are several times as large.

    Raises:
        ElsewhereError: whatever stops it, in one sentence.
    """
    if finished(folder, spec):
        return
    # Rules by which it was evaluated before stay in its tables.
    before = read_done(folder) or {}
    spec = replace(spec, selection=tuple(dict.fromkeys((*spec.selection, *before.get("selection", ())))))
    begun = time.monotonic()
    study, cache = _opened(spec.study, spec.site_column, spec.allow_outside, spec.cache)
    settings = Settings.make(dict(spec.settings))
    development, held_out = seal(
        study,
        spec.fold,
        spec.seed,
        cache,
        size=settings.size,
        spacing=settings.spacing,
        intensity=settings.intensity,
        patch_size=settings.patch_size,
    )
    write_config(folder, spec, settings, development)
    sealed = time.monotonic()
    trained = _trained_before(spec, folder, before) or _train(spec, settings, development, held_out, folder, emit)
    after_training = time.monotonic()
    sheets = _evaluate(spec, settings, development, held_out, trained, folder, emit)
    _write(folder, sheets)
    ended = time.monotonic()
    done = {
        "identity": spec.identity,
        "selection": list(spec.selection),
        "steps": trained.steps,
        "models": sorted(trained.models),
        "training_notes": list(trained.notes),
        "notes": [*development.split.notes, *trained.notes, *sheets.notes],
        "seconds": {
            "preparation": sealed - begun,
            "training": after_training - sealed,
            "evaluation": ended - after_training,
        },
    }
    write_text(folder / DONE, json.dumps(done, indent=1))
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _trained_before(spec: RunSpec, folder: Path, before: Mapping[str, Any]) -> Trained | None:
    """The training of a run that was finished, and is to be evaluated by another rule; None where there was none."""
    models = {rule: folder / "model" / rule for rule in before.get("models", ())}
    whole = all((model / name).is_file() for model in models.values() for name in (CONFIG, WEIGHTS))
    if before.get("identity") != spec.identity or not models or not whole:
        return None
    return Trained(models, before["steps"], None, (), before["training_notes"])


def _opened(path: str, site_column: str | None, allow_outside: bool, cache: str | None) -> tuple[Study, Cache]:
    """A worker opens a study once, whatever the number of its runs, and again where its tables have changed since."""
    manifest = find_manifest(Path(path))
    tables = [file.read_bytes() for file in (manifest, manifest.parent / CONFIG_NAME) if file.is_file()]
    return _open(path, site_column, allow_outside, cache, hashlib.sha256(b"\0".join(tables)).hexdigest())


@lru_cache(maxsize=2)
def _open(
    path: str, site_column: str | None, allow_outside: bool, cache: str | None, tables: str
) -> tuple[Study, Cache]:
    where = None if cache is None else Path(cache)
    study = open_study(path, site_column=site_column, allow_outside=allow_outside, cache=where)
    return study, Cache(where)


def device(settings: Settings) -> torch.device:
    """Where models are evaluated: where they are trained."""
    return torch.device("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")


def _train(
    spec: RunSpec, settings: Settings, development: Development, held_out: HeldOut, folder: Path, emit: Emit
) -> Trained:
    spoken = 0.0

    def progress(event: Any) -> None:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken < EVENT_EVERY:
            return
        spoken = now
        emit(
            {
                "kind": "progress",
                "run": spec.identity,
                "stage": "training",
                "step": event.step,
                "steps": event.total,
                "loss": event.loss,
                "metric": event.score,
                "seconds_left": event.seconds_left,
            }
        )

    log = folder / OPENINGS
    sees_target = card(spec.trained_as).unlabelled_target
    return train(
        development,
        spec.trained_as,
        settings,
        options=dict(spec.options),
        seed=spec.seed,
        folder=folder,
        oracle=Oracle(held_out, settings.overlap, device(settings), log) if spec.oracle else None,
        unlabelled=held_out.unlabelled(log) if sees_target else None,
        progress=progress,
    )


def _evaluate(
    spec: RunSpec,
    settings: Settings,
    development: Development,
    held_out: HeldOut,
    trained: Trained,
    folder: Path,
    emit: Emit,
) -> _Sheets:
    sheets = _Sheets()
    place = device(settings)
    shutil.rmtree(folder / "examples", ignore_errors=True)
    for rule in spec.selection:
        # A fold without validation patients has nothing to select by; training says so in its notes.
        deployed = load_model(trained.models.get(rule, trained.models["last"]), place)
        task = deployed.task
        judge = Judge(deployed, settings.overlap, place)
        common = {
            "method": spec.method,
            "held_out": spec.fold.name,
            "seed": spec.seed,
            "selection": rule,
            "split": HELD_OUT,
        }
        with held_out.open(deployed, reason=f"evaluation, {rule}", log=folder / OPENINGS) as reader:

            def read(case: str, reader: Any = reader) -> Any:
                return labelled(reader, case)

            truths = _judge(judge, held_out.case_ids, read, common, sheets, spec, emit, folder, task.primary)
        if rule == spec.selection[0]:
            sheets.notes += _findings(development, truths, task.classes)
        if spec.method != REFERENCE:

            def home(case: str) -> Any:
                return labelled(development, case)

            _judge(judge, development.split.test, home, {**common, "split": HOME}, sheets, spec, emit)
    return sheets


def _judge(
    judge: Judge,
    cases: Iterable[str],
    read: Read,
    common: dict[str, Any],
    sheets: _Sheets,
    spec: RunSpec,
    emit: Emit,
    pictures: Path | None = None,
    primary: str = "",
) -> dict[int, int]:
    """Score cases into the sheets; class index -> number of cases that have it."""
    cases = list(cases)
    thumbnails: list[examples.Thumbnail] = []
    present: dict[int, int] = {}
    side = examples.side_for(len(cases))
    spoken = 0.0
    for number, judged in enumerate(judge.judge(cases, read), start=1):
        sheets.cases += case_rows(judged, common)
        sheets.predictions.append(prediction_row(judged, common))
        for index in _classes_in(judged):
            present[index] = present.get(index, 0) + 1
        if pictures is not None:
            thumbnails.append(examples.thumbnail(judged, primary, judge.classes, side))
        if time.monotonic() - spoken >= EVENT_EVERY:
            spoken = time.monotonic()
            stage = f"scoring {common['split']}"
            emit({"kind": "progress", "run": spec.identity, "stage": stage, "step": number, "steps": len(cases)})
    if pictures is not None and common["selection"] == spec.selection[0]:
        examples.save(examples.choose(thumbnails), pictures / "examples", common)
    return present


def _classes_in(judged: Judged) -> list[int]:
    if isinstance(judged.truth, int):
        return [judged.truth]
    return [int(index) for index in np.flatnonzero(np.bincount(judged.truth.ravel()))]


def _findings(development: Development, present: dict[int, int], classes: tuple[str, ...]) -> list[str]:
    """Classes that the held-out site has and no development case: a finding about the sites, not an error."""
    known = {index for index, name in enumerate(classes) if name not in development.unseen_classes}
    for case in development.case_ids:
        if known >= set(present):
            break  # nothing more to find; most studies end before the first case
        label = development.load(case).label
        known |= {label} if isinstance(label, int) else set() if label is None else set(np.unique(label).tolist())
    return [
        f"class '{classes[index]}' is in {present[index]} held-out cases and in no development case: they stay in the "
        "evaluation and count as they fall"
        for index in sorted(set(present) - known)
    ]


def _write(folder: Path, sheets: _Sheets) -> None:
    with atomic(folder / "cases.csv") as temporary:
        pd.DataFrame(sheets.cases, columns=CASE_COLUMNS).to_csv(temporary, index=False)
    with atomic(folder / "predictions.parquet") as temporary:
        pd.DataFrame(sheets.predictions).to_parquet(temporary, index=False)
