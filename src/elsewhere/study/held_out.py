"""The door to the held-out cases: opened for a frozen model only, and every opening is written down."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from elsewhere.errors import SealError
from elsewhere.files import write_error
from elsewhere.study.case import Case, Fold, Picture, StoredCase
from elsewhere.study.preprocessing import Preprocessing
from elsewhere.study.store import Store


class HeldOut:
    """The held-out cases of a fold, behind a door.

    Attributes:
        fold: what is held out.
        preprocessing: of the development; decides the grid of the cases.
    """

    def __init__(self, fold: Fold, preprocessing: Preprocessing, store: Store) -> None:
        self.fold = fold
        self.preprocessing = preprocessing
        self._store = store

    @property
    def case_ids(self) -> tuple[str, ...]:
        """In the order of the manifest."""
        return self._store.case_ids

    @property
    def n_cases(self) -> int:
        """Number of cases."""
        return len(self._store.case_ids)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return len({self._store.case(i).patient for i in self.case_ids})

    @contextmanager
    def open(self, model: nn.Module, *, reason: str, log: Path) -> Iterator[Reader]:
        """Read the held-out cases for a frozen model, until the block ends.

        Args:
            model: in eval mode throughout, and no parameter requires a gradient.
            reason: for the log: "evaluate last", "oracle selection step 200", ...
            log: a file; one JSON line is appended before anything is read.

        Raises:
            SealError: the model is not frozen, or was changed while it was evaluated.
            RunError: the log cannot be written.
        """
        _require_frozen(model)
        before, touched = model_sha256(model), _versions(model)
        self._write(log, reason, before)
        reader = Reader(self._store, model)
        try:
            yield reader
        finally:
            reader.close()
        _require_frozen(model)
        if model_sha256(model) != before or _versions(model) != touched:
            raise SealError(
                f"the model was changed while it was evaluated on {self.fold.title} ({reason}); weights and "
                "batch-norm statistics must stay as they were"
            )

    def unlabelled(self, log: Path, *, reason: str = "unlabelled images for training") -> UnlabelledReader:
        """Give the images only, for methods whose card declares that they see unlabelled target images.

        Labels, maps, covariates, ids, patients and paths are taken away: each may tell the target.
        """
        self._write(log, reason, None)
        return UnlabelledReader(self._store)

    def _write(self, log: Path, reason: str, model: str | None) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "held_out": self.fold.name,
            "part": self.fold.part,
            "reason": reason,
            "model_sha256": model,
            "cases": self.n_cases,
        }
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab", buffering=0) as file:  # one write: lines of several processes do not mix
                file.write((json.dumps(line) + "\n").encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(log, error) from error


class Reader:
    """Held-out cases with their labels, for as long as the door is open."""

    def __init__(self, store: Store, model: nn.Module) -> None:
        self._store: Store | None = store
        self._model = model
        self.case_ids = store.case_ids

    def __len__(self) -> int:
        return len(self.case_ids)

    def __iter__(self) -> Iterator[StoredCase]:
        return (self.load(case_id) for case_id in self.case_ids)

    def load(self, case_id: str) -> StoredCase:
        """Give a held-out case on the grid of the preprocessing.

        Raises:
            SealError: the door is closed, the model is not frozen any more, or there is no such case.
            StudyError: its files cannot be read.
        """
        return self._checked(case_id).load(case_id)

    def original_label(self, case_id: str) -> Picture:
        """Give the mask as class indices on the grid of its file."""
        return self._checked(case_id).original_label(case_id)

    def unseen_classes(self, seen: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Name, for each case that has any, its classes that are not among `seen`; listed apart, never left out."""
        found = {}
        for case_id in self.case_ids:
            store = self._checked(case_id)
            stored, names = store.load(case_id), store.schema.classes
            if isinstance(stored.label, int):
                present = {stored.label}
            elif stored.label is None:
                present = set()
            else:  # the file's own grid: resampling may lose a class
                label = store.decoded(case_id).label
                present = set() if label is None else set(np.unique(label).tolist())
            unseen = tuple(names[i] for i in sorted(present) if names[i] not in seen)
            if unseen:
                found[case_id] = unseen
        return found

    def close(self) -> None:
        """Nothing can be read any more."""
        self._store = None

    def _checked(self, case_id: str) -> Store:
        if self._store is None:
            raise SealError("the held-out cases were closed; open them again with a frozen model")
        _require_frozen(self._model)
        if case_id not in self._store:
            raise SealError(f"case '{case_id}' is not held out in this fold")
        return self._store

    def __reduce__(self) -> NoReturn:
        raise SealError("a reader of held-out cases stays in the process that opened it")


class UnlabelledReader:
    """Held-out images and the names of their sites, nothing else.

    Ids, patients, paths (`tumour/case-7.png`) and the order of the manifest, often sorted by class, may tell the
    target: cases are `unlabelled-0`, `unlabelled-1`, ... in the order of the hashes of their ids.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        ordered = sorted(store.case_ids, key=lambda i: hashlib.sha256(i.encode("utf-8", "surrogateescape")).digest())
        self._ids = {f"unlabelled-{number}": case_id for number, case_id in enumerate(ordered)}

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Names made up for this reader."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def load(self, case_id: str) -> StoredCase:
        """Give the image of a case, on the grid of the preprocessing.

        Raises:
            SealError: there is no such case.
        """
        if case_id not in self._ids:
            raise SealError(f"case '{case_id}' is not among the unlabelled images; they are called unlabelled-0, ...")
        stored = self._store.load(self._ids[case_id])
        case = Case(case_id, {}, None, stored.case.site, case_id)
        return replace(stored, case=case, label=None, maps={})


def model_sha256(model: nn.Module) -> str:
    """Hash of all parameters and buffers of a model, names, types and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(model):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Buffers that are not saved count as well."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _versions(model: nn.Module) -> list[int]:
    """How often each tensor was written to: an adaptation that is undone before the door closes is seen all the same.

    Tensors made under `inference_mode` do not count their versions, and cannot be trained.
    """
    return [0 if tensor.is_inference() else tensor._version for _, tensor in _tensors(model)]


def _require_frozen(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module.training:
            raise SealError(
                f"the model is not frozen: {name or 'the model'} ({type(module).__name__}) is in training mode; call "
                "model.eval() before held-out cases are opened"
            )
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            raise SealError(
                f"the model is not frozen: parameter '{name}' requires a gradient; call model.requires_grad_(False) "
                "before held-out cases are opened"
            )
