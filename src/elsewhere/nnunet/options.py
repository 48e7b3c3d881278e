"""What a DropGen trainer is asked for, and the record of it that travels with the model in nnU-Net's plans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from elsewhere import __version__
from elsewhere.errors import ModelError, SettingsError
from elsewhere.methods.dropgen import DropGen
from elsewhere.networks.stable import Extractor

KEY = "elsewhere"
"""Of the record, in the plans."""

PREFIX = "ELSEWHERE_"
"""Of the environment variables: ELSEWHERE_EXTRACTOR, ELSEWHERE_P, ..."""

_NUMBER, _NUMBER_OR_NONE, _TEXT = (
    ((int, float), "a number"),
    ((int, float, type(None)), "a number or null"),
    (str, "text"),
)
_KINDS: Mapping[str, tuple[Any, str]] = {
    "extractor": _TEXT,
    "extractor_options": (dict, "names and values"),
    "weights": _TEXT,
    "p": _NUMBER,
    "p_image": _NUMBER_OR_NONE,
    "image": (bool, "true or false"),
    "norm": _TEXT,
    "scale": _NUMBER,
}

DEFAULTS: Mapping[str, Any] = {name: DropGen.card.defaults[name] for name in _KINDS}
"""Those of the method `dropgen`, of the same names."""


def chosen(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The options of one training: the environment's before the class's before the defaults.

    Args:
        given: of the trainer's class.
        environment: its variables ELSEWHERE_EXTRACTOR, ELSEWHERE_P and so on are looked at; an empty one is none.

    Raises:
        SettingsError: an option that is none, or a value of another kind.
    """
    for name in given:
        if name not in _KINDS:
            raise SettingsError(f"trainer's dropgen: unknown option {name!r}; there are: {', '.join(_KINDS)}")
    options = dict(DEFAULTS)
    for name, (kind, words) in _KINDS.items():
        text, where = environment.get(PREFIX + name.upper(), ""), f"trainer's dropgen: {name}"
        if name in given:
            options[name] = given[name]
        if text:
            where = PREFIX + name.upper()
            options[name] = text if kind is str else _read(text)
        value = options[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SettingsError(f"{where} must be {words}, found {value!r}")
    if options["extractor"] == "none":
        raise SettingsError("extractor none: without features there is no DropGen; use nnUNetTrainer")
    if not options["image"] and options["p_image"] is not None:
        raise SettingsError(
            f"p_image={options['p_image']} is how often the image is dropped, but image=false leaves none"
        )
    return options


def record(options: Mapping[str, Any], extractor: Extractor) -> dict[str, Any]:
    """What the plans say of a model, enough to build it again without any file: its weights are in the checkpoint.

    Args:
        options: see `chosen`.
        extractor: the one that they ask for, with its weights.
    """
    return {
        "version": __version__,
        **{name: value for name, value in options.items() if name != "weights"},
        "extractor_options": dict(extractor.layout),
        "weights_sha256": extractor.weights_hash,
    }


def record_of(plans: Mapping[str, Any]) -> dict[str, Any]:
    """The record in a model's plans.

    Raises:
        ModelError: there is none.
    """
    if KEY not in plans:
        raise ModelError(
            f"plans {plans.get('plans_name', '')}: no key {KEY!r}; nnUNetTrainerDropGen writes it into the plans.json "
            "of the models that it trains, and needs it to build their networks"
        )
    return dict(plans[KEY])


def check_alike(folder: Path, mine: Mapping[str, Any]) -> None:
    """Refuse to train into a folder whose models were trained with other options: one plans.json speaks for all folds.

    Args:
        folder: of the folds of one trainer, plans and configuration; may not be there yet.
        mine: the record of this training.

    Raises:
        SettingsError: names the first option that differs.
    """
    path = folder / "plans.json"
    if not path.is_file() or not any(folder.glob("fold_*/checkpoint_*.pth")):
        return
    theirs = json.loads(path.read_text(encoding="utf-8")).get(KEY, {})
    for name, value in json.loads(json.dumps(mine)).items():
        if name != "version" and theirs.get(name) != value:
            raise SettingsError(
                f"{path}: its folds were trained with {name}={theirs.get(name)!r}, asked for is {value!r}; the folds "
                "of a model share their options: ask for the same, remove the folder, or train under another name (a "
                "subclass of the trainer)"
            )


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
