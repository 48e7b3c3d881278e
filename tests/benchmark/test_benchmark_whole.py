"""Methods, dimensions and tasks that are not the usual ones, through a whole benchmark and its report."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import throwaway
import tiny
import volumes
from bench import THREE, Bench

from elsewhere.benchmark.examples import load_views
from elsewhere.methods import registry
from elsewhere.networks import registry as networks
from elsewhere.report import write_report


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    networks.names()
    known = {method.card.name: method for method in throwaway.ALL}
    monkeypatch.setattr(registry, "_METHODS", {**registry._METHODS, **known})
    entry = networks.Entry("threshold", ("segmentation",), (2, 3), volumes.build)
    monkeypatch.setattr(networks, "_NETWORKS", {**networks._NETWORKS, "threshold": entry})


SEEN = {"axial": (36, 30, True, True), "coronal": (48, 30, False, True), "sagittal": (48, 36, False, False)}
"""Height and width in mm, and where the ellipsoid is: anterior, inferior, on the patient's left, which is right."""


def logged(run: Path, name: str) -> list[float]:
    with (run / "log.csv").open(newline="") as opened:
        return [float(row["value"]) for row in csv.DictReader(opened) if row["name"] == name]


def test_a_method_that_sees_the_target_says_so_everywhere(bench: Bench, study: Path) -> None:
    name = "throwaway-unlabelled"
    assert bench(study, methods=["erm", name]) == 0
    erm, seeing = bench.runs()
    openings = [
        [json.loads(line) for line in (run / "openings.jsonl").read_text().splitlines()] for run in (erm, seeing)
    ]
    assert [one["reason"] for one in openings[0]] == ["evaluation, source-val"]
    assert [one["reason"] for one in openings[1]] == ["unlabelled images for training", "evaluation, source-val"]
    assert openings[1][0]["model_sha256"] is None
    assert openings[1][0]["cases"] == THREE["A"]
    assert len(logged(seeing, "entropy")) == 2
    assert re.search(r"^│ sees unlabelled target +│", bench.said, re.MULTILINE), "below its name in the table"
    assert f"{name} sees unlabelled target images in training; the others do not." in bench.said
    page = html.unescape(write_report(bench.out).read_text(encoding="utf-8"))
    assert "sees unlabelled target" in page, "in the table"
    assert f"Unlabelled images of the held-out site are seen in training by: {name}" in page, "below it"
    assert set(bench.results()["method"]) == {"erm", name}

    # The images that it sees are part of its identity.
    tiny.save(study / "images" / "s0-00.png", np.full((32, 32), 9))
    assert bench(study, methods=[name]) == 0
    assert len(bench.runs()) == 3


def test_a_method_with_a_map_of_each_case(bench: Bench, study: Path) -> None:
    view = np.zeros((32, 32))
    view[:, 8:] = 255
    with (study / "manifest.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    for row in rows:
        row["map:fov"] = row["image"].replace("images", "views")
        tiny.save(study / row["map:fov"], view)
    tiny.manifest(study, rows)
    assert bench(study, methods=["throwaway-map"], held_out=None) == 0
    for run in bench.runs():
        assert logged(run, "view") == pytest.approx([191.25] * 2), "0 or 255, as in the file, a quarter of it 0"


@pytest.mark.parametrize("spacing", ["null", "[1.5, 1.5, 2.0]"])
def test_volumes_are_judged_where_their_masks_lie(bench: Bench, tmp_path: Path, spacing: str) -> None:
    study = volumes.study(tmp_path / "study")
    changes = ["network=threshold", "batch_size=2", "patch_size=[16, 16, 8]", "augmentation=none", "intensity=none",
               "learning_rate=1e-6", "device=cpu", f"spacing={spacing}"]  # fmt: skip
    assert bench(study, held_out=None, changes=changes) == 0
    results = bench.results()
    results = results[(results["seed"] == "all") & (results["class"] == "all")]
    assert len(results[results["metric"] == "dice"]) == 6
    exact = spacing == "null"
    assert results[results["metric"] == "dice"]["value"].min() >= (1 if exact else 0.97)
    assert results[results["metric"] == "hd95"]["value"].max() <= (0 if exact else 1.5), (
        "in mm; a voxel has 1 x 1.5 x 4"
    )

    for run in bench.runs():
        for path in sorted((run / "examples" / "source-val").glob("*.npz")):
            views = load_views(path)
            assert list(views) == ["axial", "coronal", "sagittal"]
            for name, view in views.items():
                image, truth, said = view.image[..., 0].astype(float), view.truth > 0, view.prediction > 0
                assert image.shape == truth.shape == said.shape
                height, width, high, right = SEEN[name]
                assert image.shape[0] / image.shape[1] == pytest.approx(height / width), "in mm"
                assert truth.any()
                assert (truth & said).sum() / (truth | said).sum() > 0.9
                assert image[truth].mean() >= image[~truth].mean() + 60, "the mask lies on what is bright"
                row, column = (axis.mean() / n for axis, n in zip(np.nonzero(truth), truth.shape, strict=True))
                assert (row < 0.5) == high, name
                assert (column > 0.5) == right, name
            assert path.stat().st_size < 20_000
    page = write_report(bench.out).read_text(encoding="utf-8")
    assert page.count("data:image/") >= 3 * 3


def test_pictures_of_a_classification(bench: Bench, tmp_path: Path) -> None:
    study = tiny.classification(tmp_path / "study", {"A": 9, "B": 8, "C": 8})
    assert bench(study, changes=tiny.CLASSIFIER) == 0
    (run,) = bench.runs()
    listed = json.loads((run / "examples" / "source-val" / "examples.json").read_text())
    assert [one["name"] for one in listed] == ["best", "median", "worst"]
    sure = [one["score"] for one in listed]
    assert sure == sorted(sure, reverse=True), "best, median, worst by the probability of the truth"
    predictions = pd.read_parquet(run / "predictions.parquet").set_index(["split", "case"])
    for one in listed:
        said = re.fullmatch(r"truth (dark|light), predicted (dark|light) \(p\(\1\) = (\d\.\d\d)\)", one["caption"])
        assert said is not None
        assert one["score"] == predictions.loc[("held-out", one["case"]), f"probability:{said[1]}"]
        assert (said[1] == said[2]) == (one["score"] >= 0.5)
        views = load_views(run / "examples" / "source-val" / f"{one['name']}.npz")
        assert list(views) == one["views"] == ["image"]
        assert (views["image"].image.mean() > 105) == (said[1] == "light"), "the picture is of this very case"
        assert views["image"].truth is None
    page = html.unescape(write_report(bench.out).read_text(encoding="utf-8"))
    assert page.count("data:image/") >= 3
    assert listed[0]["caption"] in page
