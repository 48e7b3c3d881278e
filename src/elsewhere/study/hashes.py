"""What hash the bytes of a file have, without reading them in every run."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from elsewhere.errors import RunError
from elsewhere.files import write_error, write_text
from elsewhere.study.reading import split_selection

_SETTLED = 2_000_000_000
"""Nanoseconds since its last change after which a file's time stamp is believed.

A file that changes twice within the resolution of the clock keeps its stamp; git calls such a file racily clean."""


class FileHashes:
    """SHA-256 of files and folders, remembered by path, size and modification time.

    `index` is a table, appended to by any number of processes: hash, stamp, path.
    """

    def __init__(self, index: Path) -> None:
        self._index = index
        self._known: dict[str, tuple[str, str]] | None = None

    def of(self, path: Path) -> str:
        """Hash of a file, or of the names and bytes of a folder (a DICOM series), with the selection after `#`.

        Raises:
            OSError: it cannot be read.
        """
        place, selection = split_selection(path)
        digest = self._of(place.absolute())
        return digest if selection is None else f"{digest}#{selection}"

    def _of(self, path: Path) -> str:
        if self._known is None:
            self._known = self._load()
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stamp, changed = _stamp(members)
        known = self._known.get(str(path))
        if known is not None and known[0] == stamp:
            return known[1]
        if path.is_dir():
            parts = [f"{p.relative_to(path)} {_file_hash(p)}" for p in members]
            digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        else:
            digest = _file_hash(path)
        if time.time_ns() - changed > _SETTLED and _stamp(members)[0] == stamp:
            self._known[str(path)] = (stamp, digest)
            self._append(f"{digest}\t{stamp}\t{path}\n")
        return digest

    def _load(self) -> dict[str, tuple[str, str]]:
        known: dict[str, tuple[str, str]] = {}
        lines = 0
        try:
            text = self._index.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return known
        except OSError as error:
            raise RunError(f"{self._index}: cannot be read ({error.strerror}); remove it") from error
        for line in text.split("\n"):
            digest, _, rest = line.partition("\t")
            stamp, _, path = rest.partition("\t")
            lines += 1
            if len(digest) == 64 and path:  # a line cut short by a full disk is not believed
                known[path] = (stamp, digest)
        if lines > 2 * len(known) + 1000:
            write_text(self._index, "".join(f"{d}\t{s}\t{p}\n" for p, (s, d) in known.items()))
        return known

    def _append(self, line: str) -> None:
        if "\n" in line[:-1] or "\r" in line:
            return
        try:
            with self._index.open("ab", buffering=0) as file:
                file.write(line.encode("utf-8", errors="surrogateescape"))
        except OSError as error:
            raise write_error(self._index, error) from error


def _stamp(members: list[Path]) -> tuple[str, int]:
    """A text that changes with the size or the time of any of the files, and the time of the last change."""
    states = [os.stat(p) for p in members]
    newest = max((s.st_mtime_ns for s in states), default=0)
    if len(members) == 1:
        return f"{states[0].st_size}-{newest}", newest
    named = [f"{p.name} {s.st_size} {s.st_mtime_ns}" for p, s in zip(members, states, strict=True)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest(), newest


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
