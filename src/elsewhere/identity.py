"""What names a run, a checkpoint or a study: a key that came later counts only where it changes something.

Whatever has settings (`Settings`, `StudyConfig`, `Preprocessing`, the card of a method) hashes the keys of its first
runs as they are. A key that is added later goes with its neutral value, at which a result is what it was without the
key, into the map of later keys beside them. So a new option leaves every finished run its name, and a neutral value
that is not the default (a better default, say) names new runs anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def identifying(values: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """The values without later keys at their neutral value.

    Args:
        values: by key, plain.
        later: the neutral value of each key that was added later.
    """
    return {key: value for key, value in values.items() if key not in later or value != later[key]}
