"""Rules by which a method may be called better or worse, for many tables at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from coverage_worlds import Array, beside_erm
from elsewhere.evidence import compare
from elsewhere.evidence.claims import BORROWED, corrected

FORMS = (
    "interval at 95 %",
    "interval at 1 - 5 %/tests",
    "Holm on its p",
    "with a borrowed run variance, which is the rule",
    "Smyth's moderated t",
)
"""Beside the models' own test, which each needs."""

SWAPS = 999

BLOCK = 4_000_000
"""Scores in memory at a time."""

TAILS = np.linspace(np.log(1e-9), np.log(0.5), 4000)[:-1]
"""Logarithms, at which quantiles are looked up."""


@dataclass(frozen=True)
class Tables:
    """Differences (n, methods, sites), in the parts of `elsewhere.evidence.runs.Parts`."""

    value: Array
    own: Array
    shared: Array
    patients: Array
    private: Array
    seeds: int
    n_patients: int

    def p(self, own: Array, df: int | Array) -> Array:
        """(n, tests) for the methods, by looking up where the half width is the difference."""
        runs, patients = (special.stdtrit(k, np.exp(TAILS)) ** 2 for k in (np.unique(df)[:, None], self.n_patients - 1))
        which = np.searchsorted(np.unique(df), df)
        least, most = (np.full(own.shape, end) for end in (0, len(TAILS) - 1))
        for _ in range(12):
            at = (least + most) // 2
            half2 = np.maximum(runs[which, at] * own + patients[at] * self.shared, patients[at] * self.patients)
            wide = half2 > self.value**2
            least, most = np.where(wide, at, least), np.where(wide, most, at)
        return np.asarray(2 * np.exp(TAILS[most])).reshape(len(own), -1)

    def borrowed(self) -> tuple[Array, int]:
        """What `elsewhere.evidence.claims` puts in place of `own`, and its degrees of freedom."""
        df = self.seeds - 1
        luck = self.own - self.private
        most = np.maximum(luck.mean(1, keepdims=True), luck.mean(2, keepdims=True))
        more = min(BORROWED, df * luck.shape[2], df * (luck[0].size - 1))
        return (more * (np.maximum(most, 0) + self.private) + df * self.own) / (more + df), more + df

    def moderated(self) -> tuple[Array, Array]:
        """Smyth's (2004, section 6.2): prior variance and degrees of freedom from the spread of the logarithms."""
        df = self.seeds - 1
        logs = np.log(self.own) - special.digamma(df / 2) + np.log(df / 2)
        over = logs.var((1, 2), ddof=1, keepdims=True) - special.polygamma(1, df / 2)
        halves = np.geomspace(50, 0.05, 60)  # of the prior degrees of freedom; 100 stand for infinitely many
        more = 2 * halves[np.minimum(np.searchsorted(special.polygamma(1, halves), over), len(halves) - 1)]
        prior = np.exp(logs.mean((1, 2), keepdims=True) + special.digamma(more / 2) - np.log(more / 2))
        return (more * prior + df * self.own) / (more + df), more + df


def tables(differences: Array) -> Tables:
    """Of (n, methods, sites, seeds, patients)."""
    seeds, patients = differences.shape[-2:]
    of_run = differences.mean(-1)
    influence = (differences - of_run[..., None]) / np.sqrt(patients * (patients - 1))
    together = influence.mean(-2)
    alone = (together**2).sum(-1)
    private = ((influence**2).sum((-2, -1)) - seeds * alone) / (seeds - 1) / seeds
    own = of_run.var(-1, ddof=1) / seeds
    return Tables(of_run.mean(-1), own, np.maximum(alone - private, 0), alone, private, seeds, patients)


def claimed(
    n: int,
    methods: int,
    sites: int,
    seeds: int,
    patients: int,
    luck: float,
    *,
    smyth: bool = False,
    **world: Any,
) -> dict[str, Array]:
    """By rule: (n, tests), whether better or worse is said for the method; `world` as in `beside_erm`.

    Smyth's rule is slow, and looked at where it is asked for.
    """
    generator = np.random.default_rng([12, methods, sites, seeds, patients, round(10 * luck)])
    stays = 2.0 * generator.integers(0, 2, (SWAPS, patients)) - 1
    block = max(1, BLOCK // ((1 + methods) * sites * seeds * patients))
    found: dict[str, list[Array]] = {form: [] for form in FORMS[: 4 + smyth]}
    for done in range(0, n, block):
        differences = beside_erm(generator, min(block, n - done), methods, sites, seeds, patients, luck, **world)
        of = tables(differences)
        p = of.p(of.own, seeds - 1)
        ours = np.maximum(_holm(of.p(*of.borrowed())), p)
        if not done:
            _hold_against_the_library(differences[0], p[0], ours[0])
        corrected_p = (p * p.shape[1], _holm(p), ours, *([_holm(of.p(*of.moderated()))] if smyth else []))
        rules = tuple(one <= 0.05 for one in (p, *corrected_p))
        models = np.zeros(p.shape, dtype=bool)
        some = np.any(rules, axis=(0, 2))  # elsewhere the models need no test
        if some.any():
            models[some] = _holm(_sign_flips(differences.mean(-2)[some], stays)) <= 0.05
        for form, rule in zip(found, rules, strict=True):
            found[form].append(rule & models)
    return {form: np.concatenate(parts) for form, parts in found.items()}


def _sign_flips(differences: Array, stays: Array) -> Array:
    """(n, tests) p of the models, by the same swaps for all."""
    parts = differences.reshape(-1, differences.shape[-1])
    far = np.abs(parts @ stays.T) >= np.abs(parts.sum(1, keepdims=True)) * (1 - 1e-10)
    return np.asarray((1 + far.sum(1)) / (1 + len(stays))).reshape(len(differences), -1)


def _holm(p: Array) -> Array:
    """Of each row; `elsewhere.evidence.holm`."""
    order = np.argsort(p, axis=1)
    steps = np.take_along_axis(p, order, axis=1) * np.arange(p.shape[1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1, np.maximum.accumulate(steps, axis=1)), axis=1)
    return adjusted


def _hold_against_the_library(differences: Array, p: Array, ours: Array) -> None:
    methods, sites, _, patients = differences.shape
    table = [(method, site) for method in range(methods) for site in range(sites)]
    found = [compare(differences[at], np.zeros_like(differences[at]), range(patients), n_boot=1) for at in table]
    close = dict(rtol=0.02, atol=1e-8)  # a step of TAILS is 0.5 %
    assert np.allclose([one.p_method for one in found], p, **close), "not what the library gives"
    assert np.allclose(corrected(table, found), ours, **close), "not what the library gives"
