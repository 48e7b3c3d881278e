"""A pretraining from the first step to the file: replayed, killed and gone on with, refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch

from elsewhere.cli.app import main
from elsewhere.errors import RunError, SettingsError
from elsewhere.networks.stable import build
from elsewhere.training.pretrain import Pretrained, parse, pretrain
from elsewhere.training.pretrain.loop import PretrainLoop
from elsewhere.training.state import Progress

SMALL = [
    "size=8", "shift=2", "width=4", "downs=1", "features=3", "points=24", "validation=1", "batch_size=2",
    "validate_every=2", "checkpoint_every=2", "log_every=1",
]  # fmt: skip


def small(out: Path, dims: int = 2, steps: int = 5, seed: int = 0, *more: str, **given: Any) -> Pretrained:
    return pretrain(dims, out, parse("cpu", dims, [*SMALL, *more], steps), seed=seed, **given)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_short_one_gives_an_extractor_with_a_card(tmp_path: Path, dims: int) -> None:
    out = tmp_path / "mine.safetensors"
    seen: list[Progress] = []
    done = small(out, dims, 3, command="elsewhere pretrain --dims 2", progress=seen.append)
    extractor = build(f"elsewhere-{dims}d", dims, weights=out)
    features = extractor(torch.rand(2, 1, *(11,) * dims))
    assert features.shape == (2, 3, *(11,) * dims)
    assert bool(torch.isfinite(features).all())
    assert float(features.std()) > 0
    with safetensors.safe_open(out, framework="pt") as file:
        about = file.metadata()
    assert about["steps"] == "3"
    assert about["command"] == "elsewhere pretrain --dims 2"
    assert json.loads(about["config"])["dims"] == dims
    text = done.card.read_text()
    assert extractor.weights_hash in text
    assert "| 3 |" in text
    assert "MIND" in text
    with (tmp_path / "mine.pretrain" / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert [row["step"] for row in rows if row["name"] == "loss"] == ["1", "2", "3"]
    assert {row["name"] for row in rows} == {"loss", "structure", "place", "alike", "seconds", "found_again"}
    assert [row["step"] for row in rows if row["name"] == "found_again"] == ["2", "3"]
    assert seen[-1].step == seen[-1].total == 3
    assert not small(out, dims, 3).fresh


def test_the_seed_decides_every_weight(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    small(a)
    torch.rand(3)  # the global generator plays no part
    small(b)
    small(c, 2, 5, 1)
    assert same(a, b)
    assert not same(a, c)


def test_killed_and_repeated_it_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    small(whole)

    original = PretrainLoop._step
    made: list[int] = []

    def counted(self: Any) -> dict[str, float]:
        made.append(self.state.step)
        if len(made) == 4:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(PretrainLoop, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        small(broken)
    assert not broken.exists()
    small(broken)
    assert made == [0, 1, 2, 3, 2, 3, 4]
    assert same(whole, broken)
    logs = [(tmp_path / f"{name}.pretrain" / "log.csv").read_text().splitlines() for name in ("whole", "broken")]
    kept = [[line for line in log if "seconds" not in line] for log in logs]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("term", ["near=2", "near=1", "alike=0", "place=0", "structure=0"])
def test_every_term_reaches_the_weights(term: str, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain.safetensors", tmp_path / "other.safetensors"
    small(plain, 2, 3, 0, "clip=0")  # with clipping any gradient would change the step of all others
    small(other, 2, 3, 0, "clip=0", term)
    assert not same(plain, other)


def test_another_pretraining_in_the_same_place_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    small(out)
    with pytest.raises(RunError, match="had seed=0, now it is 1"):
        small(out, 2, 5, 1)
    with pytest.raises(RunError, match=r"had temperature=0\.2, now it is 0\.3"):
        small(out, 2, 5, 0, "temperature=0.3")


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["widht=8"], r"unknown setting 'widht'; did you mean width"),
        (["width=wide"], r"setting width: found 'wide'"),
        (["temperature=0"], r"setting temperature: found 0"),
        (["size=20"], r"setting size: found 20; with downs=3 it should be a multiple of 8, 16 or more"),
        (["shift=16"], "setting shift: found 16; it should be below 16"),
        (["structure=0", "place=0"], "both are 0"),
        (["width"], "'width' is not a setting"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(pairs: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        parse("cpu", 3, pairs)


def test_every_recipe_can_be_read_and_there_is_no_other() -> None:
    for recipe in ("cpu", "gpu"):
        for dims in (2, 3):
            assert parse(recipe, dims, [], 7).steps == 7
    with pytest.raises(SettingsError, match="no recipe 'tpu'"):
        parse("tpu", 3, [])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.safetensors"
    command = ["pretrain", "--dims", "2", "--out", str(out), "--steps", "2", "--set", *SMALL]
    with pytest.raises(SystemExit) as ending:
        main(command)
    assert ending.value.code == 0
    assert "of places found again" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command[:4], str(tmp_path / "mine.pth")])
    assert "wanted a file that ends in .safetensors" in capsys.readouterr().err
