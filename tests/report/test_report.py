from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from folders import NASTY, MadeUp, Page
from rich.console import Console

from elsewhere.benchmark import run_benchmark
from elsewhere.benchmark.summary import summarise
from elsewhere.errors import RunError, SettingsError
from elsewhere.report import write_report
from elsewhere.wording import clip

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmark"))
import tiny

SECTIONS = ["scores", "comparisons", "cases", "home", "calibration", "operating-points", "subgroups", "doubt",
            "training", "examples", "runs", "notes"]  # fmt: skip


def trained(folder: Path, damaged: bool = False) -> Page:
    """The page of a benchmark that was really run."""
    study = tiny.segmentation(folder / "study", {NASTY: 6, "B & C": 6, "D": 6})
    if damaged:
        (study / "images" / "s0-03.png").write_bytes(b"not an image")
    run_benchmark(
        study,
        out=folder / "out",
        methods=["erm", "vrex"],
        steps=4,
        seeds=2,
        held_out=[NASTY],
        changes=tiny.SETTINGS,
        cache=folder / "cache",
        console=Console(file=io.StringIO()),
    )
    return Page(write_report(folder / "out").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmentation")
    sites = {"North": 14, NASTY: 12, "A & B": 12}
    MadeUp("segmentation", sites, {"erm": 0.0, "gin": 1.0}, reference=True, home=12, calibration=12).write(folder)
    return folder


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classification")
    sites = dict.fromkeys("ABCDE", 12)
    MadeUp("classification", sites, {"erm": 0.0, "gin": 1.0}, home=12, calibration=12).write(folder)
    return folder


def page_of(folder: Path, **options: object) -> Page:
    return Page(write_report(folder, **options).read_text(encoding="utf-8"))  # type: ignore[arg-type]


def test_a_real_benchmark(tmp_path: Path) -> None:
    page = trained(tmp_path)
    assert f"At {clip(NASTY)}, held out from training, ERM reaches Dice" in page.text
    for name in ("scores", "comparisons", "cases", "home", "calibration", "subgroups", "doubt", "training", "examples"):
        assert "Not here: no" not in page.sections[name], name
    assert "found" in page.sections["operating-points"], "lesions"
    assert page.count("image") == 2 * 3 * 3
    # Two methods with two seeds each: their mean and two faint lines, in both charts.
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    training = text[text.index('id="training"') : text.index('id="examples"')]
    assert len(re.findall(r'<polyline class="bold', training)) == 4
    assert len(re.findall(r'<polyline class="faint', training)) == 8


def test_a_real_benchmark_says_what_failed(tmp_path: Path) -> None:
    page = trained(tmp_path, damaged=True)
    assert "Not complete: 4 of 4 runs failed" in page.text
    assert "s0-03.png" in page.sections["runs"]
    assert "Nothing is finished yet" in page.text


def test_one_file_that_opens_offline(segmentation: Path) -> None:
    path = write_report(segmentation)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path == segmentation / "report.html"
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    anchors = {attributes.get("id") for _, attributes in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href"):
            target = attributes.get(name) or "data:"
            assert target.startswith("data:") or target.removeprefix("#") in anchors
    assert "url(" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().split()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_an_interval_that_rests_on_one_more_patient_is_marked(segmentation: Path) -> None:
    page = page_of(segmentation)
    found = json.loads((segmentation / "evidence.json").read_text(encoding="utf-8"))[0]["scores"]
    doubtful = [one for one in found if one["models"]["doubt"] is not None]
    assert 0 < len(doubtful) < len(found)
    scores = page.sections["scores"]
    assert scores.count("in doubt: one more patient who fails outright") == 1
    assert scores.count("in doubt") >= 1 + len(doubtful)
    (caption,) = [line for line in summarise(segmentation)[0].caption if line.startswith("In doubt (")]
    assert all(f"{one['method']} at {one['held_out']}" in caption for one in doubtful)


def test_names_are_text_not_markup(segmentation: Path) -> None:
    text = write_report(segmentation).read_text(encoding="utf-8")
    assert NASTY not in text
    assert NASTY in Page(text).text
    for attribute in re.findall(r'aria-label="([^"]*)"', text):
        assert "<" not in attribute


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_every_section_has_what_it_promises(task: str, request: pytest.FixtureRequest) -> None:
    page = page_of(request.getfixturevalue(task), prevalence=0.05)
    assert list(page.sections) == SECTIONS
    for name, text in page.sections.items():
        assert "Not here" not in text, name
    for name in ("scores", "comparisons", "calibration", "operating-points", "subgroups", "doubt"):
        assert "selection: source-val" in page.sections[name]
        assert "what [ ] and ( ) hold" in page.sections[name]
    for estimand in ("these models at this site", "this method at this site"):
        assert page.text.count(f"95 % interval for {estimand}") == 1, "explained once"
        assert f"95 % interval for {estimand}" in page.sections["notes"]
    assert "Holm" in page.sections["comparisons"]
    assert "exchangeable" in page.sections["calibration"]
    assert ("PPV at 5.0 %" in page.sections["operating-points"]) == (task == "classification")
    assert ("Lesions" in page.sections["operating-points"]) == (task == "segmentation")
    assert "small group" in page.sections["subgroups"]
    assert ("a site like these" in page.sections["scores"]) == (task == "classification"), "only of five sites"
    images = [attributes for tag, attributes in page.tags if tag == "image"]
    panels = 5 if task == "segmentation" else 1
    folds = 3 if task == "segmentation" else 5
    drawn = [one for one in images if (one["href"] or "").startswith("data:image")]
    assert len(drawn) == folds * 2 * 3 * (3 if panels > 1 else 1), "image, outlines and error of three cases"


def chart(folder: Path, section: str, title: str) -> str:
    """The SVG below a title."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    here = text[text.index(f'id="{section}"') :]
    here = here[here.index(f"<figcaption>{title}") :]
    return here[: here.index("</svg>")]


def test_brackets_and_lines_are_of_the_estimand_that_they_are_said_to_be(classification: Path) -> None:
    page = page_of(classification)
    (found,) = json.loads((classification / "evidence.json").read_text(encoding="utf-8"))
    (over,) = found["comparisons"]["over_sites"]
    assert over["mean"]["estimand"] == "this method at this site"
    mean = chart(classification, "comparisons", "mean over these sites")
    assert mean.count('class="span') == 0, "thick lines are for these models"
    assert mean.count('class="wide') == 1
    new = chart(classification, "comparisons", "a site like these")
    assert (new.count('class="wide'), new.count("<circle")) == (1, 0)

    def shown(one: dict[str, float], brackets: str, digits: int) -> str:
        low, high = (f"{one[name]:+.{digits}f}".replace("-", "−") for name in ("lo", "hi"))
        return f"{brackets[0]}{low}, {high}{brackets[1]}"

    assert shown(over["mean"], "()", 3) in page.sections["comparisons"]
    gaps = [one["gap"] for one in found["overall"]]
    assert gaps
    for gap in gaps:
        assert shown(gap, "()" if gap["estimand"] == "this method at this site" else "[]", 3) in page.sections["scores"]


def test_axes_say_what_they_measure_and_titles_how_many_people(segmentation: Path) -> None:
    write_report(segmentation, metric="hd95")
    for section in ("scores", "comparisons", "cases", "home"):
        assert re.search(r">HD95 \(mm\)[^<]*</text>", chart(segmentation, section, "")), section
    for section in ("scores", "comparisons", "home", "calibration", "doubt"):
        chart(segmentation, section, "to North (14 patients)" if section == "home" else "North (14 patients)")
    assert "optimiser steps</text>" in chart(segmentation, "training", "without North")
    assert "in pixels where the file has no spacing" in (segmentation / "report.html").read_text(encoding="utf-8")


def test_calibration_errors_keep_their_digits_beside_millimetres(segmentation: Path) -> None:
    page = page_of(segmentation, metric="hd95")
    (found,) = json.loads((segmentation / "evidence.json").read_text(encoding="utf-8"))
    ece = found["calibration"][0]["ece"]
    assert f"{ece['value']:.3f} [{ece['lo']:.3f}, {ece['hi']:.3f}]" in page.sections["calibration"]


def test_methods_that_see_the_target_are_stamped(segmentation: Path) -> None:
    plan = segmentation / "plan.json"
    before = plan.read_text(encoding="utf-8")
    assert "sees unlabelled target" not in page_of(segmentation).text
    plan.write_text(json.dumps({**json.loads(before), "sees_unlabelled_target": ["gin"]}), encoding="utf-8")
    try:
        page = page_of(segmentation)
    finally:
        plan.write_text(before, encoding="utf-8")
    assert page.sections["scores"].count("sees unlabelled target") == 1
    assert "seen in training by: gin; the others see none" in page.sections["scores"]
    assert page.sections["comparisons"].count("sees unlabelled target") == 1 + 3 + 1, "grid, tests, ranks"


def test_tables_beside_the_page(segmentation: Path) -> None:
    write_report(segmentation)
    with (segmentation / "comparisons.csv").open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 3
    assert {row["method"] for row in rows} == {"gin"}
    assert all(float(row["p"]) <= float(row["p_holm"]) for row in rows)
    assert list(rows[0])[-2:] == ["p_method", "p_method_holm"], "new columns stand at the end"
    assert all(float(row["p_method"]) <= float(row["p_method_holm"]) for row in rows)
    for row in rows:
        assert (float(row["p_method"]) <= 0.05) == (float(row["method_lo"]) > 0 or float(row["method_hi"]) < 0)
    (found,) = json.loads((segmentation / "evidence.json").read_text(encoding="utf-8"))
    assert found["glance"]["sentence"].startswith("At 3 sites held out from training ERM reaches a mean Dice of")
    listed = json.loads((segmentation / "glance.json").read_text(encoding="utf-8"))
    assert [one["about"] for one in listed] == ["", "erm", "gin"]
    assert {**listed[0], "about": None} == {**found["glance"], "about": None}
    results = pd.read_csv(segmentation / "results.csv", dtype={"seed": str})
    wanted = results.query(
        "method == 'gin' and split == 'held-out' and `class` == 'all' and metric == 'dice' and seed == 'all'"
    )
    shown = {one["held_out"]: one["models"]["value"] for one in found["scores"] if one["method"] == "gin"}
    assert shown == pytest.approx(dict(zip(wanted["held_out"], wanted["value"], strict=True)))


def test_another_metric_and_other_subgroups(segmentation: Path) -> None:
    page = page_of(segmentation, metric="hd95", subgroups=["age:60"])
    assert "HD95 at the held-out site" in page.text
    assert "lower is better" in page.sections["scores"]
    assert "age < 60" in page.sections["subgroups"]
    assert "sex" not in page.sections["subgroups"]
    with pytest.raises(SettingsError, match="wanted for segmentation one of"):
        write_report(segmentation, metric="auroc")
    with pytest.raises(SettingsError, match="wanted a covariate of the study: age, sex"):
        write_report(segmentation, subgroups=["weight"])


def test_two_rules_and_three_classes(tmp_path: Path) -> None:
    MadeUp("classification", {"A": 15, "B": 15}, seeds=(0,), selection=("source-val", "last"), home=6, calibration=9,
           classes=("a", "b", "c")).write(tmp_path)  # fmt: skip
    page = page_of(tmp_path)
    assert "scores-last" in page.sections
    assert "selection: last" in page.sections["comparisons-last"]
    assert "One seed" in page.sections["scores"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'<li><a href="#[^"]*">([^<]*)</a>', text)
    assert len(links) == len(set(links)) == len(page.sections), "each section is found by its own words"
    labels = [about["aria-label"] for tag, about in page.tags if about.get("role") == "region"]
    assert len(labels) == len(set(labels)), "and each table"
    assert page.sections["operating-points"].count("threshold for the") == 2 * 3, "each class against the others"


def test_a_folder_of_an_older_version(tmp_path: Path) -> None:
    MadeUp("segmentation", evaluation=1, seeds=(0,), methods={"erm": 0.0}, examples=False).write(tmp_path)
    page = page_of(tmp_path)
    assert list(page.sections) == SECTIONS
    for name in ("comparisons", "operating-points", "subgroups", "doubt", "examples"):
        assert "Not here:" in page.sections[name], name
    assert "only ERM was run" in page.sections["comparisons"]
    assert "elsewhere …" in page.sections["runs"]
    assert "ECE" in page.sections["calibration"], "bins were written then, too"


def test_an_unfinished_folder_with_one_site(tmp_path: Path) -> None:
    specs = MadeUp("segmentation", {"A": 10}, {"erm": 0.0, "gin": 1.0}, home=0, calibration=0).write(tmp_path)
    for spec in specs:
        if spec.method == "gin":
            (tmp_path / spec.folder / "done.json").unlink()
    page = page_of(tmp_path)
    assert "Not complete: 2 of 4 runs are not finished" in page.text
    assert "At A, held out from training, ERM reaches Dice" in page.text
    assert page.sections["scores"].count("Not complete") == 2, "on both tables"
    assert "no in-domain test patients" in page.sections["home"]


def test_nothing_finished_yet(tmp_path: Path) -> None:
    for spec in MadeUp("classification", {"A": 10, "B": 10}).write(tmp_path, tables=False):
        (tmp_path / spec.folder / "done.json").unlink()
    page = page_of(tmp_path)
    assert "Nothing is finished yet, so there is no answer." in page.text


def test_what_few_calibration_patients_can_promise_is_said(tmp_path: Path, segmentation: Path) -> None:
    MadeUp("segmentation", {"A": 10, "B": 10}, {"erm": 0.0, "gin": 0.5}, seeds=(0,), home=4, calibration=7).write(
        tmp_path
    )
    page = page_of(tmp_path, prevalence=0.1)
    assert "should flag about 12 % of patients" in page.sections["doubt"], "1 of 8"
    assert "that of --prevalence is for cases" in page.sections["operating-points"]
    assert "Holm over all 2 tests" in page.sections["comparisons"]
    assert "should flag about 8 % of patients" in page_of(segmentation).sections["doubt"], "1 of 13"


def test_tables_that_were_changed_are_refused(tmp_path: Path) -> None:
    specs = MadeUp("segmentation", {"A": 6, "B": 6}, seeds=(0,), methods={"erm": 0.0}, home=4, calibration=4).write(
        tmp_path
    )
    path = tmp_path / specs[0].folder / "predictions.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RunError, match=r"predictions\.parquet: was changed since the run wrote it"):
        write_report(tmp_path)


def test_an_evaluation_of_predictions_made_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    spec = MadeUp("classification", {"A": 12, NASTY: 12}, {"given": 0.0}, seeds=(0,), selection=("given",), home=0,
                  calibration=0).write(folder)  # fmt: skip
    out = tmp_path / "evaluation"
    out.mkdir()
    tables = [pd.read_parquet(folder / one.folder / "predictions.parquet") for one in spec]
    pd.concat(tables).to_parquet(out / "predictions.parquet")
    for name in ("results.csv", "covariates.csv"):
        (out / name).write_text((folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    question = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (out / "plan.json").write_text(json.dumps({**question, "kind": "evaluation", "runs": []}), encoding="utf-8")
    (out / "notes.json").write_text(json.dumps(["3 cases have no prediction"]), encoding="utf-8")
    page = page_of(out)
    assert "3 cases have no prediction" in page.sections["runs"]
    assert "comparisons" not in page.sections
    assert "predictions made elsewhere have no home" in page.sections["home"]
    assert "At 2 sites given reaches a mean AUROC of" in page.text
    assert NASTY in page.sections["scores"]
    assert "whether the sites were new to their model is not known here" in page.text
    assert "never seen" not in page.text


def test_a_site_of_the_training_is_not_elsewhere(tmp_path: Path) -> None:
    from elsewhere.benchmark import external_model
    from elsewhere.benchmark.glance import NEW

    assert external_model.NEW == NEW
    MadeUp("classification", {"A": 12, "B": 12}, {"given": 0.0}, seeds=(0,), home=0, calibration=0).write(tmp_path)
    question = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    seen = {"A": NEW, "B": "5 of its 12 cases trained, selected or calibrated the model"}
    (tmp_path / "plan.json").write_text(json.dumps({**question, "seen": seen}), encoding="utf-8")
    page = page_of(tmp_path)
    told = "NOT ELSEWHERE: B: 5 of its 12 cases trained"
    assert page.text.count(told) == 1
    assert "NOT ELSEWHERE: A" not in page.text
    for section in ("scores", "calibration", "subgroups"):
        assert "NOT ELSEWHERE: B" in page.sections[section], "on every table"


def test_verdicts_stand_in_a_grid_as_words_and_every_test_is_a_click_away(segmentation: Path) -> None:
    text = write_report(segmentation).read_text(encoding="utf-8")
    (found,) = json.loads((segmentation / "evidence.json").read_text(encoding="utf-8"))
    grid = text[text.index('aria-label="verdicts on Dice against ERM') :]
    grid = grid[: grid.index("</table>")]
    wanted = [one["verdict"] for one in found["comparisons"]["contrasts"]]
    assert re.findall(r'<td class="verdict-[a-z]+">([a-z ]+)<', grid) == wanted
    assert len(wanted) == 3
    assert "<summary>Every test: p, corrected p, and P(better)</summary>" in text
    assert text.count('aria-label="differences of Dice from ERM') == 1


def test_cases_to_look_at_are_folded_site_by_site(segmentation: Path) -> None:
    text = write_report(segmentation).read_text(encoding="utf-8")
    section = text[text.index('id="examples"') : text.index('id="runs"')]
    assert section.count("<details>") == 3
    assert "<figure" not in re.sub(r"<details>.*?</details>", "", section, flags=re.S)


def test_no_benchmark_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no benchmark here"):
        write_report(tmp_path)


def test_a_report_needs_no_torch() -> None:
    code = "import sys, elsewhere.report; assert not {'torch', 'monai'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
