from __future__ import annotations

import errno
import gzip
import json
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from made_models import model_folder, reconfigured, rehash
from PIL import Image
from scipy.special import softmax
from small_models import case

import elsewhere
from elsewhere.deploy.folder import (
    CARD,
    CONFIG,
    DEVELOPMENT,
    FILES,
    SUMS,
    WEIGHTS,
    check_folder,
    check_kept,
    publish,
    recover,
)
from elsewhere.deploy.model import Model, load
from elsewhere.errors import ModelError, StudyError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("made") / "MODEL")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Model:
    conformal = {"kind": "label sets", "sentence": "x", "threshold": 0.7, "level": 0.9, "n_patients": 9, "reason": None}
    folder = tmp_path_factory.mktemp("made") / "CLASSIFIER"
    return load(model_folder(folder, "resnet18", thresholds={"a": 0.34, "b": 0.9}, conformal=conformal), device="cpu")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "MODEL"))


# ---- refused


def add(name: str, content: bytes, *, listed: bool = False) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)
        if listed:
            rehash(folder)

    return change


def cut(name: str, *, listed: bool = False) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])
        if listed:
            rehash(folder)

    return change


def remove(*names: str, listed: bool = False) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()
        if listed:
            rehash(folder)

    return change


def sums(line: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / SUMS).write_text((folder / SUMS).read_text() + line + "\n")

    return change


def linked(name: str) -> Callable[[Path], None]:
    """The right bytes, but outside."""

    def change(folder: Path) -> None:
        outside = folder.parent / f"outside-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return change


def configured(**changes: object) -> Callable[[Path], None]:
    return lambda folder: reconfigured(folder, lambda config: config.update(changes))


def without(key: str) -> Callable[[Path], None]:
    return lambda folder: reconfigured(folder, lambda config: config.pop(key))


HASH = "0" * 64
CALLS = pickle.dumps(print)
ZIP = b"PK\x03\x04" + bytes(60)

REFUSED = {
    "a pickle by name": (add("weights.pt", b"anything"), r"weights\.pt is a pickle"),
    "a pickle by name, listed": (add("MODEL.CKPT", b"anything", listed=True), r"MODEL\.CKPT is a pickle"),
    "a pickle by content": (add("notes.txt", CALLS, listed=True), r"notes\.txt is a pickle"),
    "torch's archive": (add("extra.safetensors", ZIP, listed=True), r"extra\.safetensors is a pickle, or an archive"),
    "a pickle in place of the weights": (add(WEIGHTS, CALLS, listed=True), r"model\.safetensors is a pickle"),
    "not listed": (add("readme.txt", b"hello"), r"readme\.txt is not listed in SHA256SUMS"),
    "a stranger, listed": (add("extra.txt", b"hello", listed=True), r"extra\.txt is no file of a model"),
    "a pickle as text, listed": (
        add("notes.txt", pickle.dumps(print, protocol=0), listed=True), r"notes\.txt is no file of a model"
    ),
    "a pickle in an array, listed": (add("a.npy", b"\x93NUMPY\x01\x00" + CALLS, listed=True), r"a\.npy is no file"),
    "a compressed pickle, listed": (add("a", gzip.compress(CALLS), listed=True), r": a is no file of a model"),
    "hidden and not listed": (add(".DS_Store", b"hello"), r"\.DS_Store is not listed"),
    "truncated weights": (cut(WEIGHTS), r"model\.safetensors is not what it was when the model was made"),
    "truncated weights, listed": (cut(WEIGHTS, listed=True), r"the model cannot be read"),
    "truncated statistics, listed": (cut(DEVELOPMENT, listed=True), r"no development statistics that can be read"),
    "a changed card": (add(CARD, b"# Perfect\n"), r"card\.md is not what it was"),
    "no weights": (remove(WEIGHTS), r"model\.safetensors is missing"),
    "no card": (remove(CARD, listed=True), r"card\.md is missing"),
    "no hashes": (remove(SUMS), r"there is no SHA256SUMS; wanted a finished model"),
    "empty": (remove(*FILES, SUMS), r"there is no SHA256SUMS"),
    "no folder": (shutil.rmtree, r"there is no such folder"),
    "a line that is none": (sums("hello"), r"SHA256SUMS line 5: wanted a SHA-256 and a file name, found 'hello'"),
    "a way out": (sums(f"{HASH}  ../secret"), r"line 5: '\.\./secret' leads out of the folder"),
    "an absolute way out": (sums(f"{HASH}  /etc/passwd"), r"'/etc/passwd' leads out of the folder"),
    "a way out for Windows": (sums(f"{HASH}  ..\\secret"), r"leads out of the folder"),
    "listed twice": (sums(f"{HASH}  {CARD}"), r"'card\.md' is listed twice"),
    "listed and absent": (sums(f"{HASH}  other.txt"), r"other\.txt is missing"),
    "a link": (linked(WEIGHTS), r"model\.safetensors is a link"),
    "linked hashes": (linked(SUMS), r"SHA256SUMS is a link"),
    "a folder": (lambda folder: (folder / "more").mkdir(), r"more is no plain file"),
    "no YAML": (add(CONFIG, b"a: [", listed=True), r"config\.yaml: cannot be read"),
    "code in YAML": (
        add(CONFIG, b"!!python/object/apply:os.system [touch RAN]", listed=True), r"config\.yaml: cannot be read"
    ),
    "no configuration": (add(CONFIG, b"hello", listed=True), r"config\.yaml: has no key 'format'"),
    "an older format": (configured(format=1), r"is of format 1, this version of elsewhere reads format 2"),
    "a newer format": (configured(format=3, versions={"elsewhere": "9.9"}), r"the version that made it \(9\.9\)"),
    "a key missing": (without("temperature"), r"key 'temperature' is missing"),
    "a key of another type": (configured(thresholds=3), r"key 'thresholds': found 3"),
    "a temperature that is none": (configured(temperature=0.0), r"key 'temperature': found 0\.0, wanted"),
    "a temperature that is no number": (configured(temperature=float("nan")), r"key 'temperature': found nan"),
    "other axes": (configured(orientation="LPS"), r"key 'orientation': found 'LPS'; this version knows RAS only"),
    "no preprocessing": (configured(preprocessing={"dims": 2}), r"key 'preprocessing\.channels': Field required"),
    "preprocessing of another kind": (
        configured(preprocessing={"dims": 2, "channels": ["image"], "gamma": 2}), r"key 'preprocessing\.gamma': Extra"
    ),
    "half a prediction set": (configured(conformal={"kind": "outer mask"}), r"key 'conformal' cannot be read"),
    "another network": (configured(network_options={"channels": [8, 8]}), r"the model cannot be read"),
    "no such network": (configured(network="nonet"), r"unknown network 'nonet'"),
    "no such method": (configured(method="nomethod"), r"unknown method 'nomethod'"),
    "a network by import path": (configured(network="code_of_theirs:Net"), r"code_of_theirs:Net.*use --trust"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_one_sentence(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "code_of_theirs.py").write_text("open('RAN', 'w').close()\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    change, sentence = REFUSED[what]
    change(folder)
    with pytest.raises(ModelError, match=sentence) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not (folder.parent / "RAN").exists()


def test_a_pickle_is_refused_before_anything_is_hashed(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"changed")
    (folder / "z.pkl").write_bytes(b"")
    with pytest.raises(ModelError, match="is a pickle"):
        check_folder(folder)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_safetensors_that_begin_like_a_pickle_are_not_taken_for_one(length: int, folder: Path) -> None:
    """Their header's length is written as 0x80, 0x02 and so on, as pickles begin."""
    header = json.dumps({"__metadata__": {"x": "y"}}).encode().ljust(length)
    data = struct.pack("<Q", length) + header
    assert data[:1] == b"\x80"
    assert data[1] in (2, 3, 4, 5)
    (folder / DEVELOPMENT).write_bytes(data)
    rehash(folder)
    check_folder(folder)
    (folder / DEVELOPMENT).write_bytes(data[:2] + b"K\x01." + data[5:])
    rehash(folder)
    with pytest.raises(ModelError, match=r"development\.safetensors is a pickle"):
        check_folder(folder)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_binary_protocol_are_seen(protocol: int, folder: Path) -> None:
    (folder / "notes.txt").write_bytes(pickle.dumps({"a": [1.0, print]}, protocol=protocol))
    rehash(folder)
    with pytest.raises(ModelError, match=r"notes\.txt is a pickle"):
        check_folder(folder)


def test_a_folder_that_cannot_be_listed_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ModelError, match=r"MODEL: cannot be read .Permission denied."):
        check_folder(folder)


def test_a_model_of_a_run_is_looked_at_and_a_finished_one_is_not_taken_for_it(folder: Path) -> None:
    """Else to remove the hashes would be all that it takes to have a changed model exported or evaluated."""
    (folder / SUMS).unlink()
    with pytest.raises(ModelError, match="there is no SHA256SUMS"):
        check_kept(folder)
    reconfigured(folder, lambda config: config.update(format=1))
    (folder / SUMS).unlink()
    check_kept(folder)
    (folder / "optimizer.txt").write_bytes(CALLS)
    with pytest.raises(ModelError, match=r"optimizer\.txt is a pickle"):
        check_kept(folder)
    with pytest.raises(ModelError, match=r"no model here, there is no config\.yaml"):
        check_kept(folder.parent)
    with pytest.raises(ModelError, match="there is no such folder"):
        check_kept(folder / "nowhere")


def test_the_card_is_the_file(made: Path) -> None:
    assert load(made, device="cpu").card == (made / CARD).read_text()


def test_the_hashes_are_those_of_sha256sum(folder: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name}: OK" for name in sorted(FILES)]


# ---- a network of somebody's own


def test_a_network_by_import_path_is_run_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elsewhere import methods, networks, tasks
    from elsewhere.training.model_io import build, describe, weights

    (tmp_path / "their_net.py").write_text(
        "import torch\nclass Net(torch.nn.Conv2d):\n"
        "    def __init__(self, in_channels, out_channels, spatial_dims, size=1):\n"
        "        assert spatial_dims == 2\n"
        "        super().__init__(in_channels, out_channels, size, padding=size // 2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "their_net:Net"
    folder = model_folder(tmp_path / "MODEL")
    networks.trust(name)
    task = tasks.create("segmentation", 2, ("background", "a", "b"))
    preprocessing = load(folder).preprocessing
    config = describe("erm", {}, name, {"size": 3}, task, 2, preprocessing, None)
    method = build(config, 3)
    assert isinstance(method, methods.Method)
    (folder / WEIGHTS).write_bytes(weights(method))
    reconfigured(folder, lambda found: found.update({"network": name, "network_options": {"size": 3}}))
    with pytest.raises(ModelError, match="use --trust"):  # though this process has trusted it for something else
        load(folder)
    model = load(folder, trust=True, device="cpu")
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.deployed(image), method.eval()(image))
    assert name not in networks.names("segmentation", 2)


def test_what_cannot_be_trusted_is_said() -> None:
    from elsewhere import networks
    from elsewhere.errors import SettingsError

    for path, sentence in (
        ("no_such_module:Net", "cannot be imported"),
        ("json:Nothing", "cannot be imported"),
        ("json:dumps", "is no class of torch.nn.Module"),
        ("elsewhere.errors:RunError", "is no class of torch.nn.Module"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            networks.trust(path)
    with pytest.raises(SettingsError, match="nobody allowed that"):
        networks.get("somebody:Net")


# ---- used


def test_segmentation_is_the_network_at_its_temperature(made: Path) -> None:
    model, stored = load(made, device="cpu"), case(3, (16, 16))
    assert (model.task, model.classes, model.temperature) == ("segmentation", ("background", "a", "b"), 2.0)
    found = model.predict(stored)
    image = (torch.from_numpy(stored.image) - stored.mean[0]) / stored.std[0]
    with torch.no_grad():
        logits = model.deployed.method.network(image[None])[0].numpy()
    wanted = softmax(logits.astype(np.float64) / 2.0, axis=0)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
    np.testing.assert_array_equal(found.labels, wanted.argmax(axis=0))
    assert found.labels.dtype == np.uint8  # type: ignore[union-attr]
    assert (found.label, found.plausible) == (None, None)
    assert 0 <= found.confidence <= 1


def test_classification_is_the_network_at_its_temperature(classifier: Model) -> None:
    stored = case(4, (32, 32), label=1)
    found = classifier.predict(stored)
    image = (torch.from_numpy(stored.image) - stored.mean[0]) / stored.std[0]
    with torch.no_grad():
        logits = classifier.deployed.method.network(image[None])[0].double().numpy()
    wanted = softmax(logits / 2.0)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)
    assert (found.labels, found.label) == (wanted.argmax(), classifier.classes[wanted.argmax()])
    assert found.confidence == pytest.approx(wanted.max(), abs=1e-6)
    assert classifier.positive(found) == {"a": bool(wanted[1] >= 0.34), "b": bool(wanted[2] >= 0.9)}
    sets = [n for n, p in zip(classifier.classes, wanted, strict=True) if p >= 1 - 0.7 or p == wanted.max()]
    assert found.plausible == tuple(sets)


def test_file_array_and_case_get_the_same_answer(made: Path, tmp_path: Path) -> None:
    model, stored = load(made, device="cpu"), case(5, (24, 40))
    pixels = np.rint(stored.image[0]).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    by_file = model.predict(tmp_path / "scan.png")
    for other in (model.predict(str(tmp_path / "scan.png")), model.predict(pixels), model.predict(pixels[None])):
        np.testing.assert_array_equal(other.probabilities, by_file.probabilities)
        assert (other.outlier, other.unlike) == (by_file.outlier, by_file.unlike)
    assert np.asarray(by_file.labels).shape == (24, 40)
    assert by_file.case == "scan"
    two = list(model.predictions([stored, by_file.stored]))
    np.testing.assert_array_equal(two[1].probabilities, by_file.probabilities)


def test_a_volume_is_the_same_by_file_and_by_array(tmp_path: Path) -> None:
    """In axes of its own and at a spacing of its own; the mask comes back on its grid."""
    folder = model_folder(tmp_path / "MODEL", dims=3)
    reconfigured(folder, lambda config: config["preprocessing"].update(spacing=[1.0, 1.0, 2.0]))
    model = load(folder, device="cpu")
    voxels = case(7, (20, 18, 10)).image[0]
    affine = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "scan.nii.gz")
    by_file = model.predict(tmp_path / "scan.nii.gz")
    by_array = model.predict(voxels, affine=affine)
    np.testing.assert_allclose(by_array.probabilities, by_file.probabilities, atol=1e-6)
    assert by_file.labels.shape == (20, 18, 10)  # type: ignore[union-attr]
    assert by_file.stored.geometry.shape == (36, 20, 15)
    straight = model.predict(voxels, spacing=(1.0, 2.0, 3.0))
    assert straight.stored.geometry.shape == (20, 36, 15)
    assert np.asarray(straight.labels).shape == (20, 18, 10)
    with pytest.raises(StudyError, match="wanted a 4x4 matrix for a 3D array, and no spacing beside it"):
        model.predict(voxels, affine=affine, spacing=(1.0, 2.0, 3.0))


def test_an_image_that_does_not_fit_is_refused(made: Path, tmp_path: Path) -> None:
    model = load(made, device="cpu")
    for array in (np.zeros((2, 3, 16, 16)), np.zeros(16), np.zeros((0, 16)), np.array([["a"]])):
        with pytest.raises(StudyError, match="the array is"):
            model.predict(array)
    with pytest.raises(StudyError, match="2 channels; the model takes 1"):
        model.predict(np.zeros((2, 16, 16)))
    with pytest.raises(StudyError, match="NaN"):
        model.predict(np.full((16, 16), np.nan))
    with pytest.raises(StudyError, match="wanted 2 positive numbers"):
        model.predict(np.zeros((16, 16)), spacing=(1.0, -1.0))
    for name in ("a", "b"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / f"{name}.png")
    with pytest.raises(StudyError, match="holds 2 images; wanted one"):
        model.predict(tmp_path)


def test_thresholds_and_outer_masks_of_a_segmentation(tmp_path: Path) -> None:
    outer = {"kind": "outer mask", "sentence": "x", "threshold": 0.6, "level": 0.9, "missed": 0.1, "n_patients": 9}
    folder = model_folder(tmp_path / "MODEL", thresholds={"foreground": 0.65}, conformal={**outer, "reason": None})
    model = load(folder, device="cpu")
    found = model.predict(case(6, (16, 16)))
    foreground = found.probabilities[1:].sum(axis=0)
    assert 0 < (foreground >= 0.65).mean() < 1
    np.testing.assert_array_equal(model.mask(found) > 0, 1 - found.probabilities[0] >= 0.65)
    inside = model.mask(found) > 0
    np.testing.assert_array_equal(model.mask(found)[inside] - 1, found.probabilities[1:].argmax(axis=0)[inside])
    np.testing.assert_array_equal(model.outer_mask(found), 1 - found.probabilities[0] >= 0.6)


def test_without_thresholds_there_is_nothing_to_apply(made: Path) -> None:
    model = load(made, device="cpu")
    found = model.predict(case(6, (16, 16)))
    np.testing.assert_array_equal(model.mask(found), found.labels)
    assert model.outer_mask(found) is None


def test_a_strange_image_is_flagged_and_a_like_one_is_not(made: Path) -> None:
    model = load(made, device="cpu")
    like, strange = model.predict(case(20)), model.predict(3000 * case(20).image - 10_000)
    assert strange.unlike is True
    assert strange.outlier > like.outlier


# ---- whole or absent


def test_publishing_replaces_a_model_as_a_whole(folder: Path, made: Path, tmp_path: Path) -> None:
    ready = Path(shutil.copytree(made, tmp_path / "ready"))
    (ready / CARD).write_text("# New\n")
    rehash(ready)
    publish(ready, folder, tmp_path / "aside")
    assert (folder / CARD).read_text() == "# New\n"
    check_folder(folder)
    assert not ready.exists()
    assert not (tmp_path / "aside").exists()


def test_a_kill_between_the_two_renamings_loses_no_model(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "aside")
    recover(folder, tmp_path / "aside")
    check_folder(folder)
    recover(folder, tmp_path / "aside")
    check_folder(folder)


def test_load_is_the_package_s_own_and_imports_nothing_before() -> None:
    assert elsewhere.load is load
    code = "import sys, elsewhere\nprint(sorted({'torch', 'numpy', 'monai', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError):
        elsewhere.nothing  # noqa: B018
