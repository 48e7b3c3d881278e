"""The facts of a folder, `glance.json`, and the card in the terminal."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny
from rich.console import Console

from elsewhere.benchmark import run_benchmark
from elsewhere.benchmark.content import repeated
from elsewhere.benchmark.glance import facts_of, look, print_glance
from elsewhere.benchmark.length import Training, compare, write_length
from elsewhere.benchmark.loading import load
from elsewhere.evidence.facts import Curve, Longer
from elsewhere.study.hashes import FileHashes
from elsewhere.study.study import open_study

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from made_up_folder import MadeUp

NASTY = "[bold red]a hospital[/] with a very very long name indeed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("made")
    MadeUp("segmentation", {"A": 14, NASTY: 5}, {"erm": 0.0, "[red]gin": 1.0}, home=8, calibration=8).write(where)
    return where


def printed(folder: Path, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_glance(console, look(folder))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_card_fits_80_columns_and_says_what_glance_json_says(folder: Path) -> None:
    text = printed(folder)
    assert max(map(len, text.splitlines())) <= 80
    whole = " ".join(text.replace("│", " ").split())
    first, *rest = json.loads((folder / "glance.json").read_text(encoding="utf-8"))
    assert (first["about"], [one["about"] for one in rest]) == ("", ["erm", "[red]gin"])
    assert first["sentence"] in whole
    for figure in first["figures"]:
        assert figure["value"] in whole
    for step in first["steps"][:3]:
        assert step.replace("`", "") in whole
    assert "[red]gin " + first["against"][0]["words"] in whole, "names are no markup"
    assert whole.index(first["caveats"][0]["head"]) < whole.index(first["sentence"]), "warnings first"


def test_an_older_folder_has_a_card(tmp_path: Path) -> None:
    MadeUp("classification", {"A": 13}, {"erm": 0.0}, seeds=(0,), evaluation=1, examples=False).write(tmp_path)
    assert "At A, held out from training, ERM reaches AUROC" in " ".join(printed(tmp_path).replace("│", " ").split())


def test_nothing_finished(tmp_path: Path) -> None:
    for spec in MadeUp("segmentation", {"A": 6}, seeds=(0,), examples=False).write(tmp_path, tables=False):
        (tmp_path / spec.folder / "done.json").unlink()
    text = printed(tmp_path)
    assert "Not complete: 2 of 2 runs are not finished" in text
    assert "Nothing is finished yet" in text


def test_facts_of_runs_curves_and_length(folder: Path, tmp_path: Path) -> None:
    here = tmp_path / "copy"
    shutil.copytree(folder, here)
    loaded = load(here)
    facts = facts_of(loaded)
    assert (facts.planned, facts.failed, facts.waiting, facts.steps) == (8, 0, 0, 200)
    assert facts.longer == Longer()
    assert facts.curves[0] == Curve("erm", "A", 2, 0, 0)
    for run in loaded.runs:
        if run.spec.method == "erm":
            log = pd.read_csv(run.folder / "log.csv")
            falls = (log["split"] == "validation") & (log["step"] > 20)
            log.loc[falls, "value"] = 0.1
            log.to_csv(run.folder / "log.csv", index=False)
    assert facts_of(load(here)).curves[0] == Curve("erm", "A", 2, 2, 0)
    mine = [run.spec for run in loaded.runs if run.spec.method == "erm"]
    trainings = [
        Training(spec.fold.name, spec.seed, steps, spec.identity if steps == 200 else "x", score, 1, score)
        for spec in mine
        for steps, score in ((200, 0.6), (400, 0.65 + 0.001 * spec.seed))
    ]
    write_length(here, compare("made-up", "dice", (200, 400), 4, trainings))
    longer = facts_of(load(here)).longer
    assert (longer.verdict, longer.steps) == ("pays", 400)
    others = [replace(one, identity="of another benchmark") for one in trainings]
    write_length(here, compare("made-up", "dice", (200, 400), 4, others))
    assert facts_of(load(here)).longer == Longer(), "it is about other runs"


def test_images_with_the_same_bytes_are_found(tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 3, "B": 3}, covariates=False)
    hashes = FileHashes(tmp_path / "hashes.tsv")
    assert repeated(open_study(study, cache=tmp_path / "cache"), hashes) == {}
    images = study / "images"
    shutil.copy(images / "s0-00.png", images / "s1-00.png")
    shutil.copy(images / "s0-01.png", images / "s0-02.png")
    found = repeated(open_study(study, cache=tmp_path / "cache"), FileHashes(tmp_path / "hashes.tsv"))
    assert (found["at_two_sites"], found["of_two_patients"]) == (2, 2)
    assert found["such_as"] == [["images/s0-00", "images/s1-00"], ["images/s0-01", "images/s0-02"]]


def test_a_benchmark_ends_with_its_card(tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 6, "B": 6})
    shutil.copy(study / "images" / "s0-00.png", study / "images" / "s1-00.png")
    console = Console(file=io.StringIO(), width=80)
    options = {"methods": ["erm"], "steps": 2, "held_out": ["A"], "changes": tiny.SETTINGS, "console": console}
    run_benchmark(study, out=tmp_path / "out", cache=tmp_path / "cache", **options)  # type: ignore[arg-type]
    text = " ".join(console.file.getvalue().replace("│", " ").split())  # type: ignore[attr-defined]
    assert "The same image twice: 2 images are at two sites" in text
    assert text.index("1 run done") < text.index("at a glance")
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["repeated"]["at_two_sites"] == 2
