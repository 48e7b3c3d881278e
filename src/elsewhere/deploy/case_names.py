"""A name for every case: unique, the same whenever a command is repeated, and fit for a file."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNSAFE = re.compile(r"[^\w.,+=@() /-]")


class Names:
    """Names that are given, and those that cases have already.

    Args:
        known: names by identity, whatever tells one case from another.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)
        self.taken = {file_name(name) for name in known.values()}

    def of(self, identity: str, wanted: str) -> str:
        """`wanted`, or `wanted-2`, ... where another case is called so."""
        if identity not in self.known:
            name, n = wanted, 1
            while file_name(name) in self.taken:
                n += 1
                name = f"{wanted}-{n}"
            self._take(identity, name)
        return self.known[identity]

    def numbered(self, identity: str, kind: str) -> str:
        """`series-0001`, `series-0002`, ..."""
        if identity not in self.known:
            n = 1
            while f"{kind}-{n:04d}" in self.taken:
                n += 1
            self._take(identity, f"{kind}-{n:04d}")
        return self.known[identity]

    def _take(self, identity: str, name: str) -> None:
        self.known[identity] = name
        self.taken.add(file_name(name))


def file_name(case: str) -> str:
    """The name of a case as a relative path that any system can have, without `..` and hidden parts."""
    parts = [_UNSAFE.sub("_", part).strip(" ").lstrip(".") for part in case.replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part) or "case"
