"""Exported networks answer like the model, say what they need, and are whole or absent."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import exported_models
import pytest
import torch
from made_models import model_folder
from torch import Tensor, nn
from typer.testing import CliRunner

from elsewhere.cli import app
from elsewhere.deploy import export_check
from elsewhere.deploy.export import export_model, open_model
from elsewhere.deploy.folder import SUMS
from elsewhere.errors import ElsewhereError, RunError, SettingsError
from elsewhere.networks import pretrained
from elsewhere.training.model_io import Deployed

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

ENDINGS = {"torchscript": "model.ts", "onnx": "model.onnx"}


def run(path: Path, image: Tensor) -> Tensor:
    """Without any of our code: as somebody would who has only the file."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])
    loaded = torch.jit.load(str(path))
    with torch.no_grad():
        found: Tensor = loaded(image)
    return found


def described(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        import onnx

        properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        return dict(json.loads(properties["elsewhere"]))
    extra = {"elsewhere.json": ""}
    torch.jit.load(str(path), _extra_files=extra)
    return dict(json.loads(extra["elsewhere.json"]))


@pytest.mark.parametrize("to", list(ENDINGS))
@pytest.mark.parametrize("kind", list(exported_models.KINDS))
def test_the_file_alone_answers_like_the_model(tmp_path: Path, kind: str, to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = exported_models.model(tmp_path / "model", kind, temperature=1.7, sites=["A", "B"], overlap=0.25)
    out = tmp_path / "out" / ENDINGS[to]
    done = export_model(model, to, out)
    rules = model.preprocessing
    size = model.patch_size or rules.size
    assert size is not None
    image = torch.randn(2, len(rules.channels), *(2 * n for n in size))  # a size that the export did not see
    with torch.no_grad():
        wanted = model(image)
    torch.testing.assert_close(run(out, image), wanted, atol=1e-4, rtol=1e-4)
    assert done.difference <= export_check.TOLERANCE
    assert len(done.inputs) == 5
    told = described(out)
    assert told["preprocessing"] == rules.model_dump(mode="json")
    assert (told["task"], told["dims"], tuple(told["classes"])) == exported_models.KINDS[kind]["task"]
    assert (told["temperature"], told["sites"], told["overlap"]) == (1.7, ["A", "B"], 0.25)
    assert told["multiple_of"] == list(model.multiple_of)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


STABLE = {"extractor": "elsewhere-3d", "extractor_options": {"features": 3, "width": 4, "downs": 1}, "norm": "voxel"}


@pytest.mark.parametrize("to", list(ENDINGS))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("2D segmentation", {}),
        ("3D segmentation", STABLE),
        ("3D segmentation", {"image": False}),
        ("2D classification", {"norm": "voxel"}),
    ],
)
def test_the_extractor_of_dropgen_is_in_the_file(tmp_path: Path, kind: str, options: dict[str, Any], to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    with pretrained.layout_only():
        model = exported_models.model(tmp_path / "model", kind, method="dropgen", options=options)
    done = export_model(model, to, tmp_path / ENDINGS[to])
    assert done.difference <= export_check.TOLERANCE
    size = model.patch_size or model.preprocessing.size
    assert size is not None
    image = torch.randn(2, len(model.preprocessing.channels), *(2 * n for n in size))
    with torch.no_grad():
        wanted = model(image)
    torch.testing.assert_close(run(done.path, image), wanted, atol=1e-4, rtol=1e-4)


class Different(Deployed):
    """Answers otherwise the second time that it is asked for a batch of one."""

    asked = 0

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        self.asked += 1
        return logits + 0.01 * (self.asked > 3)


@pytest.mark.parametrize("to", ["torchscript", "monai-bundle"])
def test_what_answers_differently_is_not_left_behind(tmp_path: Path, to: str) -> None:
    model = exported_models.model(tmp_path / "model", "2D segmentation")
    different = Different(model.method, model.preprocessing, model.config)
    out = tmp_path / "out" / ("model.ts" if to == "torchscript" else "bundle")
    with pytest.raises(RunError, match=r"the exported TorchScript differs from the model by .* wanted at most 0.0001"):
        export_model(different, to, out)
    assert not out.exists()
    assert list(out.parent.iterdir()) == []


class Untraceable(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        raise RuntimeError("no such operator")


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported_models.model(tmp_path / "model", "2D classification")
    out = tmp_path / "model.ts"
    out.write_bytes(b"before")
    monkeypatch.setattr(torch.jit, "trace", lambda *a, **k: Untraceable()(None))
    with pytest.raises(RunError, match=r"network resnet18 cannot be exported to TorchScript \(no such operator\)"):
        export_model(model, "torchscript", out)
    assert out.read_bytes() == b"before"
    with pytest.raises(SettingsError, match=r"the name of a onnx file ends in .onnx"):
        export_model(model, "onnx", tmp_path / "model.bin")
    with pytest.raises(SettingsError, match="unknown format; wanted one of onnx, torchscript, monai-bundle"):
        export_model(model, "coreml", tmp_path / "model.bin")
    (tmp_path / "folder.ts").mkdir()
    with pytest.raises(RunError, match="is a folder; wanted the name of a file"):
        export_model(model, "torchscript", tmp_path / "folder.ts")


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elsewhere.deploy import runtimes

    model = exported_models.model(tmp_path / "model", "2D classification")
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ElsewhereError, match=r"needs onnx and onnxruntime: pip install 'elsewhere\[onnx\]'"):
        export_model(model, "onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_the_command(tmp_path: Path) -> None:
    model = exported_models.saved(tmp_path / "model", "2D classification")
    out = tmp_path / "net.ts"
    done = CliRunner().invoke(app, ["export", str(model), "--to", "torchscript", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"wrote {out}: on 5 inputs (1x1x64x48, 3x1x64x48" in done.output
    assert zipfile.is_zipfile(out)
    inside = CliRunner().invoke(app, ["export", str(model), "--to", "torchscript", "--out", str(model / "net.ts")])
    assert isinstance(inside.exception, ElsewhereError)
    assert "lies in the model's folder" in str(inside.exception)  # which would be refused with it
    again = CliRunner().invoke(app, ["export", str(tmp_path), "--to", "torchscript", "--out", str(out)])
    assert isinstance(again.exception, ElsewhereError)


def test_a_finished_model_without_its_hashes_is_not_exported(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "MODEL")
    (folder / SUMS).unlink()
    with pytest.raises(ElsewhereError, match="there is no SHA256SUMS"):
        open_model(folder)
    kept = exported_models.saved(tmp_path / "kept", "2D segmentation")
    assert open_model(kept).task.classes == ("background", "vessel")
    (kept / "state.pt").write_bytes(b"")
    with pytest.raises(ElsewhereError, match=r"state\.pt is a pickle"):
        open_model(kept)


def test_trial_inputs_look_at_more_than_one_size(tmp_path: Path) -> None:
    inputs = export_check.trial_inputs(exported_models.model(tmp_path / "model", "3D segmentation"))
    assert {tuple(image.shape[2:]) for image in inputs} == {(16, 16, 8), (24, 24, 16)}
    assert {len(image) for image in inputs} == {1, 2, 3}
    assert any(0.4 < float((image == 0).float().mean()) < 0.6 for image in inputs)  # cut out, as many images are
    assert all(float(image.std()) > 0.1 for image in inputs)
