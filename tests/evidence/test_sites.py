"""Over sites: prediction for one more against closed forms, draws and simulation; sums over these; ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from elsewhere.errors import SettingsError
from elsewhere.evidence import (
    NEW_SITE,
    THESE_MODELS,
    THIS_METHOD,
    mean_ranks,
    mean_scores,
    new_site_interval,
    over_sites,
    patient_interval,
    sentence,
)
from elsewhere.evidence.runs import ONE_PATIENT
from elsewhere.evidence.sites import ALIKE
from reference.inference_reference import prediction_by_draws

VALUES = np.array([0.81, 0.74, 0.9, 0.62, 0.77, 0.85])


def test_without_errors_it_is_the_t_prediction() -> None:
    found = new_site_interval(VALUES, np.zeros(6))
    half = stats.t.ppf(0.975, 5) * VALUES.std(ddof=1) * math.sqrt(1 + 1 / 6)
    assert (found.lo, found.hi) == pytest.approx((VALUES.mean() - half, VALUES.mean() + half), rel=0.005)
    assert (found.value, found.error) == pytest.approx((VALUES.mean(), stats.sem(VALUES)))
    assert found.estimand == NEW_SITE == "this method at a site like these"


@pytest.mark.parametrize("error", [0.03, 0.1, 0.3])
def test_equal_errors_agree_with_draws(error: float) -> None:
    found = new_site_interval(VALUES, np.full(6, error))
    wanted = np.quantile(prediction_by_draws(VALUES, error, 400_000, 0), [0.025, 0.975])
    assert (found.lo, found.hi) == pytest.approx(tuple(wanted), abs=0.01 * (wanted[1] - wanted[0]))


def test_the_mean_weighs_sites_by_paule_and_mandel() -> None:
    errors = np.array([0.01, 0.05, 0.2, 0.03, 0.1, 0.02])

    def weighted(tau2: float) -> tuple[float, float]:
        w = 1 / (tau2 + errors**2)
        mean = (w * VALUES).sum() / w.sum()
        return mean, (w * (VALUES - mean) ** 2).sum()

    tau2 = optimize.brentq(lambda t: weighted(t)[1] - 5, 0, 1)
    found = new_site_interval(VALUES, errors)
    assert found.value == pytest.approx(weighted(tau2)[0])
    assert found.error == pytest.approx(math.sqrt(1 / (1 / (tau2 + errors**2)).sum()))


def test_it_is_given_only_from_five_sites_on() -> None:
    found = new_site_interval(VALUES[:4], np.zeros(4))
    assert found.value == pytest.approx(VALUES[:4].mean())
    assert math.isnan(found.lo)
    assert found.reason == "over these 4 held-out sites: nothing is said about another below 5"
    assert not math.isnan(new_site_interval(VALUES[:5], np.zeros(5)).lo)
    unknown = new_site_interval(VALUES, [0.1, 0.1, np.nan, 0.1, 0.1, 0.1])
    assert math.isnan(unknown.hi)
    assert unknown.reason == "score or its error unknown at 1 of 6 held-out sites"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_it_holds_a_further_site(share: float) -> None:
    """400 simulations of 6 sites, of whose variance `share` is error; standard error 1.1 points."""
    held = 0
    for i in range(400):
        generator = np.random.default_rng([2, i])
        errors = math.sqrt(share) * generator.uniform(0.5, 1.5, 6)
        values = math.sqrt(1 - share) * generator.normal(size=6) + errors * generator.normal(size=6)
        found = new_site_interval(values, errors)
        held += found.lo <= math.sqrt(1 - share) * generator.normal() <= found.hi
    assert held / 400 >= 0.92


def test_sites_that_are_all_alike_and_exact_say_nothing_of_another() -> None:
    """Five sites where everybody was judged right: what is not seen is no certainty."""
    for value in (0.7, 1.0, 0.0):
        found = new_site_interval(np.full(5, value), np.zeros(5))
        assert found.value == pytest.approx(value)
        assert math.isnan(found.lo)
        assert math.isnan(found.hi)
        assert found.reason == ALIKE
    right = {site: mean_scores(np.ones((3, 8)), [f"{site}{i}" for i in range(8)]) for site in "abcde"}
    assert over_sites(right, bounds=(0, 1)).new_site.reason == ALIKE
    wide = new_site_interval(np.full(5, 0.7), np.full(5, 0.1))
    assert wide.hi - wide.lo == pytest.approx(2 * 1.96 * 0.1 / math.sqrt(5), rel=1e-3)  # tau^2 is 0 throughout
    cut, whole = (new_site_interval(VALUES, np.zeros(6), bounds=bounds) for bounds in ((0, 1), None))
    assert (cut.lo, cut.hi) == (whole.lo, 1)


def scores(k: int = 6, seeds: int = 3) -> dict[str, object]:
    generator = np.random.default_rng(0)
    return {
        f"site {j}": mean_scores(VALUES[j] + 0.1 * generator.normal(size=(seeds, 12)), [f"{j}-{i}" for i in range(12)])
        for j in range(k)
    }


def test_over_sites() -> None:
    found = over_sites(scores())
    values = {site: one.value for site, one in scores().items()}
    assert found.values == values
    assert found.worst == "site 3"
    assert over_sites(scores(), higher_is_better=False).worst == "site 2"
    assert found.mean.value == pytest.approx(np.mean(list(values.values())))
    assert found.mean.lo < found.mean.value < found.mean.hi
    assert found.mean.estimand == THIS_METHOD
    assert found.spread["site 0"] == pytest.approx(np.std(scores()["site 0"].values, ddof=1))
    errors = [math.sqrt(one.influence.mean(0) @ one.influence.mean(0)) for one in scores().values()]
    about = new_site_interval(np.array(list(values.values())), np.array(errors))
    assert (found.new_site.lo, found.new_site.hi) == pytest.approx((about.lo, about.hi), rel=0.05)
    assert (found.new_site.n_patients, found.new_site.n_cases) == (72, 72)
    assert found.new_site.lo < found.mean.lo
    assert found.where == "over these 6 held-out sites"
    four = over_sites(scores(4))
    assert math.isnan(four.new_site.lo)
    assert not math.isnan(four.mean.lo)


def test_one_seed_still_predicts_a_run_at_a_new_site() -> None:
    """Luck of the run is then within the variance between sites; the mean over these sites has no interval."""
    found = over_sites(scores(seeds=1))
    assert math.isnan(found.mean.lo)
    assert not math.isnan(found.new_site.lo)
    assert math.isnan(found.spread["site 0"])


def test_a_site_without_a_score_leaves_no_worst() -> None:
    some = scores()
    some["site 1"] = mean_scores(np.full((3, 2), np.nan), ["a", "b"])
    found = over_sites(some)
    assert found.worst == ""
    assert math.isnan(found.mean.value)
    assert found.new_site.reason == "score or its error unknown at 1 of 6 held-out sites"


def test_a_site_of_one_patient_has_no_known_error() -> None:
    """Its training runs differ by less than its patients would; that alone is not its error."""
    some = scores()
    some["site 1"] = mean_scores(np.array([[0.7, 0.8], [0.72, 0.8], [0.71, 0.81]]), ["a", "a"])
    found = over_sites(some)
    assert found.mean.reason == ONE_PATIENT
    assert math.isnan(found.new_site.lo)
    assert found.new_site.reason == "score or its error unknown at 1 of 6 held-out sites"


def test_ranks() -> None:
    table = np.array([[0.9, 0.7, np.nan], [0.8, 0.7, 0.5], [0.95, 0.1, 0.6]])
    ranks, mean = mean_ranks(table)
    assert ranks[:, :2] == pytest.approx(np.array([[2, 1.5], [3, 1.5], [1, 3]]))
    assert np.isnan(ranks[:, 2]).all()
    assert mean == pytest.approx([1.75, 2.25, 2])
    assert mean_ranks(table, higher_is_better=False)[0][:, 0] == pytest.approx([2, 1, 3])
    assert np.isnan(mean_ranks(np.full((2, 2), np.nan))[1]).all()


def test_every_interval_names_what_it_is_about() -> None:
    assert patient_interval([0.1, 0.2], [1, 2]).estimand == THESE_MODELS
    for estimand, word in ((THESE_MODELS, "as they were trained"), (THIS_METHOD, "seeds"), (NEW_SITE, "one more site")):
        assert sentence(estimand).startswith(f"[ ]: 95 % interval for {estimand}: ")
        assert word in sentence(estimand)
    assert "90 %" in sentence(NEW_SITE, 0.9)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingsError, match="errors must not be negative, found -1"):
        new_site_interval(VALUES, -np.ones(6))
    with pytest.raises(SettingsError, match=r"values and errors must be \(sites,\)"):
        new_site_interval(VALUES, np.zeros(5))
    with pytest.raises(SettingsError, match=r"table must be \(methods, sites\)"):
        mean_ranks(VALUES)
