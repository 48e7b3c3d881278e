"""How often do the intervals of `elsewhere.evidence` hold the truth, and its tests find what is not there?

Prints the tables of docs/explanation/intervals.md, in Markdown. Each number is a share of simulations, each with its
own seed; a share p of n simulations has a standard error of sqrt(p (1 - p) / n).

    python benchmarks/coverage.py --quick          # 200 simulations a number, a minute
    python benchmarks/coverage.py                  # 2000 a number
    python benchmarks/coverage.py --only sites     # one table
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from scipy import optimize, stats

from coverage_worlds import Drawn, World, classified, crossed, dice, own_patients, several_cases
from elsewhere.evidence import (
    Interval,
    RunScores,
    compare,
    compare_sets,
    holm,
    interval_of,
    interval_over,
    mean_scores,
    new_site_interval,
    patient_interval,
    probability_of_being_better,
    set_interval,
    set_scores,
)
from elsewhere.evidence.runs import Parts, decompose

LEVEL = 0.95
FORMS: tuple[Literal["expanded", "percentile"], ...] = ("expanded", "percentile")
TRUE_AUROC = 0.85


def generators(n: int, *key: int) -> Iterable[np.random.Generator]:
    """One a simulation, the same whatever else is run."""
    return (np.random.default_rng([*key, i]) for i in range(n))


def table(title: str, n: int, head: Sequence[str], rows: Iterable[Sequence[object]], nominal: float) -> None:
    """Print one table; rows as they are found."""
    error = 100 * math.sqrt(nominal * (1 - nominal) / n)
    print(f"\n{title} {n} simulations a number, Monte Carlo standard error {error:.1f} at {100 * nominal:g}.\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{100 * x:.1f}" if isinstance(x, float) else str(x) for x in row) + " |", flush=True)


def run_scores(drawn: Drawn, metric: str) -> RunScores:
    if drawn.values is not None:
        return mean_scores(drawn.values, drawn.patients)
    assert drawn.probabilities is not None
    assert drawn.target is not None
    return set_scores(drawn.probabilities, drawn.target, drawn.patients, metric)


def satterthwaite(parts: Parts) -> float:
    """Half width of the usual interval: one t for the sum of the parts."""
    private = parts.patients - parts.shared
    s, p = parts.own_df, parts.patients_df
    df = parts.variance**2 / (parts.own**2 / s + parts.patients**2 / p + private**2 / (s * p))
    return float(stats.t.ppf((1 + LEVEL) / 2, max(df, 1.0)) * math.sqrt(parts.variance))


def method_normal(n: int) -> None:
    lucks = (0.0, 0.3, 1.0, 3.0, 20.0)

    def rows() -> Iterable[Sequence[object]]:
        for seeds in (2, 3, 5, 10):
            for patients in (10, 30, 100):
                cells: list[object] = []
                for luck in lucks:
                    world, held, widths, values = crossed(luck), np.zeros(3), [], []
                    for generator in generators(n, 1, seeds, patients, round(10 * luck)):
                        drawn = world.draw(generator, seeds, patients)
                        scores = run_scores(drawn, "mean")
                        found, parts = interval_of(scores, LEVEL), decompose([scores])[0]
                        alone = stats.t.ppf((1 + LEVEL) / 2, patients - 1) * math.sqrt(parts.patients)
                        halves = np.array([found.hi - found.value, satterthwaite(parts), alone])
                        held += abs(found.value) <= halves
                        widths.append(halves[0])
                        values.append(found.value)
                    wide = float(np.median(widths) / np.std(values) / stats.norm.ppf((1 + LEVEL) / 2))
                    cells.append(" / ".join(f"{100 * share:.1f}" for share in held / n) + f" ({wide:.1f})")
                yield (seeds, patients, *cells)

    table(
        "Method at a site, means of one case a patient, normal. In each cell: coverage of `method_interval` / of one "
        "Satterthwaite t / of patients alone, and in brackets the median width of the first over that of the interval "
        "one could give if all variances were known. Columns: variance between runs, over the variance that patients "
        "give to the score of one run.",
        n, ["seeds", "patients", *(f"runs {luck:g}" for luck in lucks)], rows(), LEVEL,
    )  # fmt: skip


def method_harder(n: int) -> None:
    worlds: dict[str, tuple[World, tuple[float, float] | None]] = {
        "Dice-like, skewed": (dice(), (0.0, 1.0)),
        "several cases a patient": (several_cases(), None),
        "own patients each seed": (own_patients(), None),
        "AUROC 0.80": (classified(0.8), (0.0, 1.0)),
        "AUROC 0.95": (classified(0.95), (0.0, 1.0)),
        "accuracy 0.80": (classified(0.88, "accuracy"), (0.0, 1.0)),
    }

    def rows() -> Iterable[Sequence[object]]:
        for seeds in (2, 3, 5, 10):
            for patients in (10, 20, 50, 100):
                cells = []
                for key, (world, bounds) in enumerate(worlds.values()):
                    held = none = 0
                    for generator in generators(n, 2, seeds, patients, key):
                        drawn = world.draw(generator, seeds, patients)
                        found = interval_of(run_scores(drawn, world.metric), LEVEL, bounds=bounds)
                        none += math.isnan(found.lo)
                        held += found.lo <= world.truth <= found.hi
                    share = f"{100 * held / (n - none):.1f}" if none < n else "-"
                    cells.append(share + (f" ({100 * none / n:.0f})" if none >= 0.005 * n else ""))
                yield (seeds, patients, *cells)

    table(
        "Method at a site, harder data; coverage of `method_interval` and `method_set_interval`. In brackets: % of "
        "simulations in which it gives no interval, and says so (no error at all among so few patients).",
        n, ["seeds", "patients", *worlds], rows(), LEVEL,
    )  # fmt: skip


def models(n: int) -> None:
    """These models at this site: one model, patients drawn."""
    mean = dice(0.0)

    def rows() -> Iterable[Sequence[object]]:
        for patients in (5, 10, 20, 50, 100):
            held, given = np.zeros(4), np.zeros(4)
            for generator in generators(n, 3, patients):
                values = mean.draw(generator, 1, patients).values
                intervals = [patient_interval(values, range(patients), n_boot=1000, method=form) for form in FORMS]
                intervals += _auroc_of_a_model(generator, patients)
                truths = [mean.truth] * 2 + [TRUE_AUROC] * 2
                held += [one.lo <= truth <= one.hi for one, truth in zip(intervals, truths, strict=True)]
                given += [not math.isnan(one.lo) for one in intervals]
            none = [f" ({100 * (1 - share):.0f})" if share < 0.995 else "" for share in given / n]
            yield (patients, *(f"{100 * h / max(g, 1):.1f}{no}" for h, g, no in zip(held, given, none, strict=True)))

    table(
        "These models at this site: coverage of `patient_interval` and `set_interval` (1000 resamples), one model. "
        "In brackets: % of simulations without an interval, as a class is missing in too many resamples.",
        n, ["patients", "Dice-like, expanded", "Dice-like, percentile", "AUROC 0.85, expanded",
            "AUROC 0.85, percentile"], rows(), LEVEL,
    )  # fmt: skip


def _auroc_of_a_model(generator: np.random.Generator, patients: int) -> list[Interval]:
    """Two normal classes, one fixed model: the truth is its own AUROC."""
    target = (np.arange(patients) < round(0.4 * patients)).astype(int)
    score = generator.normal(size=patients) + target * math.sqrt(2) * stats.norm.ppf(TRUE_AUROC)
    p = 1 / (1 + np.exp(-score))
    p = np.stack([1 - p, p], -1)
    return [set_interval(p, target, range(patients), "auroc", n_boot=1000, method=form) for form in FORMS]


def level(n: int) -> None:
    """Rejections at 5 % where there is no difference."""
    nulls: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
        "normal": lambda g, p: (g.normal(size=(1, p)), g.normal(size=(1, p))),
        "skewed scores": lambda g, p: (g.lognormal(size=(1, p)), g.lognormal(size=(1, p))),
        "ties, half are 0": lambda g, p: (g.integers(0, 2, (1, p)) * 1.0, g.integers(0, 2, (1, p)) * 1.0),
        "3 seeds": lambda g, p: (g.normal(size=p) + g.normal(size=(3, p)), g.normal(size=p) + g.normal(size=(3, p))),
        "skewed differences of mean 0": lambda g, p: (g.exponential(size=(1, p)), np.ones((1, p))),
    }

    def rows() -> Iterable[Sequence[object]]:
        for patients in (5, 8, 12, 20, 50, 200):
            cells: list[object] = []
            for key, draw in enumerate(nulls.values()):
                p = [compare(*draw(g, patients), range(patients), n_boot=1, seed=i).p
                     for i, g in enumerate(generators(n, 4, patients, key))]  # fmt: skip
                cells.append(float(np.mean(np.array(p) <= 0.05)))
            for key, metric in enumerate(("auroc", "f1")):
                world, p = classified(0.8, luck=0.0), []
                few = max(n // 4, 1)
                for i, g in enumerate(generators(few, 5, patients, key)):
                    one, two = world.draw(g, 2, patients), world.draw(g, 2, patients)
                    # Of another scale: a test that does not rank within the model would find that.
                    other = np.stack([1 - two.probabilities[..., 1] ** 2, two.probabilities[..., 1] ** 2], -1)
                    other = other if metric == "auroc" else two.probabilities
                    found = compare_sets(one.probabilities, other, one.target, one.patients, metric, n_boot=1, seed=i)
                    p.append(found.p)
                cells.append(f"{100 * np.mean(np.array(p) <= 0.05):.1f}")
            yield (patients, *cells)

    table(
        "Level of the swap test at 5 %: % of simulations without a difference in which p <= 0.05. (The last two "
        "columns are of a quarter of the simulations.)",
        n, ["patients", *nulls, "AUROC, another scale", "F1"], rows(), 0.05,
    )  # fmt: skip


def families(n: int) -> None:
    """Holm over methods and sites."""

    def rows() -> Iterable[Sequence[object]]:
        for hypotheses in (4, 20):
            for patients in (8, 20, 50):
                any_found = 0
                for g in generators(n, 6, hypotheses, patients):
                    base = g.normal(size=(1, patients))  # shared: the tests depend on each other
                    p = [compare(g.normal(size=(1, patients)), base, range(patients), n_boot=1, hypotheses=hypotheses).p
                         for _ in range(hypotheses)]  # fmt: skip
                    any_found += bool((holm(p) <= 0.05).any())
                yield (hypotheses, patients, any_found / n)

    table(
        "Family-wise error of `holm` at 5 %, all against one base.", n, ["tests", "patients", "any found"], rows(), 0.05
    )


def sites(n: int) -> None:
    """A site like these."""
    shares = (0.0, 0.25, 0.5, 0.75, 0.95)

    def rows() -> Iterable[Sequence[object]]:
        for k in (5, 7, 10, 20):
            cells = []
            for share in shares:
                held = np.zeros(2)
                for g in generators(n, 7, k, round(100 * share)):
                    errors = math.sqrt(share) * g.uniform(0.5, 1.5, k) / math.sqrt(13 / 12)
                    tau = math.sqrt(1 - share)
                    values = tau * g.normal(size=k) + errors * g.normal(size=k)
                    new = tau * g.normal()
                    found = new_site_interval(values, errors, LEVEL)
                    held += [found.lo <= new <= found.hi, _plugged_in(values, errors, new)]
                cells.append(" / ".join(f"{100 * x:.1f}" for x in held / n))
            yield (k, *cells)

    table(
        "A site like these: coverage of a further site's true score by `new_site_interval` / by plugging in Paule and "
        "Mandel's tau^2 with t(k - 1). Columns: share of the sites' variance that is error.",
        n, ["sites", *(f"{100 * share:g} % error" for share in shares)], rows(), LEVEL,
    )  # fmt: skip


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


def mean_over_sites(n: int) -> None:
    """This method over these sites, and a new site from sites that are themselves estimated."""

    def rows() -> Iterable[Sequence[object]]:
        for k in (3, 6):
            for seeds in (2, 3, 5):
                for patients in (10, 30):
                    cells = np.zeros(2)
                    for g in generators(n, 8, k, seeds, patients):
                        hard = g.normal(size=k + 1)  # the sites' true scores; the last is yet to come
                        some = {}
                        for j in range(k):
                            values = crossed(1.0).draw(g, seeds, patients).values + hard[j]
                            some[str(j)] = mean_scores(values, [f"{j} {i}" for i in range(patients)])
                        found = interval_over(some, LEVEL)
                        errors = [interval_of(one).error for one in some.values()]
                        new = new_site_interval(np.array([one.value for one in some.values()]), np.array(errors), LEVEL)
                        truth = hard[:k].mean()
                        cells += [found.lo <= truth <= found.hi, new.lo <= hard[k] <= new.hi]
                    shares = [f"{100 * x:.1f}" for x in cells / n]
                    yield (k, seeds, patients, shares[0], shares[1] if k >= 5 else "none given")

    table(
        "Over sites (runs vary as much as patients do; sites have a standard deviation of 1, as patients have): "
        "coverage of the mean over these sites by `over_sites(...).mean`, and of a further site by "
        "`over_sites(...).new_site`.",
        n, ["sites", "seeds", "patients a site", "these sites", "one like these"], rows(), LEVEL,
    )  # fmt: skip


def better(n: int) -> None:
    """Of further pairs of runs, how many lie where `better` says they do?"""
    asked = (0.6, 0.8, 0.9, 0.975)

    def rows() -> Iterable[Sequence[object]]:
        for seeds in (2, 3, 5, 10):
            for patients in (10, 50):
                cells = []
                for luck in (0.0, 1.0):
                    told = []
                    for g in generators(n, 9, seeds, patients, round(luck)):
                        scores = run_scores(crossed(luck).draw(g, seeds, patients), "mean")
                        further = run_scores(crossed(luck).draw(g, 1, patients), "mean").value
                        shifted = RunScores(scores.values - further, scores.influence, scores.names, scores.cases)
                        told.append(probability_of_being_better(shifted))
                    cells += [float(np.mean(np.array(told) <= p)) for p in asked]
                yield (seeds, patients, *cells)

    table(
        "Probability of being better. A further pair of runs on further patients should lie above the limit that "
        "is told to be passed with probability 60, 80, 90, 97.5 % about so often (more: careful). First four columns: "
        "runs do not vary; last four: as much as patients.",
        n, ["seeds", "patients", *(f"{100 * p:g} %" for p in asked * 2)], rows(), 0.9,
    )  # fmt: skip


TABLES: dict[str, Callable[[int], None]] = {
    "method": method_normal,
    "harder": method_harder,
    "models": models,
    "level": level,
    "families": families,
    "sites": sites,
    "over": mean_over_sites,
    "better": better,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--n", type=int, default=2000, help="simulations a number")
    parser.add_argument("--quick", action="store_true", help="200 simulations a number")
    options = parser.parse_args()
    for name in options.only:
        TABLES[name](200 if options.quick else options.n)


if __name__ == "__main__":
    main()
