"""One run of a benchmark, described whole: it can be sent to another process or another machine."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elsewhere.study.case import Fold

REFERENCE = "reference"
"""Name in the tables of the network trained within the held-out site."""

ORACLE = "oracle"
"""Selection by the score at the held-out site: not available to anybody who deploys a model; stamped wherever shown."""


@dataclass(frozen=True)
class RunSpec:
    """A method trained on one fold with one seed.

    Attributes:
        study: path as the user gave it, absolute.
        site_column: the column that is the site; None: the study's own choice.
        allow_outside: files outside the study's folder may be read.
        method: its name in the tables: a registered method, a label of one (`variants`), or "reference".
        trained_as: the registered method that is trained ("erm" for "reference").
        fold: what is held out.
        seed: of splits, initialisation and batches.
        settings: all settings of the training, as plain values.
        options: the method's own.
        selection: rules by which models are evaluated, the oracle's the last of them.
        identity: hash of all that affects the result.
        cache: folder of decoded cases; None: the user's own.
        patients: at most that many train, over all development sites together; None: all.
        oracle: the held-out site is looked at in each validation, and chooses among the models of the training too; so
            it is where "oracle" is among the rules.
    """

    study: str
    site_column: str | None
    allow_outside: bool
    method: str
    trained_as: str
    fold: Fold
    seed: int
    settings: Mapping[str, Any]
    options: Mapping[str, Any]
    selection: tuple[str, ...]
    identity: str
    cache: str | None = None
    patients: int | None = None
    oracle: bool = False

    def __post_init__(self) -> None:
        if ORACLE in self.selection:
            object.__setattr__(self, "oracle", True)

    @property
    def variant(self) -> bool:
        """It is a method under a label of its own."""
        return self.method not in (self.trained_as, REFERENCE)

    @property
    def method_title(self) -> str:
        """`erm`, or `features (dropgen)` for a method under a label."""
        return f"{self.method} ({self.trained_as})" if self.variant else self.method

    @property
    def folder(self) -> Path:
        """Where it lies below the benchmark's folder; safe on any file system, unique by its identity."""
        part = "" if self.fold.part is None else f"-part{self.fold.part[0] + 1}of{self.fold.part[1]}"
        seed = f"seed{self.seed}{'-oracle' if self.oracle else ''}-{self.identity[:8]}"
        return Path("runs", slug(self.method), slug(self.fold.name) + part, seed)

    @property
    def title(self) -> str:
        """`erm, without A, seed 0`, for people."""
        where = f"without {self.fold.title}"
        if self.fold.part is not None:
            where = f"within {self.fold.title}, part {self.fold.part[0] + 1} of {self.fold.part[1]}"
        return f"{self.method}, {where}, seed {self.seed}{', oracle' if self.oracle else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = asdict(self)
        plain["selection"] = list(self.selection)
        plain["fold"] = {
            "held_out": list(self.fold.held_out),
            "part": None if self.fold.part is None else list(self.fold.part),
        }
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunSpec:
        """Back from `to_dict`."""
        fold = plain["fold"]
        part = None if fold["part"] is None else (int(fold["part"][0]), int(fold["part"][1]))
        rest = {key: value for key, value in plain.items() if key not in ("fold", "selection")}
        return cls(fold=Fold(tuple(fold["held_out"]), part), selection=tuple(plain["selection"]), **rest)


def few_patients(specs: Iterable[RunSpec]) -> int | None:
    """How many patients at most train in the runs of a question; None where all do. A reference has all of its own."""
    return next((spec.patients for spec in specs if spec.patients is not None), None)


def few_patients_said(patients: int) -> str:
    """Of a number of training patients that was asked for, for people."""
    whom = "1 patient trains" if patients == 1 else f"{patients} patients train"
    return f"few-shot: at most {whom}, over all development sites together; the other parts of the split are whole"


def slug(name: str, limit: int = 60) -> str:
    """A name as a folder: letters, digits and `._+-` of ASCII; a hash tells apart names that would fall together."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "_", plain).strip("._-")[:limit]
    if safe and safe == name:
        return safe
    return f"{safe or 'site'}~{hashlib.sha256(name.encode()).hexdigest()[:6]}"
