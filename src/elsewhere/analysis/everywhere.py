"""What the tables of an analysis call the mean over all held-out sites; no site may be called so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elsewhere.errors import StudyError
from elsewhere.study.study import Study, open_study

EVERYWHERE = "all"


def open_for_analysis(study: Path | str, question: Mapping[str, Any]) -> Study:
    """Open a study as a benchmark's question would, before anything is trained.

    Args:
        study: folder or manifest.
        question: arguments of `run_benchmark`.

    Raises:
        StudyError: it is not sound, or a site has the name of the mean: their rows could not be told apart.
    """
    keep = {key: question[key] for key in ("site_column", "allow_outside") if key in question}
    cache = question.get("cache")
    opened = open_study(study, **keep, cache=None if cache is None else Path(cache))
    if EVERYWHERE in opened.sites:
        raise StudyError(
            f"study {opened.name}: a site is called '{EVERYWHERE}', as the tables of this analysis call the mean over "
            "the sites; give it another name in the manifest"
        )
    return opened
