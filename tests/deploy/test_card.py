"""The card and what it is made from: what is on it, what never is, and benchmarks that it refuses."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from elsewhere.deploy.card import write_card
from elsewhere.deploy.card_text import interval, number, several, text
from elsewhere.deploy.found import found_elsewhere
from elsewhere.deploy.training_data import covariates
from elsewhere.errors import RunError
from elsewhere.study.case import Case
from elsewhere.study.config import StudyConfig
from elsewhere.study.study import Study

EVIL = "<script>alert(1)</script> | a*b* [x](y) `z`\nnext"


def row(site: str | None, metric: str = "dice", value: float | None = 0.81, n: int = 24, **more: Any) -> dict[str, Any]:
    limits = {"lo": None, "hi": None} if value is None else {"lo": value - 0.04, "hi": value + 0.03}
    return {"site": site, "class": "all", "metric": metric, "value": value, **limits, "reason": None,
            "n_cases": n, "n_patients": n, **more}  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    """As `deploy.final` writes it."""
    people = {role: {"patients": n, "cases": n} for role, n in (("train", 30), ("validation", 8), ("test", 12))}
    found = {
        "study": "nodules", "task": "segmentation", "dims": 2, "classes": ["background", "nodule"],
        "sites": ["north", "south"], "method": "erm", "method_title": "Empirical risk minimisation",
        "method_paper": "Vapnik 1998", "options": {}, "network": "unet", "seed": 0, "primary": "dice", "step": 180,
        "selection": "source-val", "temperature": 1.3, "thresholds": {"foreground": 0.37},
        "conformal": {"kind": "outer mask", "sentence": "the outer mask, and so on"},
        "preprocessing": {"size": None, "spacing": None, "patch_size": [64, 64], "intensity": "image-zscore"},
        "settings": {"batch_size": 8, "learning_rate": 0.001},
        "training": {"steps": 200, "best_step": 180, "scores": [[100, 0.7], [180, 0.8], [200, 0.79]], "notes": []},
        "calibration": {"n_patients": 9, "n_cases": 10, "reason": None, "outlier": "flagged above a score of 2.1"},
        "data": {
            "sites": {"north": people, "south": people}, "classes": {"background": 0.96, "nodule": 0.04}, "unseen": [],
            "images": {"channels": ["image"], "size": [64, 80], "smallest": [60, 80], "largest": [64, 90],
                       "spacing": None, "types": {"uint8": 60}},
            "covariates": {
                "age": {"numbers": {"n": 58, "quartiles": [21, 44, 58.5, 66, 91]}, "missing": 2},
                "sex": {"values": {"F": 31, "M": 29}, "missing": 0},
                "device": {"different": 40, "missing": 0},
            },
            "notes": [],
        },
        "home": {"estimand": "[ ]: 95 % interval for these models at this site.",
                 "rows": [row(None), row(None, "hd95", 4.2), row("north", value=0.84, n=12), row("south", n=12)],
                 "operating": [], "sentences": ["2 of these 24 cases are flagged."]},
        "elsewhere": None,
        "question": {"data": "abc123"}, "command": "elsewhere train nodules --method erm --out MODEL",
        "written": "2026-11-21", "versions": {"elsewhere": "0.1.0"},
    }  # fmt: skip
    return {**copy.deepcopy(found), **changes}


def elsewhere_found(**changes: Any) -> dict[str, Any]:
    def one(site: str, split: str, value: float, n: int = 40) -> dict[str, Any]:
        return {
            "held_out": site,
            "split": split,
            "seeds": [value - 0.02, value, value + 0.02],
            **row(None, "dice", value, n),
        }

    rows = [one("north", "held-out", 0.74), one("south", "held-out", 0.52, 11), one("north", "in-domain", 0.8)]
    new_site = {"value": 0.63, "lo": None, "hi": None, "reason": "over these 2 held-out sites"}
    return {"folder": "bench", "rows": rows, "estimand": "[ ]: for these models.", "new_site": new_site, "missing": [],
            "differences": [], **changes}  # fmt: skip


def cells(line: str) -> list[str]:
    """Of a row of a table, as Markdown has them."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def section(card: str, title: str) -> str:
    return card.partition(f"## {title}")[2].partition("\n## ")[0]


# ---- what is on it


def test_it_begins_with_what_one_has_to_know() -> None:
    beginning = write_card(config()).partition("\n## ")[0]
    for words in (
        "It draws nodule in 2D images",
        "on 60 patients of 2 sites: north and south",
        "Dice 0.810 [0.77, 0.84], 24 patients",
        "nothing is known: no benchmark was given",
        "not a medical device",
    ):
        assert words in beginning
    with_benchmark = write_card(config(elsewhere=elsewhere_found())).partition("\n## ")[0]
    assert "from 0.520 [0.48, 0.55] at south to 0.740 [0.70, 0.77] at north" in with_benchmark
    assert "Of other sites, nothing is known" in with_benchmark
    assert "otherwise" not in with_benchmark
    other = elsewhere_found(differences=["steps was 300 there and is 4000 here"])
    assert "**made otherwise** than this one" in write_card(config(elsewhere=other)).partition("\n## ")[0]


def test_every_fact_is_in_its_section() -> None:
    card = write_card(config())
    data = section(card, "What it was trained on")
    assert "| north | 30 | 8 | 0 | 12 |" in data
    assert "| age | 21 to 91, half of them 44 to 66, median 58.5 | 2 |" in data
    assert "| sex | F: 31, M: 29 | 0 |" in data
    assert "| device | 40 different values, not shown | 0 |" in data
    trained = section(card, "How it was trained")
    assert "step 180, the best on the validation patients" in trained
    assert "0.8 at step 180, 0.79 at the end" in trained
    home = section(card, "At home")
    assert "| all sites | all | HD95 | 4.2 pixels [4.2, 4.2] | 24 |" in home
    assert "| north | all | Dice | 0.840 [0.80, 0.87] | 12 \\* |" in home
    assert "2 of these 24 cases are flagged." in home
    assert "rightly shows nothing" not in home  # of one class nothing has to be explained
    several_classes = write_card(config(classes=["background", "nodule", "scar"]))
    assert "An image that rightly shows nothing of a class has Dice 1" in section(several_classes, "At home")
    decided = section(card, "Temperature, thresholds, flags")
    for words in ("9 patients (10 cases)", "1.3", "P(foreground): 0.37", "the outer mask, and so on", "score of 2.1"):
        assert words in decided
    assert "    elsewhere train nodules --method erm --out MODEL\n" in section(card, "How to make it again")


def test_elsewhere_is_by_site_with_estimand_and_differences() -> None:
    found = elsewhere_found(missing=["west"], differences=["steps was 300 there and is 4000 here"])
    told = section(write_card(config(elsewhere=found)), "Elsewhere")
    assert "| south | Dice | 0.520 [0.48, 0.55] | 11 \\* | 3: 0.500 to 0.540 |" in told
    assert "| home, without north | Dice | 0.800 [0.76, 0.83] | 40 | 3: 0.780 to 0.820 |" in told
    found["rows"][0]["seeds"] = [0.74]
    assert "| 40 | 1 |" in section(write_card(config(elsewhere=found)), "Elsewhere")
    found["rows"][0] |= {"metric": "hd95", "seeds": [4.0, None, 5.25]}
    assert "| 40 | 3: 4.0 pixels to 5.2 pixels |" in section(write_card(config(elsewhere=found)), "Elsewhere")
    assert "In brackets: for these models." in told
    assert "2 held-out sites and no sample of all hospitals" in told
    assert "No interval for one more site (over these 2 held-out sites)" in told
    assert "Not finished in the benchmark: west" in told
    assert "- steps was 300 there and is 4000 here" in told
    without = write_card(config())
    assert "Nothing is known. This model was trained on all sites" in section(without, "Elsewhere")
    assert "Nothing is known of sites other than these." in section(without, "Limits")
    assert "other than these" not in write_card(config(elsewhere=found))


def test_who_chose_the_model_is_said_as_it_was() -> None:
    data = section(write_card(config()), "What it was trained on")
    assert "Validation patients served to choose the step whose model this is" in data
    last = write_card(config(selection="last"))
    assert "Validation patients chose nothing: this is the model of the last step" in section(
        last, "What it was trained"
    )
    assert "step 180, the model of the last step" in section(last, "How it was trained")


def test_what_is_missing_is_said() -> None:
    poor = config(temperature=None, thresholds={}, conformal={})
    poor["calibration"] |= {"n_patients": 0, "n_cases": 0, "reason": "there are no calibration patients"}
    poor["home"] |= {"rows": [], "sentences": []}
    poor["data"]["unseen"] = ["nodule"]
    card = write_card(poor)
    assert "nothing is known: the sites are too small for in-domain test patients" in card
    assert "nothing was measured" in section(card, "At home")
    assert "0 patients (0 cases) of these sites: there are no calibration patients" in card
    assert "**Temperature**: none" in card
    assert "**Thresholds**: none; labels" in card
    assert "were fitted on" not in card
    few = config(thresholds={})
    assert "**Thresholds**: none, for the calibration patients do not show every class" in write_card(few)
    assert "fitted on 9 calibration patients: others would have given" in section(write_card(few), "Limits")
    few["calibration"]["n_patients"] = 20
    assert "were fitted on" not in write_card(few)
    assert "No training case shows nodule" in card


def test_a_score_without_interval_says_why() -> None:
    one = {**row(None), "lo": None, "hi": None, "reason": "one patient: nothing to resample"}
    assert interval(one, "") == "0.810 (no interval: one patient: nothing to resample)"
    assert interval(row(None, "auroc", None), "") == "undefined"
    assert (number(0.123456), number(12345.6), number(None)) == ("0.123", "12346", "not known")
    assert several(["a"]) == "a"
    assert several(["a", "b", "c"], "or") == "a, b or c"


def test_an_interval_that_rests_on_one_more_patient_is_a_limit() -> None:
    found = config()
    assert "in doubt" not in write_card(found)
    found["home"]["rows"][0]["doubt"] = "one more patient at 0 would move it further than these 12 vary"
    assert "An interval at home is in doubt: one more patient who fails" in section(write_card(found), "Limits")


def test_text_from_the_data_is_text() -> None:
    evil = config(study=EVIL, sites=[EVIL, "south"])
    evil["classes"][1] = EVIL
    evil["data"]["sites"] = {EVIL: evil["data"]["sites"]["north"]}
    evil["data"]["covariates"] = {EVIL: {"values": {EVIL: 3}, "missing": 0}}
    evil["data"]["notes"] = [EVIL]
    evil["home"]["rows"].append(row(EVIL))
    evil["elsewhere"] = elsewhere_found(folder=EVIL, missing=[EVIL], differences=[EVIL])
    evil["elsewhere"]["rows"][0]["held_out"] = EVIL
    card = write_card(evil)
    assert "<" not in card
    widths: list[int] = []
    for line in card.splitlines():
        if line.startswith("|"):
            widths.append(len(cells(line)))
            assert widths[-1] == widths[0]
        else:
            widths = []
    assert "next" not in card.splitlines(), "a new line in a name begins a line of the card"
    markdown = pytest.importorskip("markdown")
    html = markdown.markdown(card, extensions=["tables"])
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert 'href="y"' not in html
    assert "<em>b</em>" not in html


@pytest.mark.parametrize(
    "given", ["a_b", "_a_ b", "__init__", "~~x~~", "a-_b_", "_", "2 < 3 & 4", "#1", "x | y", "a`b", "0.8 [0.7, 0.9]"]
)
def test_escaped_text_reads_as_it_was(given: str) -> None:
    markdown = pytest.importorskip("markdown")
    import html

    shown = re.sub(r"<.*?>", "", markdown.markdown("words " + text(given)))
    assert html.unescape(shown) == f"words {given}"


def test_what_turns_or_hides_text_is_shown() -> None:
    assert text("north\u202ehtuos\x07 \u2066x\u2069") == "north\ufffdhtuos\ufffd \ufffdx\ufffd"
    assert text("Zürich 東京 a\u200cb") == "Zürich 東京 a\u200cb"


# ---- who is in it


def people(**columns: list[str | None]) -> list[Case]:
    n = len(next(iter(columns.values())))
    return [
        Case(f"c{i}", {"image": Path("x")}, None, "A", f"p{i}", covariates={k: v[i] for k, v in columns.items()})
        for i in range(n)
    ]


def test_numbers_are_summed_up_and_others_counted() -> None:
    rng = np.random.default_rng(0)
    ages = rng.integers(20, 90, 40).astype(float)
    given: list[str | None] = [f"{age:g}" for age in ages]
    given[3] = None
    sexes: list[str | None] = ["F", "M", "F", ""] * 10
    found = covariates(people(age=given, sex=sexes))
    expected = np.quantile(np.delete(ages, 3), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found["age"]["numbers"]["quartiles"], expected)
    assert (found["age"]["numbers"]["n"], found["age"]["missing"]) == (39, 1)
    assert found["sex"] == {"values": {"F": 20, "M": 10}, "missing": 10}


def test_codes_and_grades_are_counted_as_words_are() -> None:
    found = covariates(people(grade=["2", "3.0", "3", "2", "3", None], few=["1", "2", "3", "4", None, None]))
    assert found["grade"] == {"values": {"2": 2, "3": 3}, "missing": 1}
    assert found["few"]["numbers"]["n"] == 4


def test_a_patient_counts_once() -> None:
    cases = people(sex=["F", "M", "M", "M"])
    twice = [*cases, Case("c9", {}, None, "A", "p1", covariates={"sex": "M"})]
    assert covariates(twice)["sex"]["values"] == {"M": 3, "F": 1}


def test_what_may_name_a_patient_is_not_shown() -> None:
    names: list[str | None] = [f"Name{i}" for i in range(10)]
    numbers: list[str | None] = [str(4_711_000 + 13 * i) for i in range(10)]
    dates: list[str | None] = [f"2004-03-{i + 1:02d}" for i in range(10)]
    numbers_twice = [*numbers[:8], *numbers[6:8]]  # two people under one number
    few: list[str | None] = ["Ada", "Bea", "Cem", "Ada", None, None, None, None, None, None]
    found = covariates(people(name=names, number=numbers, date=dates, few=few, twice=numbers_twice))
    assert all("values" not in column and "numbers" not in column for column in found.values())
    assert found["number"] == {"different": 10, "missing": 0}
    assert found["twice"] == {"different": 8, "missing": 0}
    assert found["few"] == {"different": 3, "missing": 6}
    assert covariates(people(empty=[None, None]))["empty"]["missing"] == 2
    assert "numbers" not in covariates(people(odd=["nan", "inf"]))["odd"]


# ---- what a benchmark found


SETTINGS = {"steps": 4000, "network": "unet", "log_every": 10, "learning_rate": 0.001, "patch_size": [128, 128]}


def study(name: str = "nodules", sites: tuple[str, ...] = ("north", "south", "west")) -> Study:
    cases = tuple(Case(f"c-{s}", {"image": Path("x")}, Path("m"), s, f"p-{s}") for s in sites)
    classes = ("background", "nodule")
    return Study(name, Path(), None, "segmentation", 2, ("image",), classes, {}, cases, StudyConfig())


def benchmark(folder: Path, sites: Sequence[str] = ("north", "south"), error: float = 0.1,
              selection: Sequence[str] = ("source-val",), **changes: Any) -> Path:  # fmt: skip
    """The two files of a benchmark's folder that are read."""
    folder.mkdir()
    results, runs = [], []
    for method in ("erm", "vrex"):
        for site in sites:
            for seed in (0, 1):
                spec = {"method": method, "fold": {"held_out": [site], "part": None}, "seed": seed,
                        "selection": list(selection), "settings": {**SETTINGS, "log_every": 50},
                        "options": {} if method == "erm" else {"weight": 1.0}}  # fmt: skip
                runs.append({"folder": "x", "spec": spec})
            for split in ("held-out", "in-domain"):
                for seed_name, value in (("0", 0.6), ("1", 0.7), ("all", 0.65)):
                    score = value + 0.03 * sites.index(site) ** 2 - 0.2 * (method == "vrex")
                    for name, metric in (("all", "dice"), ("all", "hd95"), ("all", "iou"), ("nodule", "dice")):
                        results.append([method, site, seed_name, "source-val", split, name, metric, score,
                                        score - error, score + error, 40, 38])  # fmt: skip
    plan = {"study": "nodules", "task": "segmentation", "classes": ["background", "nodule"], "runs": runs, **changes}
    (folder / "plan.json").write_text(json.dumps(plan))
    columns = ["method", "held_out", "seed", "selection", "split", "class", "metric", "value", "lo", "hi", "n_cases",
               "n_patients"]  # fmt: skip
    pd.DataFrame(results, columns=columns).to_csv(folder / "results.csv", index=False)
    return folder


def look(folder: Path, method: str = "erm", selection: str = "source-val", **settings: Any) -> dict[str, Any]:
    options = {"weight": 1.0} if method == "vrex" else {}
    return found_elsewhere(folder, study(), method, options, {**SETTINGS, **settings}, selection)


def test_a_benchmark_is_read_as_its_table_has_it(tmp_path: Path) -> None:
    found = look(benchmark(tmp_path / "bench"))
    table = pd.read_csv(tmp_path / "bench" / "results.csv")
    wanted = table[
        (table.method == "erm") & (table.seed == "all") & (table["class"] == "all") & (table.metric != "iou")
    ]
    assert len(found["rows"]) == len(wanted) == 8
    for one in found["rows"]:
        same = wanted[
            (wanted.held_out == one["held_out"]) & (wanted.split == one["split"]) & (wanted.metric == one["metric"])
        ]
        assert (one["value"], one["lo"], one["hi"]) == tuple(same[["value", "lo", "hi"]].iloc[0])
        assert (one["n_patients"], one["n_cases"], len(one["seeds"])) == (38, 40, 2)
        assert one["seeds"] == pytest.approx([one["value"] - 0.05, one["value"] + 0.05])
    assert found["rows"][0]["metric"] == "dice"
    assert "these models at this site" in found["estimand"]
    assert (found["folder"], found["missing"], found["differences"]) == ("bench", [], [])


def test_from_five_sites_on_there_is_an_interval_for_one_more(tmp_path: Path) -> None:
    assert "nothing is said about another below 5" in look(benchmark(tmp_path / "two"))["new_site"]["reason"]
    five = tuple("abcde")
    folder = benchmark(tmp_path / "five", five, 0.0)
    found = found_elsewhere(folder, study(sites=five), "vrex", {"weight": 1.0}, SETTINGS, "source-val")["new_site"]
    values = 0.45 + 0.03 * np.arange(5) ** 2
    reach = stats.t.ppf(0.975, 4) * values.std(ddof=1) * np.sqrt(1 + 1 / 5)
    limits = max(0, values.mean() - reach), min(1, values.mean() + reach)
    assert (found["lo"], found["hi"]) == pytest.approx(limits, abs=1e-3)  # the mixture is over a grid
    card = write_card(config(elsewhere=elsewhere_found(new_site={**found, "lo": 0.31, "hi": 0.92})))
    assert "Dice would lie between 0.31 and 0.92" in section(card, "Elsewhere")


def test_what_was_not_as_in_this_training_is_said(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    assert look(folder, steps=300)["differences"] == ["steps was 4000 there and is 300 here"]
    assert look(folder, log_every=7)["differences"] == []
    assert look(folder, overlap=0.25)["differences"] == ["overlap was None there and is 0.25 here"]
    assert look(folder, patch_size=128)["differences"] == []
    other = look(folder, patch_size=[128, 64])["differences"]
    assert other == ["patch_size was [128, 128] there and is [128, 64] here"]
    found = found_elsewhere(folder, study(), "vrex", {"weight": 10.0}, SETTINGS, "source-val")
    assert found["differences"] == ["vrex.weight was 1.0 there and is 10.0 here"]
    pd.DataFrame({"case": ["c-north", "c-south", "c-gone"]}).to_csv(folder / "covariates.csv", index=False)
    assert look(folder)["differences"] == ["cases of the study: 1 of the benchmark's are gone, 1 are new"]


def test_a_method_under_labels_is_found_by_its_options(tmp_path: Path) -> None:
    """`strong=vrex` and `vrex` with its defaults, in one benchmark: the card has the row of the model's own options."""
    folder = benchmark(tmp_path / "bench")
    plan = json.loads((folder / "plan.json").read_text())
    strong = [json.loads(json.dumps(run)) for run in plan["runs"] if run["spec"]["method"] == "vrex"]
    for run in strong:
        run["spec"] |= {"method": "strong", "trained_as": "vrex", "options": {"weight": 9.0}}
    plan["runs"] += strong
    (folder / "plan.json").write_text(json.dumps(plan))
    table = pd.read_csv(folder / "results.csv")
    rows = table[table.method == "vrex"].assign(method="strong", value=lambda t: t.value + 0.1)
    pd.concat([table, rows]).to_csv(folder / "results.csv", index=False)

    def value(weight: float) -> tuple[float, list[str]]:
        found = found_elsewhere(folder, study(), "vrex", {"weight": weight}, SETTINGS, "source-val")
        return found["rows"][0]["value"], found["differences"]

    plain, differences = value(1.0)
    assert differences == []
    assert value(9.0) == (pytest.approx(plain + 0.1), [])
    assert value(5.0) == (plain, ["vrex.weight was 1.0 there and is 5.0 here"])


def test_another_number_of_training_patients_is_said(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    found = found_elsewhere(folder, study(), "erm", {}, SETTINGS, "source-val", patients=5)
    assert found["differences"] == ["all patients trained there and at most 5 patients here"]


def test_preprocessing_that_study_yaml_has_changed_since_is_said(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    (folder / "study.yaml").write_text("name: nodules\nintensity: none\npatch_size: [128, 128]\n")
    now = replace(study(), config=StudyConfig(patch_size=[64, 64]))
    settings = {**SETTINGS, "patch_size": None}
    found = found_elsewhere(folder, now, "erm", {}, settings, "source-val")["differences"]
    assert found[0] == "patch_size was [128, 128] there and is None here"  # the settings'
    assert found[1:] == [
        "intensity in study.yaml was none there and is auto here",
        "patch_size in study.yaml was [128, 128] there and is [64, 64] here",
    ]
    assert look(folder)["differences"] == ["intensity in study.yaml was none there and is auto here"]
    (folder / "study.yaml").write_text("name: nodules\n")
    assert look(folder)["differences"] == []


def test_a_site_that_is_not_finished_is_named(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    table = pd.read_csv(folder / "results.csv")
    table[table.held_out != "south"].to_csv(folder / "results.csv", index=False)
    assert look(folder)["missing"] == ["south"]


def changed(**changes: Any) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        return look(benchmark(folder, **changes))

    return read


def broken(name: str, content: str | None) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        benchmark(folder)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content)
        return look(folder)

    return read


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (changed(study="chests"), "is a benchmark of another study: chests, and not nodules"),
        (changed(task="classification"), "another task: classification, and not segmentation"),
        (changed(classes=["background", "cyst"]), "other classes: background, cyst, and not background, nodule"),
        (changed(kind="evaluation"), "holds an evaluation of given predictions, no benchmark"),
        (lambda folder: look(benchmark(folder), "gin"), "is a benchmark without method gin; it has: erm, vrex"),
        (lambda folder: look(benchmark(folder), selection="last"), "were not selected by last, but by source-val"),
        (lambda folder: look(benchmark(folder, selection=["oracle", "last"])),
         "were not selected by source-val, but by oracle, last; give --selection last, or run the benchmark with "),
        (lambda folder: look(benchmark(folder, selection=["oracle"])),
         "were not selected by source-val, but by oracle; run the benchmark with --selection source-val"),
        (lambda folder: look(folder), "is no benchmark's folder, there is no plan.json"),
        (broken("plan.json", "{"), "cannot be read as the plan of a benchmark"),
        (broken("plan.json", "[]"), "cannot be read as the plan of a benchmark"),
        (broken("results.csv", None), "results.csv: is missing"),
        (broken("results.csv", "method,value\nerm,1\n"), "results.csv: is damaged"),
        (broken("results.csv", ",".join(["method", "held_out", "seed", "selection", "split", "class", "metric", "value",
                                         "lo", "hi", "n_cases", "n_patients"])), "no run of erm is finished there"),
    ],
)  # fmt: skip
def test_a_benchmark_of_something_else_is_refused(read: Callable[[Path], Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=re.escape(sentence)) as error:
        read(tmp_path / "bench")
    assert "\n" not in str(error.value)


def test_a_benchmark_with_other_sites_is_refused(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    with pytest.raises(RunError, match="it held out south, which this study does not have"):
        found_elsewhere(folder, study(sites=("north", "west")), "erm", {}, SETTINGS, "source-val")


def glance_file(folder: Path, about: str) -> None:
    caveat = {"head": "One seed", "text": "<b>nothing</b> is claimed.", "stamp": ""}
    one = {
        "about": about, "selection": "source-val", "sentence": "At 2 sites vrex reaches Dice 0.61 [0.5, 0.7].",
        "figures": [{"label": "Dice elsewhere", "value": "0.61", "small": "[0.50, 0.70], the method"}] * 4,
        "against": [{"method": "vrex", "words": "better at 1 of 2 sites, for the method", "verdict": "better"}],
        "compared": "", "steps": ["Run 3 seeds (`--seeds 3`) of it.", "b", "c", "d"], "caveats": [caveat],
    }  # fmt: skip
    (folder / "glance.json").write_text(json.dumps([{**one, "about": ""}, one]))


def test_the_first_lines_of_a_card_are_the_benchmarks_glance(tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    assert look(folder)["glance"] is None, "a folder of before"
    assert "What to do next" not in write_card(config(elsewhere=elsewhere_found()))
    glance_file(folder, "vrex")
    assert look(folder, "erm")["glance"] is None, "it says nothing of this method"
    found = look(folder, "vrex")["glance"]
    lines = [line for line in write_card(config(elsewhere=elsewhere_found(glance=found))).splitlines() if line]
    assert lines[0].startswith("# ")
    assert lines[1] == "> **One seed**: &lt;b&gt;nothing&lt;/b&gt; is claimed."
    assert lines[2].startswith("**At 2 sites vrex reaches Dice 0.61 [0.5, 0.7].** This model is none of those")
    assert lines[3] == "| Dice elsewhere | Dice elsewhere | Dice elsewhere | Dice elsewhere |"
    assert lines[5].startswith("| **0.61** [0.50, 0.70], the method | ")
    assert lines[6] == "**Against ERM**: better at 1 of 2 sites, for the method."
    assert lines[7] == "**What to do next**: 1. Run 3 seeds (`--seeds 3`) of it. 2. b 3. c"
    assert lines[8].startswith("**What it is.**")


@pytest.mark.parametrize("content", ["no json", "[{}]", '[{"about": "erm", "selection": "source-val"}]'])
def test_a_damaged_glance_is_named(content: str, tmp_path: Path) -> None:
    folder = benchmark(tmp_path / "bench")
    (folder / "glance.json").write_text(content)
    with pytest.raises(RunError, match=r"glance\.json: is damaged"):
        look(folder)
