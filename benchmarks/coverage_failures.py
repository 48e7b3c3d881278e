"""Sites where some cases fail outright: what the intervals of a mean Dice hold there, before and with `bounded`.

The rows of `coverage.py --only failures`, and the worlds behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special, stats

from elsewhere.evidence import Interval, interval_of, mean_scores, patient_interval

Array = np.ndarray[Any, Any]
Cases = tuple[Array, Array]
"""(S, N) scores of S models, and (N,) who each case is of."""

Rows = Iterator[Sequence[object]]
PATIENTS = (5, 8, 12, 20, 40, 100)
BOUNDS = (0.0, 1.0)


@dataclass(frozen=True)
class Failing:
    """`draw(generator, patients)`, and the expected score."""

    draw: Callable[[np.random.Generator, int], Cases]
    truth: float


def one_case(a: float, b: float, share: float) -> Failing:
    """One case a patient: Beta(a, b), and 0 for a share."""

    def draw(generator: np.random.Generator, patients: int) -> Cases:
        score = np.where(generator.random(patients) < share, 0.0, generator.beta(a, b, size=patients))
        return score[None], np.arange(patients)

    return Failing(draw, (1 - share) * a / (a + b))


def images(share: float, together: bool) -> Failing:
    """1 + Poisson(2) images a patient, alike within one; a share of the images fails, or of the patients with all."""

    def draw(generator: np.random.Generator, patients: int) -> Cases:
        n = 1 + generator.poisson(2, size=patients)
        owner = np.repeat(np.arange(patients), n)
        skill = generator.beta(8, 2, size=patients)[owner]
        score = generator.beta(40 * skill, 40 * (1 - skill) + 1e-9)
        fails = (generator.random(patients) < share)[owner] if together else generator.random(len(owner)) < share
        return np.where(fails, 0.0, score)[None], owner

    return Failing(draw, (1 - share) * 0.8)


def sizes() -> Failing:
    """Small structures score lower and fail more often, 10 % in the mean; one case a patient."""

    def draw(generator: np.random.Generator, patients: int) -> Cases:
        size = generator.normal(size=patients)
        middle = special.expit(1.6 + 0.8 * size)
        score = generator.beta(10 * middle, 10 * (1 - middle))
        fails = generator.random(patients) < 0.2 * special.expit(-1.5 * size)
        return np.where(fails, 0.0, score)[None], np.arange(patients)

    return Failing(draw, float(draw(np.random.default_rng(0), 2_000_000)[0].mean()))


def several_models(share: float, a: float = 8, b: float = 2, models: int = 3) -> Failing:
    """Half of the failures are of a patient with every model, half are one model's own."""

    def draw(generator: np.random.Generator, patients: int) -> Cases:
        skill = generator.beta(a, b, size=patients)
        noise = generator.normal(size=(models, patients)) * 0.3 * skill * (1 - skill)
        fails = (generator.random(patients) < share / 2) | (generator.random((models, patients)) < share / 2)
        return np.where(fails, 0.0, np.clip(skill + noise, 0, 1)), np.arange(patients)

    return Failing(draw, (1 - share / 2) ** 2 * a / (a + b))


def failing_runs(runs: int, share: float = 1 / 7, loss: float = 0.3) -> Failing:
    """Runs of a standard deviation of 0.01; one in seven loses 0.3 of every score."""

    def draw(generator: np.random.Generator, patients: int) -> Cases:
        skill = generator.beta(8, 2, size=patients)
        luck = 0.01 * generator.normal(size=(runs, 1)) + 0.05 * generator.normal(size=(runs, patients)) * (1 - skill)
        kept = np.where(generator.random((runs, 1)) < share, 1 - loss, 1.0)
        return (skill + luck) * kept, np.arange(patients)

    return Failing(draw, 0.8 * (1 - share * loss))


WORLDS: dict[str, Failing] = {
    "none fails": one_case(8, 2, 0),
    "5 % fail": one_case(8, 2, 0.05),
    "10 % fail": one_case(8, 2, 0.1),
    "20 % fail": one_case(8, 2, 0.2),
    "several images, none fails": images(0, False),
    "several images, 10 % of the images fail": images(0.1, False),
    "several images, 10 % of the patients fail": images(0.1, True),
    "small structures are hard, 10 % fail": sizes(),
    "three models, 10 % fail": several_models(0.1),
    "very good, none fails": one_case(40, 4, 0),
    "very good, 5 % fail": one_case(40, 4, 0.05),
    "very good, 10 % fail": one_case(40, 4, 0.1),
}


def sides(found: Sequence[Interval], truth: float) -> str:
    """Coverage, and how often the truth is below and above."""
    lo, hi = (np.array([getattr(one, name) for one in found]) for name in ("lo", "hi"))
    given = ~np.isnan(lo)
    below, above = 100 * np.mean(truth < lo[given]), 100 * np.mean(truth > hi[given])
    return f"{100 - below - above:.1f} ({below:.1f}, {above:.1f})"


def sites(world: Failing, key: int, patients: int, n: int) -> list[Cases]:
    """n sites."""
    return [world.draw(np.random.default_rng([12, key, patients, i]), patients) for i in range(n)]


def before_and_after(n: int) -> tuple[Rows, Rows]:
    """Rows of coverage, and rows of width and doubt, a world a row; both read the same simulations."""
    coverage, rest = [], []
    for key, (name, world) in enumerate(WORLDS.items()):
        held, told = [], []
        for patients in PATIENTS:
            drawn = sites(world, key, patients, n)
            old = [patient_interval(*cases, n_boot=1000) for cases in drawn]
            new = [patient_interval(*cases, bounds=BOUNDS) for cases in drawn]
            held.append(f"{sides(old, world.truth)} / {sides(new, world.truth)}")
            wide = np.nanmedian([b.hi - b.lo for b in new]) / np.nanmedian([a.hi - a.lo for a in old])
            sure = [one for one in new if one.doubt is None]
            marked = 100 * (1 - len(sure) / n)
            enough = 0.5 <= marked <= 95  # a coverage of fewer intervals says nothing
            told.append(f"{wide:.2f}; {marked:.0f}" + (f"; {sides(sure, world.truth)}" if enough else ""))
        coverage.append([name, *held])
        rest.append([name, *told])
    return iter(coverage), iter(rest)


def differences(n: int) -> Rows:
    """A method minus a base whose scores of a case are alike; either may fail outright."""
    for key, (name, method, base, same) in enumerate(
        (
            ("neither fails", 0.0, 0.0, False),
            ("the method fails at 5 %", 0.05, 0.0, False),
            ("the method fails at 10 %", 0.1, 0.0, False),
            ("the method fails at 20 %", 0.2, 0.0, False),
            ("both fail at 10 %, each at its own", 0.1, 0.1, False),
            ("both fail at the same 10 %", 0.1, 0.1, True),
        )
    ):
        yield [name, *(_difference(key, method, base, same, patients, n) for patients in PATIENTS)]


def _difference(key: int, method: float, base: float, same: bool, patients: int, n: int) -> str:
    found = []
    for i in range(n):
        generator = np.random.default_rng([13, key, patients, i])
        skill = generator.beta(8, 2, size=patients)
        one, two = skill + 0.03 * generator.normal(size=(2, patients)) * (1 - skill)
        lots = generator.random(patients), generator.random(patients)
        values = np.where(lots[0] < method, 0, one) - np.where(lots[0 if same else 1] < base, 0, two)
        found.append(patient_interval(values, range(patients), n_boot=1000))
    return sides(found, 0.8 * (base - method))


def of_methods(n: int) -> Rows:
    """This method at this site: cases that fail, and runs that do."""
    for seeds in (2, 3, 5, 10):
        worlds = several_models(0.1, models=seeds), several_models(0.05, 40, 4, seeds), failing_runs(seeds)
        for patients in (8, 20, 50):
            yield [seeds, patients, *(_method(key, world, patients, n) for key, world in enumerate(worlds))]


def _method(key: int, world: Failing, patients: int, n: int) -> str:
    found: dict[bool, list[Interval]] = {False: [], True: []}
    for cases in sites(world, 100 + key, patients, n):
        scores = mean_scores(*cases)
        for with_one_more, intervals in found.items():
            intervals.append(interval_of(replace(scores, of_cases=with_one_more), bounds=BOUNDS))
    return " / ".join(sides(intervals, world.truth) for intervals in found.values())


def distances(n: int) -> Rows:
    """HD95 of a few mm, and an image's diagonal of 200 mm where the structure is missed."""
    for key, share in enumerate((0.0, 0.05, 0.1)):
        truth = (1 - share) * 6 * np.exp(0.5**2 / 2) + share * 200
        cells = []
        for patients in PATIENTS:
            found = []
            for i in range(n):
                generator = np.random.default_rng([14, key, patients, i])
                mm = np.where(generator.random(patients) < share, 200, 6 * generator.lognormal(0, 0.5, patients))
                found.append(patient_interval(mm, range(patients), n_boot=1000))
            cells.append(sides(found, truth))
        yield [f"{100 * share:g} % are missed", *cells]


Limits = tuple[Array, Array]


def _resampled(scores: Array) -> Limits:
    found = [patient_interval(one, range(len(one)), n_boot=1000) for one in scores]
    return np.array([one.lo for one in found]), np.array([one.hi for one in found])


def _more(scores: Array, patients: float) -> Limits:
    """The form of `bounded` with another number of patients more."""
    count, value = scores.shape[1], scores.mean(1)
    half = stats.t.isf(0.025, count - 1) * scores.std(1, ddof=1) / np.sqrt(count) / (value * (1 - value))
    lo, hi = special.expit(special.logit(value) - half), special.expit(special.logit(value) + half)
    share = patients / (count + patients)
    return value - np.hypot(value - lo, share * value), value + np.hypot(hi - value, share * (1 - value))


def _gaffke(scores: Array) -> Limits:
    """Dirichlet weights on the scores and one at the bound; 2.5 % of their means are beyond each limit."""
    weights = np.random.default_rng(0).dirichlet(np.ones(scores.shape[1] + 1), size=1000)
    means = scores @ weights[:, 1:].T
    return np.quantile(means, 0.025, axis=1), np.quantile(means + weights[:, 0], 0.975, axis=1)


def _share_and_rest(scores: Array) -> Limits:
    """Wilson's interval of the share of zeros and t of the others' mean, put together by MOVER."""
    square = stats.norm.isf(0.025) ** 2 / scores.shape[1]
    fails = scores == 0
    p, others = fails.mean(1), np.maximum((~fails).sum(1), 2)
    mean = scores.sum(1) / others
    spread = np.sqrt((np.where(fails, 0, scores - mean[:, None]) ** 2).sum(1) / (others - 1) / others)
    centre = (p + square / 2) / (1 + square)
    half = np.sqrt(p * (1 - p) * square + square**2 / 4) / (1 + square)
    own = (1 - p) * stats.t.isf(0.025, others - 1) * spread
    below, above = np.hypot((centre + half - p) * mean, own), np.hypot((p - centre + half) * mean, own)
    return (1 - p) * mean - below, (1 - p) * mean + above


FORMS: dict[str, Callable[[Array], Limits]] = {
    "expanded percentiles (before)": _resampled,
    "t on the logit scale": lambda scores: _more(scores, 0),
    "with half a patient more": lambda scores: _more(scores, 0.5),
    "with one patient more (now)": lambda scores: _more(scores, 1),
    "with one and a half": lambda scores: _more(scores, 1.5),
    "share of zeros (Wilson) and mean of the rest": _share_and_rest,
    "Dirichlet weights, a whole one at the bound (Gaffke)": _gaffke,
}
COMPARED = [(name, patients) for name in ("none fails", "10 % fail", "very good, 5 % fail") for patients in (8, 20)]


def forms(n: int) -> Rows:
    """Coverage and median width of each form, in worlds of one case a patient."""
    keys = {name: key for key, name in enumerate(WORLDS)}
    drawn = {
        (name, patients): np.concatenate([scores for scores, _ in sites(WORLDS[name], keys[name], patients, n)])
        for name, patients in COMPARED
    }
    for form, limits in FORMS.items():
        cells = []
        for at, scores in drawn.items():
            lo, hi = limits(scores)
            held = 100 * np.mean((lo <= WORLDS[at[0]].truth) & (WORLDS[at[0]].truth <= hi))
            cells.append(f"{held:.1f}; {np.median(hi - lo):.3f}")
        yield [form, *cells]


def tables(n: int) -> Iterator[tuple[str, Sequence[str], Rows]]:
    """Title, head and rows of each table."""
    head = ["", *(f"{patients} patients" for patients in PATIENTS)]
    beside = "in brackets how often the truth is below and above it."
    coverage, rest = before_and_after(n)
    title = "**Where cases fail outright**: coverage of the interval of a mean Dice for these models, before (expanded "
    yield f"{title}percentiles of 1000 resamples) / now; {beside}", head, coverage
    title = "**What that costs, and what is marked**: median width over the width before; % of the intervals that are "
    yield (
        f"{title}marked (`Interval.doubt`); coverage of the others, where some are marked and a twentieth is not.",
        head,
        rest,
    )
    compared = ["", *(f"{name}, {patients} patients" for name, patients in COMPARED)]
    yield "**Other forms**: coverage; median width.", compared, forms(n)
    title = "**Distances** (HD95 in mm, 200 where the structure is missed): coverage of the interval for these models "
    yield f"{title}(expanded percentiles); {beside}", head, distances(n)
    title = "**Differences of two methods' Dice where one fails outright**: coverage of the interval for these models "
    yield f"{title}(expanded percentiles); {beside}", head, differences(n)
    title = (
        "**Method at a site where cases or runs fail**: coverage of `method_interval` with bounds, before / now (one "
    )
    worlds = ["10 % of cases fail", "very good, 5 % of cases fail", "one run in seven loses 0.3"]
    yield f"{title}one more patient); {beside}", ["seeds", "patients", *worlds], of_methods(n)
