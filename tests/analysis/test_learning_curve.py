"""The learning curve: a benchmark for each number, one table of all, one page."""

from __future__ import annotations

import io
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from benchmark import tiny
from elsewhere.analysis.learning_curve import read_sizes, run_learning_curve, sizes_of, trained
from elsewhere.benchmark.run import execute
from elsewhere.benchmark.spec import RunSpec
from elsewhere.errors import RunError, SettingsError, StudyError
from elsewhere.report.charts.places import Series, places
from elsewhere.report.learning_curve import read_curve, write_learning_curve
from elsewhere.study.case import Fold
from elsewhere.study.study import open_study

SIZES = [1, None]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.segmentation(tmp_path_factory.mktemp("study") / "s", {"A": 6, "B": 6, "C": 6})


@pytest.fixture(scope="module")
def made(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("curve") / "out"
    cache = tmp_path_factory.mktemp("cache")
    return out, run(study, out, cache=cache, held_out=["A", "B"])


def run(study: Path, out: Path, **more: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    question = {"methods": ["erm", "mild=vrex"], "patients": SIZES, "steps": 2, "changes": tiny.SETTINGS, **more}
    assert run_learning_curve(study, out=out, console=console, **question) == 0
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_sizes_are_read_and_put_in_order() -> None:
    assert read_sizes("10, 1,all,3,1") == [1, 3, 10, None]
    for text in ("0", "-1", "1,", "ten", "1.5", "²"):
        with pytest.raises(SettingsError, match="--patients"):
            read_sizes(text)


def test_each_number_is_a_benchmark_and_the_table_is_gathered_from_them(made: tuple[Path, str], study: Path) -> None:
    out, said = made
    table = read_curve(out)
    assert list(dict.fromkeys(table["patients"])) == ["1", "all"]
    assert set(table["method"]) == {"erm", "mild"}
    assert set(table["held_out"]) == {"A", "B", "all"}
    for size in ("1", "all"):
        results = pd.read_csv(out / f"patients-{size}" / "results.csv", keep_default_na=False, dtype=str)
        chosen = (results["class"] == "all") & (results["seed"] == "all")
        wanted = results[chosen].set_index(["method", "held_out", "split", "metric"])["value"].astype(float)
        mine = table[(table["patients"] == size) & (table["held_out"] != "all")]
        found = mine.set_index(["method", "held_out", "split", "metric"])["value"]
        pd.testing.assert_series_equal(found.sort_index(), wanted.sort_index())
    dice = table[(table["metric"] == "dice") & (table["split"] == "held-out") & (table["method"] == "erm")]
    for size, group in dice.groupby("patients"):
        by_fold = group.set_index("held_out")["value"]
        assert by_fold["all"] == pytest.approx((by_fold["A"] + by_fold["B"]) / 2), size
    trained_ = table.drop_duplicates("patients").set_index("patients")["trained"]
    assert trained_.to_dict() == {"1": 1, "all": 6}
    assert set(table["n_seeds"]) == {1}
    assert "1 of 2: 1 training patient, in" in said
    assert "held out, mean over the folds; source-val" in said
    assert "all (6)" in said


def test_it_goes_on_and_a_question_for_less_keeps_the_others(
    made: tuple[Path, str], study: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(made[0], tmp_path / "out")
    before = {path: path.read_bytes() for path in out.glob("patients-*/runs/*/*/*/done.json")}
    assert len(before) == 8
    assert "0 to do" in run(study, out, held_out=["A", "B"], patients=[1])
    assert {path: path.read_bytes() for path in before} == before
    assert list(dict.fromkeys(read_curve(out)["patients"])) == ["1"]


def test_the_page_has_a_curve_for_each_fold_on_one_scale(made: tuple[Path, str]) -> None:
    page = write_learning_curve(made[0]).read_text(encoding="utf-8")
    for title in ("held out, mean over the folds", "home, mean over the folds", "A held out", "B held out"):
        assert f"<figcaption>{title}</figcaption>" in page
    figures = [part for part in page.split("<svg")[1:] if "over training patients" in part[:200]]
    scales = {tuple(tick for tick in figure.split('text-anchor="end">')[1:]) for figure in figures}
    numbers = {tuple(text.split("<")[0] for text in scale) for scale in scales}
    assert len(figures) == 4
    assert len(numbers) == 1
    assert "all (6)" in page


def b_fails(spec: RunSpec, folder: Path, emit: Any) -> None:
    if spec.fold.name == "B" or spec.patients == 2:
        raise StudyError("this one cannot be")
    execute(spec, folder, emit)


def test_a_number_that_is_all_of_them_is_not_trained_again(study: Path, tmp_path: Path) -> None:
    said = run(study, tmp_path, methods=["erm"], patients=[6, 60, None], held_out=["A"])
    assert "60 training patients: there are no more than that, so it is the same as `all`" in said
    assert [path.name for path in sorted(tmp_path.glob("patients-*"))] == ["patients-all"]
    assert list(read_curve(tmp_path)["patients"].unique()) == ["all"]


def test_two_numbers_that_are_all_of_them_are_one(study: Path, tmp_path: Path) -> None:
    said = run(study, tmp_path, methods=["erm"], patients=[2, 6, 60], held_out=["A"])
    assert "60 training patients: there are no more than that, so it is the same as `6`" in said
    assert [path.name for path in sorted(tmp_path.glob("patients-*"))] == ["patients-2", "patients-6"]


def test_without_one_fold_there_is_no_mean(study: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    question: dict[str, Any] = {"held_out": ["A", "B"], "steps": 1, "changes": tiny.SETTINGS, "work": b_fails}

    def curve(out: Path, sizes: list[int | None]) -> int:
        return run_learning_curve(study, out=out, methods=["erm"], patients=sizes, console=console, **question)

    assert curve(tmp_path / "out", [2, 3]) == 1
    table = read_curve(tmp_path / "out")
    assert set(table["patients"]) == {"3"}
    assert table.loc[table["held_out"] == "A", "value"].notna().any()
    assert table.loc[table["held_out"] == "all", "value"].isna().all()
    page = write_learning_curve(tmp_path / "out").read_text(encoding="utf-8")
    assert "Not complete: 1 of 2 runs failed" in page
    assert curve(tmp_path / "none", [2]) == 1
    with pytest.raises(RunError, match="no run is finished yet"):
        write_learning_curve(tmp_path / "none")


def test_who_trained_is_read_off_the_split(study: Path) -> None:
    opened = open_study(study)
    assert [trained(opened, Fold(("A",)), 0, n) for n in (1, 3, 6, 50, None)] == [1, 3, 6, 6, 6]


def test_what_is_in_the_way_is_said(made: tuple[Path, str], study: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is the folder of a study"):
        run(study, study)
    with pytest.raises(RunError, match="is the folder of a benchmark"):
        run(study, made[0] / "patients-1")
    with pytest.raises(SettingsError, match="--patients"):
        run(study, tmp_path / "out", patients=[])
    with pytest.raises(RunError, match=r"learning_curve\.csv: is missing"):
        write_learning_curve(tmp_path)


def test_numbers_that_were_not_reached_stand_beside_those_that_were() -> None:
    rows = [("5", 5.0), ("10", 8.0), ("all", 7.0), ("all", 9.0)]
    table = pd.DataFrame(rows, columns=["patients", "trained"])
    assert sizes_of(table) == {"5": "5", "10": "10 (8)", "all": "all (7–9)"}


def test_a_chart_of_places() -> None:
    nan = math.nan
    one = Series("erm", 0, [(0.2, 0.1, 0.3), (nan, nan, nan), (0.6, nan, nan)])
    two = Series("<mild>", 9, [(0.3, 0.2, 0.4), (0.5, 0.4, 0.6), (0.7, 0.6, 0.8)])
    drawn = str(places([one, two], "t", ["1", "5", "all (8)"], up=(0.0, 1.0), under="patients", beside="Dice"))
    assert drawn.count("<circle") == 5
    assert drawn.count('class="wide') == 4
    assert "&lt;mild&gt;, 5: 0.500 [0.40, 0.60]" in drawn
    assert 'class="bold c1 second"' in drawn
    first, second = (line.split('"')[3].split() for line in drawn.split("<polyline")[1:])
    assert (len(first), len(second)) == (2, 3)
    # Upright: 0.2 and 0.6 of an axis from 0 to 1 lie as far apart as 0.3 and 0.7.
    heights = [[float(point.split(",")[1]) for point in points] for points in (first, second)]
    assert heights[0][0] - heights[0][1] == pytest.approx(heights[1][0] - heights[1][2], abs=0.2)
    assert places([Series("erm", 0, [(nan, nan, nan)])], "t", ["1"]) == ""
    many = str(places([Series("erm", 0, [(0.1, 0.0, 0.2)] * 12)], "t", [f"{n} (1000)" for n in range(12)]))
    assert 0 < many.count('text-anchor="middle"') < 12
