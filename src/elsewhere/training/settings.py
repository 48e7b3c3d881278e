"""The settings of a training: flat keys, one recipe for all methods, defaults that make ERM no straw man."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from elsewhere.errors import SettingsError

_NUMBERS = "a whole number above 0, or one for each axis, such as [256, 256]"
WANTED = {
    "size": _NUMBERS,
    "patch_size": _NUMBERS,
    "spacing": "mm, a number above 0, or one for each axis, such as [1.0, 1.0, 3.0]",
    "flip_axes": "a list of axes, such as [0, 1]",
    "loggers": "a list of tensorboard, mlflow, wandb",
}
"""In words, where pydantic would name the branches of a union."""

LOGGERS = ("tensorboard", "mlflow", "wandb")


class Settings(BaseModel):
    """What is the same for every method of a comparison. None means: chosen from task and dimension by `resolved`.

    Attributes:
        network: name in the registry; None: `unet` for segmentation, `densenet121` for classification.
        network_options: of the network.
        steps: optimiser steps; whether more would pay, `elsewhere benchmark STUDY --steps N,2N` tells (a curve that is
            flat at its end does not: the cosine flattens every curve there).
        batch_size: cases of a step, over all processes and accumulated parts.
        accumulate: the batch of a step is computed in this many parts, to save memory; the batch stays what it is.
        learning_rate: at its highest; cosine to 0 after a linear warm-up.
        optimizer: "adamw" or "sgd" (Nesterov).
        momentum: of SGD.
        weight_decay: decoupled for AdamW, L2 for SGD.
        warmup: share of the steps in which the learning rate rises.
        sampler: "balanced": every site as often as any other; "pooled": every case as often as any other.
        clip: largest norm of the gradient; 0: none.
        precision: "32-true", "bf16-mixed", or "16-mixed" (GPU only).
        channels_last: weights lie with their channels last while they train; whether that is faster depends on network
            and machine (`benchmarks/channels_last.py`).
        validate_every: steps between validations; None: 20 validations in a training.
        patience: stop after this many validations without a better score; 0: never.
        augmentation: "default" (`training/recipe.py`) or "none".
        flip_axes: spatial axes that may be flipped; None: see `recipe.default_flip_axes`.
        size: images are resized to this (2D and 3D), see `Preprocessing`.
        spacing: images are resampled to this, in mm.
        intensity: the rule of normalisation; None: the study's.
        patch_size: patches of this size are cut; None: chosen from the images.
        overlap: of the sliding window.
        foreground: share of the patches that are centred on a foreground voxel.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        devices: processes, one a device; more than one trains with DDP.
        checkpoint_every: steps between checkpoints.
        log_every: steps whose mean is one point of the log.
        loggers: besides `log.csv`: "tensorboard", "mlflow", "wandb".
    """

    LATER: ClassVar[Mapping[str, Any]] = {}
    """Neutral values of keys that were added after the first runs (`elsewhere.identity`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str | None = None
    network_options: dict[str, Any] = Field(default_factory=dict)
    steps: int = Field(4000, ge=1)
    batch_size: int | None = Field(None, ge=1)
    accumulate: int = Field(1, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-2, ge=0, allow_inf_nan=False)
    warmup: float = Field(0.05, ge=0, lt=1)
    sampler: Literal["balanced", "pooled"] = "balanced"
    clip: float = Field(1.0, ge=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    validate_every: int | None = Field(None, ge=1)
    patience: int = Field(0, ge=0)
    augmentation: Literal["default", "none"] = "default"
    flip_axes: list[int] | None = None
    size: PositiveInt | list[PositiveInt] | None = None
    spacing: PositiveFloat | list[PositiveFloat] | None = None
    intensity: Literal["auto", "image-zscore", "study-zscore", "ct", "none"] | None = None
    patch_size: PositiveInt | list[PositiveInt] | None = None
    overlap: float = Field(0.5, ge=0, lt=1)
    foreground: float = Field(0.33, ge=0, le=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1)
    checkpoint_every: int = Field(250, ge=1)
    log_every: int = Field(10, ge=1)
    loggers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(default_factory=list)

    @classmethod
    def make(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from plain values.

        Raises:
            SettingsError: an unknown key (with those that look like it), or a value of the wrong type or range.
        """
        for key in values:
            if key not in cls.model_fields:
                raise SettingsError(f"unknown setting {key!r}{_alike(key, cls.model_fields)}")
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            if key in WANTED and len(first["loc"]) > 1:
                raise SettingsError(f"setting {key}: found {values[key]!r}; wanted {WANTED[key]}") from error
            where = ".".join(str(part) for part in first["loc"])
            wanted = str(first["msg"]).removeprefix("Input ").replace("should be", "it should be", 1)
            raise SettingsError(f"setting {where}: found {first['input']!r}; {wanted}") from error

    @classmethod
    def parse(
        cls,
        pairs: Iterable[str],
        base: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[Settings, dict[str, dict[str, Any]]]:
        """Settings from `key=value` strings; values are read as YAML.

        Args:
            pairs: `steps=2000`, `patch_size=[256,256]`, `network_options.channels=[16,32]`; `METHOD.key=value` is an
                option of a method.
            base: values that the pairs override.
            labels: the method of each label under which options may be given too: `LABEL.key=value`.

        Returns:
            The settings, and the options of each method and label that has any.

        Raises:
            SettingsError: not `key=value`, an unknown key or method, or a value of the wrong type.
        """
        values: dict[str, Any] = dict(base or {})
        options: dict[str, dict[str, Any]] = {}
        for pair in pairs:
            key, equals, text = pair.partition("=")
            key = key.strip()
            if not equals or not key:
                raise SettingsError(f"{pair!r} is not a setting; write key=value, for example steps=2000")
            value = _read(pair, text)
            owner, dot, rest = key.partition(".")
            if not dot:
                values[key] = value
            elif owner == "network_options":
                values[owner] = {**values.get(owner, {}), rest: value}
            else:
                options.setdefault(owner, {})[rest] = _method_option(owner, (labels or {}).get(owner), rest, value)
        return cls.make(values), options

    def resolved(self, kind: str, dims: int) -> Settings:
        """These settings with every None that task and dimension decide filled in."""
        small = max(2 if dims == 3 else (8 if kind == "segmentation" else 16), self.accumulate * self.devices)
        changes = {
            "network": self.network or ("unet" if kind == "segmentation" else "densenet121"),
            "batch_size": self.batch_size or -(-small // self.devices) * self.devices,  # each process has as many
            "validate_every": self.validate_every or max(1, self.steps // 20),
        }
        return self.model_copy(update=changes)


def _read(pair: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{pair!r}: the value cannot be read; write it as YAML, for example [256, 256]") from error


def _alike(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are: {', '.join(names)}" if names else "; there are none"


def _method_option(owner: str, trained_as: str | None, key: str, value: Any) -> Any:
    """An option of a method by its name, or by a label that is trained as another."""
    from elsewhere.methods import card, names  # late: the registry brings torch

    method = trained_as or owner
    if method not in names():
        raise SettingsError(f"{owner}.{key}: unknown method {method!r}{_alike(method, names())}")
    return check_option(owner, key, value, card(method).defaults)


def check_option(method: str, key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """A method's option, as the type of its default.

    Args:
        method: its name, or the label under which it is run: what errors name.
        key, value: of the option.
        defaults: of the method.

    Raises:
        SettingsError: the method has no such option, or the value is of another type.
    """
    if key not in defaults:
        raise SettingsError(f"unknown option {method}.{key}{_alike(key, defaults)}")
    default = defaults[key]
    wanted = "a number, or null" if default is None else type(default).__name__
    try:
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise ValueError
        elif isinstance(default, int | float):
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
            if isinstance(default, int) and not number.is_integer():
                raise ValueError
            value = int(number) if isinstance(default, int) else number
        elif default is None:  # what it is then, the method says
            if isinstance(value, bool):
                raise ValueError
            value = None if value is None else float(value)
        elif not isinstance(value, list | tuple if isinstance(default, list | tuple) else type(default)):
            raise ValueError
    except (TypeError, ValueError):
        raise SettingsError(
            f"option {method}.{key}: found {value!r}, wanted {wanted} (its default is {default!r})"
        ) from None
    return value
