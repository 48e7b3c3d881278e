"""Example cases drawn: outlines on the edges, errors where they are, three views of a volume."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elsewhere.benchmark.examples import Thumbnail, View, load_views, save
from elsewhere.report.pictures import CONFUSED, PREDICTION, TRUTH, outline, panels, side_for


def layer(svg: str) -> np.ndarray:
    """(H, W, 4) of the last picture in an SVG."""
    uri = re.findall(r'href="data:image/(?:png|jpeg);base64,([^"]+)"', svg)[-1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGBA")).astype(int)


def masks() -> View:
    truth = np.zeros((48, 48), dtype=np.uint8)
    truth[10:30, 12:40] = 1
    prediction = np.zeros_like(truth)
    prediction[20:40, 5:20] = 1
    return View(np.full((48, 48, 1), 90, np.uint8), truth, prediction)


def near(shown: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(shown[..., :3] - np.array(colour)).max(axis=2) < 8) & (shown[..., 3] > 0)


def test_outlines_lie_on_the_inner_edges() -> None:
    view = masks()
    image, outlines, _ = panels({"image": view}, "a case")
    assert (image.name, outlines.name) == ("image", "outlines")
    shown = layer(outlines.svg)
    factor = shown.shape[0] // 48
    assert shown.shape[:2] == (48 * factor, 48 * factor)
    assert view.truth is not None
    assert view.prediction is not None
    for colour, mask in ((TRUTH, view.truth), (PREDICTION, view.prediction)):
        drawn, inside = near(shown, colour), np.kron(mask, np.ones((factor, factor))) > 0
        assert drawn.any()
        assert not (drawn & ~inside).any()
        assert not drawn[~outline(mask, factor)].any()
    assert (shown[..., 3] == 0).mean() > 0.8, "the image is seen through it"


def test_errors_are_told_apart() -> None:
    truth = np.array([[0, 1, 1, 2], [0, 1, 2, 2]], dtype=np.uint8)
    said = np.array([[1, 1, 0, 1], [0, 1, 2, 0]], dtype=np.uint8)
    shown = layer(panels({"image": View(np.zeros((2, 4, 3), np.uint8), truth, said)}, "x")[2].svg)
    assert near(shown, TRUTH).tolist() == [[False, False, True, False], [False, False, False, True]], "missed"
    assert near(shown, PREDICTION).tolist() == [[True, False, False, False], [False] * 4], "false"
    assert near(shown, CONFUSED).tolist() == [[False, False, False, True], [False] * 4], "of another class"


def test_the_image_is_in_the_page_once() -> None:
    made = panels({"image": masks()}, "<b>")
    text = "".join(one.svg for one in made)
    assert text.count("data:image/jpeg") == 1
    (identifier,) = re.findall(r'id="([^"]+)"', text)
    assert text.count(f'href="#{identifier}"') == 2
    assert "<b>" not in text
    plain = panels({"image": View(np.zeros((8, 8, 3), np.uint8), None, None)}, "x")
    assert [one.name for one in plain] == ["image"]


def test_volumes_have_three_views(tmp_path: Path) -> None:
    views = dict.fromkeys(("axial", "coronal", "sagittal"), masks())
    common = {"method": "erm", "held_out": "A", "seed": 0, "selection": "last", "split": "held-out"}
    save({"best": Thumbnail("a", 0.9, "", views)}, tmp_path, common)
    found = panels(load_views(tmp_path / "best.npz"), "a case")
    assert len(found) == 9
    assert {one.name.partition(", ")[2] for one in found} == set(views)


def test_many_pictures_are_made_smaller() -> None:
    assert side_for(12) == side_for(120) == 320
    assert side_for(480) == 160
    assert side_for(10**6) == 96
    big = View(np.zeros((400, 300, 1), np.uint8), None, None)
    (one,) = panels({"image": big}, "x", side=160)
    assert 'viewBox="0 0 120 160"' in one.svg
    with pytest.raises(KeyError):
        load_views_of_nothing()


def load_views_of_nothing() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, other=np.zeros(2))
    buffer.seek(0)
    load_views(buffer)  # type: ignore[arg-type]
