"""A MONAI bundle runs by MONAI alone, from files to files, and answers as `elsewhere predict` does."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import exported_models
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, run
from numpy.typing import NDArray
from PIL import Image

from elsewhere.deploy.bundle_check import parsed
from elsewhere.deploy.export import export_model
from elsewhere.deploy.inputs import stored_case
from elsewhere.deploy.model import Model
from elsewhere.deploy.predictor import Predictor
from elsewhere.errors import RunError
from elsewhere.study.reading import read_image
from elsewhere.training.model_io import Deployed

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's, of its own calls and of evaluating the config


def run_bundle(bundle: Path, images: Path, out: Path) -> None:
    run(
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )


def ours(model: Deployed, *files: Path) -> NDArray[Any]:
    picture = read_image({str(i): path for i, path in enumerate(files)})
    stored = stored_case(picture, files[0].name, model.preprocessing, len(files))
    return next(iter(Predictor(model).answers([stored]))).probabilities


def volume(path: Path, seed: int, spacing: tuple[float, ...], axes: str = "PIR") -> None:
    """Soft blobs, smooth as images are; in axes that are not the canonical ones."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (25, 22, 18)), indexing="ij"))
    centre = np.random.default_rng(seed).uniform(-0.4, 0.4, 3)
    values = 100 + 300 * np.exp(-4 * ((grid - centre[:, None, None, None]) ** 2).sum(0))
    ras = nibabel.Nifti1Image(values.astype(np.float32), np.diag([*spacing, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(ras.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(ras.as_reoriented(turn), path)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 2.0), (1.3, 1.02, 1.1)])
def test_volumes_of_two_channels(tmp_path: Path, spacing: tuple[float, ...]) -> None:
    """On the model's grid, and resampled: one axis grows, one stays as it is nearly right, one shrinks."""
    images = tmp_path / "input"
    images.mkdir()
    for i in range(2):
        volume(images / f"case{i}_0000.nii.gz", i, spacing)
        volume(images / f"case{i}_0001.nii.gz", 10 + i, spacing)
    model = exported_models.model(tmp_path / "model", "3D segmentation", temperature=2.0)
    untrained = np.log(ours(model, images / "case0_0000.nii.gz", images / "case0_0001.nii.gz"))
    with torch.no_grad():  # so that all classes occur
        model.method.network[1].bias -= torch.from_numpy(untrained.reshape(3, -1).mean(1))  # type: ignore[index]
    export_model(model, "monai-bundle", tmp_path / "bundle", name="brains")
    run_bundle(tmp_path / "bundle", images, tmp_path / "out")
    for i in range(2):
        files = [images / f"case{i}_000{c}.nii.gz" for c in range(2)]
        mask = nibabel.load(tmp_path / "out" / f"case{i}.nii.gz")
        image = nibabel.load(files[0])
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
        wanted = ours(model, *files).argmax(0)
        assert np.bincount(wanted.ravel(), minlength=3).min() > 100  # there is something to disagree on
        assert (np.asarray(mask.dataobj) == wanted).mean() > 0.999  # ties are broken by the last bit


def bundled(model: Model, folder: Path) -> Path:
    """Its bundle is `folder/bundle`; the folder for its input."""
    export_model(model, "monai-bundle", folder / "bundle")
    (folder / "input").mkdir()
    return folder / "input"


def test_photographs(tmp_path: Path) -> None:
    model = exported_models.model(tmp_path / "model", "2D segmentation")
    images = bundled(model, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "eye.1.png")
    run_bundle(tmp_path / "bundle", images, tmp_path / "out")
    with Image.open(tmp_path / "out" / "eye.1.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), ours(model, images / "eye.1.png").argmax(0))


def test_a_classification_becomes_the_table_that_evaluate_takes(tmp_path: Path) -> None:
    model = exported_models.model(tmp_path / "model", "2D classification")
    images = bundled(model, tmp_path)
    for name, shape in (("a", (64, 48)), ("b", (200, 90))):  # on the grid, and to be resized
        pixels = np.zeros(shape, np.uint8)
        pixels[10:40, 10:30] = np.random.default_rng(1).integers(50, 255, (30, 20))
        Image.fromarray(pixels).save(images / f"{name}.png")
    run_bundle(tmp_path / "bundle", images, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open() as opened:
        rows = {row["case"]: row for row in csv.DictReader(opened)}
    for name in "ab":
        wanted = ours(model, images / f"{name}.png")
        np.testing.assert_allclose([float(rows[name][c]) for c in ("normal", "abnormal")], wanted, atol=1e-3)


def test_the_model_s_own_overlap_and_the_study_s_values(tmp_path: Path) -> None:
    """An image of several windows: at another overlap it has other answers."""
    values = {"0": 0, "255": 1}
    model = exported_models.model(tmp_path / "model", "2D segmentation", overlap=0.0, label_values=values)
    images = bundled(model, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "eye.png")
    run_bundle(tmp_path / "bundle", images, tmp_path / "out")
    stored = stored_case(read_image({"0": images / "eye.png"}), "eye", model.preprocessing, 1)
    masks = {}
    for overlap in (0.0, 0.5):
        (answer,) = Predictor(model, overlap).answers([stored])
        masks[overlap] = 255 * answer.probabilities.argmax(0)
    assert (masks[0.0] != masks[0.5]).any()
    with Image.open(tmp_path / "out" / "eye.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), masks[0.0])


def test_a_photograph_on_its_side_and_a_grey_one_of_16_bits(tmp_path: Path) -> None:
    """Read as `elsewhere predict` reads them: turned as a viewer turns them; not rounded when they are resized."""
    model = exported_models.model(tmp_path / "model", "2D classification")
    images = bundled(model, tmp_path)
    pixels = np.zeros((90, 120), np.uint8)
    pixels[10:40, 10:90] = np.random.default_rng(1).integers(50, 255, (30, 80))
    side = Image.Exif()
    side[0x0112] = 6
    Image.fromarray(pixels).save(images / "phone.png", exif=side)
    Image.fromarray((pixels // 100).astype(np.uint16)).save(images / "deep.png")
    (images / ".hidden.png").write_bytes(b"")
    run_bundle(tmp_path / "bundle", images, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open() as opened:
        rows = {row["case"]: row for row in csv.DictReader(opened)}
    assert sorted(rows) == ["deep", "phone"]
    for name in rows:
        wanted = ours(model, images / f"{name}.png")
        np.testing.assert_allclose([float(rows[name][c]) for c in ("normal", "abnormal")], wanted, atol=1e-5)


def test_whole_numbers_of_a_volume_are_rounded_only_where_they_are_8_bits(tmp_path: Path) -> None:
    model = exported_models.model(tmp_path / "model", "3D classification")
    bundle = export_model(model, "monai-bundle", tmp_path / "bundle").path
    images = tmp_path / "input"
    images.mkdir()
    values = np.random.default_rng(0).integers(0, 5, (20, 24, 18))
    for dtype in (np.uint8, np.int16):
        nibabel.save(nibabel.Nifti1Image(values.astype(dtype), np.eye(4)), images / f"{np.dtype(dtype).name}.nii.gz")
    run_bundle(bundle, images, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open() as opened:
        rows = {row["case"]: [float(row[name]) for name in "ABC"] for row in csv.DictReader(opened)}
    for name, found in rows.items():
        np.testing.assert_allclose(found, ours(model, images / f"{name}.nii.gz"), atol=1e-5)
    assert not np.allclose(rows["uint8"], rows["int16"], atol=1e-4)


def test_a_case_that_lacks_a_channel_moves_no_other(tmp_path: Path) -> None:
    images = tmp_path / "input"
    images.mkdir()
    for name in ("a_0000", "a_0001", "b_0001", "c_0000", "c_0001"):
        volume(images / f"{name}.nii.gz", 0, (1.0, 1.0, 2.0))
    model = exported_models.model(tmp_path / "model", "3D segmentation")
    bundle = export_model(model, "monai-bundle", tmp_path / "bundle").path
    listed = parsed(bundle, {"dataset_dir": str(images)}).get_parsed_content("datalist")
    names = [[Path(file).name for file in item["image"]] for item in listed]
    assert names == [[f"{case}_000{c}.nii.gz" for c in range(2)] for case in "ac"]


@pytest.mark.parametrize("name", ["$open('RAN', 'w').close()", "@device", "%x::y", "a@::b", "_target_"])
def test_what_monai_would_take_for_code_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ({"classes": ["normal", name]}, {"sites": [name]}, {"thresholds": {name: 0.5}}):
        model = exported_models.model(tmp_path / "model", "2D classification", **more)
        with pytest.raises(RunError, match=r"cannot stand in a MONAI bundle, whose configs are code"):
            export_model(model, "monai-bundle", tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
    assert not (tmp_path / "RAN").exists()


def test_names_with_commas_and_markup_stay_what_they_are(tmp_path: Path) -> None:
    classes = ["no, none", '<b>"severe"</b>']
    model = exported_models.model(tmp_path / "model", "2D classification", classes=classes)
    bundle = export_model(model, "monai-bundle", tmp_path / "bundle").path
    images = tmp_path / "input"
    images.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(images / "a, b.png")
    run_bundle(bundle, images, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert list(row) == ["case", *classes]
    assert row["case"] == "a, b"
    assert sum(float(row[name]) for name in classes) == pytest.approx(1, abs=1e-6)
    assert "<b>" not in (bundle / "docs" / "README.md").read_text()


def test_a_classifier_trained_on_patches_sees_whole_images(tmp_path: Path) -> None:
    kind = exported_models.KINDS["2D classification"]
    rules = {**kind["rules"], "patch_size": [32, 32], "dims": 2}
    model = exported_models.model(tmp_path / "model", "2D classification", preprocessing=rules)
    bundle = export_model(model, "monai-bundle", tmp_path / "bundle").path
    told = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert (told["is_patch_data"], told["spatial_shape"]) == (False, [64, 48])


def test_metadata_is_what_monai_asks_for(tmp_path: Path) -> None:
    model = exported_models.model(tmp_path / "model", "CT by DynUNet")
    bundle = export_model(model, "monai-bundle", tmp_path / "bundle", name="livers").path
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"), workflow_type="infer", bundle_root=str(bundle)
    )
    workflow.parser["dataset_dir"] = str(bundle)
    workflow.initialize()
    assert workflow.check_properties() == []
    told = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert told["elsewhere"]["preprocessing"]["clip"] == [[-200.0, 300.0]]
    assert told["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver"}
    names = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    assert names == ["configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.ts"]


def test_a_bundle_that_answers_otherwise_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elsewhere.deploy import bundle_inference

    model = exported_models.model(tmp_path / "model", "2D segmentation")
    monkeypatch.setattr(bundle_inference, "_normalised", lambda model: "x / 255")
    with pytest.raises(
        RunError, match=r"the bundle's probabilities for a file of \[21, 22\] differ from the model's by"
    ):
        export_model(model, "monai-bundle", tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").write_text("")
    with pytest.raises(RunError, match="is there already; wanted a folder that is new or empty"):
        export_model(model, "monai-bundle", tmp_path / "bundle")


def test_z_scores_are_those_of_the_cache(tmp_path: Path) -> None:
    """Over the voxels that are not 0 where more than a quarter is; a constant channel becomes 0."""
    from elsewhere.study.entry import intensity_statistics

    model = exported_models.model(tmp_path / "model", "2D classification")
    bundle = export_model(model, "monai-bundle", tmp_path / "bundle").path
    rng = np.random.default_rng(0)
    images = [rng.normal(100, 20, (1, 8, 8)), rng.normal(100, 20, (1, 8, 8)) * (rng.random((1, 8, 8)) < 0.5)]
    moments = parsed(bundle, {"dataset_dir": str(tmp_path)}).get_parsed_content("moments")
    for image in images:
        mean, std = intensity_statistics(image)
        found = [float(part) for part in moments(torch.from_numpy(image))]
        np.testing.assert_allclose(found, [mean[0], std[0]], rtol=1e-6)
    assert [float(part) for part in moments(torch.full((1, 4, 4), 7.0))] == [7.0, 1.0]
    assert [float(part) for part in moments(torch.zeros(1, 4, 4))] == [0.0, 1.0]
