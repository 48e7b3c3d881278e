from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage
from sklearn.neighbors import NearestNeighbors

from elsewhere.deploy.nearness import NEIGHBOURS, Cloud, grouped_distances, shrinkage
from elsewhere.deploy.outliers import DevelopmentStatistics
from elsewhere.errors import ModelError

Numbers = NDArray[np.float64]


def correlated(rng: np.random.Generator, n: int, d: int, shift: float = 0.0) -> Numbers:
    """Features that vary along a few common directions and on their own, at unlike scales; `shift` moves them."""
    directions = np.random.default_rng(99).normal(size=(3, d))
    scale = np.exp(0.5 * np.random.default_rng(98).normal(size=d))
    return (rng.normal(size=(n, 3)) @ directions + rng.normal(size=(n, d)) + shift) * scale + 5


def inputs_of(rng: np.random.Generator, n: int, shift: float = 0.0) -> Numbers:
    return rng.normal(size=(n, 4)) * [1, 10, 0.1, 3] + [0, 100, 1, -5] + shift * np.array([0, 10, 0, 0])


def names(n: int, each: int = 1) -> list[str]:
    return [f"p{i // each}" for i in range(n)]


def fitted(n: int = 60, d: int = 20, seed: int = 0) -> DevelopmentStatistics:
    rng = np.random.default_rng(seed)
    return DevelopmentStatistics.fit(correlated(rng, n, d), inputs_of(rng, n), names(n))


# --- the distances, against SciPy and scikit-learn


@pytest.mark.parametrize(("n", "d"), [(80, 6), (40, 40), (12, 150), (256, 300)])
def test_mahalanobis_is_that_of_scipy_with_the_covariance_of_scikit_learn(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    features, new = correlated(rng, n, d), correlated(rng, 5, d, shift=1)
    cloud = Cloud.fit(features, np.zeros((n, 1)))
    wanted = LedoitWolf().fit((features - features.mean(0)) / features.std(0))
    for row, found in zip(new, cloud.distances(new, np.zeros((5, 1))), strict=True):
        standardised = (row - features.mean(0)) / features.std(0)
        assert_allclose(found[0], mahalanobis(standardised, wanted.location_, wanted.precision_), rtol=1e-4)


def test_a_feature_that_hardly_varies_does_not_speak_louder_than_the_others() -> None:
    rng = np.random.default_rng(3)
    features, none = correlated(rng, 30, 8), np.zeros((30, 1))
    features[:, 2] *= 1e-3
    new = features[:1].copy()
    new[0, 2] += 5 * features[:, 2].std()  # far out for that feature, next to nothing for the others
    before, after = (Cloud.fit(features, none).distances(rows, none[:1])[0] for rows in (features[:1], new))
    assert_allclose(after, before, rtol=0.01)
    scaled = Cloud.fit(features * 1e4, none).distances(new * 1e4, none[:1])[0]
    assert_allclose(scaled, after, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_shrinkage_is_that_of_scikit_learn(n: int, d: int, seed: int) -> None:
    cases = correlated(np.random.default_rng(seed), n, d)
    cases -= cases.mean(0)
    assert_allclose(shrinkage(cases), ledoit_wolf_shrinkage(cases, assume_centered=True), atol=1e-9)


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    features, new = correlated(rng, 50, 10), correlated(rng, 6, 10)
    found = Cloud.fit(features, np.zeros((50, 1))).distances(new, np.zeros((6, 1)))[:, 1]
    z, z_new = ((a - features.mean(0)) / features.std(0) for a in (features, new))
    wanted = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(z).kneighbors(z_new)[0][:, -1]
    assert_allclose(found, wanted, rtol=1e-5)


def test_input_distance_is_the_largest_standardised_difference() -> None:
    rng = np.random.default_rng(5)
    inputs, new = inputs_of(rng, 50), inputs_of(rng, 6, shift=3)
    found = Cloud.fit(np.zeros((50, 0)), inputs).distances(np.zeros((6, 0)), new)
    least = 0.01 * np.sqrt((inputs**2).mean(0))
    wanted = np.abs(new - inputs.mean(0)) / np.hypot(inputs.std(0), least)
    assert_allclose(found[:, 2], wanted.max(1))
    assert np.isnan(found[:, :2]).all()  # no features, nothing known by them


def test_a_patient_is_measured_from_the_cases_of_others() -> None:
    """Two cases of one patient that are alike, far from all others: with each other they would be near."""
    rng = np.random.default_rng(6)
    features, inputs = correlated(rng, 40, 5), inputs_of(rng, 40)
    features[:2] = correlated(rng, 1, 5, shift=30)
    own = grouped_distances(features, inputs, ["far", "far", *names(38)])
    apart = grouped_distances(features, inputs, ["far", "other", *names(38)])
    assert own[0, 1] > 5 * np.median(own[2:, 1])
    assert_allclose(own[:2, 1], cdist(features[:2], features[2:]).min() / 1, rtol=10)  # finite, of that order
    assert np.isnan(grouped_distances(features, inputs, ["one"] * 40)).all()
    assert apart.shape == (40, 3)


# --- the flag


@pytest.mark.parametrize(("n", "level"), [(2, 0.05), (4, 0.05), (9, 0.05), (19, 0.05), (45, 0.05), (12, 0.2)])
def test_new_cases_of_the_same_distribution_are_flagged_no_more_often_than_stated(n: int, level: float) -> None:
    rng = np.random.default_rng(7)
    train = DevelopmentStatistics.fit(correlated(rng, 40, 30), inputs_of(rng, 40), names(40))
    flagged, trials, new = 0, 9000 // (10 + n), 4
    for _ in range(trials):
        found = train.calibrate(correlated(rng, n, 30), inputs_of(rng, n), names(n), level)
        scores = [found.score(f, i) for f, i in zip(correlated(rng, new, 30), inputs_of(rng, new), strict=True)]
        flagged += sum(bool(score.unlike) for score in scores)
    stated = found.level_reached
    assert stated == pytest.approx(max(np.floor(level * (n + 1) + 1e-9), 1) / (n + 1))
    share = flagged / (trials * new)
    spread = np.sqrt(stated * (1 - stated) / trials)  # cases of one trial share a threshold
    assert share <= stated + 2.5 * spread
    assert share >= stated / 3  # it is a test, not a refusal to flag


def test_several_cases_a_patient_keep_the_level_of_patients() -> None:
    """Cases of a patient are all but the same case: 6 patients with 5 cases each must not count as 30."""
    rng = np.random.default_rng(8)

    def cases(patients: int) -> tuple[Numbers, Numbers]:
        features, inputs = correlated(rng, patients, 12).repeat(5, 0), inputs_of(rng, patients).repeat(5, 0)
        return features + 0.01 * rng.normal(size=features.shape), inputs + 0.01 * rng.normal(size=inputs.shape)

    train = DevelopmentStatistics.fit(*cases(30), names(150, 5))
    flagged = 0
    for _ in range(300):
        found = train.calibrate(*cases(6), names(30, 5), 0.05)
        flagged += any(found.score(f, i).unlike for f, i in zip(*cases(1), strict=True))
    assert len(found.scores) == 6
    assert found.level_reached == pytest.approx(1 / 7)
    assert flagged / 300 <= 1 / 7 + 2.5 * np.sqrt(1 / 7 * 6 / 7 / 300)


@pytest.mark.parametrize(("features", "inputs"), [(3.0, 0.0), (0.0, 6.0)])
def test_changed_cases_are_flagged_and_rank_above_the_others(features: float, inputs: float) -> None:
    rng = np.random.default_rng(9)
    found = fitted().calibrate(correlated(rng, 25, 20), inputs_of(rng, 25), names(25))
    same = [found.score(f, i) for f, i in zip(correlated(rng, 50, 20), inputs_of(rng, 50), strict=True)]
    far = zip(correlated(rng, 50, 20, features), inputs_of(rng, 50, inputs), strict=True)
    changed = [found.score(f, i) for f, i in far]
    assert np.mean([score.unlike for score in changed]) > 0.9
    assert np.median([s.outlier for s in changed]) > max(np.quantile([s.outlier for s in same], 0.95), found.threshold)


def test_the_flag_is_the_conformal_p_value() -> None:
    rng = np.random.default_rng(10)
    found = fitted().calibrate(correlated(rng, 45, 20), inputs_of(rng, 45), names(45), level=0.1)
    assert found.reason is None
    assert found.level_reached == pytest.approx(4 / 46)
    for feature, given_ in zip(correlated(rng, 200, 20, 0.2), inputs_of(rng, 200), strict=True):
        score = found.score(feature, given_)
        assert score.unlike == (found.p_value(score.outlier) <= 0.1)
    assert found.p_value(np.inf) == pytest.approx(1 / 46)


def test_too_few_calibration_patients_say_so() -> None:
    rng = np.random.default_rng(11)
    statistics = fitted()
    assert statistics.threshold is None
    assert statistics.reason == "there is no threshold without calibration patients"
    score = statistics.score(correlated(rng, 1, 20)[0], inputs_of(rng, 1)[0])
    assert score.unlike is None
    assert np.isfinite(score.outlier)
    one = statistics.calibrate(correlated(rng, 3, 20), inputs_of(rng, 3), ["p"] * 3)
    assert one.threshold is None
    assert one.reason == "there is no threshold from a single calibration patient"
    four = statistics.calibrate(correlated(rng, 4, 20), inputs_of(rng, 4), names(4))
    assert four.threshold == four.scores.max()
    assert four.reason == (
        "4 calibration patients are too few for a level of 0.05 (19 are needed): the threshold is their largest "
        "score, its level 0.2"
    )
    assert statistics.threshold is None  # calibrating leaves it as it is


# --- what is not as it should be


def test_features_that_never_vary_do_no_harm_until_they_do() -> None:
    rng = np.random.default_rng(12)
    features, inputs = correlated(rng, 40, 10), inputs_of(rng, 40)
    features[:, 3], inputs[:, 0] = 0.1, 7.0
    found = DevelopmentStatistics.fit(features, inputs, names(40), tolerance=[0.05, 0, 0, 0])
    new, given_ = correlated(rng, 1, 10)[0], inputs_of(rng, 1)[0]
    new[3], given_[0] = 0.1, 7.0
    usual = found.score(new, given_)
    rounding = new.copy()
    rounding[3] += 1e-7
    assert found.score(rounding, given_).outlier == pytest.approx(usual.outlier, abs=1e-4)
    assert found.score(new, np.add(given_, [0.01, 0, 0, 0])).input == pytest.approx(usual.input)
    new[3] += 500
    assert found.score(new, given_).mahalanobis > 10 * usual.mahalanobis
    assert found.score(new, np.add(given_, [5, 0, 0, 0])).input > 50


def test_all_cases_alike_or_a_single_one_is_no_error() -> None:
    for n in (1, 2, 5):
        found = DevelopmentStatistics.fit(np.ones((n, 6)), np.ones((n, 2)), names(n))
        found = found.calibrate(np.ones((3, 6)), np.ones((3, 2)), names(3))
        assert np.isfinite(found.score(np.ones(6), np.ones(2)).outlier)
        assert not found.score(np.ones(6), np.ones(2)).unlike
        assert found.score(np.full(6, 9.0), np.ones(2)).unlike
    two = DevelopmentStatistics.fit(np.eye(2, 6), np.ones((2, 2)), names(2))
    assert np.isfinite(two.score(np.ones(6), np.ones(2)).outlier)


def test_numbers_that_are_not_finite() -> None:
    rng = np.random.default_rng(13)
    features, inputs = correlated(rng, 40, 10), inputs_of(rng, 40)
    spoilt = np.vstack([features, np.full((1, 10), np.nan)])
    unknown = np.vstack([inputs, np.full((1, 4), np.nan)])
    clean = DevelopmentStatistics.fit(features, inputs, names(40))
    found = DevelopmentStatistics.fit(spoilt, unknown, names(41))
    assert_allclose(found.cloud.distances(features, inputs), clean.cloud.distances(features, inputs))
    calibrated = clean.calibrate(correlated(rng, 20, 10), inputs_of(rng, 20), names(20))
    lost = calibrated.score(np.full(10, np.nan), inputs[0])
    assert lost.outlier == np.inf
    assert lost.unlike
    assert calibrated.score(features[0], np.full(4, np.nan)).outlier < np.inf  # nothing known of the input
    no_features = DevelopmentStatistics.fit(np.full((40, 10), np.nan), inputs, names(40))
    assert np.isnan(no_features.score(features[0], inputs[0]).mahalanobis)
    assert np.isfinite(no_features.score(features[0], inputs[0]).outlier)
    one_lost = correlated(rng, 20, 10)
    one_lost[4] = np.inf
    other = clean.calibrate(one_lost, inputs_of(rng, 20), names(20))
    assert np.isfinite([*other.centre, *other.spread]).all()
    assert other.threshold == np.inf  # like patients can be lost too: at this level none can be told apart


# --- the file


def test_saved_and_loaded_it_scores_the_same_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(14)
    for statistics in (fitted(), fitted().calibrate(correlated(rng, 6, 20), inputs_of(rng, 6), names(6), 0.1)):
        statistics.save(tmp_path / "development.safetensors")
        loaded = DevelopmentStatistics.load(tmp_path / "development.safetensors")
        again = tmp_path / "again.safetensors"
        loaded.save(again)
        assert again.read_bytes() == (tmp_path / "development.safetensors").read_bytes()
        for feature, given_ in zip(correlated(rng, 5, 20), inputs_of(rng, 5), strict=True):
            assert loaded.score(feature, given_) == statistics.score(feature, given_)
        assert (loaded.threshold, loaded.level, loaded.level_reached) == (
            statistics.threshold, statistics.level, statistics.level_reached
        )  # fmt: skip
        assert loaded.reason == statistics.reason


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "development.safetensors"
    with pytest.raises(ModelError, match=r"development\.safetensors: no development statistics that can be read"):
        DevelopmentStatistics.load(path)
    path.write_bytes(b"\x80\x04not a safetensors file")
    with pytest.raises(ModelError, match="SafetensorError"):
        DevelopmentStatistics.load(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(ModelError, match="format None"):
        DevelopmentStatistics.load(path)
    fitted().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ModelError):
        DevelopmentStatistics.load(path)


def test_statistics_need_no_torch() -> None:
    code = (
        "import sys, elsewhere.deploy.outliers; sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
