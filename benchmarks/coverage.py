"""How often do the intervals of `elsewhere.evidence` hold the truth, and its tests find what is not there?

Prints the tables of docs/explanation/intervals.md, in Markdown. Each number is a share of simulations, in %; a share p
of n simulations has a standard error of sqrt(p (1 - p) / n), which stands above each table.

    python benchmarks/coverage.py --quick          # a tenth of the simulations
    python benchmarks/coverage.py                  # the docs' tables
    python benchmarks/coverage.py --only sites     # one table
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from scipy import optimize, stats

import coverage_failures
from coverage_table import LEVEL, table
from coverage_tests import claims, families, level
from coverage_worlds import (
    World,
    classified,
    crossed,
    dice,
    halves,
    held,
    own_patients,
    run_scores,
    several_cases,
    true_share,
    two_models,
)
from elsewhere.evidence import (
    Interval,
    RunScores,
    compare_sets,
    interval_of,
    interval_over,
    method_set_interval,
    new_site_interval,
    patient_interval,
    probability_of_being_better,
    set_interval,
)
from elsewhere.evidence.intervals import resampled
from elsewhere.evidence.judged import JudgedSets

FORMS: tuple[Literal["expanded", "percentile"], ...] = ("expanded", "percentile")
SHARES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
}
"""Metrics that are shares, in a table."""

AREAS = (0.85, 0.95)
"""AUROCs of the models of that table."""


def method(n: int) -> None:
    """This method at this site: the form, the usual form, and patients alone."""
    lucks, n = (0.0, 0.3, 1.0, 3.0, 20.0), 5 * n

    def cell(luck: float, seeds: int, patients: int) -> str:
        world = crossed(luck)
        found = halves(
            world.draw(np.random.default_rng([1, seeds, patients, round(10 * luck)]), n, seeds, patients), LEVEL
        )
        shares = [held(found, half, world).mean() for half in (found.ours, found.satterthwaite, found.patients)]
        wide = np.median(found.ours) / np.std(found.value) / stats.norm.ppf((1 + LEVEL) / 2)
        return " / ".join(f"{100 * share:.1f}" for share in shares) + f" ({wide:.1f})"

    table(
        "**Method at a site**, means, one case a patient, normal. In each cell: coverage of `method_interval` / of one "
        "Satterthwaite t / of patients alone, and in brackets the median width of the first, over that of the interval "
        "one could give if all variances were known. Columns: variance between runs, over the variance that patients "
        "give to the score of one run.",
        n,
        ["seeds", "patients", *(f"runs {luck:g}" for luck in lucks)],
        ((s, p, *(cell(luck, s, p) for luck in lucks)) for s in (2, 3, 5, 10) for p in (10, 30, 100)),
    )


def harder(n: int) -> None:
    """The same where data are less kind."""
    worlds = {
        "Dice-like, skewed": dice(),
        "several cases a patient": several_cases(),
        "own patients each seed": own_patients(),
    }
    sets = {"AUROC 0.80": (0.8, 0), "AUROC 0.95": (0.95, 1)}

    def of_means(world: World, key: int, seeds: int, patients: int) -> float:
        found = halves(world.draw(np.random.default_rng([2, seeds, patients, key]), n, seeds, patients), LEVEL)
        return float(held(found, found.ours, world).mean())

    def of_sets(truth: float, key: int, seeds: int, patients: int) -> str:
        found = []
        for i in range(n):
            p, target = classified(np.random.default_rng([3, seeds, patients, key, i]), truth, seeds, patients)
            found.append(method_set_interval(p, target, range(patients), "auroc", level=LEVEL))
        return _share(found, truth)

    table(
        "**Method at a site**, harder data: coverage of `method_interval` and `method_set_interval`. In brackets: % of "
        "simulations in which there is no interval, and the table says so (all patients right).",
        n,
        ["seeds", "patients", *worlds, *sets],
        (
            (
                s,
                p,
                *(of_means(world, key, s, p) for key, world in enumerate(worlds.values())),
                *(of_sets(truth, key, s, p) for truth, key in sets.values()),
            )
            for s in (2, 3, 10)
            for p in (10, 20, 50)
        ),
    )


def _share(found: Sequence[Interval], truth: float) -> str:
    given = [one for one in found if not math.isnan(one.lo)]
    none = 1 - len(given) / len(found)
    share = np.mean([one.lo <= truth <= one.hi for one in given]) if given else math.nan
    return f"{100 * share:.1f}" + (f" ({100 * none:.0f})" if none >= 0.005 else "")


def models(n: int) -> None:
    """These models at this site: one model, patients drawn."""
    n = n // 4

    def row(patients: int) -> list[object]:
        means: dict[str, list[Interval]] = {form: [] for form in FORMS}
        plain: list[Interval] = []
        sets: dict[tuple[float, str], list[Interval]] = {(area, what): [] for area in AREAS for what in SHARES}
        for i in range(n):
            generator = np.random.default_rng([4, patients, i])
            values = generator.beta(8, 2, size=patients)
            for form in FORMS:
                means[form].append(patient_interval(values, range(patients), n_boot=1000, method=form))
            drawn = {area: classified(generator, area, 1, patients, luck=0.0) for area in AREAS}
            plain.append(set_interval(*drawn[AREAS[0]], range(patients), "auroc", n_boot=1000, method="expanded"))
            for (area, what), found in sets.items():
                found.append(set_interval(*drawn[area], range(patients), what))
        return [
            patients,
            *(_share(found, 0.8) for found in means.values()),
            _share(plain, AREAS[0]),
            *(_share(found, true_share(what, area)) for (area, what), found in sets.items()),
        ]

    table(
        "**These models at this site**: coverage of `patient_interval` and `set_interval` (1000 resamples), one model, "
        'one case a patient, 40 % positive. Resampled: method "expanded"; else Wilson\'s with as many cases as the set '
        "is worth. In brackets: % of simulations without an interval.",
        n,
        [
            "patients",
            *(f"Dice-like, {form}" for form in FORMS),
            f"AUROC {AREAS[0]}, resampled",
            *(f"{name}{f' {area}' if what == 'auroc' else ''}" for area in AREAS for what, name in SHARES.items()),
        ],
        (row(patients) for patients in (5, 10, 20, 50, 100)),
    )


def differences(n: int) -> None:
    """The same for the difference of two models, whose scores of a patient are alike."""
    n, pairs, alike = n // 4, ((0.85, 0.85), (0.9, 0.8), (0.99, 0.95)), (0.5, 0.9)

    def cell(patients: int, pair: tuple[float, float], shared: float) -> str:
        ours, plain = [], []
        for i in range(n):
            generator = np.random.default_rng([11, patients, round(100 * pair[0]), round(10 * shared), i])
            p, target = two_models(generator, pair, patients, shared)
            both = compare_sets(p[:1], p[1:], target, range(patients), "auroc", n_boot=1)
            ours.append(Interval(both.difference, both.models_lo, both.models_hi, patients, patients))
            plain.append(resampled_difference(p, target))
        return f"{_share(ours, pair[0] - pair[1])} / {_share(plain, pair[0] - pair[1])}"

    table(
        "**Difference of two models' AUROC at this site**: coverage of the interval of `compare_sets` for these "
        "models / of expanded percentiles of 500 resamples. In brackets: % of simulations without an interval. "
        "Columns: the two AUROCs, and the correlation of the two models' scores within a class.",
        n,
        ["patients", *(f"{one} and {two}, {shared}" for one, two in pairs for shared in alike)],
        ((p, *(cell(p, pair, shared) for pair in pairs for shared in alike)) for p in (5, 10, 20, 50)),
    )


def failures(n: int) -> None:
    """Means of Dice, differences and distances where some cases, or some runs, fail outright."""
    for title, head, rows in coverage_failures.tables(n // 2):
        table(title, n // 2, head, rows)


def resampled_difference(p: Any, target: Any) -> Interval:
    """What `compare_sets` does with metrics that are no shares."""
    patients = len(target)
    one, two = (JudgedSets.of(of, target, range(patients), "auroc") for of in p)

    def difference(weights: Any) -> Any:
        return (one.scores(weights) - two.scores(weights))[0]

    return resampled(difference, patients, patients, patients, 500, LEVEL, 0, "expanded")


def sites(n: int) -> None:
    """A site like these."""
    shares, n = (0.0, 0.25, 0.5, 0.75, 0.95), n // 2

    def cell(k: int, share: float) -> str:
        held = np.zeros(2)
        for i in range(n):
            generator = np.random.default_rng([8, k, round(100 * share), i])
            errors = math.sqrt(share) * generator.uniform(0.5, 1.5, k) / math.sqrt(13 / 12)
            values = math.sqrt(1 - share) * generator.normal(size=k) + errors * generator.normal(size=k)
            new = math.sqrt(1 - share) * generator.normal()
            found = new_site_interval(values, errors, LEVEL)
            held += [found.lo <= new <= found.hi, _plugged_in(values, errors, new)]
        return " / ".join(f"{100 * x:.1f}" for x in held / n)

    table(
        "**A site like these**: coverage of a further site's true score by `new_site_interval` / by plugging in Paule "
        "and Mandel's variance between sites with t(k - 1). Columns: share of the sites' variance that is error.",
        n,
        ["sites", *(f"{100 * share:g} % error" for share in shares)],
        ((k, *(cell(k, share) for share in shares)) for k in (5, 7, 10, 20)),
    )


def _plugged_in(values: np.ndarray, errors: np.ndarray, new: float) -> bool:
    """Whether the plug-in interval holds the new site; tau^2 is where Q is k - 1."""
    k = len(values)

    def weighted(tau2: float) -> tuple[float, float, float]:
        weights = 1 / (tau2 + errors**2)
        mean = float((weights * values).sum() / weights.sum())
        return mean, 1 / float(weights.sum()), float((weights * (values - mean) ** 2).sum())

    tau2 = 0.0
    if not errors.any():
        tau2 = float(values.var(ddof=1))
    elif weighted(0.0)[2] > k - 1:
        tau2 = float(optimize.brentq(lambda t: weighted(t)[2] - (k - 1), 0.0, 10 * values.var(ddof=1)))
    mean, variance, _ = weighted(tau2)
    return bool(abs(new - mean) <= stats.t.ppf((1 + LEVEL) / 2, k - 1) * math.sqrt(tau2 + variance))


def over(n: int) -> None:
    """This method over these sites, and a new site from sites that are themselves estimated."""
    n, world = n // 4, crossed(1.0)

    def row(k: int, seeds: int, patients: int) -> list[object]:
        held = np.zeros(2)
        for i in range(n):
            generator = np.random.default_rng([9, k, seeds, patients, i])
            hard = generator.normal(size=k + 1)  # the sites' true scores; the last is yet to come
            drawn = world.draw(generator, k, seeds, patients)
            some = {}
            for j in range(k):
                one = run_scores(drawn, j)
                some[j] = RunScores(one.values + hard[j], one.influence, tuple((j, p) for p in one.names), one.cases)
            found = interval_over(some, LEVEL)
            errors = [interval_of(one).error for one in some.values()]
            new = new_site_interval(np.array([one.value for one in some.values()]), np.array(errors), LEVEL)
            held += [found.lo <= hard[:k].mean() <= found.hi, new.lo <= hard[k] <= new.hi]
        return [k, seeds, patients, held[0] / n, held[1] / n if k >= 5 else "none given"]

    table(
        "**Over sites** (runs vary as much as patients do; sites have a standard deviation of 1, as patients have): "
        "coverage of the mean over these sites by `over_sites(...).mean`, and of a further site's true score by "
        "`over_sites(...).new_site`.",
        n,
        ["sites", "seeds", "patients a site", "these sites", "one like these"],
        (row(k, seeds, patients) for k in (3, 6) for seeds in (2, 3, 5) for patients in (10, 50)),
    )


def better(n: int) -> None:
    """Of further pairs of runs, how many lie where `better` says they do?"""
    asked = (0.6, 0.8, 0.9, 0.975)

    def cells(luck: float, seeds: int, patients: int) -> list[object]:
        generator = np.random.default_rng([10, seeds, patients, round(luck)])
        drawn, further = (
            crossed(luck).draw(generator, n, seeds, patients),
            crossed(luck).draw(generator, n, 1, patients),
        )
        told = []
        for i in range(n):
            one = run_scores(drawn, i)
            shifted = one.values - further.sums[i].mean()
            told.append(probability_of_being_better(RunScores(shifted, one.influence, one.names, one.cases)))
        return [float(np.mean(np.array(told) <= p)) for p in asked]

    table(
        "**Probability of being better**: further pairs of runs on further patients that lie above the limit which, as "
        "is told, they pass with 60, 80, 90, 97.5 %; more is careful. First four columns: pairs of runs do not vary; "
        "last four: as much as patients.",
        n,
        ["seeds", "patients", *(f"{100 * p:g} %" for p in asked * 2)],
        ((s, p, *cells(0.0, s, p), *cells(1.0, s, p)) for s in (2, 3, 5, 10) for p in (10, 50)),
        0.9,
    )


TABLES: dict[str, Callable[[int], None]] = {
    "models": models,
    "differences": differences,
    "failures": failures,
    "method": method,
    "harder": harder,
    "sites": sites,
    "over": over,
    "level": level,
    "families": families,
    "claims": claims,
    "better": better,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations")
    options = parser.parse_args()
    for name in options.only:
        TABLES[name](200 if options.quick else 2000)


if __name__ == "__main__":
    main()
