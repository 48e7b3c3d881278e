"""Questions that cannot be answered, and benchmark folders whose files somebody has damaged: one sentence each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
from bench import Bench

from elsewhere.benchmark import run_benchmark
from elsewhere.errors import ElsewhereError, RunError
from elsewhere.report import write_report


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("size=0", "setting size: found 0; wanted a whole number above 0"),
        ("size=[7,x]", "setting size: found [7, 'x']; wanted a whole number"),
        ("size=99999", "size is 99999, 99999: 9999800001 values"),
        ("patch_size=100000", "patch_size is 100000, 100000"),
        ("patch_size=[8,8,8]", "patch_size is 8, 8, 8; wanted 2 positive numbers for 2D images"),
        ("spacing=-1", "setting spacing: found -1; wanted mm"),
        ("spacing=[1,1,1]", "spacing is 1.0, 1.0, 1.0; wanted 2 positive numbers"),
        ("flip_axes=[2]", "2D images have no axis 2"),
        ("learning_rate=.inf", "setting learning_rate: found inf; it should be a finite number"),
        ("network_options={channels: [8]}", "channels must name at least two levels"),
        ("network_options={norm: foo}", "norm must be one of instance, batch, found 'foo'"),
        ("network_options={dropout: 2}", "network unet: cannot be built with dropout=2"),
        ("patch_size=[32,40]", "patch_size=[32, 40] does not fit network unet; each must be a multiple of [16, 16]"),
        ("patch_size=16", "is one voxel after 4 halvings, and instance norm needs two; wanted a patch_size of 32"),
    ],
)
def test_a_setting_out_of_range_is_said_before_a_folder_is_made(
    study: Path, tmp_path: Path, change: str, says: str
) -> None:
    with pytest.raises(ElsewhereError) as caught:
        run_benchmark(study, out=tmp_path / "bench", methods=["erm"], steps=2, changes=[change])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bench").exists()


@pytest.mark.parametrize("change", ["device=cuda", "precision=16-mixed"])
def test_a_machine_that_cannot_do_it(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ElsewhereError, match="GPU"):
        run_benchmark(study, out=tmp_path / "bench", methods=["erm"], steps=2, changes=[change])
    assert not (tmp_path / "bench").exists()


DAMAGE = ["", "{", "[]", "{}", "a,b\n1,2\n", "\0\1\2"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("good")
    study = tiny.segmentation(root / "study", {"A": 3, "B": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELSEWHERE_CACHE", str(root / "cache"))
        assert Bench(root / "bench")(study) == 0
    return study, root / "bench"


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["plan.json", "results.csv", "cases.csv"])
def test_a_damaged_table_is_named_and_written_anew(
    good: tuple[Path, Path], tmp_path: Path, name: str, content: str
) -> None:
    study, whole = good
    bench = Bench(tmp_path / "bench")
    shutil.copytree(whole, bench.out)
    (bench.out / name).write_text(content)
    if name != "cases.csv":  # the report goes by the runs' own
        with pytest.raises(RunError, match=rf"{name}: is damaged .*run the same 'elsewhere benchmark' command again"):
            write_report(bench.out)
    assert bench(study) == 0
    assert "1 done, 0 to do" in bench.said
    assert (bench.out / "results.csv").read_text() == (whole / "results.csv").read_text()
    write_report(bench.out)


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["cases.csv", "predictions.parquet"])
def test_a_damaged_run_is_named(good: tuple[Path, Path], tmp_path: Path, name: str, content: str) -> None:
    """Of a run as it was before tables had hashes; later ones are in `test_benchmark_evaluation`."""
    study, whole = good
    bench = Bench(tmp_path / "bench")
    shutil.copytree(whole, bench.out)
    (run,) = bench.runs()
    done = json.loads((run / "done.json").read_text())
    (run / "done.json").write_text(json.dumps({**done, "files": {}}))
    (run / name).write_text(content)
    with pytest.raises(RunError, match=rf"{name}: is (damaged|missing).*delete the folder {run}"):
        bench(study)
    shutil.rmtree(run)
    assert bench(study) == 0


@pytest.mark.parametrize("content", ["{", "[{}]", "\0"])
def test_damaged_examples_are_named(good: tuple[Path, Path], tmp_path: Path, content: str) -> None:
    shutil.copytree(good[1], tmp_path / "bench")
    (listed,) = (tmp_path / "bench").glob("runs/*/*/*/examples/source-val/examples.json")
    listed.write_text(content)
    with pytest.raises(RunError, match=r"examples.*: is damaged"):
        write_report(tmp_path / "bench")
