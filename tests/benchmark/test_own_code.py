"""Networks and extractors of somebody's own, by import path: only where allowed, and part of what a run is."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import work
from bench import THREE, Bench

from elsewhere.benchmark.planning import plan
from elsewhere.benchmark.spec import RunSpec
from elsewhere.benchmark.trusting import Trusting, trusting
from elsewhere.errors import ElsewhereError, SettingsError
from elsewhere.methods import own_code
from elsewhere.methods.own_code import OwnCode
from elsewhere.study import open_study
from elsewhere.training import Settings

CODE = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, dims, in_channels, out_channels):
        first = nn.Conv2d(in_channels, 4, 3, padding=1)
        super().__init__(first, nn.ReLU(), nn.Conv2d(4, out_channels, 1))

class Colours(Net):
    def __init__(self, dims, in_channels, out_channels, patch_size):
        assert in_channels == 3 and len(patch_size) == dims  # what only the images tell
        super().__init__(dims, in_channels, out_channels)

class Edges(nn.Module):
    def forward(self, image):
        return torch.cat([image.roll(1, 2) - image, image.roll(1, 3) - image], 1)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module `bench_mine`, also for processes that are started."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "bench_mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(own_code, "_IMPORTED", {})
    yield folder / "bench_mine.py"
    sys.modules.pop("bench_mine", None)


def forget(module: ModuleType) -> None:
    """As in a new process."""
    importlib.invalidate_caches()
    sys.modules.pop("bench_mine", None)
    module._IMPORTED.clear()  # type: ignore[attr-defined]


def test_a_network_that_needs_what_only_images_tell_is_not_refused_before(mine: Path, tmp_path: Path) -> None:
    study = open_study(tiny.segmentation(tmp_path / "study", THREE))
    settings = Settings.make({"network": "bench_mine:Colours"})
    specs = plan(study, ["erm"], [0], ["A"], settings, {}, ["source-val"], False, trust=True)
    assert [spec.settings["network"] for spec in specs] == ["bench_mine:Colours"]


def test_nothing_is_imported_without_trust(bench: Bench, mine: Path, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", THREE)
    for changes in (["network=bench_mine:Net"], [*tiny.SETTINGS, "dropgen.extractor=bench_mine:Edges"]):
        with pytest.raises(SettingsError, match=r"bench_mine:\w+ is code outside of elsewhere.*use --trust"):
            bench(study, methods=["dropgen"], changes=changes)
    assert "bench_mine" not in sys.modules
    assert not bench.out.exists()


def test_own_network_and_extractor_in_workers_of_their_own(bench: Bench, mine: Path, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", THREE)
    own = [one for one in tiny.SETTINGS if not one.startswith("network")]
    changes = [*own, "network=bench_mine:Net", "drop.extractor=bench_mine:Edges"]
    code = bench(study, methods=["erm", "drop=dropgen"], changes=changes, trust=True, jobs=2)
    assert code == 0, bench.said
    plan = (bench.out / "plan.json").read_text()
    assert "trust" not in plan  # whoever opens this folder decides anew
    first = {one["spec"]["method"]: one["spec"]["identity"] for one in json.loads(plan)["runs"]}
    mine.write_text(CODE + "\n# another version\n")
    forget(own_code)
    assert bench(study, methods=["erm", "drop=dropgen"], changes=changes, trust=True, jobs=2) == 0, bench.said
    second = {
        one["spec"]["method"]: one["spec"]["identity"]
        for one in json.loads((bench.out / "plan.json").read_text())["runs"]
    }
    assert all(first[name] != second[name] for name in ("erm", "drop"))
    assert len(bench.runs()) == 4


def test_a_file_that_was_changed_under_this_process_is_not_taken_for_what_is_run(
    bench: Bench, mine: Path, tmp_path: Path
) -> None:
    study = tiny.segmentation(tmp_path / "study", THREE)
    own = [one for one in tiny.SETTINGS if not one.startswith("network")]
    changes = [*own, "network=bench_mine:Net"]
    assert bench(study, changes=changes, trust=True, jobs=1) == 0, bench.said
    mine.write_text(CODE.replace("Conv2d(in_channels, 4", "Conv2d(in_channels, 4, bias=False") + "\n")
    with pytest.raises(SettingsError, match="bench_mine:Net: its file was changed after this process imported it"):
        bench(study, changes=changes, trust=True, jobs=1)


def test_a_worker_refuses_code_that_its_run_was_not_planned_with(mine: Path, tmp_path: Path) -> None:
    done: list[RunSpec] = []
    spec = replace(work.spec(0), settings={"network": "bench_mine:Net"}, trained_as="erm", options={})
    careful = trusting(lambda one, *_: done.append(one), [spec])
    assert isinstance(careful, Trusting)
    careful(spec, tmp_path, lambda _: None)
    assert done == [spec]
    with pytest.raises(SettingsError, match="its file was changed after this run was planned"):
        Trusting(careful.work, {"bench_mine:Net": "another"})(spec, tmp_path, lambda _: None)
    assert done == [spec]


def test_a_path_that_cannot_be_imported_is_one_sentence(bench: Bench, mine: Path, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", THREE)
    with pytest.raises(ElsewhereError, match="extractor bench_mine:Corners: cannot be imported"):
        bench(study, methods=["dropgen"], changes=[*tiny.SETTINGS, "dropgen.extractor=bench_mine:Corners"], trust=True)


def test_what_elsewhere_brings_is_nobodys_code() -> None:
    assert OwnCode.of("unet", "dropgen", {"extractor": "mind"}).content() == {}
    assert OwnCode.of(None, "erm", {}).content() == {}
