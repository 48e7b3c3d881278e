from __future__ import annotations

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from elsewhere.benchmark import run_benchmark
from elsewhere.errors import RunError
from elsewhere.report import write_report
from elsewhere.report.pictures import PREDICTION, TRUTH, outline, picture
from elsewhere.report.svg import Line, Span, curves, forest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmark"))
import tiny

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    study = tiny.segmentation(folder / "study", {NASTY: 4, "B & C": 4})
    (study / "images" / "s0-03.png").write_bytes(b"not an image")  # held out with its own site only
    run_benchmark(
        study,
        out=folder / "out",
        methods=["erm", "vrex"],
        steps=4,
        held_out=["B & C", NASTY],
        changes=tiny.SETTINGS,
        cache=folder / "cache",
        console=Console(file=io.StringIO()),
    )
    return folder / "out"


class Page(HTMLParser):
    """Tags, their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_one_file_that_opens_offline(benchmark: Path) -> None:
    path = write_report(benchmark)
    assert path == benchmark / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in path.read_text(encoding="utf-8")
    assert path.stat().st_size < 3_000_000


def test_names_are_text_not_markup(benchmark: Path) -> None:
    text = write_report(benchmark).read_text(encoding="utf-8")
    assert NASTY not in text
    assert NASTY in Page(text).text


def test_says_what_failed_and_what_the_numbers_are(benchmark: Path) -> None:
    page = Page(write_report(benchmark).read_text(encoding="utf-8"))
    assert "Not complete:" in page.text
    assert "s0-03.png" in page.text
    assert "source-val" in page.text


def test_curves_and_cases_of_what_is_done(tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 4, "B": 4, "C": 4})
    question = {"methods": ["erm", "vrex"], "steps": 4, "seeds": 2, "held_out": ["A"], "changes": tiny.SETTINGS}
    assert run_benchmark(study, out=tmp_path / "out", console=Console(file=io.StringIO()), **question) == 0  # type: ignore[arg-type]
    text = write_report(tmp_path / "out").read_text(encoding="utf-8")
    page = Page(text)
    images = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    for attributes in (a for tag, a in page.tags if tag == "img"):
        assert "loading" not in attributes, "a browser prints no lazy picture that was never scrolled to"
        assert attributes["alt"]
    assert len(images) == 2 * 3, "best, median and worst of each method"
    for image in images:
        shown = Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2])))
        assert max(shown.size) >= 256
    # Two methods with two seeds each: their mean and two faint lines, in both charts.
    assert len(re.findall(r'<polyline class="bold', text)) == 4
    assert len(re.findall(r'<polyline class="faint', text)) == 8
    dice = json.loads((next((tmp_path / "out").glob("runs/erm/A/*/examples")) / "examples.json").read_text())
    assert [case["name"] for case in dice] == ["best", "median", "worst"]
    assert dice[0]["score"] >= dice[1]["score"] >= dice[2]["score"]


def test_ticks_differ_and_names_fit() -> None:
    span = Span("a-method-with-a-very-long-name", 0, 1.0, 1.0, 1.0, "1.0")
    chart = str(forest({"A": [span], "B": [span]}, "t"))
    ticks = re.findall(r'text-anchor="middle">([^<]+)<', chart)
    assert len(ticks) > 2
    assert len(set(ticks)) == len(ticks)
    (right, name) = re.findall(r'<text x="([\d.]+)" [^>]*text-anchor="end">([^<]+)<', chart)[0]
    assert name.endswith("…")
    assert float(right) >= 6.3 * len(name), "a letter of 10.5 px is 6.3 px wide at most, on the average"


def test_no_benchmark_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no benchmark here"):
        write_report(tmp_path)


def test_outlines_lie_on_the_edges(tmp_path: Path) -> None:
    truth = np.zeros((48, 48), dtype=np.uint8)
    truth[10:30, 12:40] = 1
    prediction = np.zeros_like(truth)
    prediction[33:40, 5:20] = 1
    np.savez(tmp_path / "a.npz", image=np.full((48, 48, 1), 90, np.uint8), truth=truth, prediction=prediction)
    uri = picture(tmp_path / "a.npz")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)
    assert shown.shape == (288, 288, 3)

    def near(colour: tuple[int, int, int]) -> np.ndarray:
        return np.abs(shown - np.array(colour)).max(axis=2) < 40

    for colour, mask in ((TRUTH, truth), (PREDICTION, prediction)):
        drawn = near(colour)
        inside = np.kron(mask, np.ones((6, 6))) > 0
        assert drawn.any()
        assert not (drawn & ~inside).any(), "drawn on the inner edge"
        assert not drawn[np.asarray(outline(mask, 6)) == 0].any()


def test_charts_with_nothing_in_them() -> None:
    assert "no curve" in curves([], "t")
    assert "no curve" in curves([Line([(1, float("nan"))], 0, "erm")], "t")
    assert forest({"A": [Span("erm", 0, float("nan"), float("nan"), float("nan"), "undefined")]}, "t") == ""
    assert "<circle" in curves([Line([(1, 0.5)], 0, "erm")], "t")
    assert "&lt;b&gt;" in forest({"<b>": [Span("erm", 0, 0.5, 0.4, 0.6, "x")]}, "t")
