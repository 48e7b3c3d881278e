from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from elsewhere.errors import SettingsError
from elsewhere.evidence.calibration import (
    calibration_error,
    debiased_ece,
    folded_normal_mean,
    foreground_bins,
    foreground_brier,
    label_bins,
    reliability,
    score_bins,
    voxel_bins,
)
from elsewhere.evidence.shares import share
from elsewhere.tasks.classification_metrics import score_classification


def drawn(n: int, generator: np.random.Generator, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of n independent cases, and whether they are right: less often by `shift` than they say."""
    confidence = 0.5 + 0.5 * generator.beta(2, 1.5, n)
    return confidence, generator.random(n) < confidence - shift


def kumar(confidence: np.ndarray, right: np.ndarray, n_bins: int = 15) -> float:
    """The unbiased squared error of Kumar et al. 2019, Sec. 5, bin by bin; their code leaves out bins of one case."""
    total = 0.0
    index = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    for b in range(n_bins):
        c, r = confidence[index == b], right[index == b].astype(float)
        if len(c) > 1:
            variance = r.mean() * (1 - r.mean()) / (len(c) - 1)
            total += len(c) / len(confidence) * ((c.mean() - r.mean()) ** 2 - variance)
    return total


def test_the_curve_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    score = generator.random(400)
    happened = generator.random(400) < score**2
    found = reliability(score_bins(score, happened, 10), range(400))
    right, confidence = calibration_curve(happened, score, n_bins=10)
    some = found.weight > 0
    assert found.right[some] == pytest.approx(right)
    assert found.confidence[some] == pytest.approx(confidence)
    assert found.edges == pytest.approx(np.linspace(0, 1, 11))
    assert found.weight.sum() == pytest.approx(1)


def test_its_intervals_are_those_of_shares_and_empty_bins_have_none() -> None:
    confidence, right = drawn(60, np.random.default_rng(0))
    patients = np.arange(60) // 2
    found = reliability(score_bins(confidence, right, 5), patients)
    inside = (confidence > 0.8) & (confidence <= 1)
    wanted = share(right & inside, inside, patients).interval()
    assert (found.right[4], found.lo[4], found.hi[4]) == pytest.approx((wanted.value, wanted.lo, wanted.hi))
    assert found.n_patients[4] == wanted.n_patients
    for values in (found.right, found.lo, found.confidence):
        assert np.isnan(values[:2]).all()
    assert (found.weight[:2] == 0).all()


def test_plain_error_is_ece() -> None:
    generator = np.random.default_rng(0)
    p, y = generator.dirichlet([1, 1, 1], 80), generator.integers(0, 3, 80)
    bins = label_bins(p, y)
    assert calibration_error(bins).plain[0] == pytest.approx(score_classification(p, y)["ece"])
    assert label_bins(np.stack([p, p]), y) == pytest.approx(np.stack([bins, bins]))
    p[3] = np.nan
    assert (label_bins(p, y)[3] == 0).all()
    assert label_bins(p, y)[4:] == pytest.approx(bins[4:])


def test_with_a_confidence_a_bin_the_squared_error_is_kumars() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.choice([0.52, 0.65, 0.78, 0.91], 50)
    right = generator.random(50) < confidence
    found = calibration_error(score_bins(confidence, right))
    assert found.squared[0] == pytest.approx(kumar(confidence, right))


def test_a_resample_is_the_patients_repeated() -> None:
    generator = np.random.default_rng(2)
    confidence, right = drawn(40, generator)
    bins, times = score_bins(confidence, right), generator.multinomial(40, np.full(40, 1 / 40), size=3)
    found = calibration_error(bins, times.astype(float))
    for r, row in enumerate(times):
        wanted = calibration_error(np.repeat(bins, row, axis=0))
        for name in ("plain", "debiased", "squared"):
            assert getattr(found, name)[r] == pytest.approx(getattr(wanted, name)[0])


def test_folded_normal_is_scipys() -> None:
    for mean in (0, 0.3, -0.7):
        wanted = stats.foldnorm(abs(mean) / 0.4, scale=0.4).mean()
        assert float(folded_normal_mean(mean, 0.4)) == pytest.approx(wanted)
        assert float(folded_normal_mean(mean, 0.0)) == abs(mean)


@pytest.mark.parametrize("n", [50, 200])
def test_of_a_calibrated_model_the_square_is_unbiased_and_the_debiased_error_nearly(n: int) -> None:
    generator = np.random.default_rng(n)
    errors = [calibration_error(score_bins(*drawn(n, generator))) for _ in range(800)]
    plain, debiased, squared = (np.array([getattr(e, k)[0] for e in errors]) for k in ("plain", "debiased", "squared"))
    assert abs(squared.mean()) < 3.5 * squared.std() / np.sqrt(800)
    assert plain.mean() > 0.05
    assert abs(debiased.mean()) < plain.mean() / 3


def test_of_a_model_that_is_too_sure_the_debiased_error_is_near_the_truth() -> None:
    generator = np.random.default_rng(0)
    errors = [calibration_error(score_bins(*drawn(100, generator, shift=0.1))) for _ in range(400)]
    plain, debiased = np.mean([e.plain[0] for e in errors]), np.mean([e.debiased[0] for e in errors])
    assert plain > 0.12
    assert debiased == pytest.approx(0.1, abs=0.018)


def test_cases_of_one_patient_are_not_independent() -> None:
    """Ten copies of each case: taken as patients they show no error of a calibrated model, taken as cases they do."""
    generator = np.random.default_rng(1)
    patients, cases = [], []
    for _ in range(300):
        confidence, right = drawn(60, generator)
        confidence = np.round(confidence * 5) / 5
        right = generator.random(60) < confidence
        patients.append(calibration_error(10 * score_bins(confidence, right)).squared[0])
        cases.append(kumar(np.repeat(confidence, 10), np.repeat(right, 10)))
    assert abs(np.mean(patients)) < 3.5 * np.std(patients) / np.sqrt(300)
    assert np.mean(cases) > 5 * np.std(cases) / np.sqrt(300)


@pytest.mark.parametrize(("n", "shift"), [(40, 0.0), (120, 0.0), (120, 0.1)])
def test_the_interval_errs_on_the_wide_side(n: int, shift: float) -> None:
    """150 sites each, nominal 95 %, standard error 2 points."""
    generator, held = np.random.default_rng(0), 0
    for seed in range(150):
        found = debiased_ece(score_bins(*drawn(n, generator, shift)), range(n), n_boot=200, seed=seed)
        held += found.lo <= shift <= found.hi
        assert found.lo >= 0
    assert held / 150 >= 0.9


def test_the_value_is_the_mean_over_models_and_l2_the_root_of_the_square() -> None:
    generator = np.random.default_rng(0)
    bins = np.stack([score_bins(*drawn(70, generator, 0.2)) for _ in range(2)])
    each = [calibration_error(one) for one in bins]
    assert debiased_ece(bins, range(70), n_boot=20).value == pytest.approx(np.mean([e.debiased[0] for e in each]))
    wanted = np.mean([math.sqrt(e.squared[0]) for e in each])
    assert debiased_ece(bins, range(70), n_boot=20, norm=2).value == pytest.approx(wanted)
    found = debiased_ece(bins, range(70), n_boot=50, seed=3)
    assert found == debiased_ece(bins, range(70), n_boot=50, seed=3)
    assert (found.n_cases, found.n_patients) == (70, 70)


def test_patients_are_resampled_with_all_their_cases() -> None:
    generator = np.random.default_rng(0)
    bins = score_bins(*drawn(25, generator, 0.2))
    copies, owner = np.repeat(bins, 8, axis=0), np.repeat(np.arange(25), 8)
    one, found = debiased_ece(bins, range(25)), debiased_ece(copies, owner)
    assert (found.value, found.lo, found.hi) == pytest.approx((one.value, one.lo, one.hi))
    naive = debiased_ece(copies, range(200))
    assert naive.hi - naive.lo < 0.7 * (found.hi - found.lo)


def test_models_that_judged_other_patients_have_an_interval_or_a_reason() -> None:
    """As at home, where the patients of every seed differ: a resample may hold none of a model's."""
    bins = np.stack([score_bins(*drawn(12, np.random.default_rng(0), 0.2))] * 2)
    bins[0, :4] = bins[1, 4:] = 0
    found = debiased_ece(bins, range(12), n_boot=500)  # (8 / 12)^12: 1 % of the resamples
    assert found.lo == 0
    assert found.hi > 0.1
    bins[1, 1:] = 0
    rare = debiased_ece(bins, range(12), n_boot=500)
    assert math.isnan(rare.lo)
    assert "of the resamples" in str(rare.reason)


def test_where_there_is_no_error_to_speak_of() -> None:
    sure = score_bins(np.ones(12), np.ones(12, bool))  # all right, and sure of it
    found = debiased_ece(sure, range(12), n_boot=50)
    assert (found.value, found.lo, found.hi) == (0, 0, 0)
    wrong = debiased_ece(score_bins(np.ones(12), np.zeros(12, bool)), range(12), n_boot=50)
    assert (wrong.value, wrong.lo, wrong.hi) == (1, 1, 1)


def test_where_nothing_can_be_said() -> None:
    one = debiased_ece(score_bins(np.array([0.9, 0.8]), np.array([True, False])), ["a", "a"])
    assert math.isfinite(one.value)
    assert math.isnan(one.lo)
    assert one.reason == "one patient: nothing to resample"
    for bins in (np.zeros((3, 3, 15)), np.zeros((0, 3, 15))):
        none = debiased_ece(bins, range(len(bins)))
        assert math.isnan(none.value)
        assert none.reason == "no case"
        assert np.isnan(reliability(bins, range(len(bins))).right).all()
    with pytest.raises(SettingsError, match="norm"):
        debiased_ece(np.ones((3, 3, 15)), range(3), norm=3)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"\(cases, 3, B\)"):
        debiased_ece(np.ones((3, 15)), range(3))


def test_voxels_of_a_case_weigh_one_together_unless_told_otherwise() -> None:
    count = [[0, 10, 30], [0, 0, 400]]
    confidence, right = [[0, 5.0, 27.0], [0, 0, 380.0]], [[0, 4, 30], [0, 0, 360]]
    alike, by_size = (voxel_bins(count, confidence, right, alike=a) for a in (True, False))
    assert alike[:, 0].sum(axis=1) == pytest.approx([1, 1])
    assert alike[0] == pytest.approx(by_size[0] / 40)
    assert by_size[:, 0].tolist() == count
    assert reliability(alike, ["a", "b"]).right[2] == pytest.approx((30 / 40 + 360 / 400) / (30 / 40 + 1))
    assert (voxel_bins([[0, 0, 0]], [[0, 0, 0]], [[0, 0, 0]]) == 0).all()


def test_histograms_of_the_foreground() -> None:
    generator = np.random.default_rng(0)
    true, false = generator.integers(0, 5, (2, 3, 100))
    middle = (np.arange(100) + 0.5) / 100
    for case, found in enumerate(foreground_brier(true, false)):
        p = np.r_[np.repeat(middle, true[case]), np.repeat(middle, false[case])]
        truth = np.r_[np.ones(true[case].sum()), np.zeros(false[case].sum())]
        assert found == pytest.approx(brier_score_loss(truth, p))
    assert np.isnan(foreground_brier(np.zeros((1, 100)), np.zeros((1, 100)))).all()
    bins = foreground_bins(true, false, alike=False)
    assert bins[:, 0] == pytest.approx(true + false)
    assert bins[:, 1] == pytest.approx((true + false) * middle)
    assert bins[:, 2] == pytest.approx(true)
