"""What is found of calibration, thresholds, doubt and subgroups, against numbers worked out another way."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_material import RULE, InMemory, classification, only_held_out, segmentation
from sklearn.metrics import roc_auc_score

from elsewhere.errors import SettingsError
from elsewhere.evidence.calibration import debiased_ece, label_bins
from elsewhere.evidence.findings import Question, find
from elsewhere.evidence.findings_calibration import calibration_at, conformal_at
from elsewhere.evidence.findings_decisions import decisions_at, detection_at
from elsewhere.evidence.findings_doubt import doubt_at, wrong_below
from elsewhere.evidence.findings_material import CALIBRATION, HELD_OUT, HOME, Judged
from elsewhere.evidence.findings_subgroups import ALL_SITES, Wanted, subgroups_of
from elsewhere.evidence.operating import choose_threshold
from elsewhere.evidence.temperature import scaled

CLASSES = ("healthy", "ill")


def some_classification(
    n: int, seed: int, strength: float = 2.0, seeds: int = 2, site: str = "A", first: int = 0
) -> Judged:
    rng = np.random.default_rng(seed)
    target = np.arange(n) % 2
    logit = strength * (2 * target - 1) / 2 + rng.normal(0, 1, (seeds, n))
    return classification(1 / (1 + np.exp(-logit)), target, site, None, first)


def some_segmentation(n: int, seed: int, seeds: int = 2, site: str = "A") -> Judged:
    """With histograms of P(not background): 100 voxels of foreground and 300 of background a case."""
    rng = np.random.default_rng(seed)
    dice = rng.uniform(0.2, 0.95, (seeds, n))
    true, false = np.zeros((seeds, n, 100)), np.zeros((seeds, n, 100))
    for s in range(seeds):
        for i in range(n):
            true[s, i] = np.histogram(rng.beta(1 + 6 * dice[s, i], 1.5, 100), 100, (0, 1))[0]
            false[s, i] = np.histogram(rng.beta(1, 6, 300), 100, (0, 1))[0]
    judged = segmentation(dice, site)
    counts = {f"lesions_{part}:lesion": rng.integers(1, 4, (seeds, n)).astype(float) for part in ("true", "false")}
    counts["lesions_found:lesion"] = np.minimum(counts["lesions_true:lesion"], 1)
    return replace(
        judged,
        numbers={**judged.numbers, **counts, "confidence": dice + rng.normal(0, 0.01, dice.shape)},
        histograms={"foreground_true": true, "foreground_false": false},
    )


def hide(judged: Judged, cases: slice, model: int) -> Judged:
    """As the in-domain test of another seed: cases that are none of the model's own."""
    seen = judged.seen.copy()
    seen[model, cases] = False
    p = None if judged.probabilities is None else np.where(seen[:, :, None], judged.probabilities, np.nan)
    numbers = {name: np.where(seen, values, np.nan) for name, values in judged.numbers.items()}
    histograms = {name: values * seen[:, :, None] for name, values in judged.histograms.items()}
    return replace(judged, seen=seen, probabilities=p, numbers=numbers, histograms=histograms)


def test_calibration_as_the_model_is_and_after_its_temperature() -> None:
    judged = some_classification(60, 0)
    fitted = {0: {"temperature": 2.0, "n_patients": 9}, 1: {"temperature": 1.0, "n_patients": 8}}
    found = calibration_at("erm", "A", {HELD_OUT: judged}, fitted)
    assert found is not None
    assert judged.probabilities is not None
    assert judged.target is not None
    again = debiased_ece(label_bins(judged.probabilities, judged.target), judged.patients, n_boot=300)
    assert found.ece == again
    warm = np.stack([scaled(judged.probabilities[0], 2.0), judged.probabilities[1]])
    assert found.scaled_ece is not None
    assert found.scaled_ece.value == pytest.approx(
        debiased_ece(label_bins(warm, judged.target), judged.patients, n_boot=2).value
    )
    assert found.temperatures == (2.0, 1.0)
    assert found.calibration_patients == 8
    assert found.brier == pytest.approx(np.mean((judged.probabilities[:, :, 1] - judged.target) ** 2))
    right = judged.probabilities.argmax(2) == judged.target
    assert sum(w * r for w, r in zip(found.curve.weight, found.curve.right, strict=True)) == pytest.approx(
        right.mean(), abs=1e-3
    )


def test_why_there_is_no_temperature_is_said_of_runs_that_have_none() -> None:
    judged = some_classification(20, 0)
    few = "with 5 calibration patients at most 1 in 6 can be flagged"
    fitted: dict[int, dict[str, Any]] = {0: {"temperature": 2.0, "reason": few}, 1: {"temperature": 1.0, "reason": few}}
    both = calibration_at("erm", "A", {HELD_OUT: judged}, fitted)
    assert both is not None
    assert both.reason is None
    fitted[1] = {"temperature": None, "reason": "there are no calibration patients"}
    one = calibration_at("erm", "A", {HELD_OUT: judged}, fitted)
    assert one is not None
    assert one.reason == "there are no calibration patients"


def test_cases_of_another_seed_do_not_count_in_calibration() -> None:
    judged = some_classification(40, 1)
    hidden = hide(judged, slice(0, 20), 0)
    one = calibration_at("erm", "A", {HELD_OUT: judged, HOME: hidden}, {})
    assert one is not None
    assert one.home_ece is not None
    assert judged.probabilities is not None
    assert judged.target is not None
    bins = label_bins(judged.probabilities, judged.target)
    bins[0, :20] = 0
    assert one.home_ece.value == pytest.approx(debiased_ece(bins, judged.patients, n_boot=2).value)
    assert one.scaled_ece is None, "no temperature was written"


def test_label_sets_are_fitted_on_each_runs_own_calibration_patients() -> None:
    calibration = hide(some_classification(60, 2, first=500), slice(0, 30), 0)
    away = some_classification(80, 3)
    found = conformal_at("erm", "A", {HELD_OUT: away, CALIBRATION: calibration})
    assert found is not None
    held = []
    assert calibration.probabilities is not None
    assert away.probabilities is not None
    for model in range(2):
        own = calibration.seen[model]
        p, y = calibration.probabilities[model, own], np.asarray(calibration.target)[own]
        scores = np.sort(1 - p[np.arange(len(y)), y])
        threshold = scores[math.ceil((len(y) + 1) * 0.9) - 1]
        mine = away.probabilities[model]
        inside = (1 - mine <= threshold) | (mine == mine.max(1, keepdims=True))
        held.append(inside[np.arange(80), np.asarray(away.target)].mean())
    assert found.away.value == pytest.approx(np.mean(held))
    assert found.calibration_patients == 30
    few = conformal_at("erm", "A", {HELD_OUT: away, CALIBRATION: some_classification(6, 2)})
    assert few is not None
    assert few.away.value == 1
    assert "needs 9" in str(few.reason)


def test_outer_masks_hold_what_they_promise_where_patients_are_alike() -> None:
    found = conformal_at(
        "erm", "A", {HELD_OUT: some_segmentation(60, 5), CALIBRATION: some_segmentation(60, 6, site="C")}
    )
    assert found is not None
    assert found.kind == "outer masks"
    assert found.away.value > 0.75
    assert 0.2 < found.size.value < 0.8


def test_thresholds_come_from_calibration_patients_alone() -> None:
    calibration, away = some_classification(40, 7, first=500), some_classification(50, 8)
    youden, sensitive = decisions_at("erm", "A", {HELD_OUT: away, CALIBRATION: calibration}, CLASSES, 0.1)
    assert calibration.probabilities is not None
    wanted = [
        choose_threshold(p[:, 1], np.asarray(calibration.target) == 1, calibration.patients)
        for p in calibration.probabilities
    ]
    assert youden.thresholds == pytest.approx(wanted)
    assert youden.positive == "ill"
    assert away.probabilities is not None
    called = away.probabilities[:, :, 1] >= np.array(wanted)[:, None]
    ill = np.asarray(away.target) == 1
    sensitivity, specificity = called[:, ill].mean(), 1 - called[:, ~ill].mean()
    assert youden.away["sensitivity"].value == pytest.approx(sensitivity)
    assert youden.away["specificity"].value == pytest.approx(specificity)
    ppv = sensitivity * 0.1 / (sensitivity * 0.1 + (1 - specificity) * 0.9)
    assert youden.at_prevalence["ppv"].value == pytest.approx(ppv)
    assert sensitive.rule == "sensitivity:0.9"
    assert decisions_at("erm", "A", {HELD_OUT: away}, CLASSES, None) == [], "never on the held-out site"


def test_voxels_and_lesions() -> None:
    away, calibration = some_segmentation(20, 9), some_segmentation(20, 10)
    (found,) = decisions_at("erm", "A", {HELD_OUT: away, CALIBRATION: calibration}, ("background", "lesion"), None)
    true, false = (away.histograms[f"foreground_{name}"] for name in ("true", "false"))
    starts = [round(100 * t) for t in found.thresholds]
    hits = np.array([true[s, :, start:].sum() for s, start in enumerate(starts)])
    assert found.away["sensitivity"].value == pytest.approx((hits / true.sum((1, 2))).mean())
    dice = [
        2 * true[s, :, start:].sum(1) / (true[s].sum(1) + true[s, :, start:].sum(1) + false[s, :, start:].sum(1))
        for s, start in enumerate(starts)
    ]
    assert found.dice is not None
    assert found.dice.value == pytest.approx(np.mean(dice))
    (lesions,) = detection_at("erm", "A", {HELD_OUT: away})
    true_lesions = away.numbers["lesions_true:lesion"]
    assert lesions.found["sensitivity"].value == pytest.approx((true_lesions.shape[1] / true_lesions.sum(1)).mean())
    assert lesions.found["missed"].value == pytest.approx((true_lesions - 1).mean())


def test_doubt_finds_errors() -> None:
    away, home = some_segmentation(40, 11), some_segmentation(40, 12)
    bound = wrong_below([home])
    assert bound == pytest.approx(np.quantile(home.numbers["dice"], 0.1), abs=0.005)
    unlike = (away.numbers["dice"] < 0.4).astype(float)
    away = replace(away, numbers={**away.numbers, "outlier": -away.numbers["dice"], "unlike": unlike})
    found = doubt_at("erm", "A", {HELD_OUT: away, HOME: home}, 0.5)
    assert found is not None
    wrong = away.numbers["dice"] < 0.5
    auroc = [roc_auc_score(w, -c) for w, c in zip(wrong, away.numbers["confidence"], strict=True)]
    assert found.errors["confidence"].value == pytest.approx(np.mean(auroc))
    assert found.errors["outlier"].value == 1
    assert found.wrong == pytest.approx(wrong.mean())
    assert found.flagged is not None
    assert found.flagged.value == pytest.approx(unlike.mean())
    assert found.flagged_home is None
    assert found.by_outlier is not None
    assert found.by_outlier.area <= found.by_outlier.area_of_random
    assert found.by_outlier.risk[-1] == pytest.approx(1 - away.numbers["dice"].mean(), abs=1e-4)
    assert doubt_at("erm", "A", {HELD_OUT: segmentation(np.ones((1, 4)))}, 0.5) is None


def table(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"case": [f"{s}{i}" for s in "AB" for i in range(n // 2)], **columns}).set_index("case")


def test_subgroups_have_the_same_edges_at_every_site() -> None:
    rng = np.random.default_rng(0)
    tables = {("erm", site): segmentation(rng.random((2, 30)), site) for site in "AB"}
    ages = [*(str(20 + i) for i in range(30)), *(str(50 + i) for i in range(29)), ""]
    covariates = table(age=ages, sex=["F", "M"] * 30, scanner=["x"] * 60)
    found = subgroups_of(only_held_out(tables), covariates, (), ["A", "B"], "dice")
    assert {one.covariate for one in found} == {"age", "sex"}, "one scanner makes no groups"
    by = {(one.covariate, one.held_out): one for one in found}
    assert {row.group for row in by["age", "A"].rows} & {row.group for row in by["age", "B"].rows}
    assert by["age", "B"].rows[-1].group == "(missing)"
    assert all(row.small for row in by["age", "B"].rows[-1:])
    (female, male) = by["sex", ALL_SITES].rows
    values = np.concatenate([tables["erm", site].numbers["dice"] for site in "AB"], axis=1)
    assert female.found.value == pytest.approx(values[:, ::2].mean())
    assert female.n_patients == 30
    gap = by["sex", ALL_SITES].gap
    assert gap == pytest.approx(abs(female.found.value - male.found.value))
    given = subgroups_of(only_held_out(tables), covariates, [Wanted("age", (40.0,))], ["A", "B"], "dice")
    assert [row.group for row in given[0].rows] == ["< 40", ">= 40"]


def test_covariates_as_they_are_asked_for() -> None:
    assert Wanted.parse("age") == Wanted("age")
    assert Wanted.parse("age:40,65") == Wanted("age", (40.0, 65.0))
    assert Wanted.parse("manifest:site") == Wanted("manifest:site")
    with pytest.raises(SettingsError, match="found edges 'old', wanted numbers"):
        Wanted.parse("age:old")
    judged = {("erm", "A"): {HELD_OUT: segmentation(np.ones((1, 4)))}}
    asked = Question(subgroups=(Wanted("scanner"),))
    with pytest.raises(SettingsError, match="found 'scanner', wanted a covariate of the study: age"):
        find(InMemory(judged, covariates=pd.DataFrame({"age": ["1"]}, index=["A0"])), RULE, asked)
    with pytest.raises(SettingsError, match=r"covariates\.csv"):
        find(InMemory(judged), RULE, asked)


def test_what_is_missing_is_said() -> None:
    judged: dict[tuple[str, str], Any] = {("erm", "A"): {HELD_OUT: segmentation(np.linspace(0.3, 0.8, 6))}}
    found = find(InMemory(judged), RULE)
    assert set(found.missing) == {"calibration", "conformal", "decisions", "detection", "doubt", "subgroups"}
    assert "elsewhere benchmark" in found.missing["subgroups"]
    assert not found.decisions


@pytest.mark.parametrize("covariates", [None, pd.DataFrame({"age": ["1"] * 20}, index=[f"A{i}" for i in range(20)])])
def test_labels_alone_show_nothing_of_confidence(covariates: pd.DataFrame | None) -> None:
    """Their probabilities are 0 and 1: a calibration error of the error rate, and a flat risk, made of nothing."""
    target = np.arange(20) % 2
    label = np.where(np.arange(20) < 5, 1 - target, target).astype(float)
    given: dict[str, Any] = {
        "task": "classification",
        "classes": CLASSES,
        "evaluation": True,
        "metrics_missing": ("auroc", "average_precision", "brier", "ece"),
        "covariates": covariates,
    }
    material = InMemory({("given", "A"): {HELD_OUT: classification(label, target)}}, **given)
    found = find(material, RULE)
    assert found.metric == "balanced_accuracy"
    assert found.scores[0].models.value == pytest.approx(0.75, abs=0.01)
    assert not any((found.calibration, found.conformal, found.decisions, found.doubt, found.cases))
    for section in ("cases", "calibration", "conformal", "decisions", "doubt"):
        assert "no probabilities" in found.missing[section]
    assert ("elsewhere evaluate" in found.missing["subgroups"]) == (covariates is None)
    assert "benchmark" not in str(found.missing)
    for metric in ("auroc", "brier"):
        with pytest.raises(SettingsError, match=f"found '{metric}', wanted for classification without probabilities"):
            find(material, RULE, Question(metric=metric))
    with pytest.raises(SettingsError, match=r"wanted for classification one of: balanced_accuracy, accuracy, f1$"):
        find(material, RULE, Question(metric="dice"))
    assert find(material, RULE, Question(metric="f1")).metric == "f1"


def test_predictions_made_elsewhere_are_not_told_to_be_evaluated_again() -> None:
    masks = {("given", "A"): {HELD_OUT: segmentation(np.linspace(0.3, 0.8, 6))}}
    found = find(InMemory(masks, evaluation=True), RULE)
    assert "evaluation 2" not in str(found.missing)
    assert found.missing["conformal"].startswith("predictions made elsewhere come without calibration patients")
    assert found.missing["doubt"].startswith("no probabilities were given")
    table = {("given", "A"): {HELD_OUT: some_classification(30, 0, seeds=1)}}
    shown = find(InMemory(table, task="classification", classes=CLASSES, evaluation=True), RULE)
    assert shown.calibration
    assert shown.doubt
    assert set(shown.missing) == {"conformal", "decisions", "subgroups"}


def with_bins(judged: Judged, name: str, right: float) -> Judged:
    """Voxels of every case: 10 in each of the five uppermost bins, a share of them right."""
    count = np.zeros((*judged.seen.shape, 15))
    count[:, :, 10:] = 10
    parts = {"count": count, "confidence": count * (np.arange(15) + 0.5) / 15, "right": count * right}
    return replace(judged, histograms={**judged.histograms, **{f"{name}_{part}": of for part, of in parts.items()}})


def test_voxels_of_a_model_that_is_never_right_are_calibrated_worst() -> None:
    found = calibration_at("erm", "A", {HELD_OUT: with_bins(segmentation(np.zeros((1, 6))), "bin", 0.0)}, {})
    assert found is not None
    assert found.ece.value == pytest.approx(np.mean((np.arange(10, 15) + 0.5) / 15))


def test_voxels_after_the_temperature_are_of_every_run_or_not_shown() -> None:
    judged = with_bins(with_bins(segmentation(np.full((2, 6), 0.5)), "bin", 0.9), "scaled", 0.9)
    both = calibration_at("erm", "A", {HELD_OUT: judged}, {})
    assert both is not None
    assert both.scaled_ece is not None
    assert both.scaled_ece.value == both.ece.value
    for name in ("count", "confidence", "right"):
        judged.histograms[f"scaled_{name}"][1] = 0  # its run had no temperature
    one = calibration_at("erm", "A", {HELD_OUT: judged}, {})
    assert one is not None
    assert (one.scaled_ece, one.scaled_curve) == (None, None)


def test_what_was_not_written_of_voxels_is_left_out() -> None:
    away, calibration = some_segmentation(20, 5), some_segmentation(20, 6)
    home = segmentation(np.full((2, 5), 0.8), "H")
    found = conformal_at("erm", "A", {HELD_OUT: away, CALIBRATION: calibration, HOME: home})
    assert found is not None
    assert found.home is None
    splits, classes = {HELD_OUT: away, CALIBRATION: calibration}, ("background", "lesion")
    (before,) = decisions_at("erm", "A", splits, classes, None)
    for histogram in away.histograms.values():
        histogram[:, 5:] = 0
    (after,) = decisions_at("erm", "A", splits, classes, None)
    assert before.dice is not None
    assert after.dice is not None
    assert (before.dice.n_cases, after.dice.n_cases) == (20, 5)
    assert after.dice.value < 0.95, "not the Dice of two empty masks"
    for histogram in calibration.histograms.values():
        histogram[1, :] = 0  # the histograms of a run could not be made
    assert decisions_at("erm", "A", splits, classes, None) == []


def test_where_a_tenth_of_the_cases_at_home_are_missed_such_cases_are_wrong() -> None:
    home = segmentation(np.r_[np.zeros(4), np.full(16, 0.9)])
    bound = wrong_below([home])
    away = segmentation(np.r_[np.zeros(3), np.full(9, 0.8)], confidence=np.linspace(0.1, 0.9, 12)[None])
    found = doubt_at("erm", "A", {HELD_OUT: away}, bound)
    assert found is not None
    assert found.wrong == pytest.approx(3 / 12)
    assert found.errors["confidence"].value == 1


def test_groups_are_the_same_at_every_site() -> None:
    """A text at one site makes the numbers of the others texts, too; and every method's sites are looked at."""
    field = ["1.5"] * 10 + ["unknown"] * 10 + [f"{0.5 * (i % 8):g}" for i in range(20)]
    covariates = table(field=field)
    judged = only_held_out({("erm", "A"): segmentation(np.linspace(0.2, 0.9, 20), "A")})
    judged |= only_held_out({("gin", site): segmentation(np.linspace(0.3, 0.9, 20), site) for site in "AB"})
    found = {(one.method, one.held_out): one for one in subgroups_of(judged, covariates, (), ["A", "B"], "dice")}
    assert [row.group for row in found["gin", "B"].rows] == ["0", "0.5", "1", "1.5", "2", "2.5", "3", "3.5"]
    assert [row.group for row in found["gin", "A"].rows] == ["1.5", "unknown"]
    ages = table(age=[*(str(20 + i) for i in range(20)), *(str(60 + i) for i in range(20))])
    edges = subgroups_of(judged, ages, (), ["A", "B"], "dice")
    whole = {row.group for one in edges for row in one.rows}
    assert whole == {"< 29.75", "29.75 to < 49.5", "49.5 to < 69.25", ">= 69.25"}, "quartiles of both sites"


def test_a_covariate_that_is_the_class_makes_no_table_of_undefined_scores() -> None:
    away = some_classification(40, 0)
    columns = {"finding": ["normal", "nodule"] * 20, "sex": ["f", "f", "m", "m"] * 10}
    covariates, judged = pd.DataFrame(columns, index=away.cases), only_held_out({("erm", "A"): away})
    assert {one.covariate for one in subgroups_of(judged, covariates, (), ["A"], "auroc")} == {"sex"}
    assert {one.covariate for one in subgroups_of(judged, covariates, (), ["A"], "accuracy")} == {"finding", "sex"}
    (asked,) = subgroups_of(judged, covariates, [Wanted("finding")], ["A"], "auroc")
    assert [row.found.reason for row in asked.rows] == ["undefined for these cases"] * 2


def test_a_covariate_that_was_asked_for_and_makes_no_groups_is_refused() -> None:
    judged = only_held_out({("erm", "A"): segmentation(np.ones((1, 4)))})
    one = pd.DataFrame({"scanner": ["x"] * 4, "age": ["1", "2", "3", "4"]}, index=[f"A{i}" for i in range(4)])
    asked = [Wanted("age"), Wanted("scanner")]
    with pytest.raises(SettingsError, match="--subgroup scanner: found all cases in one group, 'x'"):
        subgroups_of(judged, one, asked, ["A"], "dice")
    assert subgroups_of({}, one, asked, ["A"], "dice") == [], "nothing is judged yet"
