"""`elsewhere stability`: from a study's folder to a folder of numbers and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from elsewhere.analysis.stability import Measured, measure
from elsewhere.analysis.stability_extractors import named_extractors
from elsewhere.analysis.stability_picture import draw_stability
from elsewhere.analysis.stability_summary import summarise
from elsewhere.files import atomic, folder_lock
from elsewhere.study import open_study
from elsewhere.study.study import Progress

TABLE, SUMMARY, PICTURE = "stability.csv", "summary.csv", "stability.png"


@dataclass(frozen=True)
class Stability:
    """What `run_stability` found.

    Attributes:
        folder: where it was written.
        measured: the numbers of each patient, and notes.
        summary: see `stability_summary.summarise`.
    """

    folder: Path
    measured: Measured
    summary: pd.DataFrame


def run_stability(
    study: Path | str,
    *,
    extractors: str,
    out: Path,
    cases: int = 20,
    draws: int = 2,
    strength: float = 1.0,
    seed: int = 0,
    sites: Sequence[str] | None = None,
    site_column: str | None = None,
    allow_outside: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> Stability:
    """Measure, and write `stability.csv`, `summary.csv` and `stability.png`; what was there is replaced.

    Args:
        study: folder or manifest.
        extractors: see `named_extractors`.
        out: the folder.
        cases, draws, strength, seed, sites, progress: see `measure`.
        site_column, allow_outside: see `open_study`.
        trust: extractors by import path may be imported.

    Raises:
        StudyError, SettingsError, ModelError: see `measure` and `named_extractors`.
        RunError: the folder cannot be written.
    """
    opened = open_study(study, site_column=site_column, allow_outside=allow_outside)
    built = named_extractors(extractors, opened.dims, trust)
    with folder_lock(out, "elsewhere stability"):
        found = measure(
            opened, built, cases=cases, draws=draws, strength=strength, seed=seed, sites=sites, progress=progress
        )
        summary = summarise(found.table)
        for name, table in ((TABLE, found.table), (SUMMARY, summary)):
            with atomic(out / name) as temporary:
                table.to_csv(temporary, index=False)
        draw_stability(found.shown, out / PICTURE)
    return Stability(out, found, summary)
