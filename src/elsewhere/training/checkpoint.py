"""Checkpoints that are whole or not there: each file has the hash of its bytes in its name; the last two stay."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from elsewhere.files import atomic


class Checkpoints:
    """The checkpoints of a training, in one folder.

    `step-000000250-0123456789abcdef.pt` is all of the state after 250 steps; `best-...safetensors` are the weights of
    the best validation so far, to which a checkpoint points by its key `files`. A file whose bytes do not have the hash
    of its name (a full disk, a broken one) is passed over and the checkpoint before it is used.

    Args:
        folder: made where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before: tuple[str, ...] = ()

    def clean(self) -> None:
        """Remove what a killed process left half-written. Only for who holds the folder's lock."""
        for left in self.folder.glob(".*.part"):
            left.unlink(missing_ok=True)

    def write_weights(self, rule: str, step: int, data: bytes) -> str:
        """Write the weights that are best by a rule; returns the name under which a checkpoint may point to them."""
        return self._write(f"best-{rule}-{step:09d}", ".safetensors", data)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state after `step` steps, then remove all but this and the checkpoint before it.

        `state` holds tensors and plain values; `state["files"]` names the weights that it points to.

        Raises:
            RunError: the disk is full or the folder cannot be written; the checkpoints before stay.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        name = self._write(f"step-{step:09d}", ".pt", buffer.getvalue())
        for old in self._all()[2:]:
            old.unlink(missing_ok=True)
        files = tuple(state["files"])
        for best in self.folder.glob("best-*.safetensors"):
            if best.name not in (*files, *self._before):
                best.unlink(missing_ok=True)
        self._before = files
        return self.folder / name

    def load(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest whole checkpoint (None where there is none), on the CPU, and a sentence for each passed over."""
        notes: list[str] = []
        for path in self._all():
            data = self.read(path.name)
            if data is not None:
                state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                if all(self.read(name) is not None for name in state["files"]):
                    self._before = tuple(state["files"])
                    return state, notes
            notes.append(f"checkpoint {path.name} is damaged and was passed over for the one before it")
            path.unlink(missing_ok=True)
        return None, notes

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None where it is missing or damaged."""
        try:
            data = (self.folder / name).read_bytes()
        except OSError:
            return None
        return data if name.rpartition("-")[2].partition(".")[0] == _digest(data) else None

    def _write(self, stem: str, suffix: str, data: bytes) -> str:
        name = f"{stem}-{_digest(data)}{suffix}"
        with atomic(self.folder / name) as temporary:
            temporary.write_bytes(data)
        return name

    def _all(self) -> list[Path]:
        """Newest first; of two of the same step, the one written last."""
        found = [(path.name.split("-")[1], path.stat().st_mtime_ns, path) for path in self.folder.glob("step-*.pt")]
        return [path for _, _, path in sorted(found, reverse=True)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
