"""`study.yaml`: what it may say, and one sentence for each way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from elsewhere.errors import StudyError
from elsewhere.study.config import load_config, parse_config
from elsewhere.study.description import study_yaml
from elsewhere.study.study import open_study


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_is_optional(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, ""))
    assert config.task is None
    assert config.intensity == "auto"


def test_names_stay_words_and_values_become_lists(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "classes: [no, yes, 3]")).classes == ["no", "yes", "3"]
    config = load_config(write(tmp_path, "task: segmentation\nclasses: {background: 0, tumour: [1, 4]}"))
    assert config.classes == {"background": [0], "tumour": [1, 4]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "clases: [a, b]",
            r"study\.yaml: key 'clases' is unknown \(did you mean 'classes'\?\); known keys: name, task",
        ),
        ("task: segmentaton", r"key 'task' is 'segmentaton' \(did you mean 'segmentation'\?\), wanted 'segm"),
        ("roles: {train: [A]}", r"key 'roles\.test' is missing"),
        ("roles: {train: [A], tests: [B]}", r"key 'roles\.(test|tests)' is (missing|unknown)"),
        ("roles: {train: [A], test: [A]}", r"key 'roles' names the site 'A' twice"),
        ("spacing: [1.0, -2.0]", r"key 'spacing\.1' is -2\.0: input should be greater than 0"),
        ("size: [64]", r"key 'size' is \[64\], wanted a positive whole number for each axis"),
        ("size: [64, 64]\nspacing: [1, 1]", r"keys 'spacing' and 'size' are both given; keep one"),
        ("classes: [a]", r"key 'classes' names 1, wanted at least 2"),
        ("classes: [a, a]", r"key 'classes' names 'a' twice"),
        ("classes: {a: 0, b: [1, 0]}", r"key 'classes' gives the value '0' twice"),
        ("classes: lesion", r"key 'classes' is 'lesion', wanted a list of names"),
        ("classes: {a: 0, b: red}", r"key 'classes\.b\.0' is 'red': .*integer"),
        ("task: classification\nclasses: {a: 0, b: 1}", r"gives values, but the task is classification"),
        (
            "task: classification\ntask: segmentation",
            r"study\.yaml line 2: is not valid YAML \(key 'task' is given twice",
        ),
        ("classes: [a", r"study\.yaml line \d: is not valid YAML"),
        ("- a\n- b", r"holds \['a', 'b'\], wanted keys with values"),
    ],
)
def test_errors_name_file_key_found_and_remedy(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence) as caught:
        load_config(write(tmp_path, text))
    assert "study.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"name: Universit\xe9")
    with pytest.raises(StudyError, match="is not UTF-8"):
        load_config(tmp_path / "study.yaml")


def test_source_is_named_for_a_config_made_in_python() -> None:
    with pytest.raises(StudyError, match="my source: key 'tsk' is unknown"):
        parse_config({"tsk": 1}, where="my source")


def test_written_down_it_reads_back_as_the_same_study(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "image,label,site,patient,machine\n" + "".join(f"{i}.png,{'no' if i % 2 else 'yes'},S{i % 3},p{i},m{i % 2}\n"
                                                      for i in range(12))
    )  # fmt: skip
    study = open_study(tmp_path, site_column="machine")
    assert study.inferred == ("task", "dims", "classes")
    write(tmp_path, study_yaml(study) + "intensity: none\n")
    again = open_study(tmp_path)
    assert again.inferred == ("dims",)
    assert (again.classes, again.sites, again.name) == (("no", "yes"), ("m0", "m1"), study.name)
    assert "intensity: none" in study_yaml(again)


def test_the_name_of_health_comes_first_so_that_the_positive_class_is_the_finding() -> None:
    from elsewhere.study.case import Case
    from elsewhere.study.inference import classes_of_names

    def cases(*labels: str) -> list[Case]:
        return [Case(str(i), {}, label, "a", str(i)) for i, label in enumerate(labels * 2)]

    assert classes_of_names(cases("abnormal", "normal"), "x") == ("normal", "abnormal")
    assert classes_of_names(cases("tumour", "Healthy", "cyst"), "x") == ("Healthy", "cyst", "tumour")
    assert classes_of_names(cases("10", "9", "0"), "x") == ("0", "9", "10")
    with pytest.raises(StudyError, match="has 'edema;effusion', which looks like several labels"):
        classes_of_names(cases("edema", "edema;effusion", "effusion"), "x")
    with pytest.raises(StudyError, match=r"'mass\|edema', which looks like several"):
        classes_of_names(cases("edema", "mass|edema"), "x")
    grades = [str(number) for number in range(10)]
    assert len(classes_of_names(cases(*grades), "x")) == 10
    with pytest.raises(StudyError, match="18 different numbers, 41 to 58, which look like a measurement"):
        classes_of_names(cases(*[str(age) for age in range(41, 59)] * 4), "x")
