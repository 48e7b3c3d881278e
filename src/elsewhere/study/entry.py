"""The file of a cache entry: a header, then the arrays, ready to be memory-mapped.

Layout: 8 bytes magic, 8 bytes length of the header (little endian), the header (JSON), arrays at multiples of 64
bytes. The header holds the total length and a CRC-32 of the arrays, so that a truncated or corrupt entry is seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.files import write_error
from elsewhere.study.case import Geometry

MAGIC = b"ELSWcas1"
_ALIGN = 64


class CorruptEntry(Exception):
    """The file is not a whole entry; the cache makes it again."""


@dataclass(frozen=True)
class Entry:
    """What is kept of a case at one level (decoded, or resampled); arrays in canonical axes.

    Attributes:
        image: (C, *spatial), intensities as in the file.
        label: (*spatial) class indices, or None.
        maps: (*spatial) float32 each.
        geometry: of the arrays.
        original: of the file.
        mean, std: (C,), of `image`.
    """

    image: NDArray[Any]
    label: NDArray[Any] | None
    maps: Mapping[str, NDArray[Any]]
    geometry: Geometry
    original: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [self.image, *([] if self.label is None else [self.label]), *self.maps.values()]
        return sum(a.nbytes for a in arrays)


def make_entry(
    image: NDArray[Any],
    label: NDArray[Any] | None,
    maps: Mapping[str, NDArray[Any]],
    geometry: Geometry,
    original: Geometry,
) -> Entry:
    """Add the case's own statistics; see `intensity_statistics`."""
    mean, std = intensity_statistics(image)
    return Entry(image, label, maps, geometry, original, mean, std)


def intensity_statistics(image: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (C, *spatial).

    Over non-zero voxels where more than a quarter of the channel is exactly 0: such zeros are a cut-out background,
    not tissue (our choice). A constant channel has std 0.
    """
    means, stds = [], []
    for channel in image:
        values = channel[channel != 0] if np.count_nonzero(channel) < 0.75 * channel.size else channel
        empty = values.size == 0
        means.append(0.0 if empty else float(values.mean(dtype=np.float64)))
        stds.append(0.0 if empty else float(values.std(dtype=np.float64)))
    return tuple(means), tuple(stds)


def write_entry(path: Path, entry: Entry) -> int:
    """Write atomically; the size in bytes.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    named = {"image": entry.image, **{f"map:{k}": v for k, v in entry.maps.items()}}
    if entry.label is not None:
        named["label"] = entry.label
    arrays, offset, crc = {}, 0, 0
    for name, array in named.items():
        data = np.ascontiguousarray(array)
        named[name] = data
        arrays[name] = {"dtype": data.dtype.str, "shape": data.shape, "offset": offset}
        crc = zlib.crc32(data.reshape(-1).view(np.uint8).data, crc)
        offset += -(-data.nbytes // _ALIGN) * _ALIGN
    header = {
        "arrays": arrays,
        "geometry": _pack(entry.geometry),
        "original": _pack(entry.original),
        "mean": entry.mean,
        "std": entry.std,
        "bytes": offset,
        "crc32": crc,
    }
    text = json.dumps(header).encode()
    start = len(MAGIC) + 8 + len(text)
    text += b" " * (-start % _ALIGN)
    # Not `files.atomic`: waiting for the disk (fsync) is half of the time of decoding a small image, and an entry that
    # a power cut leaves in pieces is seen by its check sum and made again.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(MAGIC + len(text).to_bytes(8, "little") + text)
            for data in named.values():
                file.write(data.reshape(-1).view(np.uint8).data)
                file.write(b"\0" * (-data.nbytes % _ALIGN))
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return len(MAGIC) + 8 + len(text) + offset


def read_entry(path: Path, *, verify: bool = True) -> Entry:
    """Map an entry into memory, read-only.

    Args:
        path: the file.
        verify: compare the arrays with their check sum (reads them all once).

    Raises:
        FileNotFoundError: there is none.
        CorruptEntry: the file is truncated, or not what was written.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CorruptEntry(f"{path}: not an entry")
            length = int.from_bytes(file.read(8), "little")
            start = len(MAGIC) + 8 + length
            if start > path.stat().st_size:
                raise CorruptEntry(f"{path}: truncated in its header")
            header = json.loads(file.read(length))
        whole = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        if whole.size != start + header["bytes"]:
            raise CorruptEntry(f"{path}: {whole.size} bytes, should be {start + header['bytes']}")
        views, crc = {}, 0
        for name, spec in header["arrays"].items():
            dtype, begin = np.dtype(spec["dtype"]), start + spec["offset"]
            flat = whole[begin : begin + int(np.prod(spec["shape"], dtype=np.int64)) * dtype.itemsize]
            if verify:
                crc = zlib.crc32(flat.data, crc)
            views[name] = flat.view(dtype).reshape(spec["shape"])
        if verify and crc != header["crc32"]:
            raise CorruptEntry(f"{path}: the arrays do not match their check sum")
        return Entry(
            image=views["image"],
            label=views.get("label"),
            maps={name.removeprefix("map:"): view for name, view in views.items() if name.startswith("map:")},
            geometry=_unpack(header["geometry"]),
            original=_unpack(header["original"]),
            mean=tuple(header["mean"]),
            std=tuple(header["std"]),
        )
    except (ValueError, KeyError, TypeError) as error:  # a header of garbage, in all its forms
        raise CorruptEntry(f"{path}: {error}") from error


def _pack(geometry: Geometry) -> dict[str, Any]:
    affine = None if geometry.affine is None else geometry.affine.tolist()
    spacing = None if geometry.spacing is None else [float(s) for s in geometry.spacing]
    packed = {"shape": [int(n) for n in geometry.shape], "spacing": spacing, "affine": affine}
    return {**packed, "unplaced": True} if geometry.unplaced else packed


def _unpack(packed: Mapping[str, Any]) -> Geometry:
    spacing, affine = packed["spacing"], packed["affine"]
    return Geometry(
        tuple(packed["shape"]),
        None if spacing is None else tuple(spacing),
        None if affine is None else np.array(affine, np.float64),
        bool(packed.get("unplaced", False)),
    )
