"""The settings of a pretraining: flat keys, and a recipe of each size for 2D and 3D."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from elsewhere.errors import SettingsError


class PretrainSettings(BaseModel):
    """What a pretraining is, whole: with the seed and the label maps it decides every weight.

    Attributes:
        steps: optimiser steps.
        batch_size: anatomies of a step; the network sees two images of each.
        size: voxels a side of an image.
        shift: voxels that the windows of the two views lie apart along each axis, at most.
        akin: share of the anatomies whose tissues look the same in both views, so that only the scanners differ.
        features, width, downs, norm, pooling, upsampling: of `FeatureUNet`.
        points: voxels sampled of each anatomy for the loss.
        temperature: of the two contrasts.
        structure: weight of the supervised contrast between structures (same label = positive).
        place: weight of the contrast between places (the same voxel in the other view = positive).
        near: voxels between two that the contrasts compare, at most, along each axis; 0: any of an anatomy are. From
            half of `size` on that is hardly another thing.
        alike: weight of the squared difference of each feature channel between the views.
        projection: numbers that the projection head of the structure term gives for a voxel; the head is not kept.
        given: share of the anatomies that come from label maps, where there are any.
        learning_rate: of AdamW, at its highest; cosine to 0 after a linear warm-up.
        weight_decay: decoupled.
        warmup: share of the steps in which the learning rate rises.
        clip: largest norm of the gradient; 0: none.
        precision: "32-true" or "bf16-mixed".
        compile: run the network through `torch.compile`.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        validate_every, checkpoint_every, log_every: steps.
        validation: anatomies on which the retrieval is measured.
    """

    LATER: ClassVar[Mapping[str, Any]] = {}
    """Neutral values of keys that were added after the first pretrainings (`elsewhere.identity`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(1500, ge=1)
    batch_size: int = Field(2, ge=1)
    size: int = Field(32, ge=8)
    shift: int = Field(12, ge=0)
    akin: float = Field(0.5, ge=0, le=1)
    features: int = Field(16, ge=1)
    width: int = Field(16, ge=1)
    downs: int = Field(3, ge=1)
    norm: Literal["batch", "instance"] = "instance"
    pooling: Literal["max", "avg"] = "max"
    upsampling: Literal["nearest", "linear"] = "nearest"
    points: int = Field(512, ge=2)
    temperature: float = Field(0.2, gt=0, allow_inf_nan=False)
    structure: float = Field(1.0, ge=0, allow_inf_nan=False)
    place: float = Field(1.0, ge=0, allow_inf_nan=False)
    near: int = Field(12, ge=0)
    alike: float = Field(3.0, ge=0, allow_inf_nan=False)
    projection: int = Field(32, ge=1)
    given: float = Field(0.5, ge=0, le=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False)
    warmup: float = Field(0.05, ge=0, lt=1)
    clip: float = Field(1.0, ge=0)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    validate_every: int = Field(250, ge=1)
    checkpoint_every: int = Field(50, ge=1)
    log_every: int = Field(10, ge=1)
    validation: int = Field(8, ge=1)

    @classmethod
    def make(cls, values: Mapping[str, Any]) -> PretrainSettings:
        """Settings from plain values.

        Raises:
            SettingsError: an unknown key (with those that look like it), a value of the wrong type or range, or an
                image that the network cannot halve so often.
        """
        for key in values:
            if key not in cls.model_fields:
                close = difflib.get_close_matches(key, list(cls.model_fields), n=3)
                like = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(cls.model_fields)}"
                raise SettingsError(f"unknown setting {key!r}; {like}")
        try:
            made = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            wanted = str(first["msg"]).removeprefix("Input ").replace("should be", "it should be", 1)
            raise SettingsError(f"setting {first['loc'][0]}: found {first['input']!r}; {wanted}") from error
        multiple = 2**made.downs
        if made.size % multiple or made.size < 2 * multiple:
            raise SettingsError(
                f"setting size: found {made.size}; with downs={made.downs} it should be a multiple of {multiple}, "
                f"{2 * multiple} or more"
            )
        if made.shift >= made.size // 2:
            raise SettingsError(
                f"setting shift: found {made.shift}; it should be below {made.size // 2}, half of size={made.size}, so "
                "that both views show something"
            )
        if made.structure == made.place == 0:
            raise SettingsError("settings structure and place: both are 0; one of them should be above it")
        return made


RECIPES: Mapping[tuple[str, int], Mapping[str, Any]] = {
    ("cpu", 3): {},
    ("cpu", 2): {"steps": 3000, "batch_size": 4, "size": 96, "shift": 32, "downs": 4, "near": 32},
    ("gpu", 3): {
        "steps": 60000, "batch_size": 8, "size": 96, "shift": 32, "width": 24, "points": 1024, "near": 32,
        "precision": "bf16-mixed", "compile": True, "device": "cuda",
        "validate_every": 2000, "checkpoint_every": 500, "validation": 32,
    },
    ("gpu", 2): {
        "steps": 60000, "batch_size": 64, "size": 192, "shift": 64, "width": 32, "points": 1024, "near": 64,
        "precision": "bf16-mixed", "compile": True, "device": "cuda",
        "validate_every": 2000, "checkpoint_every": 500, "validation": 64,
    },
}  # fmt: skip
"""By name and dimensions: what differs from the defaults. "cpu": within an hour on 2 cores. "gpu" was run on none."""


def parse(recipe: str, dims: int, pairs: Iterable[str], steps: int | None = None) -> PretrainSettings:
    """The settings of a recipe, changed by `key=value` strings whose values are YAML.

    Args:
        recipe, dims: key of `RECIPES`.
        pairs: such as `width=8`.
        steps: likewise; None: the recipe's.

    Raises:
        SettingsError: no such recipe, not `key=value`, or see `PretrainSettings.make`.
    """
    if (recipe, dims) not in RECIPES:
        names = ", ".join(dict.fromkeys(name for name, _ in RECIPES))
        raise SettingsError(f"there is no recipe {recipe!r} for {dims}D; there are {names}, for 2D and 3D")
    values = dict(RECIPES[recipe, dims])
    if steps is not None:
        values["steps"] = steps
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{pair!r} is not a setting; write key=value, for example width=8")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"{pair!r}: the value cannot be read; write it as YAML, for example 8") from error
    return PretrainSettings.make(values)
