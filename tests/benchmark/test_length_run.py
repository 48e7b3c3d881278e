"""ERM at several lengths: the same trainings as a benchmark's, none twice, and no held-out case opened."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from bench import Bench, weights
from rich.console import Console

from elsewhere.benchmark import LocalExecutor
from elsewhere.benchmark.attempt import Work
from elsewhere.benchmark.length import read_length
from elsewhere.benchmark.length_run import run_length
from elsewhere.benchmark.run import execute, train_only
from elsewhere.benchmark.spec import RunSpec
from elsewhere.cli import main
from elsewhere.errors import RunError, SettingsError, StudyError
from elsewhere.report import write_report
from elsewhere.study.held_out import HeldOut


class Lengths(Bench):
    """The question of the length, in the folder of a benchmark."""

    def __call__(self, study: Path, *, changes: list[str] | None = None, **more: object) -> int:
        console = Console(file=io.StringIO(), width=200)
        question: dict[str, Any] = {"steps": [2, 4], "held_out": ["A"], **more}
        code = run_length(study, out=self.out, changes=changes or tiny.SETTINGS, console=console, **question)
        self.said = console.file.getvalue()  # type: ignore[attr-defined]
        return code


@pytest.fixture
def lengths(bench: Bench) -> Lengths:
    return Lengths(bench.out)


def written(runs: list[Path]) -> dict[str, tuple[int, bytes]]:
    """When the log of each run was written last, and its weights."""
    return {str(run): ((run / "log.csv").stat().st_mtime_ns, weights(run)) for run in runs}


def done(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "done.json").read_text())
    return found


def test_the_trainings_are_those_of_a_benchmark_which_only_evaluates_them(
    bench: Bench, lengths: Lengths, study: Path, tmp_path: Path
) -> None:
    assert lengths(study) == 0
    trained = {done(run)["steps"]: run for run in lengths.runs()}
    assert set(trained) == {2, 4}
    assert not (trained[4] / "cases.csv").exists()
    assert not (trained[4] / "checkpoint").exists()
    before = written(lengths.runs())
    straight = Bench(tmp_path / "straight")
    for steps in (4, 2):
        assert straight(study, steps=steps) == 0
        assert bench(study, steps=steps) == 0
        assert "again     1 of them is trained already, and only evaluated" in bench.said
        pd.testing.assert_frame_equal(bench.results(), straight.results())
    assert written(bench.runs()) == before, "nothing was trained"
    for mine, theirs in zip(bench.runs(), straight.runs(), strict=True):
        assert mine.name == theirs.name
        for rule in ("last", "source-val"):
            assert weights(mine, rule) == weights(theirs, rule)
        assert done(mine)["evaluation"] == done(theirs)["evaluation"]
        assert done(mine)["selection"] == ["source-val"]
        assert done(mine)["seconds"]["training"] > 0
        assert (mine / "openings.jsonl").is_file()


def test_finished_runs_are_read_and_nothing_is_trained_twice(bench: Bench, lengths: Lengths, study: Path) -> None:
    assert bench(study, steps=4) == 0
    before, results = written(bench.runs()), (bench.out / "results.csv").read_bytes()
    assert lengths(study) == 0
    assert "2 (1 seed, 2 lengths); 1 done, 1 to do" in lengths.said
    assert lengths(study, steps=[2, 4, 8]) == 0
    assert "3 (1 seed, 3 lengths); 2 done, 1 to do" in lengths.said
    after = written(lengths.runs())
    assert len(after) == 3
    assert before.items() <= after.items()
    assert (bench.out / "results.csv").read_bytes() == results, "the tables are the benchmark's"


def test_the_scores_are_those_of_the_logs_and_of_the_models(lengths: Lengths, study: Path) -> None:
    changes = [*tiny.SETTINGS, "learning_rate=0.05"]
    assert lengths(study, changes=changes, steps=[6, 12], held_out=["A", "B"], seeds=2) == 0
    found = read_length(lengths.out)
    assert found is not None
    assert (found.metric, found.steps, found.pairs, len(found.trainings)) == ("dice", (6, 12), 4, 8)
    assert len({one.selected for one in found.trainings}) > 4, "or the test would show nothing"
    folders = {done(run)["identity"]: run for run in lengths.runs()}
    for one in found.trainings:
        run = folders[one.identity]
        config = yaml.safe_load((run / "config.yaml").read_text())["run"]
        assert (one.held_out, one.seed, one.steps) == (
            config["fold"]["held_out"][0], config["seed"], config["settings"]["steps"],
        )  # fmt: skip
        log = pd.read_csv(run / "log.csv").query("split == 'validation' and name == 'score'")
        assert list(log["step"]) == list(range(2, one.steps + 1, 2))
        assert one.last == log["value"].iloc[-1]
        model = yaml.safe_load((run / "model" / "source-val" / "config.yaml").read_text())
        assert one.selected == pytest.approx(log["value"].max())
        assert one.selected == pytest.approx(model["score"], abs=1e-6)
        assert one.selected_step == model["step"]
    by_length = {
        n: np.array([one.selected for one in found.trainings if one.steps == n]) for n in found.steps
    }  # in one order
    assert found.gains[0].mean == pytest.approx((by_length[12] - by_length[6]).mean())
    assert found.sentence in lengths.said


def shut(*_: object, **__: object) -> None:
    raise AssertionError("a held-out case was opened")


def test_no_held_out_case_is_opened(
    bench: Bench, lengths: Lengths, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the door is used, nor could what is behind it be read: the images of C are no images."""
    (study / "study.yaml").write_text("task: segmentation\nclasses: {background: 0, disc: 1}\n")
    for path in sorted((study / "images").glob("s2-*.png")):
        path.write_bytes(b"not an image")
    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "open", shut)
        patch.setattr(HeldOut, "unlabelled", shut)
        assert lengths(study, held_out=["C"]) == 0
        assert bench(study, held_out=["C"]) == 1
        assert "a held-out case was opened" in bench.said
    assert not list(lengths.out.rglob("openings.jsonl"))
    assert bench(study, held_out=["C"]) == 1
    assert "s2-00.png" in bench.said


class Stopped(BaseException):
    """As Ctrl-C is, no error that a run could have."""


def test_a_report_waits_for_the_evaluation(bench: Bench, lengths: Lengths, study: Path) -> None:
    """A run of the plan that is trained and not evaluated is not finished."""

    def first_alone(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
        if spec.fold.name == "B":
            raise Stopped
        execute(spec, folder, emit)

    assert lengths(study, held_out=["A", "B"]) == 0
    with pytest.raises(Stopped):
        bench(study, steps=4, held_out=["A", "B"], work=first_alone)
    assert "1 of 2 runs are not finished" in write_report(bench.out).read_text(encoding="utf-8")


def test_one_fails_and_the_same_command_goes_on(lengths: Lengths, study: Path) -> None:
    def some(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
        if (spec.fold.name, spec.settings["steps"]) == ("B", 4):
            raise StudyError("no luck")
        train_only(spec, folder, emit)

    assert lengths(study, held_out=["A", "B", "C"], work=some) == 1
    found = read_length(lengths.out)
    assert found is not None
    assert (found.gains[0].n, found.pairs, len(found.trainings)) == (2, 3, 5)
    assert "erm, without B, seed 0, 4 steps: no luck" in lengths.said
    assert "1 of 6 runs failed" in lengths.said
    assert "2 of 3 pairs" in lengths.said
    before = written(lengths.runs())
    assert lengths(study, held_out=["A", "B", "C"]) == 0
    assert "5 done, 1 to do" in lengths.said
    assert before.items() <= written(lengths.runs()).items()
    found = read_length(lengths.out)
    assert found is not None
    assert (found.gains[0].n, found.pairs) == (3, 3)


def test_cut_off_in_the_middle_of_a_training(lengths: Lengths, study: Path, tmp_path: Path) -> None:
    whole = Lengths(tmp_path / "whole")
    assert whole(study, steps=[6, 12]) == 0

    def stop(spec: RunSpec, folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
        def heard(message: dict[str, Any]) -> None:
            emit(message)
            if spec.settings["steps"] == 12 and list(folder.glob("checkpoint/step-*")):
                raise Stopped

        train_only(spec, folder, heard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elsewhere.benchmark.run.EVENT_EVERY", 0.0)
        patch.setattr("elsewhere.training.loop.TELL_EVERY", 0.0)
        with pytest.raises(Stopped):
            lengths(study, steps=[6, 12], work=stop)
    assert len(list(lengths.out.rglob("done.json"))) == 1
    assert list(lengths.out.glob("runs/*/*/*/checkpoint/step-*"))
    assert read_length(lengths.out) is None
    assert lengths(study, steps=[6, 12]) == 0
    assert "1 done, 1 to do" in lengths.said
    assert read_length(lengths.out) == read_length(whole.out)
    for mine, theirs in zip(lengths.runs(), whole.runs(), strict=True):
        assert weights(mine) == weights(theirs)


def test_in_parallel(lengths: Lengths, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def noted(work: Work, jobs: int) -> LocalExecutor:
        started.append(jobs)
        return LocalExecutor(work, jobs)

    monkeypatch.setattr("elsewhere.benchmark.benchmark.LocalExecutor", noted)
    assert lengths(study, held_out=["A", "B"], jobs=2) == 0
    assert started == [2]
    found = read_length(lengths.out)
    assert found is not None
    assert found.gains[0].n == 2


def test_without_validation_patients_nothing_is_told(lengths: Lengths, tmp_path: Path) -> None:
    study = tiny.segmentation(tmp_path / "study", {"A": 1, "B": 1, "C": 1})
    assert lengths(study) == 0
    found = read_length(lengths.out)
    assert found is not None
    assert (found.gains[0].n, found.verdict) == (0, "not told")
    assert "not told from 0 pairs" in lengths.said
    assert "note A held out: there are no validation cases" in lengths.said


def test_a_training_that_lost_its_log_is_named(lengths: Lengths, study: Path) -> None:
    assert lengths(study) == 0
    (lengths.runs()[0] / "log.csv").unlink()
    with pytest.raises(RunError, match=r"log\.csv: is missing; delete the folder"):
        lengths(study)


def test_the_question_says_what_is_trained(lengths: Lengths, study: Path) -> None:
    assert (
        lengths(study, methods=["gin", "erm", "mine=vrex"], changes=[*tiny.SETTINGS, "gin.alpha=0.5"], patients=2) == 0
    )
    for line in (
        "question  does a longer training pay? erm alone is trained, and scored on validation patients; gin, mine are "
        "not trained for it",
        "held out  A; no held-out case is opened",
        "training  unet, 2 and 4 steps of 4 cases",
        "patients  few-shot: at most 2 patients train",
    ):
        assert line in lengths.said
    assert {run.parent.parent.name for run in lengths.runs()} == {"erm"}


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"steps": [4]}, "wanted two or more different lengths"),
        ({"steps": [4, 4]}, "wanted two or more different lengths"),
        ({"steps": [0, 4]}, "wanted two or more different lengths"),
        ({"changes": ["steps=9"]}, "--set steps=9: --steps has the lengths"),
        ({"changes": ["gin.alpha=1"]}, "'gin', which is not run"),
        ({"methods": ["gn"]}, "unknown method 'gn'"),
        ({"seeds": 0}, "--seeds: found 0"),
    ],
)
def test_a_question_that_makes_no_sense(lengths: Lengths, study: Path, question: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        lengths(study, **question)
    assert not lengths.out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps", "600,abc"], "--steps: found '600,abc', wanted one number above 0, or two or more that differ, "
                                 "separated by commas, such as 600,1200"),
        (["--steps", "600,600"], "--steps: found '600,600', wanted"),
        (["--steps", "0"], "--steps: found '0', wanted"),
        (["--steps", "1e3"], "--steps: found '1e3', wanted"),
        (["--steps", ""], "--steps: found '', wanted"),
        (["--steps", "2,4", "--selection", "last", "oracle"], "--selection oracle: with several --steps no held-out "
                                                              "site is opened; leave it away"),
        (["--steps", "2,4", "--reference"], "--reference: with several --steps no held-out site is opened"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(
    study: Path, tmp_path: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", str(study), "--out", str(tmp_path / "out"), *options])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"elsewhere: {says}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["learning-curve", "ablate", "train"])
def test_other_commands_take_one_length(study: Path, tmp_path: Path, command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, str(study), "--out", str(tmp_path / "out"), "--steps", "2,4"])
    assert stop.value.code == 2


def test_from_the_command_line(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    tail = ["--held-out", "A", "B", "--seeds", "1", "--out", str(out), "--set", *tiny.SETTINGS]
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", str(study), "--steps", "4, 2", *tail])
    assert stop.value.code == 0
    found = read_length(out)
    assert found is not None
    assert found.steps == (2, 4)
    assert found.sentence in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", str(study), "--methods", "erm", "--steps", "4", *tail])
    assert stop.value.code == 0
    assert "2 of them are trained already, and only evaluated" in capsys.readouterr().out
