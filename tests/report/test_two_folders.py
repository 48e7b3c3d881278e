"""Two folders side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from folders import NASTY, MadeUp, Page

from elsewhere.benchmark.loading import load
from elsewhere.errors import RunError
from elsewhere.report import write_comparison
from elsewhere.report.two_folders import pairs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same patients; the second folder's models are better, and were trained longer."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    sites = {NASTY: 20, "B": 20}
    MadeUp("segmentation", sites, {"erm": 0.0, "gin": 0.5}, home=8, calibration=8).write(one)
    longer = {"network": "made up", "steps": 400, "batch_size": 8, "learning_rate": 0.001}
    MadeUp("segmentation", sites, {"erm": 2.0, "vrex": 0.5}, home=8, calibration=8).write(two, settings=longer)
    return one, two


def test_what_is_the_same_and_what_differs(folders: tuple[Path, Path]) -> None:
    path = write_comparison(*folders)
    assert path == folders[1] / "report-of-two.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert NASTY not in text
    assert NASTY in page.sections["scores"]
    assert "steps 200 400" in " ".join(page.sections["settings"].split())
    assert "batch_size" not in page.sections["settings"]
    assert "methods erm, gin erm, vrex" in " ".join(page.sections["question"].split())
    assert "the second folder is better for erm at" in page.text
    assert "vrex" not in page.sections["scores"], "in one folder only"


def test_differences_are_of_the_same_patients(folders: tuple[Path, Path]) -> None:
    one, two = (load(folder) for folder in folders)
    found = pairs(one, two, "dice")
    assert [(pair.method, pair.held_out) for pair in found] == [("erm", NASTY), ("erm", "B")]
    for pair in found:
        assert pair.difference is not None
        assert pair.difference.models.value == pytest.approx(pair.second - pair.first)
        assert (pair.shared, pair.cases) == (20, 20)
        assert pair.difference.verdict == "better"
    again = pairs(two, one, "dice")
    assert again[0].difference is not None
    assert again[0].difference.verdict == "worse"


def test_a_verdict_on_models_only_says_so(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for name, gain in (("one", 0.0), ("two", 0.4)):
        MadeUp("segmentation", {"B": 20}, {"erm": gain}, seeds=(0,), home=8, calibration=8).write(tmp_path / name)
    plan = tmp_path / "two" / "plan.json"
    plan.write_text(plan.read_text(encoding="utf-8").replace('"runs"', '"sees_unlabelled_target": [], "runs"', 1))
    page = Page(write_comparison(tmp_path / "one", tmp_path / "two").read_text(encoding="utf-8"))
    assert page.sections["scores"].count("for these models only") == 1 + 1, "one seed, and the sentence below"
    assert "selection: source-val" in page.sections["scores"]
    assert "higher is better" in page.sections["scores"]
    assert "sees_unlabelled_target" not in page.sections["question"], "none, and not written, are the same"


def test_other_patients_have_no_interval(folders: tuple[Path, Path], tmp_path: Path) -> None:
    MadeUp("segmentation", {"B": 12, "C": 12}, {"erm": 0.0}, cases=2, home=4, calibration=4).write(tmp_path / "three")
    path = write_comparison(folders[0], tmp_path / "three", out=tmp_path / "page.html")
    text = Page(path.read_text(encoding="utf-8")).sections["scores"]
    assert "cases of one name are of other patients or classes" in text
    assert re.search(r"no interval", text)


def test_folders_that_cannot_be_compared(folders: tuple[Path, Path], tmp_path: Path) -> None:
    MadeUp("classification", {"B": 12, "C": 12}, {"erm": 0.0}, seeds=(0,)).write(tmp_path)
    with pytest.raises(RunError, match=r"its task is classification, that of .* is segmentation"):
        write_comparison(folders[0], tmp_path)
    MadeUp("segmentation", {"X": 6, "Y": 6}, {"erm": 0.0}, seeds=(0,)).write(tmp_path / "others")
    page = write_comparison(folders[0], tmp_path / "others", out=tmp_path / "p.html").read_text(encoding="utf-8")
    assert "nothing to compare" in page
