"""Each recipe on a small tree with the true layout: what it finds, what it declares, and that a fold can be made."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from public_sets import GRADES, SETS, pancreasdg_of_dropgen

from elsewhere.cli.study import Source
from elsewhere.study import Fold, Study, check_study, held_out_cases, open_study, plan_folds, split
from elsewhere.study.cache import Cache
from elsewhere.study.decode import Schema
from elsewhere.study.new import KINDS, new_study
from elsewhere.study.recipes import RECIPES

# Per data set: cases by site, patients, training and test sites, spacing in mm, crop; of the paper's code (FACTS).
FACTS = {
    "msd-brats": (
        {"FLAIR": 12, "T1w": 12, "T1gd": 12, "T2w": 12},
        12,
        ({"T1w", "T1gd", "T2w"}, set(), {"FLAIR"}),
        [1, 1, 1],
        [128, 128, 128],
    ),
    "amos": ({"CT": 7, "MR": 5}, 12, ({"CT"}, set(), {"MR"}), [1, 1, 1.5], [192, 192, 128]),
    "hvsmr": (
        {"mild": 3, "moderate": 2, "severe": 4},
        9,
        ({"mild", "moderate"}, set(), {"severe"}),
        [0.77, 0.72, 0.72],
        [128, 160, 128],
    ),
    "topcow": ({"CTA": 12, "MRA": 12}, 12, ({"CTA"}, set(), {"MRA"}), [0.3, 0.3, 0.6], [192, 160, 128]),
    "prostate-multisite": (
        dict.fromkeys(("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL"), 6),
        36,
        ({"RUNMC", "I2CVB"}, {"UCL", "HK"}, {"BIDMC", "BMC"}),
        None,
        [256, 256, 64],
    ),
    "pancreasdg": (
        dict.fromkeys(("MCF", "NYU", "EMC", "IU", "NU", "OutPhaseEMC", "OutPhaseNU"), 7),
        35,
        ({"MCF", "NYU"}, {"EMC", "IU", "NU"}, {"OutPhaseEMC", "OutPhaseNU"}),
        [1.09, 1.09, 4.4],
        [256, 256, 64],
    ),
}
# Values of the masks: how many classes, and the values of some.
CLASSES = {
    "msd-brats": (4, {"edema": [1], "enhancing tumour": [3]}),
    "amos": (16, {"spleen": [1], "liver": [6], "pancreas": [10], "prostate/uterus": [15]}),
    "hvsmr": (9, {"left ventricle": [1], "aorta": [5], "inferior vena cava": [8]}),
    "topcow": (14, {"BA": [1], "Acom": [10], "L-ACA": [12], "3rd-A2": [15]}),
    "prostate-multisite": (2, {"prostate": [1, 2]}),
    "pancreasdg": (2, {"pancreas": [1]}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """A study of each set, made in the set's own folder."""
    studies = {}
    for name, build in SETS.items():
        root = build(tmp_path_factory.mktemp(name))
        studies[name] = new_study(root, name, root)
    return studies


def test_every_recipe_is_offered_and_tested() -> None:
    assert list(RECIPES) == list(SETS) == list(FACTS)
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    assert [source.value for source in Source] == list(KINDS)


@pytest.mark.parametrize("name", SETS)
def test_cases_sites_and_patients(made: dict[str, Study], name: str) -> None:
    sites, patients, _, _, _ = FACTS[name]
    study = made[name]
    assert Counter(case.site for case in study.cases) == sites
    assert len({case.patient for case in study.cases}) == patients
    assert (study.task, study.dims, study.channels) == ("segmentation", 3, ("image",))
    assert all(case.label is not None and not case.label.name.startswith(".") for case in study.cases)
    assert all(not path.name.startswith(".") for case in study.cases for path in case.images.values())


@pytest.mark.parametrize("name", SETS)
def test_what_is_written_down(made: dict[str, Study], name: str) -> None:
    _, _, (train, validation, test), spacing, crop = FACTS[name]
    root = made[name].root
    config = open_study(root).config
    roles = config.roles
    assert roles is not None
    assert (set(roles.train), set(roles.validation), set(roles.test)) == (train, validation, test)
    assert (config.spacing, config.patch_size) == (spacing, crop)
    number, some = CLASSES[name]
    written = yaml.safe_load((root / "study.yaml").read_text())
    assert len(written["classes"]) == number
    assert {key: np.atleast_1d(written["classes"][key]).tolist() for key in some} == some
    # Where a site is CT, a rule for Hounsfield units would be taken, which means nothing for the MR of the other.
    assert config.intensity == ("image-zscore" if name in ("amos", "topcow") else "auto")


@pytest.mark.parametrize("name", SETS)
def test_the_page_says_the_same(made: dict[str, Study], name: str) -> None:
    page = Path(__file__).parents[2] / "docs/how-to/public-datasets.md"
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}`")]
    told, grid = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    config = made[name].config
    spacing = "median of the training cases" if config.spacing is None else " x ".join(f"{s:g}" for s in config.spacing)
    assert grid[1:3] == [spacing, " x ".join(map(str, config.patch_size or []))]
    assert RECIPES[name].where in told[1]
    if name != "pancreasdg":  # there the page has words for the sites
        assert config.roles is not None
        sites = [[site for site in cell.split(", ") if site] for cell in told[3:]]
        assert sites == [config.roles.train, config.roles.validation, config.roles.test]


@pytest.mark.parametrize("name", SETS)
def test_check_finds_no_error(made: dict[str, Study], name: str) -> None:
    report = check_study(made[name].root, jobs=1)
    assert [str(problem) for problem in report.errors] == []
    assert report.n_cases == len(made[name].cases)


@pytest.mark.parametrize("name", SETS)
def test_a_fold_can_be_made_and_nobody_is_on_both_sides(made: dict[str, Study], name: str) -> None:
    _, _, (train, validation, test), _, _ = FACTS[name]
    study = made[name]
    assert plan_folds(study) == [Fold(tuple(sorted(test)))]
    fold = plan_folds(study)[0]
    parts = split(study, fold, seed=0)
    evaluated = [study.by_id[case] for case in held_out_cases(study, fold, seed=0)]
    development = [study.by_id[case] for role in (parts.train, parts.validation, parts.test) for case in role]
    assert {case.site for case in evaluated} == test
    assert {study.by_id[case].site for case in parts.train} == train
    assert {study.by_id[case].site for case in parts.validation} <= (validation or train)
    assert parts.validation
    assert not {case.patient for case in evaluated} & {case.patient for case in development}


def test_brats_gives_each_sequence_its_channel(made: dict[str, Study]) -> None:
    study = made["msd-brats"]
    whole = nib.load(study.root / "imagesTr/BRATS_003.nii.gz").get_fdata()
    cache = Cache(study.root.parent / "cache")
    schema = Schema(study.classes, study.label_values, study.dims)
    for place, sequence in enumerate(("FLAIR", "T1w", "T1gd", "T2w")):
        case = study.by_id[f"BRATS_003-{sequence}"]
        assert case.site == sequence
        entry = cache.decoded(case, schema)
        # The files point towards L, P, S; a cached image towards R, A, S.
        assert np.array_equal(entry.image[0], whole[::-1, ::-1, :, place])
    assert cache.decodes == 4  # no two sequences share an entry


def test_copies_hold_each_file_once(made: dict[str, Study], tmp_path: Path) -> None:
    study = new_study(tmp_path / "copy", "msd-brats", made["msd-brats"].root, copy=True)
    assert len(list((tmp_path / "copy/files/imagesTr").iterdir())) == 12
    case = study.by_id["BRATS_001-T2w"]
    assert case.images["image"] == tmp_path / "copy/files/imagesTr/BRATS_001.nii.gz#3"
    assert not check_study(tmp_path / "copy", jobs=1).failed


def test_amos_parts_and_numbers(made: dict[str, Study]) -> None:
    study = made["amos"]
    assert {study.by_id[f"amos_{n:04}"].site for n in (1, 500)} == {"CT"}
    assert {study.by_id[f"amos_{n:04}"].site for n in (507, 541)} == {"MR"}
    assert study.by_id["amos_0541"].covariates["part"] == "validation"
    assert "amos_0561" not in study.by_id  # a test scan: its label is not public


def test_hvsmr_grades(made: dict[str, Study]) -> None:
    study = made["hvsmr"]
    assert {case.patient: case.site for case in study.cases} == {
        **{f"pat{patient}": grade for patient, grade in GRADES.items()},
        "pat59": "severe",
    }
    assert study.by_id["pat4"].covariates == {"age": "14", "category": "severe"}
    assert study.by_id["pat59"].covariates == {"age": None, "category": None}


def test_hvsmr_takes_the_normalised_images_where_there_are_no_others(made: dict[str, Study], tmp_path: Path) -> None:
    folder = tmp_path / "cropped_norm"
    folder.mkdir()
    for path in (made["hvsmr"].root / "cropped").iterdir():
        name = path.name if "_seg" in path.name else path.name.replace("_cropped", "_cropped_norm")
        (folder / name).write_bytes(path.read_bytes())
    (tmp_path / "hvsmr_clinical.csv").write_bytes((made["hvsmr"].root / "hvsmr_clinical.csv").read_bytes())
    study = new_study(folder, "hvsmr", folder)  # the table lies beside the folder
    assert study.by_id["pat7"].images["image"].name == "pat7_cropped_norm.nii.gz"
    assert Counter(case.site for case in study.cases) == {"mild": 3, "moderate": 2, "severe": 4}


def test_topcow_pairs_people(made: dict[str, Study]) -> None:
    study = made["topcow"]
    assert {study.by_id[f"topcow_{m}_131"].patient for m in ("ct", "mr")} == {"topcow_131"}
    assert len(held_out_cases(study, Fold(("MRA",)), seed=0)) == 4  # a third of the people


def test_prostate_numbers_start_anew_at_each_site(made: dict[str, Study], tmp_path: Path) -> None:
    study = made["prostate-multisite"]
    assert study.by_id["BMC/Case03"].patient != study.by_id["UCL/Case03"].patient
    assert study.label_values == {0: 0, 1: 1, 2: 1}
    root = SETS["prostate-multisite"](tmp_path)
    (root / "UCL/Case05_segmentation.nii.gz").unlink()
    assert new_study(root, "prostate-multisite", root).by_id["UCL/Case05"].label is None


def test_pancreasdg_phases(made: dict[str, Study]) -> None:
    study = made["pancreasdg"]
    venous, other = study.by_id["NU/nu_0002"], study.by_id["OutPhaseNU/nu_0002"]
    assert venous.patient == other.patient == "NU-nu_0002"
    assert (venous.covariates["phase"], other.covariates["phase"]) == ("venous", "out-of-phase")


def test_pancreasdg_as_dropgen_has_it(tmp_path: Path) -> None:
    root = pancreasdg_of_dropgen(tmp_path)
    study = new_study(root, "pancreasdg", root)
    assert Counter(case.site for case in study.cases) == {"train": 8, "val": 3, "test": 4}
    assert study.by_id["test/pancreas_011"].patient == "pancreas_011"
    fold = plan_folds(study)[0]
    assert fold.held_out == ("test",)
    assert {study.by_id[case].site for case in split(study, fold, 0).validation} == {"val"}
    assert not check_study(root, jobs=1).failed


def test_the_folder_above_will_do(made: dict[str, Study]) -> None:
    for name in ("msd-brats", "amos", "hvsmr", "topcow", "prostate-multisite", "pancreasdg"):
        cases = RECIPES[name].read(made[name].root.parent).cases
        assert [case.id for case in cases] == [case.id for case in made[name].cases]
