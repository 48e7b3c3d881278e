"""What each input channel is worth to the networks of a run: the score without it, minus the score with all of them.

The one-channel-removal sensitivity of DropGen's ablation. Done once a run, with the model of the first selection rule,
on its in-domain test patients and on the held-out ones, who are read through the seal's door as for any evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from elsewhere.analysis.removal import answers, kept, removals
from elsewhere.analysis.sensitivity_table import NOTHING, is_done, write_done
from elsewhere.benchmark.attempt import Emit
from elsewhere.benchmark.evaluate import Read, labelled
from elsewhere.benchmark.record import EVALUATE_AGAIN, read_done, reading, require_split
from elsewhere.benchmark.run import OPENINGS, device, sealed, teller
from elsewhere.benchmark.scoring import segmented
from elsewhere.benchmark.sheets import HELD_OUT, HOME, PREDICTIONS, PROBABILITY, TARGET
from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import ModelError
from elsewhere.study.case import Picture
from elsewhere.training.model_io import Deployed, load_model

Row = dict[str, Any]


def remove_channels(spec: RunSpec, folder: Path, emit: Emit, *, most: int | None = None) -> None:
    """Judge a finished run's model with each of its input channels removed; `sensitivity.parquet` in its folder.

    Does nothing where that is done.

    Args:
        spec: of the run.
        folder: of the run.
        emit: takes what there is to say meanwhile.
        most: patients of each split, at most; None: all. Chosen by the hash of their names: the same for all methods.

    Raises:
        ElsewhereError: the run's files are missing or damaged, or a case cannot be read.
    """
    if is_done(folder, spec, most):
        return
    settings, development, held_out = sealed(spec)
    require_split(folder, development)
    rule, where = spec.selection[0], device(settings)
    models = (read_done(folder) or {})["models"]
    # A run without validation patients has no model of its own by that rule, and was judged with its last one.
    model = load_model(folder / "model" / (rule if rule in models else "last"), where)
    patients = _patients(folder, rule)
    tell = teller(spec, emit)
    rows: list[Row] = []

    def judge(split: str, read: Read) -> Iterator[Row]:
        cases = _some(patients[split], most)
        for number, case in enumerate(cases, start=1):
            yield from ({**row, "split": split} for row in _judged(model, case, read, settings.overlap, where))
            tell(f"removing channels, {split}", number, len(cases))

    with held_out.open(model, reason=f"removal of channels, {rule}", log=folder / OPENINGS) as reader:
        rows += judge(HELD_OUT, lambda case: labelled(reader, case))
    if HOME in patients:
        rows += judge(HOME, lambda case: labelled(development, case))
    write_done(folder, spec, most, pd.DataFrame(rows))


def _judged(model: Deployed, case: str, read: Read, overlap: float, where: torch.device) -> Iterator[Row]:
    """A row for the network as it is, and one for each removal."""
    stored, label = read(case)
    task, some = model.task, removals(model.method, model.preprocessing.channels)
    score: Callable[[Any], Mapping[str, Any]]
    if isinstance(label, Picture):
        truth = np.asarray(label.array)

        def score(said: Any) -> Mapping[str, Any]:
            scores = segmented(stored, truth, said.argmax(axis=0), task.classes, distances=False).scores
            return {"value": scores["all", task.primary]}
    else:

        def score(said: Any) -> Mapping[str, Any]:
            found = {PROBABILITY + name: float(p) for name, p in zip(task.classes, said, strict=True)}
            return {**found, TARGET: int(label)}

    who = {"case": case, "patient": stored.case.patient, "site": stored.case.site}
    what = [(NOTHING, NOTHING), *((one.name, one.kind) for one in some)]
    found = answers(model, stored, kept(some), overlap=overlap, device=where)
    for (channel, kind), said in zip(what, found, strict=True):
        if not np.isfinite(said).all():  # left out, or counted as a class, it would pass for a score
            without = f" without {channel}" if channel else ""
            raise ModelError(f"case '{case}': the model{without} answers with NaN or Inf; wanted finite numbers")
        yield {**who, "channel": channel, "kind": kind, **score(said)}


def _patients(folder: Path, rule: str) -> dict[str, dict[str, str]]:
    """Case to patient by split, as they were judged by the rule."""
    path = folder / PREDICTIONS
    with reading(path, f"delete it and {EVALUATE_AGAIN}"):
        table = pq.read_table(path, columns=["case", "patient", "split", "selection"]).to_pandas()
    table = table[table["selection"] == rule]
    return {
        split: dict(zip(of["case"], of["patient"], strict=True))
        for split, of in table.groupby("split", sort=False)
        if split in (HELD_OUT, HOME)
    }


def _some(patients: Mapping[str, str], most: int | None) -> list[str]:
    """The cases of at most so many patients."""
    names = sorted(set(patients.values()), key=lambda name: hashlib.sha256(name.encode()).digest())[:most]
    chosen = set(names)
    return [case for case, patient in patients.items() if patient in chosen]
