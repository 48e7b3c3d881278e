"""One thing that is wrong, or may be wrong, with a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """What `elsewhere study check` puts in a row of its table.

    Attributes:
        severity: an "error" stops a benchmark, a "warning" does not.
        code: short and stable, for machines (`outside`, `duplicate-id`, `empty-cell`, ...).
        where: file and row or key, as a person would look for it (`manifest.csv row 17`).
        message: what was found and what would be right; `where` is not repeated in it.
    """

    severity: Literal["error", "warning"]
    code: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"
