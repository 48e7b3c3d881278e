"""What somebody says of a model whose file says nothing: how images are preprocessed, and what its outputs are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from elsewhere.deploy.foreign_network import OUTPUTS
from elsewhere.errors import SettingsError
from elsewhere.study.preprocessing import Preprocessing, per_axis

SETTINGS = ("intensity", "mean", "std", "clip", "size", "spacing", "patch_size", "multiple_of", "output")

NEEDED: Mapping[str, tuple[str, ...]] = {
    "image-zscore": (),
    "study-zscore": ("mean", "std"),
    "ct": ("mean", "std", "clip"),
    "none": (),
}
"""Rule of intensities -> what it needs, in the units of the files."""


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` strings; values are read as YAML.

    Raises:
        SettingsError: not KEY=VALUE, an unknown key, or a value that is no YAML.
    """
    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {pair!r}: wanted KEY=VALUE, for example patch_size=[128,128]")
        if key.strip() not in SETTINGS:
            raise SettingsError(f"--set {key.strip()}: unknown; of a model's file there are: {', '.join(SETTINGS)}")
        try:
            found[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {pair!r}: the value cannot be read; write it as YAML: [0.5, 0.5]") from error
    return found


def output_of(given: Mapping[str, Any]) -> str:
    """What the network gives, one of `OUTPUTS`."""
    output = str(given.get("output", OUTPUTS[0]))
    if output not in OUTPUTS:
        raise SettingsError(f"--set output={output}: wanted one of {', '.join(OUTPUTS)}")
    return output


def multiple_of(given: Mapping[str, Any], dims: int) -> tuple[int, ...]:
    """What whole images are padded to a multiple of; 1 where nothing is said."""
    found = per_axis("multiple_of", given.get("multiple_of"), dims)
    return (1,) * dims if found is None else tuple(int(n) for n in found)


def preprocessing_of(
    name: str, given: Mapping[str, Any], dims: int, channels: Sequence[str], fixed: Sequence[int] | None = None
) -> Preprocessing:
    """What is done to an image before a network that says nothing of it.

    Args:
        name: of the file, for messages.
        given: some of `SETTINGS`.
        dims: 2 or 3.
        channels: names of the channels of the study's images.
        fixed: the only size that the network takes, where it has one.

    Raises:
        SettingsError: a setting is missing, or its value makes no sense.
    """
    rule = given.get("intensity", "study-zscore" if {"mean", "std"} <= set(given) else None)
    if rule not in NEEDED:
        found = "" if rule is None else f"; found intensity={rule}"
        raise SettingsError(
            f"{name} does not say how its images are normalised: add --set intensity=image-zscore, "
            "intensity=study-zscore with mean=... and std=... (in the units of the files), intensity=ct with clip=... "
            f"too, or intensity=none{found}"
        )
    for key in NEEDED[rule]:
        if key not in given:
            raise SettingsError(f"--set intensity={rule}: add {key}=..., in the units of the files")
    size, spacing, patch = (per_axis(key, given.get(key), dims) for key in ("size", "spacing", "patch_size"))
    if size is not None and spacing is not None:
        raise SettingsError("--set size and spacing are both given; keep one of them")
    if fixed is not None and size is None and patch is None:
        numbers = list(fixed)
        raise SettingsError(
            f"{name} takes images of {'x'.join(map(str, fixed))} only: add --set size={numbers} to resize them, or "
            f"patch_size={numbers} for sliding windows"
        )
    return Preprocessing(
        dims=dims,
        channels=tuple(channels),
        size=None if size is None else tuple(int(n) for n in size),
        spacing=None if spacing is None else tuple(float(s) for s in spacing),
        intensity=rule,
        mean=_per_channel("mean", given, channels) if NEEDED[rule] else None,
        std=_per_channel("std", given, channels) if NEEDED[rule] else None,
        clip=_clip(given["clip"], channels) if "clip" in NEEDED[rule] else None,
        patch_size=None if patch is None else tuple(int(n) for n in patch),
    )


def _per_channel(key: str, given: Mapping[str, Any], channels: Sequence[str]) -> tuple[float, ...]:
    value = given[key]
    numbers = value if isinstance(value, list) else [value] * len(channels)
    good = len(numbers) == len(channels) and all(_is_number(n) for n in numbers)
    if not good or (key == "std" and min(numbers) <= 0):
        above = " above 0" if key == "std" else ""
        raise SettingsError(f"--set {key}={value}: wanted a number{above}, or one for each of {len(channels)} channels")
    return tuple(float(n) for n in numbers)


def _clip(value: Any, channels: Sequence[str]) -> tuple[tuple[float, float], ...]:
    several = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    pairs = value if several else [value] * len(channels)
    if len(pairs) != len(channels) or not all(_is_range(pair) for pair in pairs):
        raise SettingsError(
            f"--set clip={value}: wanted [low, high], or such a pair for each of {len(channels)} channels"
        )
    return tuple((float(low), float(high)) for low, high in pairs)


def _is_range(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(_is_number(n) for n in pair) and pair[0] < pair[1]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
