"""Scores, gaps and comparisons, against what a person would compute."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from made_up_material import RULE, InMemory, classification, only_held_out, segmentation
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from elsewhere.errors import SettingsError
from elsewhere.evidence import method_interval
from elsewhere.evidence.findings import Findings, Question, find, plain
from elsewhere.evidence.findings_comparisons import common, contrast
from elsewhere.evidence.findings_material import HELD_OUT, HOME, Judged
from elsewhere.evidence.findings_scores import difference, mean_of
from elsewhere.evidence.intervals import Interval


def some_dice(n: int, mean: float, seeds: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(mean + rng.normal(0, 0.08, n) + rng.normal(0, 0.01, (seeds, n)), 0, 1)


def three_sites(gin: tuple[float, float, float] = (0.1, 0.1, 0.1), seeds: int = 3) -> dict[tuple[str, str], Any]:
    cases: dict[tuple[str, str], dict[str, Judged]] = {}
    for number, site in enumerate("ABC"):
        base = some_dice(25, 0.7, seeds, number)
        noise = np.random.default_rng(9 + number).normal(0, 0.02, base.shape)
        noise -= noise.mean()
        home = {HOME: segmentation(some_dice(20, 0.85, seeds, 50 + number), "H")}
        cases["erm", site] = {HELD_OUT: segmentation(base, site), **home}
        cases["gin", site] = {HELD_OUT: segmentation(base + gin[number] + noise, site), **home}
    return cases


def found_in(cases: dict[tuple[str, str], Any], **more: Any) -> Findings:
    return find(InMemory(cases, **more), RULE)


def test_scores_and_gaps() -> None:
    cases = three_sites()
    found = found_in(cases)
    erm = {one.held_out: one for one in found.scores if one.method == "erm"}
    away, home = cases["erm", "A"][HELD_OUT].numbers["dice"], cases["erm", "A"][HOME].numbers["dice"]
    assert erm["A"].models.value == pytest.approx(away.mean())
    assert erm["A"].seeds == pytest.approx({seed: away[seed].mean() for seed in range(3)})
    assert erm["A"].spread == pytest.approx(np.std(away.mean(1), ddof=1))
    assert erm["A"].training == method_interval(away, cases["erm", "A"][HELD_OUT].patients, bounds=(0, 1))
    assert erm["A"].gap is not None
    assert erm["A"].gap.value == pytest.approx(away.mean() - home.mean())
    assert erm["A"].gap.hi < 0
    total = next(one for one in found.overall if one.method == "erm")
    assert total.models.value == pytest.approx(np.mean([erm[site].models.value for site in "ABC"]))
    assert total.worst == min(one.models.value for one in erm.values())
    assert math.isnan(total.new_site.lo), "nothing is said about another site below five"
    assert "3 held-out sites" in str(total.new_site.reason)


def test_scores_that_rest_on_one_more_patient_say_so() -> None:
    """Dice of 0.93 and a standard deviation of 0.03: one more of 25 patients at 0 would move the mean by 0.036."""
    generator = np.random.default_rng(0)
    cases = {
        ("erm", site): {HELD_OUT: segmentation(np.tile(generator.normal(middle, spread, 25), (2, 1)), site)}
        for site, middle, spread in (("A", 0.93, 0.03), ("B", 0.6, 0.2))
    }
    found = found_in(cases)
    at = {one.held_out: one.models for one in found.scores}
    assert at["A"].lo < at["A"].value - 0.036
    assert at["A"].doubt is not None
    assert at["A"].doubt.startswith("one more patient at 0 would move it further than these 25 vary")
    assert at["B"].doubt is None
    assert found.overall[0].models.doubt == f"at 1 of 2 sites: {at['A'].doubt}"


def test_home_patients_shared_by_folds_widen_the_mean() -> None:
    one = Interval(0.8, 0.7, 0.9, 10, 10)
    assert mean_of([one, one], apart=False).lo == pytest.approx(0.7)
    assert mean_of([one, one]).lo == pytest.approx(0.8 - 0.1 / math.sqrt(2))
    gap = difference(one, Interval(0.9, 0.85, 0.95, 10, 10))
    assert (gap.value, gap.lo) == pytest.approx((-0.1, -0.1 - math.hypot(0.1, 0.05)))


def test_a_clear_difference_is_called_one_and_a_small_one_is_not() -> None:
    found = found_in(three_sites(gin=(0.1, 0.0, -0.1)))
    verdicts = {one.held_out: one.verdict for one in found.comparisons.contrasts}
    assert verdicts == {"A": "better", "B": "not told apart", "C": "worse"}
    assert found.comparisons.hypotheses == 3
    for one in found.comparisons.contrasts:
        assert one.p <= one.p_holm
    assert found.comparisons.ranks == pytest.approx({"erm": 1.5, "gin": 1.5}, abs=0.34)


def test_the_permutation_test_agrees_with_a_t_test_on_seed_means() -> None:
    cases = three_sites(gin=(0.008, 0.0, 0.0))
    one = found_in(cases).comparisons.contrasts[0]
    pair = [cases[method, "A"][HELD_OUT].numbers["dice"].mean(0) for method in ("gin", "erm")]
    assert one.p == pytest.approx(stats.ttest_rel(*pair).pvalue, abs=0.02)
    assert one.models.value == pytest.approx((pair[0] - pair[1]).mean())


def test_where_lower_is_better() -> None:
    cases: dict[tuple[str, str], Any] = {}
    rng = np.random.default_rng(0)
    for method, shift in (("erm", 0.0), ("gin", -3.0)):
        distance = 10 + rng.normal(0, 1, (2, 30)) + shift
        cases[method, "A"] = {HELD_OUT: segmentation(np.full((2, 30), 0.5), "A", None, 0, hd95=distance)}
    found = find(InMemory(cases), RULE, Question(metric="hd95"), whole=False)
    (one,) = found.comparisons.contrasts
    assert one.verdict == "better"
    assert one.models.value == pytest.approx(-3, abs=1)
    assert one.better > 0.9


def test_two_patients_with_all_positives_show_nothing() -> None:
    """As in a real study, where all abnormal images had one of two patient names."""
    rng = np.random.default_rng(1)
    n, positives = 60, 40
    target = np.r_[np.ones(positives), np.zeros(n)].astype(int)
    patients = [f"p{i % 2}" for i in range(positives)] + [f"q{i}" for i in range(n)]
    tables = {}
    for method, strength in (("erm", 0.0), ("gin", 1.5)):
        logit = strength * (2 * target - 1) + rng.normal(0, 1, (2, len(target)))
        tables[method, "A"] = classification(1 / (1 + np.exp(-logit)), target, "A", patients)
    found = found_in(only_held_out(tables), task="classification", classes=("healthy", "ill"))
    (one,) = found.comparisons.contrasts
    assert one.p_holm < 0.05
    assert math.isnan(one.models.lo)
    assert one.verdict == "not told apart"


def test_common_cases_and_seeds() -> None:
    one, other = segmentation(some_dice(10, 0.5)), segmentation(some_dice(8, 0.6, 2), first=4)
    a, b = common(one, other)
    assert a.cases.tolist() == b.cases.tolist() == [f"A{i}" for i in range(4, 10)]
    assert a.seeds == b.seeds == (0, 1)
    found = contrast(one, other, "dice")
    expected = (one.numbers["dice"][:2, 4:] - other.numbers["dice"][:2, :6]).mean()
    assert found.difference == pytest.approx(expected)


def test_scores_of_cases_of_a_classification() -> None:
    rng = np.random.default_rng(2)
    target, p = np.arange(20) % 2, rng.random((2, 20))
    judged = classification(p, target)
    accuracy, brier = judged.values("accuracy"), judged.values("brier")
    assert accuracy is not None
    assert brier is not None
    assert accuracy.mean(1) == pytest.approx([((row > 0.5) == target).mean() for row in p])
    assert brier.mean(1) == pytest.approx([brier_score_loss(target, row) for row in p])
    assert judged.values("auroc") is None
    found = found_in(only_held_out({("erm", "A"): judged}), task="classification")
    assert found.scores[0].models.value == pytest.approx(np.mean([roc_auc_score(target, row) for row in p]))
    assert found.cases["erm"]["A"] == pytest.approx(np.where(target, p.mean(0), 1 - p.mean(0)), abs=1e-4)


def test_wrong_questions() -> None:
    material = InMemory(three_sites())
    with pytest.raises(SettingsError, match="found 'auroc', wanted for segmentation one of: dice"):
        find(material, RULE, Question(metric="auroc"))
    assert find(material, RULE, Question(metric="iou")).scores == ()
    with pytest.raises(SettingsError, match=r"--prevalence: found 5, wanted a share"):
        find(material, RULE, Question(prevalence=5))


def test_findings_are_json() -> None:
    found = plain(found_in(three_sites(seeds=1)))
    text = json.dumps(found, allow_nan=False)
    again = json.loads(text)
    assert again["scores"][0]["training"]["lo"] is None
    assert again["scores"][0]["models"]["estimand"] == "these models at this site"
    assert again["comparisons"]["contrasts"][0]["p_holm"] is not None
