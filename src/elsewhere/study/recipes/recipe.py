"""What a recipe is: how the public layout of one data set becomes the cases and the `study.yaml` of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elsewhere.study.sources import Source


@dataclass(frozen=True)
class Recipe:
    """One public data set.

    Attributes:
        name: as in `elsewhere study new --from NAME`.
        title: of the data set, as a sentence calls it.
        shift: what differs between its sites.
        where: it is distributed (a DOI or an address).
        read: finds the cases below a folder, and what `study.yaml` shall declare (classes, grid, roles of sites).
            Raises a StudyError that says what was looked for and what was found where the folder is another.
    """

    name: str
    title: str
    shift: str
    where: str
    read: Callable[[Path], Source]
