from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from elsewhere.acquisition import Curve, Gamma, GaussianBlur, GaussianNoise, Scanner
from elsewhere.acquisition.anatomy import GivenLabels, Lesion, NestedOrgans
from elsewhere.acquisition.anatomy_shapes import smooth_shapes
from elsewhere.errors import RunError, StudyError
from elsewhere.simulate import Appearance, SimulatedSite, four_hospitals, read_truth, simulate_study
from elsewhere.simulate import study as writing
from elsewhere.study import open_study

ANY = Scanner([(Gamma(), 0.7), (Curve(), 0.7), (GaussianBlur(), 0.5), (GaussianNoise((0.01, 0.05)), 1.0)])
SITES = (SimulatedSite("a", ANY, 5, 0.6), SimulatedSite("b", ANY, 4, 0.25, images_per_patient=2))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)) if path.suffix == ".png" else np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize(("dims", "size"), [(2, 32), (3, (24, 20, 16))])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, dims: int, size: int | tuple[int, ...]) -> None:
    one = simulate_study(tmp_path / "one", SITES, dims=dims, size=size, seed=3)
    two = simulate_study(tmp_path / "two", SITES, dims=dims, size=size, seed=3)
    other = simulate_study(tmp_path / "other", SITES, dims=dims, size=size, seed=4)
    assert len(digests(one)) == 2 * 13 + 3
    assert digests(one) == digests(two)
    images = {name for name in digests(one) if name.startswith("images")}
    assert all(digests(one)[name] != digests(other)[name] for name in images)
    assert len({digests(one)[name] for name in images}) == len(images)


def test_the_truth_simulates_the_same_study_again(tmp_path: Path) -> None:
    drawn = simulate_study(tmp_path / "drawn", SITES, size=32, seed=5)
    sites = read_truth(drawn)
    assert [site.name for site in sites] == ["a", "b"]
    again = simulate_study(tmp_path / "again", sites, size=32, seed=5)
    assert {k: v for k, v in digests(drawn).items() if "truth" not in k} == {
        k: v for k, v in digests(again).items() if "truth" not in k
    }
    moved = simulate_study(tmp_path / "moved", (replace(sites[0], scanner=sites[1].scanner), sites[1]), size=32, seed=5)
    a = [name for name in digests(drawn) if name.startswith("images/a")]
    assert all(digests(drawn)[name] != digests(moved)[name] for name in a)
    masks = [name for name in digests(drawn) if name.startswith("masks")]
    assert all(digests(drawn)[name] == digests(moved)[name] for name in masks)


def test_a_site_does_not_change_with_the_others(tmp_path: Path) -> None:
    both = simulate_study(tmp_path / "both", SITES, size=32)
    alone = simulate_study(tmp_path / "alone", SITES[1:], size=32)
    b = [name for name in digests(both) if "/b-" in name]
    assert len(b) == 16
    assert {name: digests(both)[name] for name in b} == {name: digests(alone)[name] for name in b}


def test_a_sites_scanner_is_fixed_and_its_noise_fresh(tmp_path: Path) -> None:
    """Without noise, all of a site's images map intensities alike; with it, no two images share it."""
    flat = Appearance((0.0, 0.3, 0.5, 0.7, 1.0), spread=0.0, texture=0.0)
    site = SimulatedSite("a", Scanner([Curve((0.8, 0.8))]), 4, 1.0)
    folder = simulate_study(tmp_path / "clean", [site], size=64, appearance=flat, bits=16)
    values = yaml.safe_load((folder / "truth.yaml").read_text())["sites"]["a"]["scanner"][0]["parameters"]["values"]
    for row in manifest(folder):
        seen = picture(folder / row["image"]).astype(float) / 65535 * 1.2
        lesion = picture(folder / row["label"]) == 2
        # an image's darkest and brightest voxel are the ends of the curve, which runs from 0 to 1 here
        assert float(np.median(seen[lesion])) == pytest.approx(values[0][-1], abs=0.02)
        assert float(seen[0, 0]) == pytest.approx(values[0][0], abs=0.02)
    noisy = SimulatedSite("a", Scanner([GaussianNoise((0.1, 0.2))]), 2, 1.0)
    folder = simulate_study(tmp_path / "noisy", [noisy], size=64, appearance=flat, bits=16)
    sigma = yaml.safe_load((folder / "truth.yaml").read_text())["sites"]["a"]["scanner"][0]["parameters"]["sigma"][0]
    assert 0.1 <= sigma <= 0.2
    residuals = []
    for row in manifest(folder):
        seen = picture(folder / row["image"]).astype(float) / 65535 * 1.2
        organ = picture(folder / row["label"]) == 1
        assert float(np.std(seen[organ])) == pytest.approx(sigma, rel=0.2)
        residuals.append(seen[28:36, 20:28])
    assert not np.array_equal(*residuals)


def test_manifest_masks_and_prevalence_agree(tmp_path: Path) -> None:
    folder = simulate_study(
        tmp_path / "s", [SimulatedSite("x", ANY, 12, 0.25), SimulatedSite("y", ANY, 7, 1.0)], size=48
    )
    rows = manifest(folder)
    assert list(rows[0]) == ["image", "label", "site", "patient", "age", "sex", "lesion"]
    assert len(rows) == 19
    for site, count in (("x", 3), ("y", 7)):
        assert sum(int(row["lesion"]) for row in rows if row["site"] == site) == count
    for row in rows:
        mask, image = picture(folder / row["label"]), picture(folder / row["image"])
        assert mask.shape == image.shape == (48, 48)
        assert mask.dtype == image.dtype == np.uint8
        assert bool((mask == 2).any()) == bool(int(row["lesion"]))
        assert bool((mask == 1).any())
        assert 18 <= int(row["age"]) <= 100
        assert row["sex"] in "FM"
    assert yaml.safe_load((folder / "study.yaml").read_text()) == {
        "name": "simulated",
        "task": "segmentation",
        "classes": {"background": 0, "organ": 1, "lesion": 2},
    }


def test_images_of_one_patient_are_one_anatomy_in_other_poses(tmp_path: Path) -> None:
    folder = simulate_study(tmp_path / "s", [SimulatedSite("x", ANY, 4, 1.0, images_per_patient=2)], size=64)
    masks = {Path(row["label"]).stem: picture(folder / row["label"]) > 0 for row in manifest(folder)}
    overlap = {
        (i, j): 2 * (masks[f"x-00{i}-0"] & masks[f"x-00{j}-1"]).sum()
        / (masks[f"x-00{i}-0"].sum() + masks[f"x-00{j}-1"].sum())
        for i in range(4)
        for j in range(4)
    }  # fmt: skip
    assert all(overlap[i, i] > 0.9 for i in range(4))
    assert all(overlap[i, i] > overlap[i, j] for i in range(4) for j in range(4) if i != j)
    assert float(np.mean([overlap[i, i] for i in range(4)])) < 1
    assert len({row["patient"] for row in manifest(folder)}) == 4


def test_volumes_have_their_spacing_and_open_as_a_study(tmp_path: Path) -> None:
    folder = simulate_study(
        tmp_path / "s", [SimulatedSite(n, ANY, 3) for n in "ab"], dims=3, size=(24, 24, 16), spacing=(1.0, 1.0, 2.5)
    )
    row = manifest(folder)[0]
    image, mask = nib.load(folder / row["image"]), nib.load(folder / row["label"])
    assert image.shape == mask.shape == (24, 24, 16)
    assert image.header.get_zooms() == mask.header.get_zooms() == (1.0, 1.0, 2.5)
    assert np.array_equal(image.affine, mask.affine)
    assert image.get_data_dtype() == np.int16
    study = open_study(folder)
    assert study.dims == 3
    assert study.task == "segmentation"
    assert study.classes == ("background", "organ", "lesion")
    assert study.config.spacing == [1.0, 1.0, 2.5]


def test_colour_and_given_label_maps(tmp_path: Path) -> None:
    maps = smooth_shapes((4, 40, 40), 3, 3, torch.Generator().manual_seed(0))
    anatomy = GivenLabels(maps, ("background", "fat", "muscle"), lesion=Lesion("muscle"))
    colours = Appearance(((0.1, 0.1, 0.2), (0.8, 0.5, 0.4), (0.6, 0.2, 0.2), (0.9, 0.9, 0.5)))
    targets = {"tissue": ("fat", "muscle"), "lesion": ("lesion",)}
    site = SimulatedSite("x", Scanner([Gamma()]), 3)
    folder = simulate_study(tmp_path / "s", [site], anatomy, size=40, appearance=colours, targets=targets)
    for row in manifest(folder):
        image = picture(folder / row["image"])
        assert image.shape == (40, 40, 3)
        assert float(image[..., 0].mean()) > float(image[..., 2].mean()) + 10
    assert open_study(folder).classes == ("background", "tissue", "lesion")


def test_sixteen_bits_keep_more_grey_levels(tmp_path: Path) -> None:
    folder = simulate_study(tmp_path / "s", [SimulatedSite("x", ANY, 1)], size=64, bits=16)
    image = picture(folder / manifest(folder)[0]["image"])
    assert image.dtype == np.uint16
    assert len(np.unique(image)) > 500


def test_nothing_is_left_of_a_study_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(path: Path, *_: object) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"x")

    monkeypatch.setattr(writing, "_write_mask", full)
    with pytest.raises(RunError, match="disk is full"):
        simulate_study(tmp_path / "s", SITES, size=32)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    simulate_study(tmp_path / "s", SITES[:1], size=32)
    before = digests(tmp_path / "s")
    with pytest.raises(StudyError, match="not empty"):
        simulate_study(tmp_path / "s", SITES, size=32)
    assert digests(tmp_path / "s") == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sites": ()}, "at least one"),
        ({"sites": (SITES[0], SITES[0])}, "name of its own"),
        ({"dims": 4}, "dims is 4"),
        ({"size": (32, 32, 32)}, "2 lengths"),
        ({"task": "detection"}, "'detection'"),
        ({"targets": {"organ": ("liver",)}}, "'liver'"),
        ({"anatomy": NestedOrgans(lesion=None)}, "5 intensities"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    arguments = {"sites": SITES, "size": 32} | change
    with pytest.raises(StudyError, match=says):
        simulate_study(tmp_path / "s", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_impossible_sites_are_refused() -> None:
    with pytest.raises(StudyError, match=r"prevalence is 1\.5"):
        SimulatedSite("a", ANY, prevalence=1.5)
    with pytest.raises(StudyError, match="'a/b'"):
        SimulatedSite("a/b", ANY)
    with pytest.raises(StudyError, match="n_patients is 0"):
        SimulatedSite("a", ANY, 0)


def test_truth_that_is_no_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="not found"):
        read_truth(tmp_path)
    (tmp_path / "truth.yaml").write_text("sites: {a: {scanner: [{mechanism: os}]}}")
    with pytest.raises(StudyError, match="no mechanism 'os'"):
        read_truth(tmp_path)


def test_four_hospitals_differ_as_they_say(tmp_path: Path) -> None:
    folder = four_hospitals(tmp_path / "s", n_per_site=8, size=48)
    study = open_study(folder)
    assert study.name == "four-hospitals"
    assert study.sites == ("east", "north", "south", "west")
    rows = manifest(folder)
    share = {s: np.mean([int(r["lesion"]) for r in rows if r["site"] == s]) for s in study.sites}
    assert share["south"] < 0.5
    assert all(0.8 < share[s] < 1 for s in ("north", "east", "west"))
    tone = {}
    for site in study.sites:
        mine = [r for r in rows if r["site"] == site]
        image = np.stack([picture(folder / r["image"]) for r in mine]).astype(float)
        mask = np.stack([picture(folder / r["label"]) for r in mine])
        tone[site] = (image[mask == 0].mean(), image[mask == 1].mean())
    assert all(tone[s][1] > tone[s][0] for s in ("north", "east", "south"))
    assert tone["west"][1] < tone["west"][0]
    assert tone["east"][1] < tone["north"][1] < tone["south"][1]


def test_four_hospitals_for_classification_declare_their_classes(tmp_path: Path) -> None:
    folder = four_hospitals(tmp_path / "s", n_per_site=4, size=32, task="classification")
    assert not (folder / "masks").exists()
    study = open_study(folder)
    assert study.task == "classification"
    assert study.classes == ("no-lesion", "lesion")
    assert {case.label for case in study.cases} == {"no-lesion", "lesion"}
    assert {row["label"] == "lesion" for row in manifest(folder) if row["lesion"] == "1"} == {True}
