"""The cache: each file of a study is read and decoded once, whatever the number of runs and processes.

Two levels, both addressed by content: *decoded* (the file's grid, canonical axes) and *resampled* (made from the
decoded entry; where nothing has to be resampled it IS the decoded entry). The key of an entry is made of the bytes of
the case's files and of how they are read, so a changed file makes a new entry and two studies that share files share
entries. Statistics of a fold are never in it: they are applied when a batch is made.

In the folder: `cases/xx/KEY.case` (see `entry`), `locks/` (the system's locks, gone with their process),
`hashes.tsv` (what file had what hash, so that no file is hashed in every run), `decodes.log` (one line a decode).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from elsewhere.errors import RunError, StudyError
from elsewhere.files import write_error
from elsewhere.study.case import Case
from elsewhere.study.decode import Schema, decode, where
from elsewhere.study.entry import CorruptEntry, Entry, make_entry, read_entry, write_entry
from elsewhere.study.folders import cache_folder
from elsewhere.study.hashes import FileHashes
from elsewhere.study.reading import backslash_hint
from elsewhere.study.resample import resize, resize_label, target_geometry
from elsewhere.study.revision import revision

VERSION = "1"
"""Part of every key: raise it when decoding or resampling changes, and old entries are no longer used."""

DEFAULT_LIMIT = 50 * 2**30
_MOST_OPEN = 16_384  # a mapped file each; Linux allows a process 65,530
_log = logging.getLogger(__name__)


class Cache:
    """Decoded and resampled cases on disk, shared by processes, bounded.

    Args:
        folder: where; by default the user's cache folder.
        limit_bytes: what it may hold; above it, the entries longest unused go first, never those open here.

    Attributes:
        decodes: cases that this process decoded through this object.

    Raises:
        RunError: the folder cannot be written.
    """

    def __init__(self, folder: Path | str | None = None, limit_bytes: int = DEFAULT_LIMIT) -> None:
        self.folder = (Path(folder) if folder is not None else cache_folder()).absolute()
        self.limit_bytes = limit_bytes
        self._start()

    def _start(self) -> None:
        self.decodes = 0
        self._open: OrderedDict[str, Entry] = OrderedDict()
        self._guard = threading.Lock()  # batches are read in a thread beside the validation
        self._open_bytes = 0
        self._used: int | None = None
        self._warned = False
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            (self.folder / "decodes.log").open("a").close()
        except OSError as error:
            raise RunError(
                f"cache folder {self.folder}: cannot be written ({error.strerror}); set ELSEWHERE_CACHE to a folder "
                "that you may write to"
            ) from error
        self._hashes = FileHashes(self.folder / "hashes.tsv")

    def __getstate__(self) -> dict[str, Any]:
        """Only where and how much: what was opened here may be of any case, a held-out one included."""
        return {"folder": self.folder, "limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def key(self, case: Case, schema: Schema) -> str:
        """Content address of a decoded case: changes with any byte of its files, or with how they are read."""
        try:
            masked = isinstance(case.label, Path)
            described: dict[str, Any] = {
                "version": VERSION,
                "images": [self._hashes.of(path) for path in case.images.values()],
                "label": self._hashes.of(case.label) if isinstance(case.label, Path) else None,
                "maps": {name: self._hashes.of(path) for name, path in sorted(case.maps.items())},
                "values": sorted(schema.label_values.items()) if masked else [],
            }
            if masked and schema.mask_place != "header":
                described["mask_place"] = schema.mask_place
            read = [revision(path, as_label=False) for path in (*case.images.values(), *case.maps.values())]
            read += [revision(case.label, as_label=True)] if isinstance(case.label, Path) else []
            if max(read) > 1:
                described["read"] = read
        except FileNotFoundError as error:
            hint = backslash_hint(Path(error.filename))
            raise StudyError(f"{where(case)}: there is no file '{error.filename}'{hint}") from error
        except OSError as error:
            raise StudyError(f"{where(case)}: cannot read '{error.filename}' ({error.strerror})") from error
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def decoded(self, case: Case, schema: Schema) -> Entry:
        """Give a case as it is in its files, in canonical axes; decode it if no process ever did.

        Raises:
            StudyError: a file is missing, unreadable, or does not fit the study.
            RunError: the entry cannot be written.
        """
        return self._decoded(self.key(case, schema), case, schema)

    def resampled(
        self,
        case: Case,
        schema: Schema,
        size: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> tuple[str, Entry]:
        """Give a case on the asked grid (see `resample.target_geometry`), and the key under which `open` has it."""
        key = self.key(case, schema)
        if size is None and spacing is None:
            return key, self._decoded(key, case, schema)
        asked = json.dumps([key, None if size is None else list(size), None if spacing is None else list(spacing)])
        level_key = hashlib.sha256(asked.encode()).hexdigest()
        entry = self._lookup(level_key)
        if entry is not None:
            return level_key, entry
        # Taken before the lock of the resampled entry: no process ever waits for a lock while it holds another.
        source = self._decoded(key, case, schema)
        target = target_geometry(source.geometry, size, spacing)
        if target is source.geometry:
            return key, source

        def make() -> Entry:
            label = None if source.label is None else resize_label(source.label, target.shape)
            maps = {name: resize(m[None], target.shape)[0] for name, m in source.maps.items()}
            return make_entry(resize(source.image, target.shape), label, maps, target, source.original)

        return level_key, self._obtain(level_key, make)

    def open(self, key: str) -> Entry | None:
        """Give the entry of a key that `resampled` gave; None where it has been evicted since."""
        return self._lookup(key)

    def decodes_logged(self) -> int:
        """Decodes by all processes that ever used this folder."""
        return (self.folder / "decodes.log").read_bytes().count(b"\n")

    def _decoded(self, key: str, case: Case, schema: Schema) -> Entry:
        return self._obtain(key, lambda: self._decode(key, case, schema))

    def _decode(self, key: str, case: Case, schema: Schema) -> Entry:
        self.decodes += 1
        _append(self.folder / "decodes.log", f"{time.strftime('%FT%T')} {os.getpid()} {key}\n")
        return decode(case, schema)

    def _obtain(self, key: str, make: Callable[[], Entry]) -> Entry:
        entry = self._lookup(key)
        if entry is not None:
            return entry
        try:
            # Named by the first digits: a bounded number of lock files, and hardly ever two entries on one lock.
            lock = FileLock(self.folder / "locks" / f"{key[:3]}.lock", poll_interval=0.02)
            lock.acquire()
        except OSError as error:
            raise write_error(self.folder / "locks", error) from error
        try:
            entry = self._lookup(key)  # another process may have made it while this one waited
            if entry is not None:
                return entry
            self._make_room(self._path(key), write_entry(self._path(key), make()))
            return self._remember(key, read_entry(self._path(key), verify=False))
        finally:
            lock.release()

    def _lookup(self, key: str) -> Entry | None:
        with self._guard:
            entry = self._open.get(key)
            if entry is not None:
                self._open.move_to_end(key)
                return entry
        path = self._path(key)
        try:
            entry = read_entry(path)
        except FileNotFoundError:
            return None
        except CorruptEntry as error:
            _log.warning("cache entry is made again: %s", error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of last use, by which entries are evicted
        return self._remember(key, entry)

    def _remember(self, key: str, entry: Entry) -> Entry:
        with self._guard:
            if key in self._open:  # another thread was quicker
                return self._open[key]
            self._open[key] = entry
            self._open_bytes += entry.nbytes
            # Half of the limit stays evictable, so that what is open here never fills the cache.
            while len(self._open) > 1 and (len(self._open) > _MOST_OPEN or self._open_bytes > self.limit_bytes // 2):
                self._open_bytes -= self._open.popitem(last=False)[1].nbytes
        return entry

    def _path(self, key: str) -> Path:
        return self.folder / "cases" / key[:2] / f"{key}.case"

    def _make_room(self, new: Path, written: int) -> None:
        """Evict the entries longest unused, of any process; mapped files stay readable after they are unlinked."""
        self._used = None if self._used is None else self._used + written
        if self._used is not None and self._used <= self.limit_bytes:
            return
        entries = sorted(_entries(self.folder / "cases"))
        self._used = sum(size for _, size, _ in entries)
        if self._used <= self.limit_bytes:
            return
        for _, size, path in entries:
            if self._used <= 0.9 * self.limit_bytes:
                return
            if path == str(new) or Path(path).stem in self._open:
                continue
            with contextlib.suppress(OSError):
                os.unlink(path)
            self._used -= size
        if self._used > self.limit_bytes and not self._warned:
            self._warned = True
            _log.warning("cache folder %s: what is in use is larger than its limit", self.folder)


def _entries(folder: Path) -> list[tuple[float, int, str]]:
    """(last use, size, path) of every entry; removes what killed processes left half-written an hour ago."""
    found: list[tuple[float, int, str]] = []
    old = time.time() - 3600
    for part in folder.iterdir() if folder.exists() else ():
        with contextlib.suppress(OSError), os.scandir(part) as listing:
            for item in listing:
                with contextlib.suppress(OSError):
                    state = item.stat()
                    if item.name.endswith(".case"):
                        found.append((state.st_mtime, state.st_size, item.path))
                    elif state.st_mtime < old:
                        os.unlink(item.path)
    return found


def _append(path: Path, line: str) -> None:
    """One write call in append mode: lines of several processes do not mix."""
    try:
        with path.open("ab", buffering=0) as file:
            file.write(line.encode())
    except OSError as error:
        raise write_error(path, error) from error
