"""The folder of a finished model: what is in it, and what is refused before anything of it is used.

```
MODEL/
  model.safetensors        weights
  config.yaml              how they are used: network, preprocessing, temperature, thresholds, ... and all of the card
  development.safetensors  statistics of the development data, to know a case that is unlike them
  card.md                  for a person who has to decide
  SHA256SUMS               one line a file; written last, `sha256sum -c SHA256SUMS` checks it too
```

No case and no patient of the training data is in it, and no path but those of the command as it was typed. Nothing in
it is ever run, nothing is read that is not listed with its hash, and nothing may be in it but these five files. The
hashes tell a damaged or mixed-up folder, not who made it: whoever can change a file can change its hash.

Imports no torch: a folder is refused in milliseconds.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from elsewhere.errors import ModelError
from elsewhere.files import atomic, write_error, write_text

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
DEVELOPMENT, CARD, SUMS = "development.safetensors", "card.md", "SHA256SUMS"
FILES = (WEIGHTS, CONFIG, DEVELOPMENT, CARD)

FORMAT = 2
"""Of `config.yaml`; the models that a run keeps, without all of this, are format `KEPT`."""

KEPT = 1

ORIENTATION = "RAS"
"""Axes of a volume as the network sees it: those of the file, permuted and flipped to the ones closest to these."""

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")

_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "method": str,
    "options": dict,
    "network": str,
    "network_options": dict,
    "task": str,
    "dims": int,
    "classes": list,
    "n_sites": int,
    "preprocessing": dict,
    "overlap": float,
    "temperature": (float, type(None)),
    "thresholds": dict,
    "conformal": dict,
}
"""Without these a model cannot be used; the other keys are for its card."""


def write_folder(folder: Path, weights: Path, config: Mapping[str, Any], development: Path, card: str) -> Path:
    """Write all files of a model into `folder`, the hashes last.

    Args:
        folder: made here; not yet the place where anybody looks for the model, see `publish`.
        weights, development: safetensors files, copied.
        config: plain values.
        card: Markdown.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process left there
    for name, source in ((WEIGHTS, weights), (DEVELOPMENT, development)):
        with atomic(folder / name) as temporary:
            shutil.copyfile(source, temporary)
    write_text(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    write_text(folder / CARD, card)
    write_text(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in sorted(FILES)))
    return folder


def publish(ready: Path, folder: Path, aside: Path) -> None:
    """Rename a finished folder to where it is looked for: there is a whole model at `folder`, or none.

    Args:
        ready: on the same disk as `folder`.
        folder: may hold an older model, or be empty.
        aside: where the older model goes meanwhile; removed.

    Raises:
        RunError: the place cannot be written.
    """
    try:
        shutil.rmtree(aside, ignore_errors=True)
        if folder.exists():
            os.rename(folder, aside)
        os.rename(ready, folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise write_error(folder, error) from error


def recover(folder: Path, aside: Path) -> None:
    """Bring back the older model where `publish` was killed between its two renamings.

    Raises:
        RunError: the place cannot be written.
    """
    if not folder.exists() and is_model(aside):
        try:
            os.rename(aside, folder)
        except OSError as error:
            raise write_error(folder, error) from error


def is_model(folder: Path) -> bool:
    """Tell whether it looks like the folder of a finished model; `check_folder` tells whether it is sound."""
    return (folder / SUMS).is_file() and (folder / CONFIG).is_file()


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but the plain, listed, unchanged files of a model.

    Raises:
        ModelError: no model, a pickle, a link, a folder, a file that is missing, not listed, changed, or none of a
            model's; names it.
    """
    names = [name for name in _plain_files(folder) if name != SUMS]
    if not (folder / SUMS).exists():
        raise ModelError(f"{folder}: there is no {SUMS}; wanted a finished model, as `elsewhere train` writes one")
    listed = _read_sums(folder / SUMS)
    for name in sorted({*listed, *FILES}):
        if name not in names:
            raise ModelError(f"{folder}: {name} is missing; copy the whole folder again")
    for name in names:
        if name not in listed:
            raise ModelError(f"{folder}: {name} is not listed in {SUMS}; remove it, it is not part of the model")
        if name not in FILES:
            raise ModelError(f"{folder}: {name} is no file of a model, though {SUMS} lists it; do not use this one")
        if sha256(folder / name) != listed[name]:
            raise ModelError(
                f"{folder}: {name} is not what it was when the model was made (its SHA-256 is not that in {SUMS}); "
                "copy the folder again, or train again"
            )


def check_kept(folder: Path) -> None:
    """Refuse a folder that is not what a benchmark's run keeps: plain files, and no finished model without its hashes.

    Raises:
        ModelError: no model, a pickle, a link, a folder; or a finished model whose SHA256SUMS is gone.
    """
    if folder.is_dir() and not (folder / CONFIG).exists():
        raise ModelError(f"{folder}: no model here, there is no {CONFIG}")
    _plain_files(folder)
    if _config(folder)["format"] != KEPT:
        check_folder(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """`config.yaml` of a folder that was checked.

    Raises:
        ModelError: it is no YAML, of a format that this version does not read, or lacks what a model needs.
    """
    path, config = folder / CONFIG, _config(folder)
    if config["format"] != FORMAT:
        raise ModelError(
            f"{path}: is of format {config['format']!r}, this version of elsewhere reads format {FORMAT}; use the "
            f"version that made it{_version(config)}, or train again"
        )
    for key, kind in _KEYS.items():
        if key not in config:
            raise ModelError(f"{path}: key '{key}' is missing")
        if not isinstance(config[key], kind):
            raise ModelError(f"{path}: key '{key}': found {config[key]!r}")
    temperature, axes = config["temperature"], config.get("orientation")
    if temperature is not None and not 0 < temperature < math.inf:
        raise ModelError(f"{path}: key 'temperature': found {temperature!r}, wanted a number above 0")
    if axes not in (None, ORIENTATION):
        raise ModelError(f"{path}: key 'orientation': found {axes!r}; this version knows {ORIENTATION} only")
    return config


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(config, dict) or "format" not in config:
        raise ModelError(f"{path}: has no key 'format'; wanted a model, as `elsewhere train` writes one")
    return config


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error


def _plain_files(folder: Path) -> list[str]:
    """Names of the files of a folder, sorted, once each was looked at."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder; wanted a model, as `elsewhere train` writes one")
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror or error})") from error
    for path in found:
        _require_plain(path)
    return [path.name for path in found]


def _require_plain(path: Path) -> None:
    """No link, no folder, no pickle."""
    if path.is_symlink():
        raise ModelError(f"{path.parent}: {path.name} is a link; a model's folder holds plain files only")
    if not path.is_file():
        raise ModelError(f"{path.parent}: {path.name} is no plain file; a model's folder holds plain files only")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    if path.suffix.lower() in PICKLES or head.startswith(b"PK\x03\x04") or _pickled(head):
        raise ModelError(
            f"{path.parent}: {path.name} is a pickle, or an archive that may hold one: loading it could run any code; "
            "a model's folder has none, do not use this one"
        )


def _pickled(head: bytes) -> bool:
    """A pickle of protocol 2 or later; safetensors whose header has 640, 896, ... bytes begin with the same two."""
    safetensors = head[2:8] == bytes(6) and head[8:9] == b"{"
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and not safetensors


def _read_sums(path: Path) -> dict[str, str]:
    """File name -> SHA-256.

    Raises:
        ModelError: a line that is none, a name twice, or a name that leads out of the folder.
    """
    listed: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ModelError(f"{path} line {number}: wanted a SHA-256 and a file name, found {line[:60]!r}")
        digest, name = match.groups()
        if name in (".", "..") or "/" in name or "\\" in name:
            raise ModelError(f"{path} line {number}: {name!r} leads out of the folder")
        if name in listed:
            raise ModelError(f"{path} line {number}: {name!r} is listed twice")
        listed[name] = digest
    return listed


def _version(config: Mapping[str, Any]) -> str:
    versions = config.get("versions")
    return f" ({versions['elsewhere']})" if isinstance(versions, dict) and "elsewhere" in versions else ""
