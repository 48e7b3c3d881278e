"""The seal: development never sees a held-out case; held-out cases are read only for a frozen model, through one door.

`seal` cuts a study in two objects. `Development` is all that training gets: it holds no reference to a held-out case,
so nothing that is derived from it (fingerprint, normalisation, sizes, selection, early stopping) can depend on one.
`HeldOut` gives nothing until it is opened for a model that is in eval mode and has no parameter to be trained; each
opening is a line in the run's log, and a model that is not bit for bit the same when it closes is an error.

Python cannot stop code that opens the files by itself; the seal is against mistakes, not against intent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import yaml
from pydantic import ValidationError

from elsewhere.errors import SealError, StudyError
from elsewhere.files import write_text
from elsewhere.identity import identifying
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case, Fold, Picture, Split, StoredCase
from elsewhere.study.decode import Schema, where
from elsewhere.study.entry import Entry
from elsewhere.study.few_shot import keep_few
from elsewhere.study.grey import fits_as_grey
from elsewhere.study.held_out import HeldOut, model_sha256
from elsewhere.study.preprocessing import Fingerprint, Preprocessing, chosen, decide, take_fingerprint
from elsewhere.study.splits import held_out_cases, split
from elsewhere.study.store import Store
from elsewhere.study.study import Study

__all__ = ["ROLES", "Development", "HeldOut", "develop_all", "model_sha256", "seal"]

ROLES = ("train", "validation", "calibration", "test")


def seal(
    study: Study,
    fold: Fold,
    seed: int,
    cache: Cache,
    *,
    size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    intensity: str | None = None,
    patch_size: int | Sequence[int] | None = None,
    patients: int | None = None,
) -> tuple[Development, HeldOut]:
    """Cut a study into what training may see and what it may not.

    Args:
        study: opened.
        fold: what is held out.
        seed: of the split.
        cache: where decoded cases are kept.
        size, spacing, intensity, patch_size: instead of what `study.yaml` says or the fingerprint suggests.
        patients: at most that many training patients, over all development sites together (`few_shot`).

    Raises:
        StudyError: nothing to train on, or a training case that cannot be read.
        SealError: the split has a held-out case or patient in it (a bug).
    """
    held_out_ids = held_out_cases(study, fold, seed)
    parts = keep_few(study, split(study, fold, seed), patients, seed)
    _require_apart(study, [case_id for role in ROLES for case_id in getattr(parts, role)], held_out_ids)
    development = _develop(
        study, parts, seed, cache, size=size, spacing=spacing, intensity=intensity, patch_size=patch_size
    )
    preprocessing = development.preprocessing
    grid = (development.n_channels, preprocessing.size, preprocessing.spacing)
    inside = [study.by_id[i] for i in held_out_ids]
    return development, HeldOut(fold, preprocessing, Store(cache, Schema.of(study), inside, *grid))


def develop_all(
    study: Study,
    seed: int,
    cache: Cache,
    *,
    size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    intensity: str | None = None,
    patch_size: int | Sequence[int] | None = None,
    patients: int | None = None,
) -> Development:
    """Develop on all sites, with none held out: for the final model, of which nothing can be known elsewhere.

    At a given seed every patient has the role that he or she has in the folds of a benchmark (apart from patients of
    several sites or classes), so the in-domain test is of the same people.

    Args:
        study: opened; roles of sites in its `study.yaml` are for benchmarks and say nothing here.
        seed: of the split.
        cache: where decoded cases are kept.
        size, spacing, intensity, patch_size, patients: as for `seal`.

    Raises:
        StudyError: nothing to train on, or a training case that cannot be read.
    """
    parts = keep_few(study, split(study, Fold(()), seed), patients, seed)
    return _develop(study, parts, seed, cache, size=size, spacing=spacing, intensity=intensity, patch_size=patch_size)


def _develop(
    study: Study,
    parts: Split,
    seed: int,
    cache: Cache,
    *,
    size: int | Sequence[int] | None,
    spacing: float | Sequence[float] | None,
    intensity: str | None,
    patch_size: int | Sequence[int] | None,
) -> Development:
    schema = Schema.of(study)
    inside = [study.by_id[case_id] for role in ROLES for case_id in getattr(parts, role)]
    fingerprint = _fingerprint(Store(cache, schema, inside), parts.train, study.task)
    channels = _channel_names(study.channels, len(fingerprint.channels))
    preprocessing = decide(
        study.config,
        fingerprint,
        task=study.task,
        dims=study.dims,
        channels=channels,
        size=size,
        spacing=spacing,
        intensity=intensity,
        patch_size=patch_size,
    )
    return Development(
        name=study.name,
        task=study.task,
        dims=study.dims,
        classes=study.classes,
        seed=seed,
        split=parts,
        fingerprint=fingerprint,
        preprocessing=preprocessing,
        store=Store(cache, schema, inside, len(channels), preprocessing.size, preprocessing.spacing),
    )


class Development:
    """What training gets of a fold: the split cases of the development sites, and what was derived from them.

    Pickles without opened files; nothing of a held-out case is in it.

    Attributes:
        name, task, dims, classes: of the study.
        channels: a name for each channel of `StoredCase.image` ("red", "green", "blue" for an RGB file).
        seed: of the split.
        split: case ids by role.
        fingerprint: of the training cases.
        preprocessing: decided from it.
        sites: sites that have a training case, sorted.
        site_index: number of each site: training sites 0, 1, ... in the order of `sites`, then any that only validate
            or test.
    """

    def __init__(
        self,
        *,
        name: str,
        task: str,
        dims: int,
        classes: tuple[str, ...],
        seed: int,
        split: Split,
        fingerprint: Fingerprint,
        preprocessing: Preprocessing,
        store: Store,
    ) -> None:
        self.name = name
        self.task = task
        self.dims = dims
        self.classes = classes
        self.seed = seed
        self.split = split
        self.fingerprint = fingerprint
        self.preprocessing = preprocessing
        self.channels = preprocessing.channels
        self._store = store
        self.sites = tuple(sorted({store.case(i).site for i in split.train}))
        others = {store.case(i).site for i in store.case_ids} - set(self.sites)
        self.site_index: Mapping[str, int] = {s: n for n, s in enumerate([*self.sites, *sorted(others)])}

    @property
    def n_channels(self) -> int:
        """Channels of an image."""
        return len(self.channels)

    @property
    def case_ids(self) -> tuple[str, ...]:
        """All cases of the split: train, validation, calibration, test."""
        return self._store.case_ids

    def role(self, name: str) -> tuple[Case, ...]:
        """Cases of "train", "validation", "calibration" or "test"."""
        if name not in ROLES:
            raise ValueError(f"role '{name}' is unknown; wanted one of {', '.join(ROLES)}")
        ids: tuple[str, ...] = getattr(self.split, name)
        return tuple(self._store.case(i) for i in ids)

    def case(self, case_id: str) -> Case:
        """Row of the manifest, covariates included.

        Raises:
            SealError: the case is not in the split.
        """
        return self._store.case(self._inside(case_id))

    def load(self, case_id: str) -> StoredCase:
        """Give a case on the grid of `preprocessing`, intensities as in the file; microseconds after the first time.

        Raises:
            SealError: the case is not in the split.
            StudyError: its files cannot be read.
        """
        return self._store.load(self._inside(case_id))

    def original_label(self, case_id: str) -> Picture:
        """Give the mask as class indices on the grid of its file.

        Raises:
            SealError: the case is not in the split.
        """
        return self._store.original_label(self._inside(case_id))

    @property
    def unseen_classes(self) -> tuple[str, ...]:
        """Declared classes that no training case shows (of the cases that the fingerprint looks at)."""
        frequencies = self.fingerprint.class_frequencies
        return tuple(name for name, share in zip(self.classes, frequencies, strict=True) if share == 0)

    @cached_property
    def sha256(self) -> str:
        """Hash of all that training can get from this object: bytes of the cases, split, preprocessing."""
        text = json.dumps([self._store.sha256(), [getattr(self.split, r) for r in ROLES], self.task, self.channels])
        preprocessing = identifying(self.preprocessing.model_dump(mode="json"), self.preprocessing.LATER)
        return hashlib.sha256((text + yaml.safe_dump(preprocessing, sort_keys=False)).encode()).hexdigest()

    def _inside(self, case_id: str) -> str:
        if case_id not in self._store:
            raise SealError(
                f"case '{case_id}' is not in the development of this fold; held-out cases are read through "
                "HeldOut.open with a frozen model"
            )
        return case_id


def _require_apart(study: Study, development: Sequence[str], held_out: Sequence[str]) -> None:
    """The split promises this; nothing that follows is worth anything without it."""
    both = set(development) & set(held_out)
    patients = {study.by_id[i].patient for i in held_out}
    both |= {i for i in development if study.by_id[i].patient in patients}
    if both:
        raise SealError(f"the split puts a held-out case or patient into development: {', '.join(sorted(both)[:5])}")


def _fingerprint(store: Store, train: Sequence[str], task: str) -> Fingerprint:
    """The same training cases have the same fingerprint; it is kept in the cache folder by their content."""
    looked_at = chosen(train)
    n_classes = len(store.schema.classes)
    counts = [0] * n_classes
    if task == "classification":
        for case_id in train:
            counts[store.class_index(store.case(case_id))] += 1
    keys = [store.cache.key(store.case(i), store.schema) for i in looked_at]
    described: list[Any] = ["fingerprint 1", keys, counts]
    path = store.cache.folder / "fingerprints" / f"{hashlib.sha256(json.dumps(described).encode()).hexdigest()}.json"
    try:
        return Fingerprint.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        found = take_fingerprint(_alike(store, looked_at), len(looked_at), counts)
        write_text(path, found.model_dump_json())
        return found


def _alike(store: Store, ids: Sequence[str]) -> Iterator[Entry]:
    """Decoded cases; names the first image whose channels do not fit those before it."""
    seen: dict[int, Case] = {}
    for case_id in ids:
        case, entry = store.case(case_id), store.decoded(case_id)
        n = len(entry.image)
        for other, first in seen.items():
            if n != other and not fits_as_grey(min(n, other), max(n, other), len(entry.geometry.shape)):
                raise StudyError(
                    f"{where(case)}: image '{next(iter(case.images.values()))}' has {n} channels, that of "
                    f"{where(first)} {other}; wanted the same number in all"
                )
        seen.setdefault(n, case)
        yield entry


def _channel_names(names: tuple[str, ...], found: int) -> tuple[str, ...]:
    """An RGB file is one name in the manifest and three channels in the image."""
    if len(names) == found:
        return names
    if len(names) == 1:
        return ("red", "green", "blue") if found == 3 else tuple(f"{names[0]}:{i}" for i in range(found))
    return tuple(f"channel:{i}" for i in range(found))
