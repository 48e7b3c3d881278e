"""Files that are whole or absent: atomic writing, and locks that die with their process."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from elsewhere.errors import RunError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on any error nothing is left.

    Raises:
        RunError: the disk is full or the folder cannot be written; the sentence names `path`.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(path)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less what the umask forbids
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A new hidden name in the folder of `path`, which `remove_half_written` knows; nothing is made there."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")


def remove_half_written(folder: Path) -> None:
    """Remove what `atomic` was writing under `folder` when its process was killed; nobody may be writing there."""
    for part in folder.rglob(".*.part"):
        if not part.is_dir():
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_error(path: Path, error: OSError) -> RunError:
    """Say in one sentence why `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"{path}: the disk is full; free some space and run the same command again, what was finished stays"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return RunError(f"{path}: cannot be written ({error.strerror}); choose a folder that you may write to")
    return RunError(f"{path}: cannot be written ({error.strerror or error})")


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder/.lock` for as long as the block runs.

    The lock is the operating system's (flock): it goes with the process that held it, so a lock file that a killed
    process left behind never blocks anybody.

    Raises:
        RunError: another living process holds it, or `folder` cannot be one.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; wanted a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"{folder}: {what} is already running in this folder; wait for it or choose another folder"
        ) from error
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()
