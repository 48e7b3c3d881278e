"""One run from end to end: seal, train, freeze, open the held-out site, score, write down. The only file that opens."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from elsewhere.benchmark.assess import (
    Sheets,
    Tell,
    calibrate_judge,
    draw_examples,
    fitted,
    judge_cases,
    new_classes,
    write_sheets,
)
from elsewhere.benchmark.attempt import Emit
from elsewhere.benchmark.evaluate import Judge, labelled
from elsewhere.benchmark.oracle import Oracle
from elsewhere.benchmark.record import (
    DONE,
    NO_TABLES,
    hashes,
    read_done,
    require_split,
    trained,
    up_to_date,
    versions,
    write_config,
)
from elsewhere.benchmark.sheets import EVALUATION, HELD_OUT, HOME
from elsewhere.benchmark.spec import ORACLE, REFERENCE, RunSpec
from elsewhere.files import write_text
from elsewhere.methods import card
from elsewhere.study.cache import Cache
from elsewhere.study.config import CONFIG_NAME
from elsewhere.study.held_out import HeldOut
from elsewhere.study.seal import Development, seal
from elsewhere.study.study import Study, find_manifest, open_study
from elsewhere.training import Settings, Trained, load_model, train

OPENINGS = "openings.jsonl"

EVENT_EVERY = 0.2
"""Seconds between two messages of a run: more would only make the display slow."""

WITHIN_SITE = "a reference is trained within its site, and nothing is calibrated for it"


def execute(spec: RunSpec, folder: Path, emit: Emit) -> None:
    """Do a run in `folder`, going on from whatever is there; `done.json` is written last.

    Training resumes where it stopped; the evaluation, which is short, is made again as a whole. A finished run keeps
    its models and not its checkpoints, which are several times as large. One that was evaluated by other rules, or by
    an older version, is evaluated again from its models and not trained.

    Raises:
        ElsewhereError: whatever stops it, in one sentence.
    """
    if up_to_date(folder, spec):
        return
    # Rules by which it was evaluated before stay in its tables.
    before = read_done(folder) or {}
    spec = replace(spec, selection=tuple(dict.fromkeys((*spec.selection, *before.get("selection", ())))))
    begun = time.monotonic()
    settings, development, held_out = sealed(spec)
    model = _trained_before(spec, folder, before)
    if model is None:
        write_config(folder, spec, settings, development)
    else:
        require_split(folder, development)
    prepared = time.monotonic()
    found = model or _train(spec, settings, development, held_out, folder, emit)
    after_training = time.monotonic()
    sheets = _evaluate(spec, settings, development, held_out, found, folder, emit)
    training = after_training - prepared if model is None else before.get("seconds", {}).get("training", 0.0)
    seconds = {
        "preparation": prepared - begun,
        "training": training,
        "evaluation": time.monotonic() - after_training,
    }
    notes = [*development.split.notes, *found.notes, *sheets.notes, *sheets.extras.notes]
    done = _done(spec.identity, spec.selection, found, notes, seconds)
    if before:  # while its tables are replaced they are nobody's; its models are known all the time
        write_text(folder / DONE, json.dumps(done, indent=1))
    write_sheets(folder, sheets)
    whole = {**done, "evaluation": EVALUATION, "files": hashes(folder)}
    write_text(folder / DONE, json.dumps(whole, indent=1))
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def train_only(spec: RunSpec, folder: Path, emit: Emit) -> None:
    """Do the training of a run in `folder`, the very one of `execute`, and leave the held-out site closed.

    `done.json` says that there are no tables: `execute` then evaluates the models and trains nothing.

    Raises:
        ElsewhereError: whatever stops it, in one sentence.
    """
    if (read_done(folder) or {}).get("identity") == spec.identity:
        return
    begun = time.monotonic()
    settings, development, held_out = sealed(spec)
    write_config(folder, spec, settings, development)
    prepared = time.monotonic()
    found = _train(spec, settings, development, held_out, folder, emit)
    seconds = {"preparation": prepared - begun, "training": time.monotonic() - prepared}
    notes = [*development.split.notes, *found.notes]
    write_text(folder / DONE, json.dumps(_done(spec.identity, (), found, notes, seconds), indent=1))
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _done(
    identity: str, rules: Sequence[str], found: Trained, notes: Sequence[str], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """`done.json` of a training whose tables are not written yet; `rules` are those that they will be of."""
    return {
        "identity": identity,
        "evaluation": NO_TABLES,
        "selection": list(rules),
        "steps": found.steps,
        "models": sorted(found.models),
        "training_notes": list(found.notes),
        "notes": list(notes),
        "versions": versions(),
        "seconds": dict(seconds),
    }


def sealed(spec: RunSpec) -> tuple[Settings, Development, HeldOut]:
    """The settings of a run, what its training sees, and the door to what it does not."""
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
        patients=spec.patients,
    )
    return settings, development, held_out


def _trained_before(spec: RunSpec, folder: Path, before: Mapping[str, Any]) -> Trained | None:
    """The training of a run that was finished and is to be evaluated again; None where there was none."""
    if not trained(folder, spec):
        return None
    models = {rule: folder / "model" / rule for rule in before["models"]}
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
) -> Sheets:
    sheets = Sheets()
    tell = teller(spec, emit)
    shutil.rmtree(folder / "examples", ignore_errors=True)
    for rule in spec.selection:
        # A fold without validation patients has nothing to select by; training says so in its notes.
        chosen = trained.models[rule] if rule == ORACLE else trained.models.get(rule, trained.models["last"])
        deployed = load_model(chosen, device(settings))
        judge = Judge(deployed, settings.overlap, device(settings), extras=sheets.extras)
        common = {"method": spec.method, "held_out": spec.fold.name, "seed": spec.seed, "selection": rule}
        if spec.method == REFERENCE:
            sheets.calibration[rule] = fitted(None, WITHIN_SITE)
        else:
            judge = calibrate_judge(judge, development, common, sheets, tell)
        with held_out.open(deployed, reason=f"evaluation, {rule}", log=folder / OPENINGS) as reader:

            def read(case: str, reader: Any = reader) -> Any:
                return labelled(reader, case)

            away = {**common, "split": HELD_OUT}
            scores, truths = judge_cases(judge, held_out.case_ids, read, away, sheets, tell)
            draw_examples(judge, scores, read, away, folder)
            if rule == spec.selection[0]:
                sheets.notes += new_classes(development, truths, deployed.task.classes)
        if spec.method != REFERENCE:

            def home(case: str) -> Any:
                return labelled(development, case)

            judge_cases(judge, development.split.test, home, {**common, "split": HOME}, sheets, tell)
    return sheets


def teller(spec: RunSpec, emit: Emit) -> Tell:
    """Says how far a run is, now and then."""
    spoken = 0.0

    def tell(stage: str, step: int, steps: int) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= EVENT_EVERY:
            spoken = time.monotonic()
            emit({"kind": "progress", "run": spec.identity, "stage": stage, "step": step, "steps": steps})

    return tell
