from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import Interval, patient_interval, set_interval
from elsewhere.evidence import intervals as module
from elsewhere.tasks.classification_metrics import METRICS, score_classification
from reference.bootstrap_reference import resampled_mean, resampled_metric


def classified(n: int, k: int = 2, seed: int = 0, models: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = np.arange(n) % k
    p = np.exp(generator.normal(size=(models, n, k)) + np.eye(k)[target])
    return p / p.sum(-1, keepdims=True), target


def test_one_case_a_patient_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).beta(8, 2, size=40)
    wanted = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=1).confidence_interval
    found = patient_interval(values, range(40), n_boot=20000, method="percentile")
    assert found.value == pytest.approx(values.mean())
    assert (found.lo, found.hi) == pytest.approx((wanted.low, wanted.high), abs=0.03 * (wanted.high - wanted.low))
    assert (found.n_cases, found.n_patients, found.reason) == (40, 40, None)


def test_auroc_agrees_with_scipy() -> None:
    p, y = classified(60)
    wanted = stats.bootstrap(
        (p[0, :, 1], y),
        lambda score, target: score_classification(np.stack([1 - score, score], 1), target)["auroc"],
        n_resamples=4000, paired=True, vectorized=False, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    found = set_interval(p[0], y, range(60), "auroc", n_boot=4000, method="percentile")
    assert (found.lo, found.hi) == pytest.approx((wanted.low, wanted.high), abs=0.06 * (wanted.high - wanted.low))


def test_patients_bring_all_their_cases_and_all_models_get_the_same_patients() -> None:
    generator = np.random.default_rng(0)
    patients = generator.integers(0, 7, 30)
    values = generator.normal(size=(3, 30))
    values[0, 4] = values[1, 5] = np.nan  # a case may be undefined for one model
    found = patient_interval(values, patients, n_boot=300, seed=11, method="percentile")
    scores = resampled_mean(values, patients, n_boot=300, seed=11)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))
    assert found.value == pytest.approx(np.nanmean(values, axis=1).mean())
    assert found.n_patients == 7


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("k", [2, 3])
def test_set_metrics_are_those_of_the_resampled_set(metric: str, k: int) -> None:
    p, y = classified(40, k, models=2)
    patients = [f"patient {i}" for i in np.random.default_rng(1).integers(0, 15, 40)]
    found = set_interval(p, y, patients, metric, n_boot=60, seed=5, method="percentile")
    scores = resampled_metric(p, y, patients, metric, n_boot=60, seed=5)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))
    assert found.value == pytest.approx(np.mean([score_classification(q, y)[metric] for q in p]))


def test_accuracy_as_a_mean_and_as_a_set_metric_is_one_interval() -> None:
    p, y = classified(50)
    patients = np.arange(50) // 2
    right = (p[0].argmax(1) == y).astype(float)
    as_set = set_interval(p, y, patients, "accuracy", seed=3, method="expanded")
    assert patient_interval(right, patients, seed=3) == as_set


@pytest.mark.parametrize(("n", "least", "most"), [(8, 0.90, 0.985), (30, 0.91, 0.985)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(n: int, least: float, most: float) -> None:
    """500 simulated sites of n patients with two cases each; standard error 1 point; nominal 95 %."""
    generator, held = np.random.default_rng(7), 0
    for site in range(500):
        skill = generator.beta(8, 2, size=n)  # of a patient
        cases = np.repeat(skill, 2) + generator.normal(0, 0.05, 2 * n)
        interval = patient_interval(cases, np.repeat(np.arange(n), 2), seed=site, n_boot=1000)
        held += interval.lo <= 0.8 <= interval.hi
    assert least <= held / 500 <= most


def test_cases_of_one_patient_are_not_independent() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=10), 20)
    clustered = patient_interval(values, np.repeat(np.arange(10), 20))
    naive = patient_interval(values, np.arange(200))
    assert clustered.hi - clustered.lo > 3 * (naive.hi - naive.lo)


def test_more_models_do_not_narrow_the_interval_as_patients_would() -> None:
    values = np.random.default_rng(0).normal(size=20)
    one, three = patient_interval(values, range(20)), patient_interval(np.stack([values] * 3), range(20))
    assert (three.lo, three.hi) == pytest.approx((one.lo, one.hi))


def test_the_expanded_interval_is_wider_and_tends_to_the_percentiles() -> None:
    for n, ratio in ((6, 1.2), (400, 1.0)):
        values = np.random.default_rng(0).normal(size=n)
        wide, plain = (patient_interval(values, range(n), n_boot=5000, method=m) for m in ("expanded", "percentile"))
        found = (wide.hi - wide.lo) / (plain.hi - plain.lo)
        assert found > ratio if n == 6 else found == pytest.approx(1, abs=0.02)


def test_a_seed_gives_one_interval_in_any_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = classified(30)
    found = set_interval(p, y, range(30), "brier", n_boot=100, seed=1)
    assert found != set_interval(p, y, range(30), "brier", n_boot=100, seed=2)
    monkeypatch.setattr(module, "BLOCK", 70)
    assert found == set_interval(p, y, range(30), "brier", n_boot=100, seed=1)


def same(found: Interval, wanted: tuple[Any, ...]) -> None:
    values = (found.value, found.lo, found.hi, found.n_cases, found.n_patients, found.reason)
    assert values[:5] == pytest.approx(wanted[:5], nan_ok=True)
    assert values[5] == wanted[5]


NAN = math.nan


def test_where_there_is_no_interval_it_says_why() -> None:
    p, y = classified(6)
    same(patient_interval([0.5, 0.7], ["a", "a"]), (0.6, NAN, NAN, 2, 1, "one patient: nothing to resample"))
    same(patient_interval([], []), (NAN, NAN, NAN, 0, 0, "no case"))
    same(patient_interval([NAN, NAN], [1, 2]), (NAN, NAN, NAN, 0, 0, "no case"))
    same(patient_interval([[1, 1], [NAN, NAN]], [1, 2]), (NAN, NAN, NAN, 2, 2, "undefined for these cases"))
    same(set_interval(p, 0 * y, range(6), "auroc"), (NAN, NAN, NAN, 6, 6, "undefined for these cases"))
    found = set_interval(p, y, [1] * 6, "brier")
    same(found, (score_classification(p[0], y)["brier"], NAN, NAN, 6, 1, "one patient: nothing to resample"))


def test_too_often_undefined_is_no_interval() -> None:
    p, y = classified(10)
    y[:] = 0
    y[3] = 1  # absent from (1 - 1/10)^10 = 35 % of the resamples
    found = set_interval(p, y, range(10), "auroc", method="expanded")
    assert math.isnan(found.lo)
    assert math.isnan(found.hi)
    assert not math.isnan(found.value)
    assert found.reason is not None
    words = found.reason.split()
    assert words[:2] == ["undefined", "in"]
    assert 30 <= int(words[2]) <= 40


def test_undefined_cases_are_left_out_and_counted_out() -> None:
    found = patient_interval([0.2, NAN, 0.4], ["a", "b", "c"])
    assert (found.value, found.n_cases, found.n_patients) == (pytest.approx(0.3), 2, 2)


def test_models_may_have_cases_of_their_own() -> None:
    """The in-domain test of each seed is of other patients."""
    p, y = classified(40, models=2)
    p[0, 30:], p[1, :6], p[:, 3] = np.nan, np.nan, np.nan
    own = [np.array([i for i in range(30) if i != 3]), np.arange(6, 40)]
    found = set_interval(p, y, np.arange(40) // 2, "brier", n_boot=200, seed=1, method="percentile")
    assert found.value == pytest.approx(
        np.mean([score_classification(p[m, i], y[i])["brier"] for m, i in enumerate(own)])
    )
    squares = np.where(np.isnan(p[:, :, 1]), np.nan, (p[:, :, 1] - y) ** 2)
    as_mean = patient_interval(squares, np.arange(40) // 2, n_boot=200, seed=1, method="percentile")
    assert (found.lo, found.hi) == pytest.approx((as_mean.lo, as_mean.hi))
    assert (found.n_cases, found.n_patients) == (as_mean.n_cases, as_mean.n_patients) == (39, 20)


@pytest.mark.parametrize("value", [1.0, 0.0, 0.1, -0.7])  # 0.1 summed in another order is not 0.1
def test_all_patients_alike_is_no_interval(value: float) -> None:
    for method in ("expanded", "percentile"):
        found = patient_interval(np.full((3, 7), value), range(7), method=method)
        same(found, (value, NAN, NAN, 7, 7, module.NO_VARIATION))
    p, y = np.tile([0.9, 0.1], (8, 1)), np.zeros(8)
    same(set_interval(p, y, range(8), "brier"), (0.01, NAN, NAN, 8, 8, module.NO_VARIATION))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"n_boot": 0}, "n_boot must be at least 1"),
        ({"method": "bca"}, "method must be expanded or percentile"),
        ({"patients": [1]}, "one patient a case"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        patient_interval([0.1, 0.2], **{"patients": [1, 2], **options})


def test_an_unknown_metric_is_named() -> None:
    p, y = classified(4)
    with pytest.raises(SettingsError, match="unknown metric 'auc'; there are: accuracy"):
        set_interval(p, y, range(4), "auc")
