"""Manifests: rows into cases, and a sentence for each row that is wrong."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elsewhere.errors import StudyError
from elsewhere.study.manifest import parse_manifest, read_manifest
from elsewhere.study.problem import Problem
from elsewhere.study.suspicions import alike


def write(folder: Path, text: str | bytes, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def errors(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems if problem.severity == "error"]


def test_columns_become_what_they_are(tmp_path: Path) -> None:
    text = (
        "image:t1,image:flair,label,site,patient,map:fov,age,case\n"
        "a/t1.nii.gz,a/fl.nii.gz,a/seg.nii.gz, Paris ,p1,a/fov.nii.gz,61,one\n"
        "b/t1.nii.gz,b/fl.nii.gz,,Lyon,p2,,,two\n"
    )
    manifest = read_manifest(write(tmp_path, text))
    assert (manifest.channels, manifest.maps, manifest.covariates) == (("t1", "flair"), ("fov",), ("age",))
    assert manifest.task == "segmentation"
    one, two = manifest.cases
    assert one.images == {"t1": tmp_path / "a/t1.nii.gz", "flair": tmp_path / "a/fl.nii.gz"}
    assert (one.id, one.label, one.site, one.patient) == ("one", tmp_path / "a/seg.nii.gz", "Paris", "p1")
    assert (one.maps, one.covariates, one.row) == ({"fov": tmp_path / "a/fov.nii.gz"}, {"age": "61"}, 2)
    assert (two.label, two.maps, two.covariates, two.row) == (None, {}, {"age": None}, 3)
    assert [problem.code for problem in manifest.problems] == ["no-label"]


def test_id_is_the_image_path_without_suffix_and_patient_is_the_id(tmp_path: Path) -> None:
    cases, problems = parse_manifest(write(tmp_path, "image,label,site\n./x/a.nii.gz,no,S\nx/b.tar.png,yes,S\n"))
    assert [(case.id, case.patient) for case in cases] == [("x/a", "x/a"), ("x/b.tar", "x/b.tar")]
    assert [problem.code for problem in problems] == ["no-patient-column"]


def test_bom_blank_lines_crlf_and_quotes(tmp_path: Path) -> None:
    text = '\ufeffimage,label,site,patient,note\r\n\r\na.png,no,S,p,"one, two\r\nthree"\r\n,,,,\r\nb.png,yes,S,q,\r\n'
    cases, problems = parse_manifest(write(tmp_path, text))
    assert problems == []
    assert [(case.row, case.covariates["note"]) for case in cases] == [(3, "one, two\r\nthree"), (5, None)]


@pytest.mark.parametrize(
    ("row", "code", "sentence"),
    [
        ("a.png,m.png,,p", "empty-cell", "row 3: site is empty; fill it in"),
        (",m.png,S,p", "empty-cell", "row 3: image is empty"),
        ("a.png,m.png,S,", "empty-cell", "row 3: patient is empty"),
        ("ok.jpg,m.png,S,p", "duplicate-id", "row 3: case 'ok' is already in row 2"),
        ("a.png,m.png,S", "cells", "row 3: has 3 cells, the header has 4"),
        ("a.png,m.png,S,p,q", "cells", "row 3: has 5 cells"),
        ("../a.png,m.png,S,p", "outside", "row 3: image '../a.png' leaves the study's folder"),
        ("x/../../a.png,m.png,S,p", "outside", "image 'x/../../a.png' leaves"),
        ("a.png,/etc/m.png,S,p", "outside", "label '/etc/m.png' leaves"),
    ],
)
def test_wrong_rows_are_named_and_left_out(tmp_path: Path, row: str, code: str, sentence: str) -> None:
    path = write(tmp_path, f"image,label,site,patient\nok.png,m.png,S,p\n{row}\n")
    cases, problems = parse_manifest(path)
    assert [case.id for case in cases] == ["ok"]
    assert problems[0].code == code
    assert sentence in str(problems[0])
    assert problems[0].where == "manifest.csv row 3"


def test_outside_is_allowed_when_asked_and_a_sibling_with_the_same_start_is_outside(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    text = "image,label,site,patient\n../study-2/a.png,no,S,p\nsub/../b.png,yes,S,q\n"
    path = write(folder, text + f"{folder}/c.png,yes,S,r\n")
    assert [problem.code for problem in parse_manifest(path)[1]] == ["outside"]
    cases, problems = parse_manifest(path, allow_outside=True)
    assert problems == []
    assert [case.images["image"] for case in cases] == [tmp_path / "study-2/a.png", folder / "b.png", folder / "c.png"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,lable,site\na,b,c\n", r"has no column 'label' \(did you mean 'lable'\?\); found: image, lable, site"),
        ("label,site\nb,c\n", "has no column 'image'; found"),
        ("image,label\na,b\n", "has no column 'site'"),
        ("image;label;site\na;b;c\n", "separated by ;, wanted commas"),
        ("image,label,site,site\na,b,c,d\n", "column 'site' is there twice"),
        ("image,label,site,\na,b,c,d\n", "column 4 has no name"),
        ("image,image:t1,label,site\na,b,c,d\n", "name every channel as 'image:NAME'"),
        ("", "is empty; wanted a header"),
        ("\n\n", "is empty; wanted a header"),
        ("image,label,site\n\n", "has a header but no rows"),
        ('image,label,site\n"a,b,c\n', r"line 2: is not valid CSV"),
        ("image,label,site\n\xe9,b,c\n".encode("latin-1"), "line 2: is not UTF-8"),
        ("image,label,site\na,b,c\n".encode("utf-16"), "is not UTF-8"),
        (b"image,label,site\na\0,b,c\n", "NUL"),
    ],
)
def test_what_is_no_manifest_is_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence) as caught:
        parse_manifest(write(tmp_path, text))
    assert "manifest.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_column_can_be_the_site(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label,site,patient,sequence\na.png,no,S,p,t1\nb.png,no,T,p,t2\n")
    manifest = read_manifest(path, site_column="sequence")
    assert [(case.site, case.covariates) for case in manifest.cases] == [("t1", {"site": "S"}), ("t2", {"site": "T"})]
    assert [case.site for case in read_manifest(path, site_column="patient").cases] == ["p", "p"]
    with pytest.raises(StudyError, match=r"no column 'sequenc' to be the site \(did you mean 'sequence'\?\)"):
        read_manifest(path, site_column="sequenc")
    with pytest.raises(StudyError, match="column 'label' cannot be the site"):
        read_manifest(path, site_column="label")


def test_task_is_read_off_the_labels(tmp_path: Path) -> None:
    (tmp_path / "mask without suffix").write_bytes(b"")
    for label, task in (
        ("normal", "classification"),
        ("m/missing.nii.gz", "segmentation"),
        ("mask without suffix", "segmentation"),
        ("rtss.dcm#1,4", "segmentation"),
        ("benign/grade 2", "classification"),
        ("", None),
    ):
        path = write(tmp_path, f'image,label,site,patient\na.png,"{label}",S,p\n')
        assert read_manifest(path).task == task
    assert read_manifest(path, task="segmentation").task == "segmentation"


def test_suspicious_sites_and_patients_are_warned_of(tmp_path: Path) -> None:
    rows = [f"{i}.png,no,{'paris' if i == 0 else 'Paris'},p{i}" for i in range(40)]
    rows += [f"x{i}.png,yes,Paris,Bacterial" for i in range(30)]
    _, problems = parse_manifest(write(tmp_path, "\n".join(["image,label,site,patient", *rows])))
    assert [problem.code for problem in problems] == ["similar-sites", "crowded-patient"]
    assert "patient 'Bacterial' has 30 of the 69 cases of site Paris" in problems[1].message


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("7", "007", True),
        ("7", "7.0", True),
        ("7.50", "7.5", True),
        ("0", "0.0", True),
        ("-1", "-01", True),
        ("P1", "p1", True),
        ("St. Mary", "St.  Mary", True),
        ("St. Mary", "St.\u00a0Mary", True),
        ("M\u00fcnchen", "Mu\u0308nchen", True),
        ("STRASSE", "straße", True),
        ("7", "70", False),
        ("7", "0.7", False),
        ("1", "-1", False),
        ("1.0.2", "1.2", False),
        ("P1", "P01", False),
        ("a b", "ab", False),
        ("", "0", False),
    ],
)
def test_spellings_that_are_alike(one: str, other: str, same: bool) -> None:
    assert (alike(one) == alike(other)) is same


@pytest.mark.parametrize(
    ("values", "column", "code", "words"),
    [
        (["7", "7.0", "007", "8"], "patient", "similar-patients", "patients '007', '7' and '7.0' differ in spelling"),
        (["0", "0.0", "1", "1.0"], "label", "similar-classes", "classes '0' and '0.0' differ in spelling only"),
        (["malignant", "Malignant", "benign"], "label", "similar-classes", "write the class alike in every row"),
        (["M\u00fcnchen", "Mu\u0308nchen"], "site", "similar-sites", r"Mu\u0308nchen"),
        (["St. Mary", "St.  Mary"], "site", "similar-sites", "if they are one, write the site alike"),
        (["yes", "no", "nan"], "label", "missing-label", "leave the cell empty"),
        (["yes", "no", "NA"], "label", "missing-label", "label 'NA' is a class of its own"),
    ],
)
def test_values_that_differ_in_spelling_only_are_warned_of(
    tmp_path: Path, values: list[str], column: str, code: str, words: str
) -> None:
    rows = []
    for i in range(12):
        cells = {"image": f"{i}.png", "label": ("x", "y")[i % 2], "site": ("A", "B")[i % 2], "patient": f"q{i}"}
        rows.append(",".join({**cells, column: values[i % len(values)]}.values()))
    _, problems = parse_manifest(write(tmp_path, "\n".join(["image,label,site,patient", *rows])))
    found = [problem for problem in problems if problem.code == code]
    assert any(words in problem.message for problem in found), problems
    assert {problem.severity for problem in found} == {"warning"}
    assert {problem.code for problem in problems} <= {code}


def test_many_groups_of_spellings_are_counted(tmp_path: Path) -> None:
    rows = [f"{i}-{k}.png,{'xy'[k]},{'AB'[k]},{f'{i:03}' if k else i}" for i in range(30) for k in range(2)]
    _, problems = parse_manifest(write(tmp_path, "\n".join(["image,label,site,patient", *rows])))
    assert [problem.code for problem in problems] == ["similar-patients"] * 11
    assert problems[-1].message.startswith("20 more groups of patients differ in spelling only, such as ")


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells, cells, cells, cells), min_size=1, max_size=12))
def test_any_text_gives_cases_and_problems_that_account_for_every_row(
    tmp_path: Path, rows: list[tuple[str, str, str, str, str]]
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("image", "label", "site", "patient", "age"), *rows])
    path = write(tmp_path, buffer.getvalue())
    filled = {i for i, row in enumerate(rows, start=2) if any(cell.strip() for cell in row)}
    if not filled:
        with pytest.raises(StudyError, match="no rows"):
            parse_manifest(path)
        return
    cases, problems = parse_manifest(path)
    wrong = {int(problem.where.rpartition(" ")[2]) for problem in problems if problem.severity == "error"}
    assert {case.row for case in cases} | wrong == filled
    assert wrong.isdisjoint({case.row for case in cases})
    for case in cases:
        _, label, site, patient, age = (cell.strip() for cell in rows[case.row - 2])
        assert (case.site, case.patient, case.covariates["age"]) == (site, patient, age or None)
        assert site
        assert patient
        assert (case.label is None) == (not label)
        assert os.path.commonpath([case.images["image"], tmp_path]) == str(tmp_path)
    assert len({case.id for case in cases}) == len(cases)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, b"image,label,site\n" + data)
    sentence = ""
    try:
        parse_manifest(path)
    except StudyError as error:
        sentence = str(error)
    assert not sentence or "manifest.csv" in sentence


def test_many_rows_are_parsed_without_touching_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"s{i % 50}/images/{i}.png,s{i % 50}/masks/{i}.png,site{i % 50},p{i // 3}\n" for i in range(30_000))
    path = write(tmp_path, "image,label,site,patient\n" + rows)
    calls = 0
    stat = os.stat

    def counted(*args: object, **kwargs: object) -> os.stat_result:
        nonlocal calls
        calls += 1
        return stat(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", counted)
    cases, problems = parse_manifest(path)
    assert len(cases) == 30_000
    assert errors(problems) == []
    assert calls < 1000  # a sample tells whether labels are files
