"""What is done to an image before a network sees it, decided from the training cases of a fold's development.

`take_fingerprint` looks at them, `decide` makes a `Preprocessing` of the fingerprint, the study's configuration and
what the caller overrides. `Preprocessing` travels with the run and the model, and is applied to any case alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from elsewhere.errors import SettingsError, StudyError
from elsewhere.study.case import Geometry, StoredCase
from elsewhere.study.config import StudyConfig
from elsewhere.study.entry import Entry
from elsewhere.study.grey import fits_as_grey
from elsewhere.study.resample import MOST_VOXELS, target_geometry

Rule = Literal["image-zscore", "study-zscore", "ct", "none"]
MOST_CASES = 4000
"""Training cases that a fingerprint looks at; of more, evenly chosen ones (our choice)."""
_MOST_VOXELS = 4096
_AIR_HU = -500.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Intensities(_Frozen):
    """One channel over the sampled voxels of all training cases, each case counting alike."""

    mean: float
    std: float
    low: float
    median: float
    high: float
    """`low` and `high` are the percentiles 0.5 and 99.5."""


class Fingerprint(_Frozen):
    """What the training cases of a development look like; held-out cases never enter it.

    Attributes:
        n_cases: cases looked at.
        dtypes: how many of them have each type of number.
        size, smallest, largest: median, minimum and maximum of voxels per axis, in canonical axes.
        spacing: median mm per axis, None where fewer than half of the cases know theirs.
        channels: intensities, of all voxels.
        foreground: intensities where the label is not background; None where there is no such voxel.
        hounsfield: share of cases whose smallest value is -500 or less.
        class_frequencies: share of voxels (segmentation) or of cases (classification), by class index.
    """

    n_cases: int
    dtypes: dict[str, int]
    size: tuple[int, ...]
    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    spacing: tuple[float, ...] | None
    channels: tuple[Intensities, ...]
    foreground: tuple[Intensities, ...] | None
    hounsfield: float
    class_frequencies: tuple[float, ...]


class Stats(NamedTuple):
    """Mean and standard deviation per channel: (C,) of a case, or (B, C) of a batch."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, *cases: StoredCase) -> Stats:
        """(B, C) of several cases, each its own."""
        return cls(torch.tensor([case.mean for case in cases]), torch.tensor([case.std for case in cases]))


class Preprocessing(_Frozen):
    """Grid, intensities and patch; in the configuration of every run and every saved model.

    Attributes:
        dims: 2 or 3.
        channels: names of the input channels.
        size: voxels per axis to resize to (aspect is not kept), or None.
        spacing: mm per axis to resample to, canonical axes (towards R, A, S), or None; see `resample`.
        intensity: `image-zscore` (each case by its own mean and std), `study-zscore` (all by those of the training
            cases), `ct` (clipped, then as study-zscore) or `none`.
        mean, std, clip: per channel, where the rule needs them.
        patch_size: voxels per axis of a training patch and a window; None: the whole image.
    """

    LATER: ClassVar[Mapping[str, Any]] = {}
    """Neutral values of keys that were added after the first runs (`elsewhere.identity`)."""

    dims: int
    channels: tuple[str, ...]
    size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    intensity: Rule = "none"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    clip: tuple[tuple[float, float], ...] | None = None
    patch_size: tuple[int, ...] | None = None

    def normalise(self, image: Tensor, stats: StoredCase | Stats | None = None) -> Tensor:
        """Bring intensities to the scale that networks are trained on.

        Args:
            image: (C, *spatial) or (B, C, *spatial), any type, any device, intensities as in the file.
            stats: the stored case, or `Stats` of (C,) or (B, C); needed under `image-zscore` only.

        Returns:
            float32, the same shape. A constant channel becomes 0 under `image-zscore`.
        """
        out = image.to(torch.float32)
        if self.intensity == "none":
            return out
        if self.intensity == "image-zscore":
            if stats is None:
                raise ValueError("intensity 'image-zscore' needs the mean and std of the case")
            own = Stats.of(stats) if isinstance(stats, StoredCase) else stats
            return self._zscore(out, own.mean, own.std, in_place=out is not image)
        if self.mean is None or self.std is None:
            raise ValueError(f"intensity '{self.intensity}' needs mean and std")
        if self.clip is not None:
            low, high = torch.tensor(self.clip, device=out.device).unbind(1)
            out = out.clamp(self._spread(low, out), self._spread(high, out))
        return self._zscore(out, torch.tensor(self.mean), torch.tensor(self.std), in_place=out is not image)

    def _zscore(self, image: Tensor, mean: Tensor, std: Tensor, *, in_place: bool) -> Tensor:
        std = torch.where(std > 1e-6 * mean.abs(), std, torch.ones_like(std))
        mean, scale = self._spread(mean, image), self._spread(1 / std, image)
        return (image.sub_(mean) if in_place else image - mean).mul_(scale)

    def _spread(self, values: Tensor, image: Tensor) -> Tensor:
        """(C,) or (B, C) to the shape that broadcasts over `image`."""
        if values.ndim == 2 and image.ndim == self.dims + 1:
            values = values[0]
        return values.to(image.device, torch.float32).reshape(*values.shape, *[1] * self.dims)

    def to_yaml(self) -> str:
        """The text that `from_yaml` reads."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text

    @classmethod
    def from_yaml(cls, text: str) -> Preprocessing:
        """Read what `to_yaml` wrote.

        Raises:
            SettingsError: a key or a value is not allowed.
        """
        try:
            return cls.model_validate(yaml.safe_load(text))
        except (ValidationError, yaml.YAMLError) as error:
            reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "not YAML"}
            key = ".".join(str(part) for part in reason["loc"])
            raise SettingsError(f"preprocessing: key '{key}': {reason['msg']}") from error


def chosen(ids: Sequence[str]) -> list[str]:
    """Choose the cases that a fingerprint looks at: all, or `MOST_CASES` evenly chosen of them."""
    ordered = sorted(ids)
    if len(ordered) <= MOST_CASES:
        return ordered
    return [ordered[i * len(ordered) // MOST_CASES] for i in range(MOST_CASES)]


def take_fingerprint(entries: Iterable[Entry], n_cases: int, class_counts: Sequence[int]) -> Fingerprint:
    """Look at decoded training cases, one at a time; the same voxels of an image of given size every time.

    Args:
        entries: decoded cases, in a fixed order.
        n_cases: how many there are.
        class_counts: cases by class index for classification; zeros for segmentation (counted in the labels).

    Raises:
        StudyError: images with different numbers of channels.
    """
    per_case = max(16, min(_MOST_VOXELS, 4_000_000 // max(n_cases, 1)))
    samples, foreground = [], []
    sizes, spacings, dtypes, hounsfield = [], [], Counter[str](), 0
    counts = np.array(class_counts, np.float64)
    for entry in entries:
        values = entry.image.reshape(entry.image.shape[0], -1)
        rng = np.random.default_rng(0)
        samples.append(values[:, np.sort(rng.integers(values.shape[1], size=per_case))].astype(np.float32))
        if entry.label is not None:
            label = entry.label.reshape(-1)
            counts += np.bincount(label, minlength=len(counts)) / label.size
            inside = np.flatnonzero(label)
            if inside.size:
                foreground.append(values[:, np.sort(rng.choice(inside, size=per_case))].astype(np.float32))
        sizes.append(entry.geometry.shape)
        if entry.geometry.spacing is not None:
            spacings.append(entry.geometry.spacing)
        dtypes[entry.image.dtype.name] += 1
        hounsfield += float(entry.image.min()) <= _AIR_HU
    median = np.median(sizes, axis=0)
    return Fingerprint(
        n_cases=len(sizes),
        dtypes=dict(sorted(dtypes.items())),
        size=tuple(int(n) for n in median),
        smallest=tuple(int(n) for n in np.min(sizes, axis=0)),
        largest=tuple(int(n) for n in np.max(sizes, axis=0)),
        spacing=_floats(np.median(spacings, axis=0)) if 2 * len(spacings) >= len(sizes) and spacings else None,
        channels=_intensities(samples, len(sizes[0])),
        foreground=_intensities(foreground, len(sizes[0])) if foreground else None,
        hounsfield=hounsfield / len(sizes),
        class_frequencies=_floats(counts / max(counts.sum(), 1)),
    )


def decide(
    config: StudyConfig,
    fingerprint: Fingerprint,
    *,
    task: str,
    dims: int,
    channels: tuple[str, ...],
    size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    intensity: str | None = None,
    patch_size: int | Sequence[int] | None = None,
) -> Preprocessing:
    """Decide how images are preprocessed; the arguments go before `study.yaml`, which goes before the defaults.

    Defaults (our choice): classification resizes to the median size, at most 224 (2D, multiples of 32) or 96 (3D,
    multiples of 16); segmentation in 3D resamples to the median spacing, in 2D keeps the grid. Patches: at most 256
    (2D, multiples of 32) or 96 and 64 along the shortest axis (3D, multiples of 16), within the median size.

    Raises:
        SettingsError: an argument has the wrong number of values, or both size and spacing are asked for.
    """
    if size is not None and spacing is not None:
        raise SettingsError("size and spacing are both given; keep one of them")
    grid = per_axis("size", size, dims)
    step = per_axis("spacing", spacing, dims)
    if grid is None and step is None:
        grid, step = per_axis("size", config.size, dims), per_axis("spacing", config.spacing, dims)
    if grid is None and step is None:
        if task == "classification":
            most, multiple = (224, 32) if dims == 2 else (96, 16)
            grid = tuple(max(32, min(most, round(n / multiple) * multiple)) for n in fingerprint.size)
        elif dims == 3:
            step = fingerprint.spacing
    whole = None if grid is None else tuple(int(n) for n in grid)
    patch = per_axis("patch_size", patch_size if patch_size is not None else config.patch_size, dims)
    if patch is None and task == "segmentation":
        seen = target_geometry(Geometry(fingerprint.size, fingerprint.spacing), whole, step).shape
        patch = _default_patch(seen)
    rule = intensity or config.intensity
    if rule not in ("auto", "image-zscore", "study-zscore", "ct", "none"):
        raise SettingsError(f"intensity '{rule}' is unknown; wanted auto, image-zscore, study-zscore, ct or none")
    return Preprocessing(
        dims=dims,
        channels=channels,
        size=whole,
        spacing=None if step is None else tuple(float(s) for s in step),
        patch_size=None if patch is None else tuple(int(n) for n in patch),
        **_intensity(rule, fingerprint, dims),
    )


def _intensity(rule: str, fingerprint: Fingerprint, dims: int) -> dict[str, Any]:
    """auto: `ct` where most images go down to -500; `study-zscore` for 8-bit 2D; else `image-zscore`."""
    if rule == "auto":
        eight_bit = fingerprint.dtypes.get("uint8", 0) > fingerprint.n_cases / 2
        rule = "study-zscore" if eight_bit and dims == 2 else "image-zscore"
        rule = "ct" if fingerprint.hounsfield > 0.5 else rule
    found: dict[str, Any] = {"intensity": rule}
    if rule in ("study-zscore", "ct"):
        # As nnU-Net: the tissue that is asked for decides what part of the Hounsfield scale matters.
        seen = fingerprint.foreground if rule == "ct" and fingerprint.foreground else fingerprint.channels
        found["mean"] = tuple(c.mean for c in seen)
        found["std"] = tuple(c.std for c in seen)
        if rule == "ct":
            found["clip"] = tuple((c.low, c.high) for c in seen)
    return found


def _default_patch(size: tuple[int, ...]) -> tuple[int, ...]:
    if len(size) == 2:
        return tuple(max(32, min(256, n) // 32 * 32) for n in size)
    shortest = int(np.argmin(size[::-1]))  # the last of equals: usually the slice axis
    caps = [64 if i == len(size) - 1 - shortest else 96 for i in range(len(size))]
    patch = [max(16, min(cap, n) // 16 * 16) for cap, n in zip(caps, size, strict=True)]
    # Four halvings, as the default network has, shall leave more than one voxel: instance norm needs two.
    patch[int(np.argmax(size))] = max(32, patch[int(np.argmax(size))])
    return tuple(patch)


def per_axis(name: str, value: Any, dims: int) -> tuple[Any, ...] | None:
    """Give one number for each axis; `value` is one for all, or one for each.

    Raises:
        SettingsError: another number of them, not positive and finite, or more voxels than memory will hold.
    """
    if value is None:
        return None
    values = (value,) * dims if isinstance(value, int | float) else tuple(value)
    if len(values) == 1:
        values = values * dims
    found = ", ".join(str(v) for v in values)
    if len(values) != dims or not all(0 < v < math.inf for v in values):
        raise SettingsError(f"{name} is {found}; wanted {dims} positive numbers for {dims}D images, or one for all")
    if name != "spacing" and math.prod(values) > MOST_VOXELS:
        raise SettingsError(f"{name} is {found}: {math.prod(values)} values; wanted {MOST_VOXELS} at most")
    return values


def _intensities(samples: list[NDArray[np.float32]], dims: int) -> tuple[Intensities, ...]:
    """Of (C, n) samples of each case; a grey photograph among RGB ones counts in every channel."""
    most = max(len(sample) for sample in samples)
    wrong = {len(sample) for sample in samples} - ({1, most} if fits_as_grey(1, most, dims) else {most})
    if wrong:
        raise StudyError(f"training images have {min(wrong)} and {most} channels; wanted the same number in all")
    samples = [sample if len(sample) == most else sample.repeat(most, axis=0) for sample in samples]
    found = []
    for channel in np.concatenate(samples, axis=1).astype(np.float64):
        low, median, high = np.percentile(channel, [0.5, 50, 99.5])
        found.append(Intensities(mean=channel.mean(), std=channel.std(), low=low, median=median, high=high))
    return tuple(found)


def _floats(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
