"""Models made elsewhere: what is opened, what is refused, and that the answers are theirs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import exported_models
import pytest
import torch
from torch import Tensor, nn

from elsewhere.deploy.export import export_model
from elsewhere.deploy.foreign import Foreign, open_foreign
from elsewhere.deploy.foreign_network import Answers
from elsewhere.deploy.foreign_settings import parse_settings
from elsewhere.errors import ModelError, SettingsError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SEGMENTS: dict[str, Any] = {"kind": "segmentation", "dims": 2, "classes": ("background", "vessel")}
RGB = ("red", "green", "blue")


class Bright(nn.Module):
    """Logits, probabilities, or one output, of "brighter than 0"."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, image: Tensor) -> Tensor:
        z = image.mean(dim=1, keepdim=True)
        if self.gives == "logits":
            return torch.cat([-z, z], dim=1)
        if self.gives == "probabilities":
            return torch.cat([-z, z], dim=1).softmax(dim=1)
        return 2 * z if self.gives == "one logit" else torch.sigmoid(2 * z)


def traced(path: Path, network: nn.Module, *, extra: dict[str, str] | None = None) -> Path:
    program = torch.jit.trace(network, (torch.randn(1, 3, 8, 8),))
    torch.jit.save(program, str(path), _extra_files=extra or {})
    return path


def opened(path: Path, *settings: str, **more: Any) -> Foreign:
    question = {**SEGMENTS, "channels": RGB, "trust": True, **more}
    return open_foreign(path, settings=parse_settings(settings), **question)


@pytest.mark.parametrize("to", ["torchscript", "onnx"])
def test_what_elsewhere_exported_needs_no_words(tmp_path: Path, to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    model = exported_models.model(tmp_path / "model", "2D segmentation", sites=["A"], temperature=1.5)
    path = export_model(model, to, tmp_path / f"net.{'ts' if to == 'torchscript' else 'onnx'}").path
    foreign = opened(path)
    assert foreign.preprocessing == model.preprocessing
    assert (foreign.patch_size, foreign.multiple_of) == (model.patch_size, model.multiple_of)
    assert (foreign.config["sites"], foreign.config["temperature"]) == (["A"], 1.5)
    image = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(foreign(image), model(image), atol=1e-4, rtol=1e-4)
    with pytest.raises(SettingsError, match=r"--set intensity: net\.\w+ says itself how images are preprocessed"):
        opened(path, "intensity=none")
    with pytest.raises(ModelError, match=r"its classes are background, vessel, the study's background, lesion"):
        opened(path, classes=("background", "lesion"))
    with pytest.raises(ModelError, match="is for segmentation in 2D, the study is segmentation in 3D"):
        opened(path, dims=3)


@pytest.mark.parametrize("gives", ["logits", "probabilities", "one logit", "one probability"])
def test_outputs_are_understood(tmp_path: Path, gives: str) -> None:
    path = traced(tmp_path / "net.ts", Bright(gives))
    said = ["output=probabilities"] if gives == "one probability" else []
    foreign = opened(path, "intensity=none", *said)
    image = 3 * torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        found = foreign(image).softmax(dim=1)[:, 1]
    torch.testing.assert_close(found, torch.sigmoid(2 * image.mean(dim=1)), atol=1e-5, rtol=1e-4)


def test_one_output_between_0_and_1_could_be_either(tmp_path: Path) -> None:
    path = traced(tmp_path / "net.ts", Bright("one probability"))
    with pytest.raises(ModelError, match=r"say whether that is a probability or a logit, with --set output="):
        opened(path, "intensity=none")(torch.zeros(1, 3, 8, 8))
    wrong = opened(traced(tmp_path / "logits.ts", Bright("logits")), "intensity=none", "output=probabilities")
    with pytest.raises(ModelError, match=r"values that are not in \[0, 1\]"):
        wrong(torch.randn(1, 3, 8, 8))


def test_probabilities_of_each_class_by_itself_are_not_taken_for_logits() -> None:
    """Their softmax would be nearly even, and every confidence wrong."""

    class Sigmoids(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.sigmoid(image[:, :2])

    image = torch.randn(2, 3, 8, 8)
    with pytest.raises(ModelError, match=r"lies between 0 and 1 and does not add up to 1.*--set output=logits"):
        Answers(Sigmoids(), 2, "segmentation", "auto")(image)
    said = Answers(Sigmoids(), 2, "segmentation", "logits")(image)
    assert torch.equal(said, torch.sigmoid(image[:, :2]))


def test_outputs_that_do_not_fit() -> None:
    image = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ModelError, match=r"the model has 2 outputs, the study 4 classes"):
        Answers(Bright("logits"), 4, "segmentation", "auto")(image)
    with pytest.raises(ModelError, match=r"with \[2, 2, 8, 8\]; wanted \[2, 2\]"):
        Answers(Bright("logits"), 2, "classification", "auto")(image)

    class Pair(nn.Module):
        def forward(self, image: Tensor) -> Any:
            return {"aux": [image[:, :1]], "out": (Bright("logits")(image), "more")}

    assert Answers(Pair(), 2, "segmentation", "auto")(image).shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], r"net.ts does not say how its images are normalised: add --set intensity=image-zscore"),
        (["intensity=zscore"], r"found intensity=zscore"),
        (["intensity=study-zscore"], r"--set intensity=study-zscore: add mean=..., in the units of the files"),
        (["mean=1", "std=0"], r"--set std=0: wanted a number above 0, or one for each of 3 channels"),
        (["mean=[1, 2]", "std=1"], r"--set mean=\[1, 2\]: wanted a number, or one for each of 3 channels"),
        (["intensity=ct", "mean=0", "std=1", "clip=[3, 1]"], r"--set clip=\[3, 1\]: wanted \[low, high\]"),
        (["intensity=none", "size=[8, 8, 8]"], r"size is 8, 8, 8; wanted 2 positive numbers"),
        (["intensity=none", "size=8", "spacing=1"], r"size and spacing are both given"),
        (["intensity=none", "output=classes"], r"--set output=classes: wanted one of auto, logits, probabilities"),
        (["network=unet"], r"--set network: unknown; of a model's file there are: intensity, mean"),
        (["intensity"], r"wanted KEY=VALUE"),
    ],
)
def test_what_is_said_of_a_file_is_checked(tmp_path: Path, settings: list[str], said: str) -> None:
    path = traced(tmp_path / "net.ts", Bright("logits"))
    with pytest.raises(SettingsError, match=said):
        opened(path, *settings)


def test_what_is_said_of_a_file_is_done(tmp_path: Path) -> None:
    path = traced(tmp_path / "net.ts", Bright("logits"))
    foreign = opened(path, "mean=[100, 110, 120]", "std=20", "patch_size=32", "multiple_of=[8, 4]")
    rules = foreign.preprocessing
    assert (rules.intensity, rules.mean, rules.std) == ("study-zscore", (100, 110, 120), (20, 20, 20))
    assert (foreign.patch_size, foreign.multiple_of) == ((32, 32), (8, 4))
    assert not any(parameter.requires_grad for parameter in foreign.parameters())


def test_trust_and_pickles(tmp_path: Path) -> None:
    path = traced(tmp_path / "net.pt", Bright("logits"))
    with pytest.raises(ModelError, match=r"TorchScript is a program that can write files; .* add --trust"):
        opened(path, "intensity=none", trust=False)
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return mark.touch, ()

    with (tmp_path / "weights.pkl").open("wb") as file:
        pickle.dump(Bomb(), file)
    torch.save({"bomb": Bomb()}, tmp_path / "weights.pt")
    for name in ("weights.pkl", "weights.pt"):
        with pytest.raises(ModelError, match="is a pickle, which can run any code when it is read"):
            opened(tmp_path / name, "intensity=none")
    assert not mark.exists()
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ModelError, match="unknown format"):
        opened(tmp_path / "text.pt", "intensity=none")
    with pytest.raises(ModelError, match="there is no such file or folder"):
        opened(tmp_path / "none.onnx", "intensity=none")
    broken = traced(tmp_path / "broken.ts", Bright("logits"), extra={"elsewhere.json": json.dumps({"task": "x"})})
    with pytest.raises(ModelError, match="what it says of itself under 'elsewhere' cannot be read"):
        opened(broken)


def test_an_onnx_graph_of_fixed_shape(tmp_path: Path) -> None:
    """As many exporters write it: one image at a time, of one size."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    path = tmp_path / "net.onnx"
    torch.onnx.export(Bright("logits"), (torch.randn(2, 3, 8, 8),), str(path), dynamo=False)
    with pytest.raises(SettingsError, match=r"takes images of 8x8 only: add --set size=\[8, 8\] to resize them"):
        opened(path, "intensity=none")
    with pytest.raises(ModelError, match="takes 3 channels, the study's images have 1"):
        opened(path, "intensity=none", "size=8", channels=("image",))
    foreign = opened(path, "intensity=none", "patch_size=8", trust=False)
    image = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(foreign(image), Bright("logits")(image))
    with pytest.raises(ModelError, match=r"the ONNX model fails on an image of shape \[2, 3, 9, 9\]"):
        foreign(torch.zeros(1, 3, 9, 9))
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"bad\.onnx: cannot be read as ONNX"):
        opened(tmp_path / "bad.onnx", "intensity=none")
