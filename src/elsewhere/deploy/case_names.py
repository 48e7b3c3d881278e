"""A name for every case: unique, the same whenever a command is repeated, and fit for a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

_UNSAFE = re.compile(r"[^\w.,+=@() /-]")

LONGEST = 180
"""Bytes of one part of a file's name: systems take 255, and endings and those of temporary files are added."""


class Names:
    """Names that are given, and those that cases have already.

    Args:
        known: names by identity, whatever tells one case from another.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)
        self.taken = {_key(name) for name in known.values()}

    def of(self, identity: str, wanted: str) -> str:
        """`wanted`, or `wanted-2`, ... where another case is called so; as one line of text."""
        if identity not in self.known:
            wanted = plain(wanted)
            name, n = wanted, 1
            while _key(name) in self.taken:
                n += 1
                name = f"{wanted}-{n}"
            self._take(identity, name)
        return self.known[identity]

    def numbered(self, identity: str, kind: str) -> str:
        """`series-0001`, `series-0002`, ..."""
        if identity not in self.known:
            n = 1
            while _key(f"{kind}-{n:04d}") in self.taken:
                n += 1
            self._take(identity, f"{kind}-{n:04d}")
        return self.known[identity]

    def _take(self, identity: str, name: str) -> None:
        self.known[identity] = name
        self.taken.add(_key(name))


def plain(text: str) -> str:
    """One line of UTF-8, whatever a file system allows in a name."""
    line = "".join(" " if c in "\r\n\v\f\0\x85\u2028\u2029" else c for c in text)
    return line.encode("utf-8", "backslashreplace").decode()


def _key(name: str) -> str:
    """Two cases may not differ in capitals alone: some systems have one file of both."""
    return file_name(name).casefold()


def file_name(case: str) -> str:
    """The name of a case as a relative path that any system can have, without `..` and hidden parts."""
    parts = [_short(_UNSAFE.sub("_", part).strip(" ").lstrip(". ")) for part in case.replace("\\", "/").split("/")]
    return "/".join(part for part in parts if part) or "case"


def _short(part: str) -> str:
    """At most `LONGEST` bytes; what is cut off is told apart by a hash."""
    if len(part.encode()) <= LONGEST:
        return part
    mark = hashlib.sha256(part.encode()).hexdigest()[:12]
    return f"{part.encode()[: LONGEST - 13].decode(errors='ignore')}-{mark}"
