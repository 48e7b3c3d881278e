"""`study check` finds every kind of problem, all of them at once, and nothing in a sound study."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageFilter
from rich.console import Console

from elsewhere.errors import StudyError
from elsewhere.study import likeness
from elsewhere.study.check import CheckReport, check_study
from elsewhere.study.likeness import fingerprint, near_pairs
from elsewhere.study.workers import Workers

SIDE = 48
SITES = ("north", "south")
PER_SITE = 7


def texture(seed: int, side: int = SIDE) -> np.ndarray:
    """A smooth random image with grain, (side, side) uint8."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 255, (9, 9), dtype=np.uint8)).resize((side, side), 2)
    return (np.asarray(coarse) * 0.9 + generator.integers(0, 20, (side, side))).astype(np.uint8)


class Folder:
    """A sound segmentation study of two sites with seven patients each, to be broken by a test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, str]] = []
        (root / "masks").mkdir(parents=True)
        (root / "images").mkdir()
        self.config = "task: segmentation\nclasses: {background: 0, lesion: 1}\n"
        for number in range(PER_SITE * len(SITES)):
            name, site = f"{number:02d}.png", SITES[number // PER_SITE]
            self.save(f"images/{name}", texture(number))
            self.save(f"masks/{name}", (texture(number) > 120).astype(np.uint8))
            row = {"image": f"images/{name}", "label": f"masks/{name}", "site": site, "patient": f"p{number}"}
            self.rows.append(row)

    def save(self, name: str, array: np.ndarray) -> None:
        Image.fromarray(array).save(self.root / name)

    def check(self, jobs: int = 1, **options: object) -> CheckReport:
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        lines = [",".join(columns), *(",".join(row.get(c, "") for c in columns) for row in self.rows)]
        (self.root / "manifest.csv").write_text("\n".join(lines) + "\n")
        if self.config:
            (self.root / "study.yaml").write_text(self.config)
        return check_study(self.root, jobs=jobs, **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "study")


def recompressed(number: int) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(texture(number)).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def missing_image(f: Folder) -> None:
    (f.root / "images/03.png").unlink()


def missing_label(f: Folder) -> None:
    (f.root / "masks/03.png").unlink()


def truncated(f: Folder) -> None:
    content = (f.root / "images/03.png").read_bytes()
    (f.root / "images/03.png").write_bytes(content[: len(content) // 2])


def no_bytes(f: Folder) -> None:
    (f.root / "masks/03.png").write_bytes(b"")


def other_size(f: Folder) -> None:
    f.save("masks/03.png", np.zeros((SIDE, SIDE + 1), np.uint8))


def map_of_other_size(f: Folder) -> None:
    f.save("fov.png", np.ones((SIDE, SIDE + 1), np.uint8))
    f.rows[3]["map:fov"] = "fov.png"


def other_affine(f: Folder) -> None:
    volume = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), f.root / "v.nii")
    nib.save(nib.Nifti1Image((volume > 0.5).astype(np.uint8), np.diag([-1.0, 1, 1, 1])), f.root / "m.nii")
    f.rows[3] |= {"image": "v.nii", "label": "m.nii"}


def one_volume(f: Folder) -> None:
    volume = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), f.root / "v.nii")
    f.rows[3] |= {"image": "v.nii", "label": ""}


def one_in_colour(f: Folder) -> None:
    f.save("images/03.png", np.stack([texture(3), texture(50), texture(51)], axis=-1))


def undeclared_value(f: Folder) -> None:
    f.save("masks/03.png", np.eye(SIDE, dtype=np.uint8) * 7)


def undeclared_class(f: Folder) -> None:
    f.config = "task: classification\nclasses: [benign, malignant]\n"
    for number, row in enumerate(f.rows):
        row["label"] = "unclear" if number == 3 else ("benign", "malignant")[number % 2]


def masks_that_are_photographs(f: Folder) -> None:
    f.config = ""
    f.save("masks/03.png", np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))


def other_value_at_each_site(f: Folder) -> None:
    f.config = ""
    for number in range(PER_SITE):
        f.save(f"masks/{number:02d}.png", (texture(number) > 120).astype(np.uint8) * 255)


def palettes_that_differ(f: Folder) -> None:
    for number, colours in ((2, [0, 0, 0, 255, 0, 0]), (3, [0, 0, 0, 0, 255, 0])):
        mask = Image.fromarray(np.eye(SIDE, dtype=np.uint8), mode="P")
        mask.putpalette(colours)
        mask.save(f.root / f"masks/{number:02d}.png")


def with_nan(f: Folder) -> None:
    array = texture(3).astype(np.float32)
    array[5, 5] = np.nan
    Image.fromarray(array).save(f.root / "images/03.tif")
    f.rows[3]["image"] = "images/03.tif"


def constant(f: Folder) -> None:
    f.save("images/03.png", np.full((SIDE, SIDE), 9, np.uint8))


def constant_channel(f: Folder) -> None:
    for number, row in enumerate(f.rows):
        f.save(f"second{number}.png", texture(100 + number) if number != 3 else np.zeros((SIDE, SIDE), np.uint8))
        row |= {"image:t1": row.pop("image"), "image:t2": f"second{number}.png"}


def same_pixels_within(f: Folder) -> None:
    Image.fromarray(texture(1)).save(f.root / "images/03.tif")  # another format, the same pixels
    f.rows[3]["image"] = "images/03.tif"


def same_pixels_across(f: Folder) -> None:
    f.save("images/09.png", texture(1))


def nearly_within(f: Folder) -> None:
    f.save("images/03.png", recompressed(1))


def nearly_across(f: Folder) -> None:
    f.save("images/09.png", recompressed(1))


def wandering_patient(f: Folder) -> None:
    f.rows[9]["patient"] = "p1"


def few_patients(f: Folder) -> None:
    for row in f.rows[PER_SITE:]:
        row["patient"] = "only"


def one_site(f: Folder) -> None:
    for row in f.rows:
        row["site"] = "north"


def leaves_the_folder(f: Folder) -> None:
    f.save("../outside.png", texture(99))
    f.rows[3]["image"] = "../outside.png"


def wrong_config(f: Folder) -> None:
    f.config = "tusk: segmentation\n"


@pytest.mark.parametrize(
    ("spoil", "severity", "code", "where", "words"),
    [
        (missing_image, "error", "missing", "row 5", "image images/03.png: there is no such file"),
        (missing_label, "error", "missing", "row 5", "label masks/03.png: there is no such file"),
        (truncated, "error", "unreadable", "row 5", "truncated or corrupt"),
        (no_bytes, "error", "unreadable", "row 5", "the file is empty (0 bytes)"),
        (other_size, "error", "grid", "row 5", "label 'masks/03.png' is 48x49, its image 'images/03.png' is 48x48"),
        (map_of_other_size, "error", "grid", "row 5", "map:fov 'fov.png' is 48x49"),
        (other_affine, "error", "grid", "row 5", "label 'm.nii' has an affine that lies up to 14 mm elsewhere"),
        (one_volume, "error", "dimensions", "row 5", "image is 3D, 13 others are 2D"),
        (one_in_colour, "error", "channels", "row 5", "image is 3 channels, 13 others are 1 channel"),
        (undeclared_value, "error", "undeclared-value", "row 5", "label holds 7; study.yaml declares 0, 1"),
        (undeclared_class, "error", "undeclared-class", "row 5", "'unclear' is not a declared class"),
        (
            palettes_that_differ,
            "error",
            "palettes-differ",
            "manifest.csv",
            "value 1 is #00ff00, but #ff0000 in '02.png'",
        ),
        (masks_that_are_photographs, "error", "label-values", "manifest.csv", "255 values other than 0"),
        (other_value_at_each_site, "warning", "label-values-differ", "manifest.csv", "'north' hold 255"),
        (with_nan, "error", "not-finite", "row 5", "holds 1 values that are NaN or Inf"),
        (constant, "error", "empty-image", "row 5", "is constant (9 everywhere)"),
        (constant_channel, "warning", "empty-channel", "row 5", "is constant in channel t2"),
        (same_pixels_within, "warning", "duplicate", "row 5", "same pixels as row 3 of the same site"),
        (same_pixels_across, "error", "duplicate-across-sites", "row 11", "same pixels as row 3 of site 'north'"),
        (nearly_within, "warning", "near-duplicate", "row 5", "nearly the same pixels as row 3, patient 'p1'"),
        (nearly_across, "warning", "near-across-sites", "row 11", "nearly the same pixels as row 3"),
        (wandering_patient, "warning", "patient-in-two-sites", "manifest.csv", "patient 'p1' is at sites north, south"),
        (few_patients, "warning", "few-patients", "manifest.csv", "site 'south' has 1 patient;"),
        (one_site, "warning", "one-site", "manifest.csv", "'north' is the only site"),
        (leaves_the_folder, "error", "outside", "row 5", "'../outside.png' leaves the study's folder"),
        (wrong_config, "error", "study", "manifest.csv", "tusk"),
    ],
)
def test_each_problem(
    folder: Folder, spoil: Callable[[Folder], None], severity: str, code: str, where: str, words: str
) -> None:
    spoil(folder)
    report = folder.check()
    found = [p for p in report.problems if p.code == code]
    assert len(found) == 1, report.to_json()
    assert found[0].severity == severity
    assert found[0].where.endswith(where)
    assert words in found[0].message
    assert report.failed == (severity == "error")
    expected = {code, "no-label", "crowded-patient"} | ({"dimensions"} if spoil is other_affine else set())
    others = [p for p in report.problems if p.code not in expected]
    assert others == []


def test_a_sound_study_has_no_problem(folder: Folder) -> None:
    report = folder.check(jobs=2)
    assert report.problems == ()
    assert not report.failed
    assert report.n_cases == PER_SITE * len(SITES)


def test_no_image_can_be_opened(folder: Folder) -> None:
    for row in folder.rows:
        row["image"] = row["image"].replace("/", "\\")  # a table made on Windows
    report = folder.check()
    assert [problem.code for problem in report.errors] == ["missing"] * len(folder.rows)
    assert all("separate folders by / instead of \\" in problem.message for problem in report.errors)


def test_all_problems_come_at_once_errors_first(folder: Folder) -> None:
    for spoil in (missing_image, wandering_patient, same_pixels_across):
        spoil(folder)
    (folder.root / "images/05.png").unlink()
    report = folder.check()
    assert [(p.severity, p.code) for p in report.problems] == [
        ("error", "missing"),
        ("error", "missing"),
        ("error", "duplicate-across-sites"),
        ("warning", "patient-in-two-sites"),
    ]
    content = json.loads(report.to_json())
    assert (content["errors"], content["warnings"], len(content["problems"])) == (3, 1, 4)
    console = Console(width=200, record=True, file=StringIO())
    console.print(report.table())
    assert "images/05.png: there is no such file" in console.export_text()


def test_outside_is_allowed_when_asked(folder: Folder) -> None:
    leaves_the_folder(folder)
    assert not folder.check(allow_outside=True).failed


def test_another_column_can_be_the_site(folder: Folder) -> None:
    for number, row in enumerate(folder.rows):
        row["scanner"] = "AB"[number % 2]
    same_pixels_across(folder)  # rows 3 and 11: both of scanner B
    assert [p.code for p in folder.check(site_column="scanner").errors] == []
    assert [p.code for p in folder.check().errors] == ["duplicate-across-sites"]


def test_near_duplicates_of_one_patient_are_not_reported(folder: Folder) -> None:
    nearly_within(folder)
    folder.rows[3]["patient"] = folder.rows[1]["patient"]
    assert not [p for p in folder.check().problems if "near" in p.code]


def test_processes_find_the_same(folder: Folder) -> None:
    for spoil in (missing_image, nearly_across, constant):
        spoil(folder)
    steps: list[tuple[int, int]] = []
    folder.rows = folder.rows * 2  # enough rows for two processes; each id is then there twice
    for number, row in enumerate(folder.rows):
        folder.rows[number] = row | {"case": str(number)}
    one = folder.check(jobs=1)
    two = folder.check(jobs=2, progress=lambda done, total: steps.append((done, total)))
    assert two.problems == one.problems
    assert steps[-1] == (28, 28)


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such study"):
        check_study(tmp_path / "nowhere")


def double_or_die(numbers: list[int]) -> list[int]:
    for number in numbers:
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
    return [2 * number for number in numbers]


def test_a_worker_that_dies_costs_its_own_job_only() -> None:
    with Workers(double_or_die, lambda job: -job, jobs=2, chunk=4) as workers:
        results = [result for chunk in workers.map(range(30)) for result in chunk]
    assert sorted(results) == sorted(2 * n if n != 13 else -13 for n in range(30))


def test_near_pairs_among_thousands() -> None:
    """Every altered copy is found among 1,500 images, and hardly anything else."""
    originals = [texture(seed, 64) for seed in range(1500)]
    copies = [
        np.asarray(Image.fromarray(originals[k]).filter(ImageFilter.GaussianBlur(0.6)).resize((80, 80)))
        for k in range(0, 1500, 50)
    ]
    prints = [fingerprint(image[None]) for image in [*originals, *copies]]
    one, two, alike, complete = near_pairs(np.array([h for h, _ in prints]), np.array([t for _, t in prints]))
    found = set(zip(one.tolist(), two.tolist(), strict=True))
    planted = {(50 * k, 1500 + k) for k in range(30)}
    assert complete
    assert planted <= found
    assert len(found - planted) <= 3
    assert alike.min() >= 0.75


def test_frames_of_a_film_are_bounded(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all images are alike, the search stops at its budget and says so."""
    monkeypatch.setattr(likeness, "CANDIDATES", 20)
    generator = np.random.default_rng(0)
    for number in range(len(folder.rows)):
        folder.save(
            f"images/{number:02d}.png", texture(0) // 2 + generator.integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
        )
    codes = [p.code for p in folder.check().problems]
    assert "many-alike" in codes
    assert "near-across-sites" in codes


@pytest.mark.slow
def test_look_alikes_of_real_studies_are_not_duplicates(shared_data: Path) -> None:
    report = check_study(shared_data / "retina-vessels", jobs=2)
    assert report.problems == ()
