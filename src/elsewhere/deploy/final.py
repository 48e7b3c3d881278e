"""The final model: trained on all sites, calibrated, judged at home, and put into a folder that is whole or absent.

Everything is made in `MODEL.part`, beside the place of the model, and renamed at the very end. A training that was
killed goes on from there when the same command is given again. The folder of a finished model is never trained into:
the same question finds it finished, another question is refused; only its card is written anew, when a benchmark is
given that it did not know.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch

from elsewhere import methods
from elsewhere.deploy.calibration import MOST, Calibrated, calibrate
from elsewhere.deploy.calibration import plain as plain_values
from elsewhere.deploy.card import write_card
from elsewhere.deploy.folder import (
    DEVELOPMENT,
    FORMAT,
    ORIENTATION,
    WEIGHTS,
    check_folder,
    is_model,
    publish,
    read_config,
    recover,
    write_folder,
)
from elsewhere.deploy.home import figures_at_home, labelled
from elsewhere.deploy.model import Model, load
from elsewhere.deploy.outliers import DevelopmentStatistics
from elsewhere.deploy.predictor import Predictor
from elsewhere.deploy.question import Question, difference
from elsewhere.deploy.training_data import describe_data
from elsewhere.errors import RunError
from elsewhere.files import folder_lock, write_text
from elsewhere.study.description import describe
from elsewhere.study.seal import Development, develop_all
from elsewhere.training import Trained, load_model, train
from elsewhere.training.bfloat16 import slow_bfloat16

QUESTION = "question.json"

WORK = (QUESTION, "training", DEVELOPMENT, "model", "aside")
"""What is in the folder where the work is done, apart from hidden files."""

PACKAGES = ("elsewhere", "torch", "monai", "numpy")

Emit = Callable[[dict[str, Any]], None]
"""Takes what there is to say: `{"kind": "say", "text"}`, or `{"kind": "progress", "stage", "step", "steps", ...}`."""


@dataclass(frozen=True)
class Final:
    """What became of it.

    Attributes:
        folder: of the finished model.
        trained: it was trained now; False: it was finished before.
        card_changed: its card was written anew.
    """

    folder: Path
    trained: bool
    card_changed: bool = False


def train_final(question: Question, out: Path | str, emit: Emit = lambda message: None) -> Final:
    """Train on all sites, and write the model's folder.

    Validation patients select, calibration patients calibrate, in-domain test patients give the figures at home.

    Args:
        question: from `ask`.
        out: the model's folder; `out.part` beside it is where the work is done.
        emit: told what happens.

    Raises:
        ElsewhereError: the folder is of another model or in use, a case cannot be read, or the training failed.
    """
    out = Path(out).absolute()
    if out.exists() and not is_model(out) and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is there already and is no model; choose another folder with --out")
    work = out.with_name(f"{out.name}.part")
    _require_ours(work)
    settings = question.settings
    for line in describe(question.study):
        emit({"kind": "say", "text": line})
    development = develop_all(
        question.study,
        question.seed,
        question.cache,
        size=settings.size,
        spacing=settings.spacing,
        intensity=settings.intensity,
        patch_size=settings.patch_size,
        patients=question.patients,
    )
    with folder_lock(work, "a training"):
        recover(out, work / "aside")
        finished = False
        try:
            final = (_finished if is_model(out) else _make)(out, work, question, development, emit)
            finished = True
        finally:
            if finished or not (work / QUESTION).exists():  # else a training was begun that can go on
                shutil.rmtree(work, ignore_errors=True)
    return final


def _require_ours(work: Path) -> None:
    """Refuse a folder of somebody's own where the work would be done: in the end it is removed."""
    for path in sorted(work.iterdir()) if work.is_dir() else ():
        if path.name not in WORK and not path.name.startswith("."):
            raise RunError(
                f"{work}: is there already and holds {path.name}, which is of no training; the training needs this "
                "folder for its work, so choose another --out, or move that folder away"
            )


def _make(out: Path, work: Path, question: Question, development: Development, emit: Emit) -> Final:
    asked, begun = question.plain(development), work / QUESTION
    if begun.is_file():
        other = difference(_read_json(begun), asked)
        if other is not None:
            raise RunError(
                f"{work}: another training was begun here ({other}); choose another --out, or remove this folder"
            )
    write_text(begun, json.dumps(asked, indent=1))
    _say_question(question, development, emit)
    trained = _train(work, question, development, emit)
    # Without validation patients there is nothing to select by; the training's notes say so.
    chosen = trained.models.get(question.selection, trained.models["last"])
    place = torch.device("cuda" if question.settings.device != "cpu" and torch.cuda.is_available() else "cpu")
    deployed = load_model(chosen, place)
    predictor = Predictor(deployed, overlap=question.settings.overlap, device=place)
    calibrated = _calibrate(predictor, development, emit)
    config = _config(deployed.config, question, asked, development, trained, calibrated)
    decisions = (config[key] for key in ("temperature", "thresholds", "conformal"))
    model = Model(work, config, predictor, calibrated.statistics, *decisions)
    config["home"] = figures_at_home(model, development, _teller("judging at home", emit))
    calibrated.statistics.save(work / DEVELOPMENT)
    ready = write_folder(work / "model", chosen / WEIGHTS, config, work / DEVELOPMENT, write_card(config))
    load(ready, trust=question.trust, device="cpu")  # what nobody could load is no model
    publish(ready, out, work / "aside")
    return Final(out, trained=True)


def _finished(out: Path, work: Path, question: Question, development: Development, emit: Emit) -> Final:
    """A finished model stays; its card may learn of a benchmark."""
    check_folder(out)
    config = read_config(out)
    other = difference(config.get("question", {}), question.plain(development))
    if other is not None:
        raise RunError(
            f"{out}: holds a finished model of another question ({other}); choose another --out, or remove this folder"
        )
    if question.found is None or question.found == config.get("elsewhere"):
        return Final(out, trained=False)
    config |= {"elsewhere": question.found, "command": question.command or config["command"]}
    ready = write_folder(work / "model", out / WEIGHTS, config, out / DEVELOPMENT, write_card(config))
    publish(ready, out, work / "aside")
    return Final(out, trained=False, card_changed=True)


def _say_question(question: Question, development: Development, emit: Emit) -> None:
    settings = question.settings
    roles = {"training": "train", "validation": "validation", "calibration": "calibration", "in-domain test": "test"}
    n = {name: len({case.patient for case in development.role(role)}) for name, role in roles.items()}
    for line in (
        f"method    {question.method}",
        f"training  {settings.network}, {settings.steps} steps of {settings.batch_size} cases, seed {question.seed}",
        f"patients  {', '.join(f'{number} {name}' for name, number in n.items())}; no site is held out",
        *development.split.notes,
    ):
        emit({"kind": "say", "text": line})
    slow = slow_bfloat16(settings.precision, settings.device, development.dims)
    if slow is not None:
        emit({"kind": "say", "text": f"precision {slow}"})


def _train(work: Path, question: Question, development: Development, emit: Emit) -> Trained:
    def progress(event: Any) -> None:
        emit(
            {
                "kind": "progress",
                "stage": "training",
                "step": event.step,
                "steps": event.total,
                "loss": event.loss,
                "metric": event.score,
                "seconds_left": event.seconds_left,
            }
        )

    return train(
        development,
        question.method,
        question.settings,
        seed=question.seed,
        folder=work / "training",
        options=question.options,
        progress=progress,
    )


def _calibrate(predictor: Predictor, development: Development, emit: Emit) -> Calibrated:
    split = development.split
    passes = 2 if predictor.segments else 1
    tell, seen = _teller("calibrating", emit), 0

    def read(case_id: str) -> Any:
        nonlocal seen
        seen += 1
        tell(seen, max(seen, min(len(split.train), MOST) + passes * len(split.calibration)))
        return labelled(development, case_id)

    return calibrate(predictor, read, split.train, split.calibration)


def _config(
    base: Mapping[str, Any],
    question: Question,
    asked: Mapping[str, Any],
    development: Development,
    trained: Trained,
    calibrated: Calibrated,
) -> dict[str, Any]:
    """All that `config.yaml` says, but for the figures at home."""
    card, statistics = methods.card(question.method), calibrated.statistics
    found = {
        **base,
        "format": FORMAT,
        "study": question.study.name,
        "label_values": dict(question.study.label_values),  # `elsewhere predict` writes masks with them
        "sites": list(development.sites),
        "seed": question.seed,
        "primary": "dice" if development.task == "segmentation" else "auroc",
        "orientation": ORIENTATION if development.dims == 3 else None,
        "overlap": question.settings.overlap,
        "temperature": calibrated.temperature,
        "thresholds": calibrated.thresholds,
        "conformal": calibrated.conformal,
        "calibration": {
            "n_patients": calibrated.n_patients,
            "n_cases": calibrated.n_cases,
            # What the statistics have to say is said of the flag.
            "reason": calibrated.reason if calibrated.reason != statistics.reason else None,
            "outlier": _flag(statistics),
        },
        "method_title": card.title,
        "method_paper": card.paper,
        "settings": question.settings.model_dump(mode="json"),
        "training": {
            "steps": trained.steps,
            "best_step": trained.best_step,
            "scores": [[step, float(score)] for step, score in trained.scores],
            "notes": list(trained.notes),
        },
        "data": describe_data(development),
        "elsewhere": question.found,
        "question": asked,
        "command": question.command,
        "written": time.strftime("%Y-%m-%d"),
        "versions": {"python": python_version(), **{name: version(name) for name in PACKAGES}},
    }
    plain: dict[str, Any] = plain_values(found)
    return plain


def _flag(statistics: DevelopmentStatistics) -> str:
    if statistics.threshold is None or statistics.level_reached is None:
        return f"a score, and no flag: {statistics.reason}"
    told = f". {statistics.reason}" if statistics.reason else ""
    return (
        f"flagged above a score of {statistics.threshold:.2f}; of patients like the calibration patients, at most "
        f"{100 * statistics.level_reached:.2g} % are{told}"
    )


def _teller(stage: str, emit: Emit) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        emit({"kind": "progress", "stage": stage, "step": done, "steps": total})

    return tell


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
