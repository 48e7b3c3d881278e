"""A contact sheet: a few images of each site, with the outlines of their labels, as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from elsewhere.errors import ElsewhereError
from elsewhere.files import atomic
from elsewhere.study.case import Case
from elsewhere.study.reading import read_image, read_label
from elsewhere.study.study import Progress, Study

# Okabe and Ito's colours, told apart by most colour-blind people.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
_TILE, _GAP, _LINE = 192, 8, 16


def draw_contact_sheet(study: Study, out: Path, *, per_site: int = 6, progress: Progress | None = None) -> Path:
    """Write a PNG or JPEG with a row per site.

    Of a 3D image the slice with most of the label is shown (the middle one without label), across the file's last
    axis. Grey values are stretched from the 1st to the 99th percentile of what is shown. An image that cannot be read
    is an empty frame that says so.

    Raises:
        RunError: `out` cannot be written.
    """
    font = ImageFont.load_default(12)
    row = _TILE + 2 * _LINE + _GAP
    sheet = Image.new("RGB", (_GAP + per_site * (_TILE + _GAP), _GAP + len(study.sites) * row), "white")
    pen = ImageDraw.Draw(sheet)
    shown = {site: _spread(study.of_site(site), per_site) for site in study.sites}
    total, done = sum(len(cases) for cases in shown.values()), 0
    for number, (site, cases) in enumerate(shown.items()):
        top = _GAP + number * row
        pen.text((_GAP, top), f"{site}: {len(study.of_site(site))} cases", fill="black", font=font)
        for column, case in enumerate(cases):
            left = _GAP + column * (_TILE + _GAP)
            sheet.paste(_tile(study, case, font), (left, top + _LINE))
            words = case.label if isinstance(case.label, str) else case.id.rpartition("/")[2]
            pen.text((left, top + _LINE + _TILE), words[:28], fill="black", font=font)
            done += 1
            if progress is not None:
                progress(done, total)
    form = "JPEG" if out.suffix.lower() in (".jpg", ".jpeg") else "PNG"
    with atomic(out) as temporary:
        sheet.save(temporary, format=form)
    return out


def outline(label: NDArray[Any], width: int = 1) -> NDArray[np.bool_]:
    """The pixels of a label (rows, columns) that touch another value, `width` pixels into it; 0 has no outline."""
    edge = np.zeros(label.shape, bool)
    padded = np.pad(label, width, mode="edge")
    rows, columns = label.shape
    for step in range(-width, width + 1):
        edge |= padded[width + step : width + step + rows, width : width + columns] != label
        edge |= padded[width : width + rows, width + step : width + step + columns] != label
    inside: NDArray[np.bool_] = edge & (label != 0)
    return inside


def _tile(study: Study, case: Case, font: Any) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE), (40, 40, 40))
    try:
        picture = read_image(case.images)
        label = None
        if isinstance(case.label, Path):
            raw = read_label(case.label, picture.geometry, study.config.mask_place).array
            label = np.zeros(raw.shape, np.uint8)
            for value, index in study.label_values.items():
                label[raw == value] = index % 256
    except ElsewhereError:
        ImageDraw.Draw(tile).text((8, _TILE // 2), "cannot be read", fill="white", font=font)
        return tile
    image = picture.array if _is_colour(picture.array) else picture.array[:1]
    if image.ndim == 4:
        at = int((label > 0).sum(axis=(0, 1)).argmax()) if label is not None and label.any() else -1
        at = image.shape[-1] // 2 if at < 0 else at
        # Axes of the file to rows and columns, as viewers show an axial slice.
        image = np.rot90(image[..., at], axes=(1, 2))
        label = np.rot90(label[..., at]) if label is not None else None
    pixels = _stretched(image)
    small = ImageOps.contain(Image.fromarray(pixels), (_TILE, _TILE))
    if label is not None:
        marks = np.asarray(Image.fromarray(np.ascontiguousarray(label)).resize(small.size, Image.Resampling.NEAREST))
        drawn = np.array(small)
        edge = outline(marks)
        for index in np.unique(marks[edge]):
            drawn[edge & (marks == index)] = COLOURS[(int(index) - 1) % len(COLOURS)]
        small = Image.fromarray(drawn)
    tile.paste(small, ((_TILE - small.width) // 2, (_TILE - small.height) // 2))
    return tile


def _is_colour(array: NDArray[Any]) -> bool:
    """Whether three channels are the colours of a photograph (bytes) rather than three sequences."""
    return array.shape[0] == 3 and array.dtype == np.uint8


def _stretched(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(C, rows, columns), C 1 or 3, to (rows, columns, 3) bytes; the colours of a photograph are left as they are."""
    if not _is_colour(image):
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
        scaled = (np.nan_to_num(image.astype(np.float32)) - low) / max(float(high - low), 1e-6)
        image = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(image, (3, *image.shape[1:])), 0, -1))


def _spread(cases: tuple[Case, ...], n: int) -> list[Case]:
    return list(cases) if len(cases) <= n else [cases[i * len(cases) // n] for i in range(n)]
