from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elsewhere.training.sampler import Sampler

CASES = {"A": [f"A{i}" for i in range(7)], "B": ["B0", "B1"], "C": [f"C{i}" for i in range(4)]}


def site(case: str) -> str:
    return case[0]


@pytest.mark.parametrize("kind", ["balanced", "pooled"])
def test_a_step_is_a_pure_function_of_seed_and_step(kind: str) -> None:
    first, second = Sampler(CASES, 6, 3, kind), Sampler(CASES, 6, 3, kind)
    forwards = [first.cases(step) for step in range(20)]
    assert forwards == list(reversed([second.cases(step) for step in reversed(range(20))]))
    assert forwards != [Sampler(CASES, 6, 4, kind).cases(step) for step in range(20)]


def test_balanced_sees_every_site_alike_and_no_case_starves() -> None:
    drawn = [case for step in range(70) for case in Sampler(CASES, 6, 0).cases(step)]
    assert set(Counter(map(site, drawn)).values()) == {140}
    for ids in CASES.values():
        counts = Counter(case for case in drawn if case in ids)
        assert max(counts.values()) - min(counts[case] for case in ids) <= 1


def test_pooled_sees_every_case_alike() -> None:
    counts = Counter(case for step in range(26) for case in Sampler(CASES, 5, 0, "pooled").cases(step))
    assert set(counts.values()) == {10}  # 26 x 5 = 10 epochs of 13 cases


@pytest.mark.parametrize("kind", ["balanced", "pooled"])
def test_epochs_differ(kind: str) -> None:
    sampler = Sampler({"A": [f"A{i}" for i in range(20)]}, 20, 0, kind)
    assert sorted(sampler.cases(0)) == sorted(sampler.cases(1))
    assert sampler.cases(0) != sampler.cases(1)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    hands=st.integers(1, 4),
    share=st.integers(2, 4),
    step=st.integers(0, 50),
    kind=st.sampled_from(["balanced", "pooled"]),
)
@settings(deadline=None, max_examples=200)
def test_every_hand_has_two_sites_where_that_can_be(
    sizes: list[int], hands: int, share: int, step: int, kind: str
) -> None:
    cases = {chr(65 + i): [f"{chr(65 + i)}{k}" for k in range(n)] for i, n in enumerate(sizes)}
    drawn = Sampler(cases, hands * share, 0, kind, hands).cases(step)
    assert len(drawn) == hands * share
    most = max(Counter(map(site, drawn)).values())
    if len(drawn) - most >= hands:  # enough cases of other sites to give each hand one
        for i in range(hands):
            assert len(set(map(site, drawn[i * share : (i + 1) * share]))) >= 2


def test_how_it_is_cut_does_not_change_what_is_drawn() -> None:
    for step in range(10):
        assert sorted(Sampler(CASES, 8, 0, "pooled", 4).cases(step)) == sorted(
            Sampler(CASES, 8, 0, "pooled").cases(step)
        )
        assert Sampler(CASES, 8, 0, "balanced", 4).cases(step) == Sampler(CASES, 8, 0).cases(step)


def test_a_site_without_training_cases_is_left_out() -> None:
    assert set(map(site, Sampler({**CASES, "D": []}, 6, 0).cases(0))) == {"A", "B", "C"}
