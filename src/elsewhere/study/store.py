"""Cases by their id, read through the cache; a store knows the cases that it was given and no others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import StudyError
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case, Picture, StoredCase
from elsewhere.study.decode import Schema, require_dims, where
from elsewhere.study.entry import Entry
from elsewhere.study.grey import fits_as_grey
from elsewhere.study.resample import from_canonical


class Store:
    """Some cases of a study, on one grid.

    Args:
        cache: where decoded and resampled cases are kept.
        schema: how they are read.
        cases: the only ones that this store can load.
        n_channels: channels of the images that `load` gives; None: as in the files.
        size, spacing: the grid; see `resample.target_geometry`.
    """

    def __init__(
        self,
        cache: Cache,
        schema: Schema,
        cases: Iterable[Case],
        n_channels: int | None = None,
        size: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.cache = cache
        self.schema = schema
        self.n_channels = n_channels
        self.size = size
        self.spacing = spacing
        self._cases = {case.id: case for case in cases}
        self._keys: dict[str, str] = {}

    @property
    def case_ids(self) -> tuple[str, ...]:
        """In the order of the manifest."""
        return tuple(self._cases)

    def __contains__(self, case_id: str) -> bool:
        return case_id in self._cases

    def case(self, case_id: str) -> Case:
        """Row of the manifest.

        Raises:
            KeyError: no case of this store.
        """
        return self._cases[case_id]

    def load(self, case_id: str) -> StoredCase:
        """Give a case with its arrays mapped read-only: decoded once ever, opened once a process, then microseconds.

        Raises:
            KeyError: no case of this store.
            StudyError: a file is missing, unreadable, or does not fit the study.
        """
        case = self._cases[case_id]
        entry = self.cache.open(self._keys[case_id]) if case_id in self._keys else None
        if entry is None:
            self._keys[case_id], entry = self.cache.resampled(case, self.schema, self.size, self.spacing)
        require_dims(len(entry.geometry.shape), case, self.schema)
        image, mean, std = self._fit_channels(case, entry)
        return StoredCase(
            case=case,
            image=image,
            label=self.class_index(case) if isinstance(case.label, str) else entry.label,
            maps=entry.maps,
            geometry=entry.geometry,
            original=entry.original,
            mean=mean,
            std=std,
        )

    def decoded(self, case_id: str) -> Entry:
        """Give the case on the grid of its file, in canonical axes."""
        entry = self.cache.decoded(self._cases[case_id], self.schema)
        # Another study, of other dimensions, may have decoded it.
        require_dims(len(entry.geometry.shape), self._cases[case_id], self.schema)
        return entry

    def original_label(self, case_id: str) -> Picture:
        """Give the mask as class indices in the grid and the axes of its file; not decoded again.

        Raises:
            KeyError: no case of this store.
            StudyError: the case has no mask.
        """
        entry = self.decoded(case_id)
        if entry.label is None:
            raise StudyError(f"case '{case_id}': has no mask; wanted a path in the column 'label'")
        return Picture(np.ascontiguousarray(from_canonical(entry.label, entry.original)), entry.original)

    def _fit_channels(self, case: Case, entry: Entry) -> tuple[NDArray[Any], tuple[float, ...], tuple[float, ...]]:
        """A grey image among RGB images has its channel three times (as a view)."""
        found = len(entry.image)
        if self.n_channels in (None, found):
            return entry.image, entry.mean, entry.std
        if len(case.images) == 1 and fits_as_grey(found, self.n_channels or 0, len(entry.geometry.shape)):
            return np.broadcast_to(entry.image, (3, *entry.geometry.shape)), entry.mean * 3, entry.std * 3
        path = next(iter(case.images.values()))
        raise StudyError(
            f"{where(case)}: image '{path}' has {found} channels; the images that the study trains on have "
            f"{self.n_channels}"
        )

    def class_index(self, case: Case) -> int:
        """Index of the class of a classification case.

        Raises:
            StudyError: its name is not declared.
        """
        if case.label not in self.schema.classes:
            known = ", ".join(self.schema.classes)
            raise StudyError(f"{where(case)}: label '{case.label}' is not one of the classes {known}")
        return self.schema.classes.index(str(case.label))

    def sha256(self) -> str:
        """Hash of all that this store can give: bytes of the files, how they are read, ids, sites, patients, labels."""
        rows = [
            [
                c.id,
                c.site,
                c.patient,
                None if c.label is None or not isinstance(c.label, str) else c.label,
                sorted(c.covariates.items()),
                self.cache.key(c, self.schema),
            ]
            for c in self._cases.values()
        ]
        grid = [self.n_channels, self.size, self.spacing, self.schema.classes]
        return hashlib.sha256(json.dumps([grid, rows]).encode()).hexdigest()
