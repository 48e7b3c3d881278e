"""Stability of a study: which cases, what of them, and numbers that are known before."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from elsewhere.analysis.acquisitions import HOME
from elsewhere.analysis.stability import COLUMNS, measure, stability
from elsewhere.analysis.stability_extractors import Intensities, named_extractors
from elsewhere.analysis.stability_material import Material, body, choose, crop_box
from elsewhere.analysis.stability_picture import Shown, draw_stability
from elsewhere.analysis.stability_summary import reference, summarise
from elsewhere.cli import main
from elsewhere.errors import SettingsError, StudyError
from elsewhere.evidence import patient_interval
from elsewhere.networks import stable
from elsewhere.study import open_study
from elsewhere.study.cache import Cache
from elsewhere.study.study import Study
from study.small_studies import classification, write_manifest

SHAPE = (28, 26, 20)


def two_sequences(folder: Path, patients: int = 4, broken: str | None = None) -> Path:
    """A bright and a dark structure in texture, as `t1` and, darker where it was brighter, as `t2`, on one grid.

    `broken`: also a third sequence of that name, whose files are no images.
    """
    rng = np.random.default_rng(0)
    rows = []
    for n in range(patients):
        label = np.zeros(SHAPE, np.uint8)
        label[6 + n % 3 : 13, 6:12, 5:12] = 1
        label[14:21, 11:18, 5 : 11 + n % 2] = 2
        image = 100 + np.array([0, 60, -60])[label] + rng.normal(0, 8, SHAPE)
        for sequence, array in (("t1", image), ("t2", 300 - image)):
            save(folder / f"p{n}_{sequence}.nii.gz", array.astype(np.float32))
            rows.append([f"p{n}_{sequence}.nii.gz", f"p{n}_seg.nii.gz", "here", f"p{n}", sequence])
        save(folder / f"p{n}_seg.nii.gz", label)
        if broken:
            (folder / f"p{n}_{broken}.nii.gz").write_bytes(b"must not be opened")
            rows.append([f"p{n}_{broken}.nii.gz", f"p{n}_seg.nii.gz", "here", f"p{n}", broken])
    write_manifest(folder, ["image", "label", "site", "patient", "sequence"], rows)
    (folder / "study.yaml").write_text("classes: {background: 0, bright: 1, dark: 2}\n", encoding="utf-8")
    return folder


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = two_sequences(tmp_path_factory.mktemp("sequences"), broken="flair")
    return open_study(folder, site_column="sequence", cache=tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def table(sequences: Study, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return stability(sequences, {"mind": stable.build("mind", 3)}, sites=["t1", "t2"], draws=1, cache=cache)


def value(table: pd.DataFrame, extractor: str, measure: str, acquisition: str) -> float:
    rows = table[
        (table["extractor"] == extractor) & (table["measure"] == measure) & (table["acquisition"] == acquisition)
    ]
    assert len(rows) == 4, (extractor, measure, acquisition)
    return float(rows["value"].mean())


def test_numbers_that_are_known_before(table: pd.DataFrame) -> None:
    """Intensities follow an inversion, MIND does not see it; nor the other sequence, which is one."""
    assert list(table.columns) == COLUMNS
    for acquisition in ("inversion", "t1 to t2"):
        assert value(table, "image", "alikeness", acquisition) == pytest.approx(-1, abs=1e-4)
        assert value(table, "mind", "alikeness", acquisition) > 0.8  # less than 1 near the borders of the windows
        assert value(table, "mind", "correspondence", acquisition) > 0.4
        assert value(table, "position", "correspondence", acquisition) < 0.1
        assert value(table, "image", "correspondence", acquisition) < 0.3
    # Bright and dark are told apart by their intensities at home, and taken for each other elsewhere.
    assert value(table, "image", "probe", HOME) < 0.7  # t1 and t2 together contradict each other
    assert value(table, "image", "probe", "t1 at home") > 0.95
    assert value(table, "image", "probe", "t1 to t2") < 0.4
    assert value(table, "image", "probe drop", "t1 to t2") == pytest.approx(
        value(table, "image", "probe", "t1 at home") - value(table, "image", "probe", "t1 to t2")
    )
    assert abs(value(table, "mind", "probe drop", "inversion")) < 0.1
    assert value(table, "chance", "probe", "t2 to t1") == pytest.approx(1 / 3)
    assert 0 < value(table, "chance", "correspondence", "noise") < 0.1
    drawn = ("curve", "inversion", "bias", "noise", "blur", "resolution", "scanner")
    for name in ("alikeness", "correspondence", "probe", "probe drop"):
        mean = np.mean([value(table, "mind", name, acquisition) for acquisition in drawn])
        assert value(table, "mind", name, "all drawn") == pytest.approx(mean)


def test_other_extractors_change_nothing_and_neither_does_a_second_time(
    table: pd.DataFrame, sequences: Study, tmp_path: Path
) -> None:
    again = stability(sequences, {}, sites=["t1", "t2"], draws=1, cache=Cache(tmp_path))
    pd.testing.assert_frame_equal(
        again[again["extractor"] == "image"].reset_index(drop=True),
        table[table["extractor"] == "image"].reset_index(drop=True),
    )


def test_a_site_that_is_not_asked_for_is_not_opened(sequences: Study, tmp_path: Path) -> None:
    """The fixture's third sequence is garbage, and the numbers above were made nevertheless."""
    with pytest.raises(StudyError, match="flair"):
        stability(sequences, {}, cache=Cache(tmp_path))
    with pytest.raises(StudyError, match="no site 't3'"):
        stability(sequences, {}, sites=["t3"], cache=Cache(tmp_path))


def test_test_sites_that_are_looked_at_are_named(tmp_path: Path) -> None:
    folder = two_sequences(tmp_path / "study", 2)
    with (folder / "study.yaml").open("a", encoding="utf-8") as file:
        file.write("site_column: sequence\nroles: {train: [t1], test: [t2]}\n")
    study = open_study(folder)
    found = {
        sites: measure(study, {}, cases=1, draws=1, sites=sites, cache=Cache(tmp_path / "cache")).notes
        for sites in (("t1",), ("t1", "t2"))
    }
    assert not any("test sites" in note for note in found["t1",])
    assert any("test sites of study.yaml were looked at: t2;" in note for note in found["t1", "t2"])


def test_the_summary_is_of_patients_and_differences_are_paired(table: pd.DataFrame) -> None:
    found = summarise(table).set_index(["extractor", "measure", "acquisition"])
    values = table[(table["measure"] == "correspondence") & (table["acquisition"] == "noise")]
    wide = values.pivot(index="patient", columns="extractor", values="value")
    row = found.loc["image", "correspondence", "noise"]
    own = patient_interval(wide["image"].to_numpy(), list(wide.index))
    more = patient_interval((wide["image"] - wide["mind"]).to_numpy(), list(wide.index))
    assert (row["value"], row["lo"], row["hi"], row["n_patients"]) == (own.value, own.lo, own.hi, 4)
    assert (row["against"], row["difference"]) == ("mind", more.value)
    assert (row["difference_lo"], row["difference_hi"]) == (more.lo, more.hi)
    assert found.loc["mind", "correspondence", "noise"]["against"] == ""
    assert reference(["image", "a", "b", "chance"]) == "a"
    assert reference(["image", "chance"]) is None


def test_patients_of_several_sites_first_and_few_among_many(tmp_path: Path) -> None:
    rows = [["x.nii.gz", "", site, f"{site}{n}"] for site in ("A", "B", "C") for n in range(5)]
    rows += [[f"b{n}.nii.gz", "y.nii.gz", site, f"both{n}"] for n in range(3) for site in ("A", "B")]
    for n, row in enumerate(rows):
        row[0] = f"{n}.nii.gz"
        save(tmp_path / row[0], np.zeros((4, 4, 4), np.float32))
    save(tmp_path / "y.nii.gz", np.zeros((4, 4, 4), np.uint8))
    write_manifest(tmp_path, ["image", "label", "site", "patient"], rows)
    (tmp_path / "study.yaml").write_text("classes: {background: 0, x: 1}\n", encoding="utf-8")
    study = open_study(tmp_path)
    nine = choose(study, 9, None, 0)
    assert {cases[0].patient for cases in nine[:3]} == {"both0", "both1", "both2"}
    assert [len(cases) for cases in nine] == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert [cases[0].site for cases in nine[3:]] == ["A", "B", "C", "A", "B", "C"]
    assert choose(study, 4, None, 0) == nine[:4]
    assert {case.site for cases in choose(study, 99, ["C"], 0) for case in cases} == {"C"}
    assert choose(study, 9, None, 1) != nine
    with pytest.raises(SettingsError, match="cases is 0"):
        choose(study, 0, None, 0)


def test_the_crop_lies_around_the_label() -> None:
    mask = np.zeros((200, 120, 40), np.uint8)
    mask[150:160, 50:52, 3] = 1
    assert crop_box(mask.shape, [mask]) == (slice(98, 200), slice(0, 102), slice(0, 40))
    assert crop_box(mask.shape, [None, 0 * mask]) == (slice(49, 151), slice(9, 111), slice(0, 40))
    assert crop_box((300, 200), [None]) == (slice(19, 281), slice(0, 200))
    assert crop_box((300, 200), [None], (0.25, 1.0)) == (slice(10, 290), slice(0, 200))  # 24 pixels are 6 mm
    other = np.zeros_like(mask)
    other[40, 0, 0] = 2
    assert crop_box(mask.shape, [mask, other])[0] == slice(49, 151)  # the middle of 40 to 159


def test_the_body_has_no_air_and_no_holes() -> None:
    image = torch.zeros(1, 12, 12)
    image[0, 2:10, 2:10] = 5
    image[0, 4:6, 4:6] = 0
    label = np.zeros((12, 12), np.uint8)
    label[0, 0] = 1
    wanted = torch.zeros(12, 12, dtype=torch.bool)
    wanted[2:10, 2:10] = True
    assert torch.equal(body(image), wanted)
    wanted[0, 0] = True
    assert torch.equal(body(image, label), wanted)
    assert body(torch.zeros(1, 6, 6, 6)).all()  # where all is air, all is body


def test_cases_of_a_patient_are_cut_alike(sequences: Study, tmp_path: Path) -> None:
    material = Material(sequences, 2, ["t1", "t2"], 0, Cache(tmp_path))
    one, other = material.views(material.patients[0])
    assert (one.case.site, other.case.site, one.grid, other.grid) == ("t1", "t2", 0, 0)
    assert one.image.shape == other.image.shape == (1, *SHAPE)
    assert one.spacing == (1.0, 1.0, 2.0)
    assert abs(float(one.image.mean())) < 0.1  # preprocessed
    assert np.corrcoef(one.image.numpy().ravel(), other.image.numpy().ravel())[0, 1] == pytest.approx(-1)


def test_a_study_of_classes_has_no_probe(tmp_path: Path) -> None:
    study = open_study(classification(tmp_path / "s", {"north": 2, "south": 1}))
    found = measure(study, {"mind": stable.build("mind", 2)}, draws=1)
    assert set(found.table["measure"]) == {"alikeness", "correspondence"}
    assert found.notes == (
        "linear probe: left out, for a study of whole-image classes has no structures to tell apart",
    )
    assert (found.patients, found.cases) == (3, 3)


def test_what_is_stable_keeps_its_colour(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features, inside = rng.normal(size=(5, 30, 20)).astype(np.float32), np.ones((30, 20), bool)
    inside[0] = False
    shown = [
        Shown(name, name == "home", inside, {"image": image[None], "own": scale * features + scale})
        for name, image, scale in (("noise", -features[0], 3), ("home", features[0], 1))
    ]
    with Image.open(draw_stability(shown, tmp_path / "a.png")) as picture:
        pixels = np.asarray(picture)
    height = (pixels.shape[0] - 20) // 2
    top, bottom = pixels[20 : 20 + height - 6], pixels[20 + height : 20 + 2 * height - 6]
    middle = 110 + (pixels.shape[1] - 110) // 2
    assert np.array_equal(top[:, middle:], bottom[:, middle:])
    assert not np.array_equal(top[:, 110:middle], bottom[:, 110:middle])
    assert np.unique(top[10:, middle:-6].reshape(-1, 3), axis=0).shape[0] > 100  # colours
    assert (top[:5, middle : middle + 100] == 0).all()  # air


def test_extractors_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        network = stable.FeatureUNet(3, features=4, width=4, downs=1)
        stable.write_ours(tmp_path / f"{name}.safetensors", network)
    files = [f"elsewhere-3d={tmp_path / name}.safetensors" for name in ("a", "b")]
    assert list(named_extractors(f"image, mind,{files[0]}", 3)) == ["mind", "elsewhere-3d"]
    found = named_extractors(",".join(files), 3)
    assert list(found) == ["elsewhere-3d:a", "elsewhere-3d:b"]
    assert found["elsewhere-3d:a"].weights_hash != found["elsewhere-3d:b"].weights_hash
    for text, sentence in (
        ("mind,mind", "mind is named twice"),
        ("mind=", "wanted NAME or NAME=FILE"),
        ("mindd", "did you mean 'mind'"),
        ("some.module:Class", "import path"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            named_extractors(text, 3)
    image = torch.rand(2, 3, 5, 6)
    assert torch.equal(Intensities(2)(image), image)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = two_sequences(tmp_path / "study", 3, broken="flair")
    out = tmp_path / "out"
    asked = ["stability", str(study), "--out", str(out), "--site-column", "sequence", "--sites", "t1", "t2"]
    with pytest.raises(SystemExit) as stop:
        main([*asked, "--draws", "1", "--extractors", "mind"])
    assert not stop.value.code
    printed = capsys.readouterr().out
    for word in ("inversion", "t1 to t2", "mind", "chance", "balanced accuracy", "6 cases of 3 patients"):
        assert word in printed, word
    table, summary = pd.read_csv(out / "stability.csv"), pd.read_csv(out / "summary.csv")
    assert list(table.columns) == COLUMNS
    assert json.loads(summary["n_patients"].value_counts().to_json()) == {"3": len(summary)}
    with Image.open(out / "stability.png") as picture:
        assert picture.height > 9 * 100  # nine acquisitions
    with pytest.raises(SystemExit):
        main([*asked, "--strength", "0"])
    assert "strength of the acquisitions is 0.0" in capsys.readouterr().err
