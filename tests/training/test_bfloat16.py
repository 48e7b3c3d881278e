from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmark import tiny
from elsewhere.cli import main
from elsewhere.training import bfloat16
from elsewhere.training.bfloat16 import slow_bfloat16


def sleepy(dtype: torch.dtype) -> SimpleNamespace:
    """Convolutions that rest before they work in one of the precisions."""

    def convolve(image: Tensor, kernel: Tensor, padding: int) -> Tensor:
        time.sleep(0.03 if image.dtype == dtype else 0.003)
        assert torch.get_num_threads() == 1
        return image

    return SimpleNamespace(conv2d=convolve, conv3d=convolve)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_processor_that_imitates_bfloat16_is_named(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(bfloat16, "functional", sleepy(torch.bfloat16))
    said = slow_bfloat16("bf16-mixed", "cpu", dims)
    assert said is not None
    assert 5 < float(said.split(" times")[0].split()[-1]) < 12
    assert said.endswith("precision=32-true would be faster")
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(bfloat16, "functional", sleepy(torch.float32))
    assert slow_bfloat16("bf16-mixed", "cpu", dims) is None


def test_nothing_is_timed_where_nothing_is_to_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "functional", None)
    assert slow_bfloat16("32-true", "cpu", 3) is None
    assert slow_bfloat16("bf16-mixed", "cuda", 3) is None  # that there is none is said elsewhere
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert slow_bfloat16("bf16-mixed", "auto", 3) is None
    with pytest.raises(AttributeError):  # a GPU that there is, and that is not used
        slow_bfloat16("bf16-mixed", "cpu", 3)


def test_each_command_that_trains_says_it_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bfloat16, "_seconds", lambda image, _: 3.0 if image.dtype == torch.bfloat16 else 1.0)
    study = str(tiny.segmentation(tmp_path / "study", {"A": 7, "B": 7}))
    small = ["--steps", "1", "--set", *tiny.SETTINGS]
    results = ["benchmark", study, "--methods", "erm", "--held-out", "A", "--out", str(tmp_path / "results"), *small]
    model = ["train", study, "--method", "erm", "--out", str(tmp_path / "model"), *small]
    weights = ["pretrain", "--dims", "2", "--out", str(tmp_path / "mine.safetensors"), "--steps", "1", "--set"]
    weights += ["size=8", "shift=2", "width=4", "downs=1", "features=3", "points=24", "validation=1", "batch_size=2"]
    sentence = "precision a bfloat16 convolution takes 3.0 times as long as a float32 one on this processor"

    def said(command: list[str]) -> str:
        with pytest.raises(SystemExit) as ending:
            main(command)
        assert ending.value.code == 0
        return capsys.readouterr().out

    for command in (results, model, weights):
        assert said([*command, "precision=bf16-mixed"]).count(sentence) == 1
    assert sentence not in said([*results, "precision=bf16-mixed"]), "nothing is left to train"
    assert sentence not in said([*results, "precision=32-true"])
