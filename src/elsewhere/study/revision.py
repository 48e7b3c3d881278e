"""Files that are read differently from what the first release of the cache read, and so have another address in it.

All other files keep their address, and with it the identity of the runs that were trained on them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

RTSTRUCT = b"1.2.840.10008.5.1.4.1.1.481.3"
MODALITY_LUT = b"\x28\x00\x00\x30"
"""Tag (0028,3000) in little-endian files."""

HEAD = 2**16
"""Bytes of a DICOM file in which its header is looked for."""


def revision(path: Path, *, as_label: bool) -> int:
    """1 for a file that is read as ever, 2 for one whose values changed.

    Changed: masks with a palette, RTSTRUCT, TIFF that store white as 0 in other than 8, 16 or 32 bits, and DICOM images
    with a modality LUT. A file that looks like one of these is 2, too: it is then decoded once more.

    Raises:
        OSError: the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".gz", ".jpg", ".jpeg")):
        return 1
    if name.endswith((".tif", ".tiff")):
        return 2 if _changed_tiff(path, path.stat().st_mtime_ns, as_label) else 1
    if name.endswith(".png"):
        return 2 if as_label and _head(path, 26)[25:26] == b"\x03" else 1
    if name.endswith((".gif", ".bmp")):
        return 2 if as_label else 1
    place = path if path.exists() else path.with_name(path.name.rpartition("#")[0] or path.name)
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if file.is_file() and (head := _head(file, HEAD))[128:132] == b"DICM":  # the first of a series speaks for all
            return 2 if (RTSTRUCT if as_label else MODALITY_LUT) in head else 1
    return 1


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


@lru_cache(maxsize=2**16)
def _changed_tiff(path: Path, changed_ns: int, as_label: bool) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            kind, bits = int(page.photometric), int(page.bitspersample)
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, AttributeError):
        return False  # reading it says what is wrong
    return (as_label and kind == 3) or (kind == 0 and bits not in (8, 16, 32))
