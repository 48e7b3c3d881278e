"""How often the tests find what is not there, and what is: tables of `coverage.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coverage_claims import FORMS, claimed
from coverage_table import table
from coverage_worlds import FEWER, Array, classified
from elsewhere.evidence import compare_sets, holm
from elsewhere.evidence.permutation import sign_flip

LUCKS = (0.0, 0.2, 0.3, 0.5)
"""Standard deviation of the luck of a run, on the logit scale of Dice."""

SITES = 4

UNEVEN: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "one method at one site": lambda g, methods, sites: np.outer(_at(1, 1 + methods), _at(0, sites)),
    "one method": lambda g, methods, sites: np.outer(_at(1, 1 + methods), np.ones(sites)),
    "one site": lambda g, methods, sites: np.outer(np.ones(1 + methods), _at(0, sites)),
    "half the sites": lambda g, methods, sites: np.outer(np.ones(1 + methods), np.arange(sites) % 2),
    "any, at random": lambda g, methods, sites: g.integers(0, 2, (1 + methods, sites)),
}
"""Where runs vary 3 times as much (a variance 9 times as large): 1 there, 0 elsewhere; (methods, sites), ERM first."""

SWAPS = 999
"""Drawn a test: a test's level does not depend on it, only its power and p's exactness do."""


def level(n: int) -> None:
    """Rejections at 5 % where there is no difference."""
    nulls: dict[str, Callable[[np.random.Generator, int], Any]] = {
        "normal": lambda g, p: g.normal(size=p),
        "skewed scores": lambda g, p: g.lognormal(size=p) - g.lognormal(size=p),
        "ties, half are 0": lambda g, p: (g.integers(0, 2, p) - g.integers(0, 2, p)) * 1.0,
        "skewed differences of mean 0": lambda g, p: g.exponential(size=p) - 1,
    }

    def of_sums(draw: Callable[[np.random.Generator, int], Any], key: int, patients: int) -> float:
        generators = (np.random.default_rng([5, patients, key, i]) for i in range(n))
        p = [sign_flip(draw(g, patients), SWAPS, seed) for seed, g in enumerate(generators)]
        return float(np.mean([one.p <= 0.05 for one in p]))

    def of_sets(metric: str, key: int, patients: int) -> str:
        found = 0
        for i in range(n // 4):
            generator = np.random.default_rng([6, patients, key, i])
            (one, target), (two, _) = (classified(generator, 0.8, 2, patients, luck=0.0) for _ in range(2))
            if metric == "auroc":  # of another scale: a test that did not rank within the model would find that
                two = np.stack([1 - two[..., 1] ** 3, two[..., 1] ** 3], -1)
            found += compare_sets(one, two, target, range(patients), metric, n_boot=1, seed=i).p <= 0.05
        return f"{100 * found / (n // 4):.1f}"

    table(
        "**Level of the swap test** at 5 %: % of simulations without a difference in which p ≤ 0.05; the last two "
        "columns are of a quarter of the simulations.",
        n,
        ["patients", *nulls, "AUROC, another scale", "F1"],
        (
            (
                p,
                *(of_sums(draw, key, p) for key, draw in enumerate(nulls.values())),
                *(of_sets(metric, key, p) for key, metric in enumerate(("auroc", "f1"))),
            )
            for p in (5, 8, 12, 20, 50, 200)
        ),
        0.05,
    )


def families(n: int) -> None:
    """Holm over methods and sites."""

    def any_found(tests: int, patients: int) -> float:
        found = 0
        for i in range(n):
            generator = np.random.default_rng([7, tests, patients, i])
            base = generator.normal(size=patients)  # shared: the tests depend on each other
            p = [sign_flip(generator.normal(size=patients) - base, SWAPS, i).p for _ in range(tests)]
            found += bool((holm(p) <= 0.05).any())
        return found / n

    table(
        "**Family-wise error** of `holm` at 5 %, all tests against one base: % of simulations with a find.",
        n,
        ["tests", "patients", "a find"],
        ((tests, patients, any_found(tests, patients)) for tests in (4, 20) for patients in (8, 12, 50)),
        0.05,
    )


def claims(n: int) -> None:
    """Better or worse for the method: what is not there, and what is."""
    what = f"In each cell: {' / '.join(FORMS[:4])}. All but the first are corrected over the table."

    def shares(n: int, *grid: Any, any_of_them: bool, **world: Any) -> str:
        found = claimed(n, *grid, **world)
        each = [one.any(1).mean() if any_of_them else one.mean() for one in found.values()]
        return " / ".join(f"{100 * share:.1f}" for share in each)

    def rows(n: int, methods: Sequence[int], **options: Any) -> Any:
        return (
            (m, s, p, *(shares(n, m, SITES, s, p, luck, **options) for luck in LUCKS))
            for m in methods
            for s in (3, 5)
            for p in (20, 40, 100)
        )

    head = ["methods", "seeds", "patients", *(f"run SD {luck:g}" if luck else "no run luck" for luck in LUCKS)]
    table(
        f"**False claims about a method**: % of tables (methods x {SITES} sites) with a claim, where all methods are "
        f"ERM by another name. {what} Columns: standard deviation of the luck of a run, on the logit scale.",
        n,
        head,
        rows(n, (2, 3, 5), any_of_them=True),
        0.05,
    )
    few = n // 4
    table(
        f"**True claims about a method**: % of differences claimed, where each method's Dice is {FEWER[1]} and ERM's "
        f"{FEWER[0]}. {what} {few} tables of {SITES} to {5 * SITES} differences:",
        few,
        head,
        rows(few, (1, 2, 5), any_of_them=False, expected=FEWER),
        0.5,
    )
    table(
        f"**False claims where runs vary unevenly**, or one in seven fails by 2 on the logit scale (the methods as "
        f"often as ERM): as in the first of these tables, 100 patients, run SD 0.2, and 0.6 where the column says. "
        f"In each cell: {' / '.join(FORMS)}.",
        n,
        ["methods", "seeds", *UNEVEN, "one run in seven fails"],
        (
            (
                m,
                s,
                *(shares(n, m, SITES, s, 100, 0.2, any_of_them=True, uneven=of, smyth=True) for of in UNEVEN.values()),
                shares(n, m, SITES, s, 100, 0.2, any_of_them=True, fails=2.0, smyth=True),
            )
            for m, s in ((1, 3), (2, 3), (5, 3), (2, 5), (5, 5))
        ),
        0.05,
    )


def _at(place: int, n: int) -> Array:
    return (np.arange(n) == place).astype(float)
