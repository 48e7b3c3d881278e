"""A whole prediction: masks that lie where they should, a table that survives, and nobody named."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import weakref
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from deploy.predict_material import NAME, NUMBER, ct_voxels, make_model, nearest, oblique, write_series
from elsewhere.deploy import predict as module
from elsewhere.deploy import slabs
from elsewhere.deploy.inputs import Input
from elsewhere.deploy.predict import Predicted, Work, failed, predict_cases
from elsewhere.errors import RunError, SettingsError, StudyError
from elsewhere.study.reading import read_image, read_label


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three tissues in 3D."""
    return make_model(tmp_path_factory.mktemp("model") / "tissues")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes in 2D, whose masks are 0 and 255."""
    folder = tmp_path_factory.mktemp("model") / "photographs"
    return make_model(folder, dims=2, classes=("background", "vessel"), centres=(0, 201), label_values={0: 0, 255: 1})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells dark from bright photographs by their mean."""
    folder = tmp_path_factory.mktemp("model") / "bright"
    return make_model(
        folder, task="classification", dims=2, classes=("dark", "bright"), centres=(0, 201), temperature=2.0
    )


def go(model: Path, out: Path, *paths: Path, **more: Any) -> Predicted:
    return predict_cases(model, list(paths), out, trust=True, device="cpu", **more)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def save_volume(path: Path, voxels: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), affine), path)
    return path


def save_photograph(path: Path, seed: int = 0) -> np.ndarray[Any, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


TURNED = np.array([[0, 0, 2.0, 1], [-1.5, 0, 0, -3], [0, 0.7, 0, 5], [0, 0, 0, 1]])


def test_every_voxel_of_a_nifti_is_where_it_was(volumes: Path, tmp_path: Path) -> None:
    voxels = ct_voxels()
    image = save_volume(tmp_path / "in" / "a.nii.gz", voxels, TURNED)
    done = go(volumes, tmp_path / "out", image, probabilities=True)
    assert (done.finished, done.kept, done.failed) == (1, 0, ())
    mask = nib.load(tmp_path / "out" / "masks" / "a.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj), nearest(voxels))
    assert mask.affine == pytest.approx(TURNED)
    row = rows(tmp_path / "out")["a"]
    tissue = int((nearest(voxels) == 1).sum())
    assert row["voxels:tissue"] == str(tissue)
    assert float(row["volume_ml:tissue"]) == pytest.approx(tissue * 2.0 * 1.5 * 0.7 / 1000)
    assert row["input"] == str(image)
    assert row["unlike"] in ("true", "false")
    found = np.asarray(nib.load(tmp_path / "out" / row["probabilities"]).dataobj)
    logits = -np.abs(voxels[..., None] - np.array([0, 301, 900])) / 50
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("grid", [{"spacing": (1.0, 1.0, 2.0)}, {"size": (8, 16, 20)}])
def test_a_model_of_another_grid_answers_on_the_grid_of_the_file(tmp_path: Path, grid: dict[str, Any]) -> None:
    model = make_model(tmp_path / "model", **grid)
    block = np.zeros((20, 22, 12))
    block[6:14, 4:12, 3:9] = 300
    image = save_volume(tmp_path / "a.nii.gz", block, TURNED)
    go(model, tmp_path / "out", image)
    mask = np.asarray(nib.load(tmp_path / "out" / "masks" / "a.nii.gz").dataobj)
    assert mask.shape == block.shape
    centre = np.argwhere(mask == 1).mean(axis=0)
    assert centre == pytest.approx(np.argwhere(block).mean(axis=0), abs=0.3)
    assert (mask == 1).sum() == pytest.approx((block > 0).sum(), rel=0.35)


def test_a_series_and_its_nifti_by_simpleitk_have_one_mask(volumes: Path, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    voxels = ct_voxels()
    folder = write_series(tmp_path / "in" / "ct", voxels, orientation=oblique(), slope=2, intercept=-1024)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "in" / "same.nii.gz"))
    done = go(volumes, tmp_path / "out", tmp_path / "in")
    assert done.failed == ()
    theirs = sitk.ReadImage(str(tmp_path / "out" / "masks" / "same.nii.gz"))
    assert theirs.GetDirection() == pytest.approx(sitk.ReadImage(str(tmp_path / "in" / "same.nii.gz")).GetDirection())
    geometry = read_image({"image": folder}).geometry
    ours = read_label(tmp_path / "out" / "masks" / "series-0001.dcm", geometry).array
    assert np.array_equal(ours, sitk.GetArrayFromImage(theirs).transpose(2, 1, 0))
    rounded = np.rint((voxels + 1024) / 2) * 2 - 1024
    assert np.array_equal(ours, nearest(rounded).transpose(2, 1, 0))
    table = rows(tmp_path / "out")
    for column in ("voxels:bone", "volume_ml:bone", "confidence", "outlier"):
        assert float(table["series-0001"][column]) == pytest.approx(float(table["same"][column]), rel=1e-4)


def test_photographs_have_the_values_of_the_study(photographs: Path, tmp_path: Path) -> None:
    pixels = {f"{n}": save_photograph(tmp_path / "in" / f"{n}.png", n) for n in range(3)}
    go(photographs, tmp_path / "out", tmp_path / "in")
    for name, expected in pixels.items():
        mask = np.array(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
        assert np.array_equal(mask, np.where(expected > 100, 255, 0))
    row = rows(tmp_path / "out")["0"]
    assert row["voxels:vessel"] == str((pixels["0"] > 100).sum())
    assert row["volume_ml:vessel"] == ""


def test_classification_gives_rows_only(classifier: Path, tmp_path: Path) -> None:
    pixels = {f"{n}": save_photograph(tmp_path / "in" / f"{n}.png", n) for n in range(40)}
    (tmp_path / "in" / "7.png").write_bytes(b"\x89PNG broken")
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / "in" / "larger.png")
    done = go(classifier, tmp_path / "out", tmp_path / "in")
    assert [case for case, _ in done.failed] == ["7"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "predict.json", "predictions.csv"]
    table = rows(tmp_path / "out")
    assert table["larger"]["predicted"] == "dark"
    for name, image in pixels.items():
        if name == "7":
            continue
        logits = -np.abs(image.mean() - np.array([0, 201])) / 50 / 2  # at a temperature of 2
        expected = np.exp(logits) / np.exp(logits).sum()
        assert float(table[name]["probability:bright"]) == pytest.approx(expected[1], abs=1e-5)
        assert table[name]["predicted"] == ("dark", "bright")[int(expected.argmax())]
        assert float(table[name]["confidence"]) == pytest.approx(expected.max(), abs=1e-5)


def test_what_is_finished_is_kept_and_what_failed_is_tried_again(volumes: Path, tmp_path: Path) -> None:
    for name in "ab":
        save_volume(tmp_path / "in" / f"{name}.nii.gz", ct_voxels(), TURNED)
    write_series(tmp_path / "in" / "ct", ct_voxels(), skip=(2,))
    first = go(volumes, tmp_path / "out", tmp_path / "in")
    assert (first.finished, first.kept) == (2, 0)
    assert first.failed[0][0] == "series-0001"
    assert "1 slice missing between 103.00 and 109.00 mm" in first.failed[0][1]
    table = rows(tmp_path / "out")
    assert list(table) == ["a", "b", "series-0001"]
    assert table["series-0001"]["error"] == first.failed[0][1]
    mask = tmp_path / "out" / "masks" / "a.nii.gz"
    written = mask.stat().st_mtime_ns
    write_series(tmp_path / "in" / "ct", ct_voxels())  # the slice has arrived
    (tmp_path / "out" / "masks" / "b.nii.gz").unlink()
    again = go(volumes, tmp_path / "out", tmp_path / "in")
    assert (again.finished, again.kept, again.failed) == (2, 1, ())
    assert rows(tmp_path / "out")["series-0001"]["error"] == ""
    assert mask.stat().st_mtime_ns == written
    save_volume(tmp_path / "in" / "a.nii.gz", ct_voxels(seed=1), TURNED)  # another image of the same name
    changed = go(volumes, tmp_path / "out", tmp_path / "in", probabilities=True)
    assert (changed.finished, changed.kept) == (3, 0)  # all lacked their probabilities
    assert go(volumes, tmp_path / "out", tmp_path / "in", probabilities=True).kept == 3


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_volume_is_let_go_before_the_next_is_read(
    volumes: Path, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task == "classification":
        volumes = make_model(tmp_path / "model", task=task, classes=("dark", "bright"), centres=(0, 201))
    for n in range(4):
        save_volume(tmp_path / "in" / f"{n}.nii.gz", ct_voxels(n), TURNED)
    seen: list[weakref.ref[Any]] = []
    held: list[int] = []
    read_input = module.read_input

    def watched(*arguments: Any) -> Any:
        held.append(sum(one() is not None for one in seen))
        stored = read_input(*arguments)
        seen.append(weakref.ref(stored))
        return stored

    monkeypatch.setattr(module, "read_input", watched)
    assert go(volumes, tmp_path / "out", tmp_path / "in").finished == 4
    assert held == [0, 0, 0, 0]


def test_ids_are_told_by_the_command_that_was_given_last(volumes: Path, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", ct_voxels())
    for keep_ids in (False, True, False):
        done = go(volumes, tmp_path / "out", folder, keep_ids=keep_ids)
        told = ("1.2.3", str(folder)) if keep_ids else ("", "series-0001")
        row = rows(tmp_path / "out")["series-0001"]
        assert (row["series"], row["input"]) == told
        assert row["mask"] == "masks/series-0001.dcm"
    assert done.kept == 1


def test_another_command_adds_to_the_table(volumes: Path, tmp_path: Path) -> None:
    for place in "xy":
        save_volume(tmp_path / place / "a.nii.gz", ct_voxels(ord(place)), TURNED)
    go(volumes, tmp_path / "out", tmp_path / "x")
    done = go(volumes, tmp_path / "out", tmp_path / "y")
    assert done.finished == 1
    table = rows(tmp_path / "out")
    assert {case: Path(row["input"]).parent.name for case, row in table.items()} == {"a-2": "y", "a": "x"}
    for case, place in (("a", "x"), ("a-2", "y")):
        mask = np.asarray(nib.load(tmp_path / "out" / table[case]["mask"]).dataobj)
        assert np.array_equal(mask, nearest(ct_voxels(ord(place))))


def test_a_killed_command_leaves_whole_rows(volumes: Path, tmp_path: Path) -> None:
    for name in "abc":
        save_volume(tmp_path / "in" / f"{name}.nii.gz", ct_voxels(), TURNED)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(volumes, tmp_path / "out", tmp_path / "in", progress=interrupt)
    assert list(rows(tmp_path / "out")) == ["a"]
    assert go(volumes, tmp_path / "out", tmp_path / "in").kept == 1
    table = tmp_path / "out" / "predictions.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(lines[:3]) + b'"/half a')  # killed while it wrote the row of c
    again = go(volumes, tmp_path / "out", tmp_path / "in")
    assert (again.finished, again.kept) == (1, 2)
    assert list(rows(tmp_path / "out")) == ["a", "b", "c"]


def test_a_folder_is_of_one_model(volumes: Path, photographs: Path, tmp_path: Path) -> None:
    image = save_volume(tmp_path / "a.nii.gz", ct_voxels(), TURNED)
    go(volumes, tmp_path / "out", image)
    with pytest.raises(RunError, match="holds the predictions of another model"):
        go(photographs, tmp_path / "out", image)
    (tmp_path / "out" / "predictions.csv").write_text("case,input\na,b\n")
    with pytest.raises(RunError, match="is the table of something else"):
        go(volumes, tmp_path / "out", image)
    (tmp_path / "out" / "predict.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read; choose another folder"):
        go(volumes, tmp_path / "out", image)


def test_nothing_is_written_into_the_model(volumes: Path, tmp_path: Path) -> None:
    """A model's folder that holds anything else is refused: it could not be used again."""
    before = sorted(volumes.iterdir())
    (tmp_path / "link").symlink_to(volumes)
    for out in (volumes, volumes / "predictions", tmp_path / "link" / "x"):
        with pytest.raises(SettingsError, match="lies in the model's folder, which holds nothing else"):
            go(volumes, out, tmp_path)
    assert sorted(volumes.iterdir()) == before


def test_several_processes_say_the_same(volumes: Path, tmp_path: Path) -> None:
    for n in range(3):
        save_volume(tmp_path / "in" / f"{n}.nii.gz", ct_voxels(n), TURNED)
    write_series(tmp_path / "in" / "ct", ct_voxels(), skip=(1,))
    seen: list[tuple[int, int]] = []
    one = go(volumes, tmp_path / "one", tmp_path / "in")
    two = go(volumes, tmp_path / "two", tmp_path / "in", jobs=2, progress=lambda *at: seen.append(at))
    assert one.failed == two.failed
    assert seen == [(n, 4) for n in range(1, 5)]
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    for n in range(3):
        masks = [(tmp_path / out / "masks" / f"{n}.nii.gz").read_bytes() for out in ("one", "two")]
        assert masks[0] == masks[1]


def test_a_process_that_dies_takes_only_its_case(
    volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "deadly", "z"):
        save_volume(tmp_path / "in" / f"{name}.nii.gz", ct_voxels(), TURNED)
    monkeypatch.setattr(module, "Work", Deadly)
    done = go(volumes, tmp_path / "out", tmp_path / "in", jobs=2)
    assert [(case, "was killed" in sentence) for case, sentence in done.failed] == [("deadly", True)]
    assert done.finished == 2


class Deadly(Work):
    """Dies of one case."""

    def __call__(self, chunk: list[Input]) -> list[Any]:
        if chunk[0].case == "deadly":
            os._exit(9)
        return super().__call__(chunk)


def test_no_patient_is_named_anywhere(
    volumes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "in" / f"{NAME} {NUMBER}"
    # A name without ^ is one that highdicom logs, with the name, as potentially invalid.
    write_series(folder, ct_voxels(), series="1.2.3", PatientName=NAME.replace("^", " "))
    write_series(folder, ct_voxels(), series="1.2.4", skip=(2,))
    write_series(folder / NUMBER, ct_voxels(), series="1.2.5", FrameOfReferenceUID=None)
    (folder / f"{NUMBER}.dcm").write_bytes(b"broken")
    broken = write_series(tmp_path / "more", ct_voxels(), series="1.2.6")
    data = pydicom.dcmread(path := sorted(broken.iterdir())[1])
    data.PixelData = b"\0\0"
    data.save_as(path)
    shutil.move(broken, folder / "broken")
    (tmp_path / "in" / "manifest-of-series.csv").write_text(f"image\n{NAME} {NUMBER}/{NUMBER}\n")
    caplog.clear()
    capfd.readouterr()
    out = tmp_path / "out"
    done = go(volumes, out, tmp_path / "in", tmp_path / "in" / "manifest-of-series.csv", probabilities=True)
    assert len(done.failed) == 5
    assert done.finished == 1
    printed = capfd.readouterr()
    words = [NAME, *NAME.split("^"), NUMBER]
    told = [repr(done), printed.out, printed.err, *(record.getMessage() for record in caplog.records)]
    for path in out.rglob("*"):
        told.append(path.name)
        if path.is_file() and path.suffix != ".dcm":
            told.append(nib.load(path).header.__str__() if path.name.endswith(".gz") else path.read_text())
    for text in told:
        assert not any(word in text for word in words)
        assert "1.2.3" not in text  # nor the UID of a series
    (mask,) = (out / "masks").glob("*.dcm")
    seg = pydicom.dcmread(mask)
    assert seg.PatientID == NUMBER  # the object itself is of its patient, as it must
    kept = go(volumes, tmp_path / "told", tmp_path / "in", keep_ids=True)
    assert {row["series"] for row in rows(tmp_path / "told").values()} >= {"1.2.3", "1.2.4"}
    assert any(NUMBER in sentence for _, sentence in kept.failed)


def test_an_unexpected_error_of_a_series_says_nothing_of_what_it_says(tmp_path: Path) -> None:
    series = Input("series-0001", "series-0001", {}, "x-y", private=True)
    assert failed(series, KeyError(NAME))["error"] == "series-0001: unexpected KeyError (a bug of ours)"
    other = Input("a", "/a", {}, "x-y")
    assert failed(other, KeyError("spam"))["error"] == "a: unexpected KeyError: 'spam' (a bug of ours)"
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")):
        assert failed(series, error)["error"] == "series-0001: too large for the memory of this machine"


def test_an_input_that_cannot_be_found_again_is_told_without_its_path() -> None:
    path = Path("/data") / NUMBER / NAME
    row = Input("series-0001", "manifest.csv row 2", {"image": path}, "x-y", dicom=True, private=True)
    assert failed(row, StudyError(f"{path}: 2 image series here"))["error"] == "series-0001: 2 image series here"
    full = RunError("/data/out/masks/series-0001.dcm: the disk is full")
    assert failed(row, full)["error"] == str(full)


def test_an_answer_that_is_no_number_is_a_failed_case(tmp_path: Path) -> None:
    """Its mask would be all background."""
    model = make_model(tmp_path / "model", centres=(0, float("nan"), 900))
    save_volume(tmp_path / "a.nii.gz", ct_voxels(), TURNED)
    done = go(model, tmp_path / "out", tmp_path / "a.nii.gz")
    assert done.failed == (("a", "a: the model answers with numbers that are not finite (NaN or Inf)"),)
    assert not (tmp_path / "out" / "masks").exists()


@pytest.mark.parametrize("broken", ["features", "inputs"])
def test_a_case_whose_statistics_cannot_be_made_fails_alone(
    classifier: Path, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        save_photograph(tmp_path / "in" / f"{n}.png", n)
    Image.fromarray(np.zeros((1, 5), np.uint8)).save(tmp_path / "in" / "odd.png")
    from elsewhere.deploy import features, predictor

    def statistics(stored: Any) -> Any:
        return 1 / 0 if stored.case.id == "odd" else features.input_statistics(stored)

    def take(tap: Any, n: int) -> Any:
        found = original(tap, n)
        return 1 / 0 if tap.width == 5 else found

    original = features.FeatureTap.take
    if broken == "inputs":
        monkeypatch.setattr(predictor, "input_statistics", statistics)
    else:
        enter = features.FeatureTap.__enter__

        def watch(tap: Any) -> Any:
            tap.model.register_forward_pre_hook(lambda _, args: setattr(tap, "width", args[0].shape[-1]))
            return enter(tap)

        monkeypatch.setattr(features.FeatureTap, "__enter__", watch)
        monkeypatch.setattr(features.FeatureTap, "take", take)
    done = go(classifier, tmp_path / "out", tmp_path / "in")
    assert done.finished == 3
    ((case, sentence),) = done.failed
    assert case == "odd"
    assert sentence.startswith("case 'odd': the model fails on it (ZeroDivisionError")


def test_the_table_says_which_model_it_is_of(volumes: Path, tmp_path: Path) -> None:
    go(volumes, tmp_path / "out", save_volume(tmp_path / "a.nii.gz", ct_voxels(), TURNED))
    made = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert set(made) == {"model_sha256", "elsewhere"}


@pytest.mark.parametrize("shape", [(3, 40), (2, 9, 11), (4, 7, 5, 6)])
def test_slabs_say_what_the_whole_says(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "VALUES", 64)
    found = np.random.default_rng(0).dirichlet(np.ones(shape[0]), shape[1:]).astype(np.float32)
    probabilities = np.ascontiguousarray(np.moveaxis(found, -1, 0))
    expected = probabilities**0.5 / (probabilities**0.5).sum(axis=0)  # a temperature of 2
    slabs.temper(probabilities, 2.0)
    assert probabilities == pytest.approx(expected, abs=1e-6)
    labels = slabs.most_probable(probabilities)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected.argmax(axis=0))


def test_a_device_that_is_not_there(volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="there is no GPU that torch can use"):
        predict_cases(volumes, [tmp_path], tmp_path / "out", device="cuda", trust=True)
    with pytest.raises(SettingsError, match="device 'tpu' is unknown"):
        predict_cases(volumes, [tmp_path], tmp_path / "out", device="tpu", trust=True)
