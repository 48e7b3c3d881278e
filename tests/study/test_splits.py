"""Splits: by patient, the same at every call, and honest about what a small site cannot give."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elsewhere.errors import StudyError
from elsewhere.study.case import Case, Fold, Split
from elsewhere.study.config import Roles, StudyConfig
from elsewhere.study.splits import FRACTIONS, held_out_cases, parts_of_site, plan_folds, split
from elsewhere.study.study import Study

ROLES = ("train", "validation", "calibration", "test")


def make_study(
    rows: list[tuple[str, str, str | None]], roles: Roles | None = None, task: str = "classification"
) -> Study:
    """A study of (site, patient, label) rows."""
    cases = tuple(
        Case(
            id=f"c{i}",
            images={"image": Path(f"c{i}.png")},
            label=Path(f"m{i}.png") if task == "segmentation" else label,
            site=site,
            patient=patient,
            row=i + 2,
        )
        for i, (site, patient, label) in enumerate(rows)
    )
    config = StudyConfig(roles=roles)
    return Study("made", Path(), None, task, 2, ("image",), ("no", "yes"), {}, cases, config)


def simple_study(sizes: dict[str, int], task: str = "classification") -> Study:
    """Patients of their own at each site, one case each, half of them `yes`."""
    rows = [(site, f"{site}-{i}", ("no", "yes")[i % 2]) for site, n in sizes.items() for i in range(n)]
    return make_study(rows, task=task)


rows_strategy = st.lists(
    st.tuples(
        st.sampled_from("ABCD"),
        st.integers(0, 12).map(lambda i: f"p{i}"),
        st.sampled_from(["no", "yes", None]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(rows=rows_strategy, seed=st.integers(0, 3), reference=st.booleans())
def test_a_patient_has_one_role_and_no_case_is_lost(
    rows: list[tuple[str, str, str | None]], seed: int, reference: bool
) -> None:
    study = make_study(rows)
    for site in study.sites:
        try:
            folds = plan_folds(study, [site], reference=reference)
        except StudyError:
            labelled = [case for case in study.of_site(site) if case.label is not None]
            assert study.sites == (site,) or not labelled
            continue
        for fold in folds:
            try:
                parts = split(study, fold, seed)
            except StudyError:
                # Only where every development patient is also at the held-out site.
                others = {case.patient for case in study.cases if case.label and case.site not in fold.held_out}
                assert others <= {case.patient for case in study.of_site(*fold.held_out) if case.label}
                continue
            check_fold(study, fold, seed, parts)


def check_fold(study: Study, fold: Fold, seed: int, parts: Split) -> None:
    evaluated = held_out_cases(study, fold, seed)
    ids = {role: getattr(parts, role) for role in (*ROLES, "left_out")}
    every = [case_id for found in ids.values() for case_id in found]
    assert len(every) == len(set(every))
    if fold.part is None:
        wanted = {c.id for c in study.cases if c.label is not None and c.site not in fold.held_out}
        assert set(every) == wanted
    else:
        wanted = {c.id for c in study.cases if c.label is not None and c.site in fold.held_out}
        assert set(every) | set(evaluated) == wanted
    role_of: dict[str, str] = {}
    for role in ROLES:
        for case_id in ids[role]:
            assert role_of.setdefault(study.by_id[case_id].patient, role) == role
    evaluated_patients = {study.by_id[case_id].patient for case_id in evaluated}
    assert evaluated
    assert evaluated_patients.isdisjoint(role_of)
    assert {study.by_id[case_id].patient for case_id in ids["left_out"]} <= evaluated_patients
    assert ids["train"]


def test_same_fold_and_seed_give_the_same_split_and_another_seed_another() -> None:
    study = simple_study({"A": 40, "B": 40, "C": 5})
    fold = plan_folds(study, ["C"])[0]
    assert split(study, fold, 0) == split(simple_study({"A": 40, "B": 40, "C": 5}), fold, 0)
    assert set(split(study, fold, 0).train) != set(split(study, fold, 1).train)


def test_order_of_rows_does_not_matter() -> None:
    study = simple_study({"A": 20, "B": 11, "C": 5})
    turned = Study(**{**study.__dict__, "cases": study.cases[::-1]})
    fold = Fold(("C",))
    for role in ROLES:
        assert set(getattr(split(study, fold, 3), role)) == set(getattr(split(turned, fold, 3), role))


def test_a_new_site_does_not_reshuffle_the_others() -> None:
    few, more = simple_study({"A": 30, "B": 25, "C": 5}), simple_study({"A": 30, "B": 25, "C": 5, "D": 17})
    fold = Fold(("C",))
    before, after = split(few, fold, 0), split(more, fold, 0)
    for role in ROLES:
        patients = {more.by_id[i].patient for i in getattr(after, role) if more.by_id[i].site != "D"}
        assert patients == {few.by_id[i].patient for i in getattr(before, role)}


@pytest.mark.parametrize("n", range(1, 200))
def test_parts_add_up_and_training_has_at_least_half(n: int) -> None:
    parts = parts_of_site(n)
    assert sum(parts.values()) == n
    assert 2 * parts["train"] >= n
    assert min(parts.values()) >= 1
    if n >= 6:
        assert set(parts) == set(FRACTIONS)
        assert all(abs(parts[role] - fraction * n) < 2 for role, fraction in FRACTIONS.items())


@pytest.mark.parametrize(
    ("n", "given_up"),
    [
        (6, []),
        (5, ["calibration"]),
        (4, ["calibration"]),
        (3, ["calibration", "in-domain test"]),
        (2, ["calibration", "in-domain test"]),
        (1, ["validation", "calibration", "in-domain test"]),
    ],
)
def test_small_sites_say_what_they_gave_up(n: int, given_up: list[str]) -> None:
    study = simple_study({"A": n, "B": 40, "C": 3}, task="segmentation")
    parts = split(study, Fold(("C",)), 0)
    assert any(study.by_id[i].site == "A" for i in parts.train)
    notes = [note for note in parts.notes if note.startswith("site A ")]
    if not given_up:
        assert notes == []
    else:
        people = "1 patient" if n == 1 else f"{n} patients"
        assert notes == [f"site A has {people} for development: no {', no '.join(given_up)} part"]


def test_classes_are_spread_over_the_parts() -> None:
    rows = [("A", f"a{i}", "yes" if i < 20 else "no") for i in range(200)] + [("B", "b", "no")]
    study = make_study(rows)
    parts = split(study, Fold(("B",)), 0)
    for role, fraction in FRACTIONS.items():
        counts = Counter(study.by_id[i].label for i in getattr(parts, role))
        assert abs(counts["yes"] - 20 * fraction) <= 1
        assert abs(counts["no"] - 180 * fraction) <= 1


def test_a_class_that_a_part_lacks_is_told() -> None:
    rows = [("A", f"a{i}", "no") for i in range(30)] + [("A", "sick", "yes")] * 9 + [("B", "b", "no")]
    notes = split(make_study(rows), Fold(("B",)), 0).notes
    assert len(notes) == 1
    assert notes[0].startswith("site A has too few patients of class yes: none for ")


def test_patient_at_the_held_out_site_is_left_out_of_development() -> None:
    rows = [("A", f"a{i}", "no") for i in range(10)] + [("B", f"b{i}", "yes") for i in range(10)] + [("B", "a3", "no")]
    study = make_study(rows)
    parts = split(study, Fold(("B",)), 0)
    assert parts.left_out == ("c3",)
    assert len(held_out_cases(study, Fold(("B",)), 0)) == 11


def test_sites_that_are_views_of_the_same_people_divide_the_people() -> None:
    rows = [(site, f"p{i}", None) for i in range(30) for site in ("flair", "post", "pre")]
    study = make_study(rows, task="segmentation")
    fold = Fold(("flair",))
    evaluated = held_out_cases(study, fold, 0)
    assert len(evaluated) == 10
    assert evaluated == held_out_cases(study, fold, 7)
    parts = split(study, fold, 0)
    assert sum(len(getattr(parts, role)) for role in ROLES) == 40
    assert len(parts.left_out) == 20
    assert parts.notes[0].startswith("30 of the 30 development patients are also at flair")


def test_reference_evaluates_every_patient_once_within_the_site() -> None:
    study = simple_study({"A": 13, "B": 20, "C": 1})
    folds = [fold for fold in plan_folds(study, reference=True) if fold.part is not None]
    assert [fold.name for fold in folds] == ["A"] * 5 + ["B"] * 5  # a single patient cannot be cross-validated
    evaluated = [case_id for fold in folds[:5] for case_id in held_out_cases(study, fold, 2)]
    assert sorted(evaluated) == sorted(case.id for case in study.of_site("A"))
    parts = split(study, folds[0], 2)
    assert parts.test == ()
    assert {study.by_id[i].site for i in (*parts.train, *parts.validation, *parts.calibration)} == {"A"}


def test_groups_of_sites_are_one_fold() -> None:
    study = simple_study({"A": 4, "B": 4, "C": 4})
    assert plan_folds(study, ["B+A"]) == [Fold(("A", "B"))]
    assert plan_folds(study, ["A", "B"]) == [Fold(("A",)), Fold(("B",))]
    assert [fold.name for fold in plan_folds(study)] == ["A", "B", "C"]
    assert {study.by_id[i].site for i in split(study, Fold(("A", "B")), 0).train} == {"C"}


def test_fixed_protocol_is_one_fold_and_its_validation_site_only_validates() -> None:
    roles = Roles(train=["A", "B"], validation=["C"], test=["D"])
    rows = [(site, f"{site}{i}", ("no", "yes")[i % 2]) for site in "ABCD" for i in range(20)]
    rows.append(("A", "C3", "no"))  # a patient of the validation site, seen at a training site too
    study = make_study(rows, roles)
    (fold,) = plan_folds(study)
    assert fold == Fold(("D",))
    parts = split(study, fold, 0)
    assert {case.id for case in study.of_site("C")} | {"c80"} == set(parts.validation)
    assert {study.by_id[i].site for i in (*parts.train, *parts.calibration, *parts.test)} == {"A", "B"}
    assert len(parts.calibration) > 0
    assert len(parts.test) > 0
    with pytest.raises(StudyError, match=r"roles in study\.yaml hold out D"):
        plan_folds(study, ["A"])


def test_errors_name_what_there_is() -> None:
    study = simple_study({"Paris": 4, "Lyon": 4})
    with pytest.raises(StudyError, match=r"no site 'paris' \(did you mean 'Paris'\?\); its sites: Lyon, Paris"):
        plan_folds(study, ["paris"])
    with pytest.raises(StudyError, match=r"holding out Lyon\+Paris leaves no site for development"):
        plan_folds(study, ["Paris+Lyon"])
    with pytest.raises(StudyError, match="leaves no site"):
        plan_folds(simple_study({"only": 9}))
    with pytest.raises(StudyError, match="part 5 of 5"):
        split(study, Fold(("Paris",), (5, 5)), 0)


def test_cases_without_label_have_no_role_and_are_told() -> None:
    rows = [("A", f"a{i}", "no" if i else None) for i in range(9)] + [("B", "b0", "no"), ("B", "b1", None)]
    study = make_study(rows)
    parts = split(study, Fold(("B",)), 0)
    assert "c0" not in {i for role in (*ROLES, "left_out") for i in getattr(parts, role)}
    assert held_out_cases(study, Fold(("B",)), 0) == ("c9",)
    assert "site A: 1 case without a label, used nowhere" in parts.notes


def test_sites_without_labels_can_be_neither_side() -> None:
    study = make_study([("A", "a", None), ("B", "b", "no")])
    with pytest.raises(StudyError, match=r"no case of the held-out site A has a label; .*--held-out"):
        plan_folds(study)
    with pytest.raises(StudyError, match="no case of the other sites has a label"):
        split(study, Fold(("B",)), 0)


def test_a_group_of_many_sites_has_a_short_title() -> None:
    assert Fold(("A",)).title == "A"
    assert Fold(tuple("ABCD")).title == "A+B+C+D"
    assert Fold(tuple("ABCDE")).title == "A+B+C and 2 more sites"
    assert Fold(tuple("ABCDE")).name == "A+B+C+D+E"
