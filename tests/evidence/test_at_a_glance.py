"""The card: sentence, figures, methods, next steps, and warnings, each with a case that fires and one that does not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_material import RULE, InMemory, classification, only_held_out, segmentation

from elsewhere.evidence.at_a_glance import SHOWN, Glance, at_a_glance
from elsewhere.evidence.facts import Curve, Facts, Longer, curve, fell, learnt_nothing
from elsewhere.evidence.findings import Findings, Question, find, plain
from elsewhere.evidence.findings_material import HELD_OUT, HOME, Judged
from elsewhere.evidence.intervals import Interval
from elsewhere.evidence.trivial import Trivial, no_better

FINE = Facts(planned=18, steps=300, longer=Longer("does not pay", "+0.001", 600))


def dice(n: int, mean: float, seeds: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(mean + rng.normal(0, 0.08, n) + rng.normal(0, 0.01, (seeds, n)), 0, 1)


def material(
    methods: dict[str, tuple[float, ...]], *, seeds: int = 3, n: int = 25, level: float = 0.7, noise: float = 0.01
) -> dict[tuple[str, str], Any]:
    """ERM and methods that add so much to it at each site; 0.85 at home."""
    cases: dict[tuple[str, str], dict[str, Judged]] = {}
    sites = len(next(iter(methods.values())))
    for number in range(sites):
        site = chr(65 + number)
        base = dice(n, level, seeds, number)
        patients = [f"{site}-p{i}" for i in range(n)]
        home = {HOME: segmentation(dice(20, 0.85, seeds, 50 + number), "H")}
        for method, shifts in methods.items():
            more = np.random.default_rng(99 + number).normal(0, noise, base.shape) * (method != "erm")
            cases[method, site] = {HELD_OUT: segmentation(base + shifts[number] + more, site, patients), **home}
    return cases


def found_in(cases: dict[tuple[str, str], Any], metric: str | None = None, **more: Any) -> Findings:
    return find(InMemory(cases, metric=metric, **more), RULE, Question(metric), whole=False)


def card(cases: dict[tuple[str, str], Any], facts: Facts = FINE, **more: Any) -> Glance:
    return at_a_glance(found_in(cases, **more), facts)


def heads(glance: Glance) -> list[str]:
    return [one.head for one in glance.caveats]


def test_sentence_and_figures_are_those_of_the_findings() -> None:
    found = found_in(material({"erm": (0.0, 0.0, -0.2)}))
    glance = at_a_glance(found, FINE)
    total = found.overall[0]
    assert glance.sentence == (
        f"At 3 sites held out from training ERM reaches a mean Dice of {total.training.value:.2f} "
        f"[{total.training.lo:.2f}, {total.training.hi:.2f}], against {total.home.value:.2f} at home; "  # type: ignore[union-attr]
        "95 % interval for the method."
    )
    assert len(glance.sentence.split()) < 31
    away, home, worst, people = glance.figures
    assert (away.value, away.small) == (
        f"{total.models.value:.2f}",
        f"[{total.training.lo:.2f}, {total.training.hi:.2f}], the method",
    )
    assert home.value == f"{total.home.value:.2f}"  # type: ignore[union-attr]
    assert home.small.startswith(f"elsewhere minus home −{abs(total.gap.value):.2f}")  # type: ignore[union-attr]
    assert worst.value == f"{total.worst:.2f}"
    assert worst.small.startswith("C [")
    assert (people.value, people.small) == ("75", "at 3 sites")
    assert glance.compared == "Only ERM was run: there is no other method to compare."
    assert heads(glance) == []


def test_one_seed_speaks_of_these_models_and_claims_nothing() -> None:
    glance = card(material({"erm": (0.0,) * 3, "gin": (0.1,) * 3}, seeds=1), replace(FINE, steps=300))
    assert glance.sentence.endswith("95 % interval for these models.")
    assert glance.against[0].words == "better at all 3 sites, for these models only"
    assert "One seed" in heads(glance)
    assert any("--seeds 3" in step for step in glance.steps)
    assert not any(step.startswith("Use") for step in glance.steps), "one training says nothing of a method"


@pytest.mark.parametrize(
    ("cases", "wanted"),
    [
        ({("erm", "A"): {}}, "Nothing is finished yet, so there is no answer."),
        ({"gin": (0.0,) * 2}, "At 2 sites held out from training gin reaches a mean Dice of "),
        ({"erm": (0.0,)}, "At A, held out from training, ERM reaches Dice "),
    ],
)
def test_sentences_of_unusual_questions(cases: Any, wanted: str) -> None:
    made = cases if ("erm", "A") in cases else material(cases)
    assert card(made).sentence.startswith(wanted)


def test_half_finished() -> None:
    cases = material({"erm": (0.0,) * 3})
    cases["erm", "C"] = {}
    glance = card(cases, replace(FINE, planned=9, failed=1, waiting=2))
    assert glance.sentence == (
        "ERM was judged at 2 of 3 sites held out from training; there is no mean over all of them yet."
    )
    assert str(glance.caveats[0]) == (
        "Not complete: 1 of 9 runs failed and 2 of 9 runs are not finished; the same command goes on with them."
    )
    assert glance.steps[0] == "Run the same command again: 3 runs of 9 are missing."
    assert "Not complete" not in heads(card(cases))


def test_methods_are_ranked_by_what_the_tests_allow() -> None:
    shifts = {"erm": (0.0,) * 4, "better": (0.1, 0.1, 0.0, 0.0), "worse": (-0.1,) * 4, "both": (0.1, 0.0, 0.0, -0.1),
              "alike": (0.0,) * 4}  # fmt: skip
    glance = card(material(shifts, noise=0.02))
    assert {one.method: (one.words, one.verdict) for one in glance.against} == {
        "better": ("better at 2 of 4 sites, for the method", "better"),
        "both": ("better at 1 of 4 sites, for the method; worse at 1 of 4 sites, for the method", "both"),
        "alike": ("not told apart from ERM", "none"),
        "worse": ("worse at all 4 sites, for the method", "worse"),
    }
    order = [one.method for one in glance.against]
    assert (order[0], order[-1]) == ("better", "worse")
    assert glance.others == "1 more: 1 worse somewhere"
    assert "Use better: better for the method at 2 of 4 sites, worse at none." in glance.steps
    alone = at_a_glance(found_in(material(shifts, noise=0.02)), FINE, "worse")
    assert [one.method for one in alone.against] == ["worse"], "the card of a model is about its method"
    assert alone.sentence.startswith("At 4 sites held out from training worse reaches")
    ermless = card({key: splits for key, splits in material(shifts).items() if key[0] != "erm"})
    assert ermless.compared == "ERM was not run: there is nothing to compare the methods with."


def test_no_method_is_recommended_where_none_is_shown_to_be_better() -> None:
    glance = card(material({"erm": (0.0,) * 3, "gin": (-0.1, 0.1, 0.0)}))
    assert "Use ERM: no other method is shown to be better without being worse elsewhere." in glance.steps


def test_where_lower_is_better_the_worst_site_is_the_largest() -> None:
    cases: dict[tuple[str, str], Any] = {}
    for number, (site, far) in enumerate({"A": 5.0, "B": 15.0}.items()):
        for method, shift in (("erm", 0.0), ("gin", -3.0)):
            distance = far + np.random.default_rng(number).normal(0, 1, (3, 30)) + shift
            cases[method, site] = {HELD_OUT: segmentation(np.full((3, 30), 0.5), site, None, 0, hd95=distance)}
    glance = card(cases, metric="hd95")
    assert glance.figures[2].small.startswith("B [")
    assert glance.against[0].verdict == "better"
    assert "trivial" not in " ".join(heads(glance)), "a distance has no trivial answer"


def test_a_mask_that_is_no_better_than_foreground_everywhere() -> None:
    """Foreground is 1 / 4 of every image: the mask of everything has Dice 2 / 5."""
    n, counts = 20, {"foreground_true": np.full((3, 20, 2), 8.0), "foreground_false": np.full((3, 20, 2), 24.0)}
    cases = material({"erm": (0.0, 0.0)}, n=n, level=0.4)
    cases = {key: {**splits, HELD_OUT: replace(splits[HELD_OUT], histograms=counts)} for key, splits in cases.items()}
    found = found_in(cases)
    assert [one.trivial for one in found.at] == [Trivial(pytest.approx(0.4), "foreground everywhere")] * 2
    glance = at_a_glance(found, FINE)
    assert str(glance.caveats[0]) == (
        "No better than a trivial answer: ERM (at both sites) is not shown to beat Dice 0.40, the score of "
        "foreground everywhere."
    )
    assert any(step.startswith("Do not use these models at both sites") for step in glance.steps)
    good = material({"erm": (0.0, 0.0)}, n=n, level=0.6)
    good = {key: {**splits, HELD_OUT: replace(splits[HELD_OUT], histograms=counts)} for key, splits in good.items()}
    assert "No better than a trivial answer" not in heads(card(good))


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        ({"erm": (0.1, 0.1), "a": (0.1, 0.1)}, "at both sites no method is shown to beat Dice 0.40, the score of "),
        ({"erm": (0.1, 0.6), "a": (0.1, 0.6)}, "at A no method is shown to beat Dice 0.40, the score of "),
        ({"erm": (0.1, 0.6), "a": (0.1, 0.1)}, "ERM (at A) and a (at both sites) are not shown to beat Dice 0.40, "),
        ({"erm": (0.6, 0.6), "a": (0.1, 0.1)}, "a (at both sites) is not shown to beat Dice 0.40, the score of "),
        ({"erm": (0.6, 0.6), "a": (0.1, 0.6), "b": (0.1, 0.6), "c": (0.6, 0.1)},
         "at both sites 3 of 4 methods are not shown to beat Dice 0.40, the score of "),
        ({"erm": (0.1, 0.6), "a": (0.1, 0.6), "b": (0.1, 0.1)}, "at A no method is shown to beat Dice 0.40, "),
    ],
)  # fmt: skip
def test_who_does_not_beat_a_trivial_answer_where(levels: dict[str, tuple[float, ...]], wanted: str) -> None:
    """Seen on polyps: "at all 4 sites no method" where one method failed at all of them, and ERM at two."""
    counts = {"foreground_true": np.full((3, 20, 2), 8.0), "foreground_false": np.full((3, 20, 2), 24.0)}
    cases = material(levels, n=20, level=0.0)
    cases = {key: {**splits, HELD_OUT: replace(splits[HELD_OUT], histograms=counts)} for key, splits in cases.items()}
    assert card(cases).caveats[0].text.startswith(wanted)


def test_the_interval_is_compared_and_not_the_point() -> None:
    bar = Trivial(0.5, "x")
    assert no_better(Interval(0.6, 0.49, 0.7, 9, 9), bar, "auroc")
    assert not no_better(Interval(0.6, 0.51, 0.7, 9, 9), bar, "auroc")
    assert no_better(Interval(0.5, math.nan, math.nan, 9, 9), bar, "dice"), "all score alike: the score itself"
    assert not no_better(Interval(0.6, math.nan, math.nan, 9, 9), bar, "dice")
    assert not no_better(Interval(math.nan, math.nan, math.nan, 9, 9), bar, "dice")
    assert no_better(Interval(0.2, 0.1, 0.3, 9, 9), Trivial(0.25, "x"), "brier")
    assert not no_better(Interval(0.2, 0.1, 0.24, 9, 9), Trivial(0.25, "x"), "brier")


def test_a_validation_that_fell_or_never_rose() -> None:
    assert fell([0.5, 0.6, 0.3, 0.2])
    assert not fell([0.5, 0.6, 0.3, 0.46]), "0.04 below"
    assert learnt_nothing([0.0, 0.005, 0.0, 0.01], "dice")
    assert not learnt_nothing([0.0, 0.005, 0.0, 0.02], "dice")
    assert learnt_nothing([0.5, 0.48, 0.31, 0.5], "auroc")
    nan = math.nan
    made = curve("gin", "A", "dice", [[0.5, nan, 0.4, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4], [0.4, 0.1]])
    assert made == Curve("gin", "A", 2, 1, 0), "two validations are no curve"
    cases = material({"erm": (0.0,) * 3, "gin": (0.0,) * 3})
    glance = card(cases, replace(FINE, curves=(Curve("gin", "A", 3, 3, 0), Curve("erm", "A", 3, 0, 0))))
    assert str(glance.caveats[0]) == (
        "Training collapsed: gin's validation score ended below its start in 3 of 3 runs."
    )
    assert glance.steps[0] == "Change the options of gin, or leave it out: training collapsed."
    rare = card(cases, replace(FINE, curves=(Curve("gin", "A", 3, 1, 0),)))
    assert "1 of 3 runs" in rare.caveats[0].text
    assert rare.caveats[0].head == "Validation fell in some runs"
    folds = tuple(Curve("erm", site, 1, int(site == "A"), 0) for site in "ABC")
    assert not any("does not learn" in step for step in card(cases, replace(FINE, curves=folds)).steps), "seen on cxr"
    assert "collapsed" not in rare.steps[0], "one of three is luck, and not the method"
    broken = card(cases, replace(FINE, curves=(Curve("erm", "A", 3, 0, 3),)))
    assert broken.steps[0].startswith("Find out why ERM does not learn")


def test_too_few_steps() -> None:
    cases = material({"erm": (0.0,) * 3})
    pays = card(cases, replace(FINE, longer=Longer("pays", "+0.047 [0.040, 0.054]", 600)))
    assert str(pays.caveats[0]) == (
        "Too few steps: 600 steps in the place of 300 gained +0.047 [0.040, 0.054] on validation."
    )
    assert pays.steps[0] == "Train longer (`--steps 600`): length still pays."
    unasked = card(cases, replace(FINE, longer=Longer()))
    assert heads(unasked) == []
    assert unasked.steps[0] == "Ask whether longer training pays: `elsewhere benchmark --steps 300,600`."
    assert not any("--steps" in step for step in card(cases).steps)


def test_images_that_are_there_twice() -> None:
    cases = material({"erm": (0.0,) * 3})
    glance = card(cases, replace(FINE, at_two_sites=4, of_two_patients=2))
    assert str(glance.caveats[0]) == (
        "The same image twice: 4 images are at two sites, so what is held out was trained on; 2 images are of two "
        "patients of a site."
    )
    assert "elsewhere study check" in glance.steps[0]
    alone = card(cases, replace(FINE, at_two_sites=1))
    assert alone.caveats[0].text == "1 image is at two sites, so what is held out was trained on."


def test_few_patients_one_patient_and_one_class() -> None:
    few = card(material({"erm": (0.0,) * 3}, n=12))
    assert heads(few) == ["Intervals in doubt"]
    text = "Intervals in doubt: too few patients at A and B to see how often cases fail outright."
    assert str(few.caveats[0]) == text
    assert heads(card(material({"erm": (0.0,) * 3}))) == []
    alone = card({("erm", "A"): {HELD_OUT: segmentation(dice(3, 0.7, 3, 0), "A", ["x", "x", "x"])}})
    assert heads(alone) == ["One patient"]
    rng = np.random.default_rng(0)
    p, target = rng.random((3, 40)), np.arange(40) % 2
    sites = {"A": target, "B": np.ones(40, dtype=int)}
    patients = {site: [f"{site}-p{i}" for i in range(40)] for site in sites}
    tables = {("erm", site): classification(p, y, site, patients[site]) for site, y in sites.items()}
    glance = card(only_held_out(tables), task="classification", classes=("healthy", "ill"))
    assert ("One class", "all cases are ill at B; AUROC is undefined there.") in [
        (one.head, one.text) for one in glance.caveats
    ]


def test_files_taken_for_patients() -> None:
    cases = {("erm", "A"): {HELD_OUT: segmentation(dice(20, 0.7, 3, 0))}}
    glance = card(cases)
    assert heads(glance) == ["Files taken for patients"], "patients are called like the cases"
    assert glance.figures[3].label == "patients (or files)"
    assert heads(card(material({"erm": (0.0,)}))) == []
    import pandas as pd

    told = pd.DataFrame({"age": ["50"] * 20}, index=[f"A{i}" for i in range(20)])
    assert heads(card(cases, covariates=told)) == [], "somebody knows who the patients are"


def test_an_evaluation() -> None:
    cases = {("mine", site): {HELD_OUT: segmentation(dice(20, 0.7, 1, i), site, [f"p{k}" for k in range(20)])}
             for i, site in enumerate("AB")}  # fmt: skip
    seen = {"A": "5 of its 20 cases trained, selected or calibrated the model"}
    glance = at_a_glance(found_in(cases, evaluation=True), Facts(evaluation=True, seen=seen))
    assert glance.sentence.startswith("At 2 sites mine reaches a mean Dice of ")
    assert glance.sentence.endswith("95 % interval for these predictions.")
    assert glance.figures[1].value == "–"
    assert str(glance.caveats[0]) == (
        "NOT ELSEWHERE: A: 5 of its 20 cases trained, selected or calibrated the model. Its score is not that of a "
        "site never seen."
    )
    assert glance.compared == "One set of predictions: there is no ERM to compare it with."
    assert not any("--seeds" in step or "--steps" in step or "Add sites" in step for step in glance.steps)
    new = at_a_glance(found_in(cases, evaluation=True), Facts(evaluation=True, elsewhere=True))
    assert new.sentence.startswith("At 2 sites new to the model mine reaches")


def test_how_many_patients_to_label() -> None:
    """Widths go as 1 / sqrt(n): half as wide takes four times as many patients."""
    found = found_in(material({"erm": (0.0, 0.0)}, n=25))
    wide = Interval(0.7, 0.6, 0.8, 25, 25)
    scores = tuple(replace(one, models=wide if one.held_out == "B" else one.models) for one in found.scores)
    steps = at_a_glance(replace(found, scores=scores), FINE).steps
    assert "Label about 75 more patients of B to know its score to ±0.05 (now ±0.10)." in steps
    assert not any("Label about" in step for step in at_a_glance(found, FINE).steps)


def test_patients_of_a_new_site_are_asked_for_where_the_score_falls_and_not_where_it_rises() -> None:
    def asked(level: float) -> bool:
        return any("a new site first" in step for step in card(material({"erm": (0.0,) * 3}, level=level)).steps)

    assert asked(0.7), "0.85 at home"
    assert not asked(0.84)
    assert not asked(0.95), "a new site that is easier than home"


def test_sites_are_asked_for_until_five() -> None:
    assert any("Add sites: from 5 on" in step for step in card(material({"erm": (0.0,) * 4})).steps)
    assert not any("Add sites" in step for step in card(material({"erm": (0.0,) * 5})).steps)


def test_hostile_names_and_many_of_them_stay_short() -> None:
    nasty = "<script>alert('x')</script> `and` a very long name\nof a hospital, " * 5
    shifts = {"erm": (0.0,) * 12} | {f"{nasty} {i}": (0.001 * i,) * 12 for i in range(12)}
    cases = {(method, f"{nasty}{site}"): splits for (method, site), splits in material(shifts).items()}
    bad = tuple(Curve(method, "A", 3, 3, 3) for method in shifts)
    facts = Facts(False, 99, 9, 9, True, {}, False, 300, bad, Longer("pays", "+0.047 [0.040, 0.054]", 600), 99, 99)
    glance = card(cases, facts)
    assert len(glance.against) == 12
    assert glance.others.startswith("9 more: ")
    for line in (glance.sentence, *glance.steps[:SHOWN], *map(str, glance.caveats)):
        assert len(line) < 220, line
        assert "\n" not in line
    for one in glance.figures:
        assert len(one.label) < 25
        assert len(one.small) < 60
    json.dumps(plain(glance), allow_nan=False)


def test_nothing_but_nan() -> None:
    p, target = np.full((2, 10), 0.5), np.ones(10, dtype=int)
    tables = {(method, "A"): classification(p, target, "A") for method in ("erm", "gin")}
    glance = card(only_held_out(tables), task="classification", classes=("healthy", "ill"))
    assert glance.sentence == "At A, held out from training, ERM's AUROC is undefined."
    text = json.dumps(plain(glance), ensure_ascii=False)
    assert "nan" not in text
