"""Few training patients: as many as asked for, those of 3 among those of 5, spread over sites and classes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_splits import make_study, rows_strategy, simple_study

from elsewhere.errors import StudyError
from elsewhere.study.case import Fold
from elsewhere.study.few_shot import keep_few
from elsewhere.study.splits import split
from elsewhere.study.study import Study

EVERYBODY = Fold(())


def patients_of(study: Study, ids: tuple[str, ...]) -> set[str]:
    return {study.by_id[case_id].patient for case_id in ids}


def few(study: Study, n: int | None, seed: int = 0, fold: Fold = EVERYBODY) -> set[str]:
    return patients_of(study, keep_few(study, split(study, fold, seed), n, seed).train)


@settings(max_examples=150, deadline=None)
@given(rows=rows_strategy, seed=st.integers(0, 3), n=st.integers(1, 12))
def test_only_training_patients_are_given_up(rows: list[tuple[str, str, str | None]], seed: int, n: int) -> None:
    study = make_study(rows)
    try:
        whole = split(study, EVERYBODY, seed)
    except StudyError:
        return
    found = keep_few(study, whole, n, seed)
    assert len(patients_of(study, found.train)) == min(n, len(patients_of(study, whole.train)))
    assert set(found.train) <= set(whole.train)
    assert patients_of(study, found.train).isdisjoint(patients_of(study, found.left_out))
    assert sorted((*found.train, *found.left_out)) == sorted((*whole.train, *whole.left_out))
    assert (found.validation, found.calibration, found.test) == (whole.validation, whole.calibration, whole.test)
    assert few(study, n, seed) <= few(study, n + 1, seed)


def test_sites_have_as_many_as_each_other() -> None:
    study = simple_study({"A": 30, "B": 20, "C": 6})
    trained = {site: len(few(study, None) & {c.patient for c in study.of_site(site)}) for site in study.sites}
    assert trained == {"A": 19, "B": 12, "C": 3}
    for n in range(1, 35):
        counts = Counter(patient[0] for patient in few(study, n))
        # A site may only be behind another by one, or because it has no more to give.
        assert all(counts[a] >= counts[b] - 1 or counts[a] == trained[a] for a in "ABC" for b in "ABC")
    assert Counter(patient[0] for patient in few(study, 9)) == {"A": 3, "B": 3, "C": 3}
    assert Counter(patient[0] for patient in few(study, 13)) == {"A": 5, "B": 5, "C": 3}


def test_every_class_comes_once_before_any_comes_twice_and_then_in_proportion() -> None:
    rows = [(site, f"{site}{i}", "yes" if i % 5 == 0 else "no") for site in "AB" for i in range(50)]
    study = make_study([*rows, *((f"{site}", f"{site}-{i}", "odd") for site in "AB" for i in range(4))])
    label = {case.patient: case.label for case in study.cases}
    for seed in range(5):
        assert {label[patient] for patient in few(study, 3, seed)} == {"no", "yes", "odd"}
        whole, some = (Counter(label[patient] for patient in few(study, n, seed)) for n in (None, 30))
        for name, size in whole.items():
            assert abs(some[name] - 30 * size / whole.total()) <= 1.5


def test_the_seed_decides_and_neither_the_order_of_the_manifest_nor_the_site_held_out() -> None:
    rows = [(site, f"{site}{i}", None) for site in "AB" for i in range(20)]
    study = make_study([(site, patient, "m") for site, patient, _ in rows], task="segmentation")
    turned = make_study([(site, patient, "m") for site, patient, _ in reversed(rows)], task="segmentation")
    assert few(study, 5) == few(turned, 5)
    assert len({frozenset(few(study, 5, seed)) for seed in range(6)}) == 6
    held_out = few(study, 2, fold=Fold(("A",)))
    assert held_out == {patient for patient in few(study, 4) if patient.startswith("B")}


def test_a_patient_of_several_sites_counts_once_and_brings_all_cases() -> None:
    """Sites that are views of the same people, such as MR sequences."""
    study = make_study([(site, f"p{i}", "m") for site in ("t1", "t2") for i in range(20)], task="segmentation")
    found = keep_few(study, split(study, EVERYBODY, 0), 3, 0)
    assert len(found.train) == 6
    assert len(patients_of(study, found.train)) == 3
    assert "few-shot: 3 of 12 training patients train (t1 3, t2 3)" in found.notes


def test_what_is_given_up_is_said() -> None:
    study = simple_study({"A": 10, "B": 10})
    whole = split(study, EVERYBODY, 0)
    one = keep_few(study, whole, 1, 0).notes[len(whole.notes) :]
    assert one[0] in (
        "few-shot: 1 of 10 training patients trains (A 1, B 0)",
        "few-shot: 1 of 10 training patients trains (A 0, B 1)",
    )
    assert one[1] in ("few-shot: no training patient of class yes", "few-shot: no training patient of class no")
    alone = one[0].split("(")[1]
    site = "A" if alone.startswith("A 1") else "B"
    assert one[2:] == (
        f"few-shot: site {site} trains alone, so methods that compare training sites have none to compare",
    )
    assert not any("alone" in note for note in keep_few(study, whole, 2, 0).notes)
    many = keep_few(study, whole, 40, 0)
    assert many.train == whole.train
    assert many.notes[-1] == "few-shot: 40 training patients were asked for and there are 10: all of them train"
    assert keep_few(study, whole, None, 0) == whole
    with pytest.raises(StudyError, match="at least 1"):
        keep_few(study, whole, 0, 0)
