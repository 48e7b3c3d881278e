"""One way to refuse what makes no sense."""

from __future__ import annotations

from typing import Any

from elsewhere.errors import SettingsError


def check(right: bool, wanted: str, found: Any) -> None:
    """Raise a SettingsError that says what was wanted and what was found, unless `right`."""
    if not right:
        raise SettingsError(f"{wanted}, found {found}")
