"""A model that is to be judged: a folder of ours, or a TorchScript or ONNX file; and what it has seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from elsewhere.benchmark.evaluate import Judge
from elsewhere.benchmark.external_exam import PRIMARY, Exam, RunModel
from elsewhere.benchmark.scoring import Extras
from elsewhere.deploy.folder import check_kept, is_model
from elsewhere.deploy.foreign import open_foreign, require_same_question
from elsewhere.deploy.foreign_settings import parse_settings
from elsewhere.deploy.model import load
from elsewhere.deploy.runtimes import first_line
from elsewhere.errors import ModelError, SettingsError, StudyError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case
from elsewhere.study.decode import Schema
from elsewhere.study.study import Study
from elsewhere.training.model_io import load_model

OVERLAP = 0.5
"""Of the sliding window, where a model does not say its own (as in training)."""

NEW = "the model was not trained at a site of this name"


@dataclass(frozen=True)
class Seen:
    """What is known of a model's training.

    Attributes:
        sites: at which it was trained; None: not known.
        cases: that trained, validated or calibrated it, by id; None: not known.
        told_by: where that is written.
    """

    sites: tuple[str, ...] | None = None
    cases: frozenset[str] | None = None
    told_by: str = ""


def exam_of_model(
    path: Path, study: Study, cases: Sequence[Case], changes: Sequence[str], cache: Cache, extras: Extras, trust: bool
) -> Exam:
    """A model and the cases that it is to answer for.

    Args:
        path: a folder as `elsewhere train` writes it or a run keeps it (`model/source-val`), a TorchScript file or an
            ONNX file.
        study: what it is judged on.
        cases: of the study, with labels.
        changes: "KEY=VALUE" for a file that does not say how images are preprocessed.
        cache: of decoded cases.
        extras: where failures of extras are kept.
        trust: run a TorchScript program, or a network by import path.

    Raises:
        ModelError: it cannot be opened, or is for another question.
        SettingsError: a setting is missing, unknown or out of place.
    """
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if path.is_dir():
        if changes:
            raise SettingsError(f"--set {changes[0]}: the model's config.yaml says how images are preprocessed")
        runs, config = _of_folder(path, place, extras, trust)
        task = runs.judged_by.model.task
        require_same_question(path, task.kind, task.dims, task.classes, _task_of(study))
    else:
        foreign = open_foreign(
            path,
            kind=study.task,
            dims=study.dims,
            classes=study.classes,
            channels=_channels(study, cases, cache),
            settings=parse_settings(changes),
            trust=trust,
        ).to(place)
        config = foreign.config
        overlap = float(config.get("overlap", OVERLAP))
        runs = RunModel(Judge(foreign, overlap, place, extras=extras), config.get("temperature"))
    seen = seen_by(path, config)
    rules = runs.judged_by.model.preprocessing
    return Exam(
        runs,
        tuple(cases),
        (len(rules.channels), rules.size, rules.spacing),
        PRIMARY[study.task],
        (*_notes(path, seen, study, cases), *_calibrated(runs.temperature)),
        {
            "source": "model",
            "name": _name(path, config),
            "path": str(path),
            "probabilities": True,
            "temperature": runs.temperature,
            "seen_sites": None if seen.sites is None else list(seen.sites),
        },
        seen=_by_site(seen, study, cases),
        tunable=runs if path.is_dir() else None,
    )


def seen_by(path: Path, config: Mapping[str, Any]) -> Seen:
    """What a model's files tell of its training.

    A run of a benchmark lists the cases; the folder of a final model lists its sites, and nobody in particular.

    Raises:
        ModelError: the run's config cannot be read.
    """
    path = path.resolve()  # it may be named from within the run
    run = path.parent.parent / "config.yaml"
    if path.is_dir() and path.parent.name == "model" and run.is_file():
        try:
            found = yaml.safe_load(run.read_text(encoding="utf-8"))
            split = found["split"]
            cases = frozenset(case for role in ("train", "validation", "calibration") for case in split[role])
            return Seen(tuple(found["development_sites"]), cases, "the run's config.yaml")
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ModelError(f"{run}: cannot be read ({first_line(error)})") from error
    sites = config.get("sites")
    if isinstance(sites, list) and sites:
        return Seen(tuple(str(site) for site in sites), None, "its description")
    return Seen()


def _of_folder(path: Path, place: torch.device, extras: Extras, trust: bool) -> tuple[RunModel, Mapping[str, Any]]:
    if not is_model(path):
        check_kept(path)
        deployed = load_model(path, place)
        overlap = float(deployed.config.get("overlap", OVERLAP))
        return RunModel(Judge(deployed, overlap, place, extras=extras)), deployed.config
    model = load(path, trust=trust, device=place)
    judge = Judge(model.deployed, model.predictor.overlap, place, extras=extras, statistics=model.statistics)
    return RunModel(judge, model.temperature), model.config


def _name(path: Path, config: Mapping[str, Any]) -> str:
    """Of a run's model, whose folder is called after the rule that chose it, the method."""
    path = path.resolve()
    of_a_run = path.is_dir() and path.parent.name == "model" and "method" in config
    return str(config["method"]) if of_a_run else path.stem


def _calibrated(temperature: float | None) -> list[str]:
    return [] if temperature is None else [f"the model's temperature, {temperature:.3g}, is applied, as it is in use"]


def _task_of(study: Study) -> Any:
    from elsewhere import tasks

    return tasks.create(study.task, study.dims, study.classes)


def _channels(study: Study, cases: Sequence[Case], cache: Cache) -> tuple[str, ...]:
    """Names for the channels of the study's images: a colour photograph is one file and three channels."""
    schema = Schema.of(study)
    most = max(len(cache.decoded(case, schema).image) for case in _first_of_each_site(cases))
    if most == len(study.channels):
        return study.channels
    return ("red", "green", "blue") if most == 3 else tuple(f"channel:{i}" for i in range(most))


def _first_of_each_site(cases: Sequence[Case]) -> list[Case]:
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.site, case)
    if not first:
        raise StudyError("there is no case to evaluate")
    return list(first.values())


def _by_site(seen: Seen, study: Study, cases: Sequence[Case]) -> dict[str, str]:
    """Site -> a few words for the table; sites of which nothing is known are absent."""
    found = {}
    for site in study.sites:
        own = [case.id for case in cases if case.site == site]
        if not own or seen.sites is None:
            continue
        trained = None if seen.cases is None else sum(case in seen.cases for case in own)
        if trained:
            found[site] = f"{trained} of its {len(own)} cases trained, selected or calibrated the model"
        elif site in seen.sites and trained is None:
            found[site] = "the model was trained at this site: its patients may be among those it learnt from"
        elif site in seen.sites:
            found[site] = "the model was trained at this site, on none of these cases by their ids"
        else:
            found[site] = NEW
    return found


def _notes(path: Path, seen: Seen, study: Study, cases: Sequence[Case]) -> list[str]:
    if seen.sites is None:
        return [
            f"{path.name} does not say what it was trained on: whether these sites, or these patients, are new to it "
            "is not known here"
        ]
    notes = [f"site {site}: {words}" for site, words in _by_site(seen, study, cases).items() if words != NEW]
    cases_too = "" if seen.cases is None else ", on none of these cases by their ids"
    return notes or [
        f"the model was trained at {', '.join(seen.sites)} ({seen.told_by}), at none of these sites by that "
        f"name{cases_too}; whether a patient was seen under another id is not known here"
    ]
