from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from bench import THREE, Bench, weights

from elsewhere.benchmark.oracle import Oracle
from elsewhere.report import write_report
from elsewhere.study.cache import Cache
from elsewhere.study.case import Fold
from elsewhere.study.seal import seal
from elsewhere.study.study import open_study


def garble(path: Path, rng: np.random.Generator) -> None:
    tiny.save(path, rng.uniform(0, 255, (32, 32)))


def garble_mask(path: Path, rng: np.random.Generator) -> None:
    tiny.save(path, rng.random((32, 32)) > 0.5)


@pytest.mark.parametrize(("folder", "spoil"), [("images", garble), ("masks", garble_mask)])
def test_held_out_files_do_not_reach_the_weights(
    bench: Bench, study: Path, tmp_path: Path, folder: str, spoil: Callable[[Path, np.random.Generator], None]
) -> None:
    """With patience, so that early stopping and selection are in it: garbage held out, the same weights bit for bit.

    The same temperature, outlier threshold, and answers on the calibration and in-domain patients, too.
    """
    changes = [*tiny.SETTINGS, "patience=1", "learning_rate=0.05"]
    assert bench(study, changes=changes, steps=8) == 0
    for path in sorted((study / folder).glob("s0-*.png")):
        spoil(path, np.random.default_rng(5))
    spoiled = Bench(tmp_path / "spoiled")
    assert spoiled(study, changes=changes, steps=8) == 0
    (mine,), (theirs,) = bench.runs(), spoiled.runs()
    assert mine.name != theirs.name, "another study, so another identity"
    for rule in ("last", "source-val"):
        assert weights(mine, rule) == weights(theirs, rule)
    steps = [json.loads((run / "done.json").read_text())["steps"] for run in (mine, theirs)]
    assert steps[0] == steps[1]
    assert (mine / "calibration.json").read_bytes() == (theirs / "calibration.json").read_bytes()
    assert json.loads((mine / "calibration.json").read_text())["source-val"]["outlier_threshold"] is not None
    tables = [pd.read_parquet(run / "predictions.parquet") for run in (mine, theirs)]
    pd.testing.assert_frame_equal(*(table[table["split"] != "held-out"] for table in tables))
    assert not bench.results()["value"].equals(spoiled.results()["value"]), "the evaluation did see the garbage"


@pytest.mark.parametrize(
    ("role", "rules"),
    [("test", ["last", "source-val"]), ("calibration", ["last", "source-val"]), ("validation", ["last"])],
)
def test_development_files_reach_only_what_their_role_is_for(
    bench: Bench, study: Path, tmp_path: Path, role: str, rules: list[str]
) -> None:
    """Garbage, images and masks, in the in-domain test or calibration changes no weight; in validation, the choice."""
    assert bench(study, steps=6) == 0
    (mine,) = bench.runs()
    ids = yaml.safe_load((mine / "config.yaml").read_text())["split"][role]
    assert ids
    for case in ids:
        garble(study / f"{case}.png", np.random.default_rng(5))
        garble_mask(study / f"{case}.png".replace("images", "masks"), np.random.default_rng(6))
    spoiled = Bench(tmp_path / "spoiled")
    assert spoiled(study, steps=6) == 0
    (theirs,) = spoiled.runs()
    assert mine.name != theirs.name
    for rule in rules:
        assert weights(mine, rule) == weights(theirs, rule)


def test_every_opening_is_written_down(bench: Bench, study: Path) -> None:
    bench(study, selection=["source-val", "last"])
    (run,) = bench.runs()
    lines = [json.loads(line) for line in (run / "openings.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["evaluation, source-val", "evaluation, last"]
    assert all(line["model_sha256"] and line["cases"] == 6 for line in lines)


def test_oracle_selection_is_stamped_and_apart(bench: Bench, study: Path) -> None:
    assert bench(study) == 0
    (honest,) = bench.runs()
    assert bench(study, selection=["source-val", "oracle"]) == 0
    (oracle,) = set(bench.runs()) - {honest}
    assert "oracle" in oracle.name
    assert "ORACLE" in bench.said
    assert set(bench.results()["selection"]) == {"source-val", "oracle"}
    assert "oracle selection" in (oracle / "openings.jsonl").read_text()
    assert "oracle selection" not in (honest / "openings.jsonl").read_text()
    for rule in ("last", "source-val"):  # looking at the held-out site chooses, it does not train
        assert weights(oracle, rule) == weights(honest, rule)


def test_what_the_oracle_chose_is_evaluated_by_other_rules_without_training(bench: Bench, study: Path) -> None:
    assert bench(study, selection=["oracle"]) == 0
    (run,) = bench.runs()
    alone, log = bench.results(), (run / "log.csv").read_bytes()
    assert bench(study, selection=["source-val", "oracle"]) == 0
    assert bench.runs() == [run]
    assert (run / "log.csv").read_bytes() == log
    both = bench.results()
    pd.testing.assert_frame_equal(both[both["selection"] == "oracle"].reset_index(drop=True), alone)
    assert set(both["selection"]) == {"source-val", "oracle"}

    # And an honest question is answered by it: it has the models that a training of its own would end with.
    assert bench(study, selection=["source-val"]) == 0
    assert bench.runs() == [run]
    assert "runs that the oracle looked at answer this" in bench.said
    honest = bench.results()
    pd.testing.assert_frame_equal(both[both["selection"] == "source-val"].reset_index(drop=True), honest)
    page = write_report(bench.out).read_text(encoding="utf-8")
    assert "each validation scored a frozen copy of the model there" in page
    assert "sealed until" not in page
    assert "ORACLE" not in page, "no number on it is the oracle's"
    assert bench(study, selection=["source-val"], seeds=[1]) == 0
    assert not any("oracle" in other.name for other in bench.runs() if other != run), "nobody asked for more of them"
    page = write_report(bench.out).read_text(encoding="utf-8")
    assert "images were sealed until" in page


def test_a_run_that_was_begun_goes_on_beside_one_that_the_oracle_saw(bench: Bench, study: Path) -> None:
    assert bench(study) == 0
    (honest,) = bench.runs()
    assert bench(study, selection=["oracle"]) == 0
    shutil.rmtree(honest / "model")  # to save space: its tables are whole
    assert bench(study) == 0
    assert "runs      1 (1 seed); 1 done, 0 to do" in bench.said
    assert "oracle" not in bench.said
    (honest / "done.json").unlink()  # half done
    assert bench(study) == 0
    assert (honest / "done.json").is_file()
    (seen,) = set(bench.runs()) - {honest}
    shutil.rmtree(honest)
    assert bench(study, selection=["source-val", "oracle"]) == 0
    shutil.rmtree(seen / "model")
    assert bench(study) == 0
    assert "runs      1 (1 seed); 1 done, 0 to do" in bench.said
    assert bench.runs() == [seen]


def test_the_cases_that_the_report_shows_are_of_its_first_rule(bench: Bench, study: Path) -> None:
    rules = ["source-val", "last", "oracle"]
    assert bench(study, selection=rules) == 0
    (run,) = bench.runs()
    for asked in ([rule] for rule in rules):
        assert bench(study, selection=asked) == 0
        listed = json.loads((run / "examples" / asked[0] / "examples.json").read_text())
        assert {one["selection"] for one in listed} == set(asked)
        section = write_report(bench.out).read_text(encoding="utf-8").split('id="examples"')[1]
        assert section.count("data:image/") >= 3
    shutil.copytree(run / "examples" / "last", run / "flat")  # as runs of before lie there
    shutil.rmtree(run / "examples")
    (run / "flat").rename(run / "examples")
    for asked, shown in (("oracle", False), ("last", True)):
        assert bench(study, selection=[asked]) == 0
        section = write_report(bench.out).read_text(encoding="utf-8").split('id="examples"')[1]
        assert ("data:image/" in section) == shown, asked


def test_reference_judges_every_patient_of_the_site_once(bench: Bench, study: Path) -> None:
    assert bench(study, reference=True) == 0
    results = bench.results()
    mine = results[(results["method"] == "reference") & (results["seed"] == "all")]
    assert (mine["n_patients"] == 6).all()
    assert set(mine["split"]) == {"held-out"}
    cases = pd.read_csv(bench.out / "cases.csv")
    cases = cases[(cases["method"] == "reference") & (cases["class"] == "all") & (cases["metric"] == "dice")]
    assert sorted(cases["patient"]) == [f"0-{i}" for i in range(6)]


def test_the_oracle_of_a_site_with_one_class_goes_by_the_loss(bench: Bench, tmp_path: Path) -> None:
    """Its AUROC is undefined; without another score the first model that was looked at would stay the best."""
    study = tiny.classification(tmp_path / "squares", THREE, {"A": ("dark",)})
    changes = [*tiny.CLASSIFIER, "learning_rate=0.003"]
    assert bench(study, changes=changes, steps=8, selection=["oracle"]) == 0
    (run,) = bench.runs()
    log = pd.read_csv(run / "log.csv")
    scores = log[(log["split"] == "oracle") & (log["name"] == "score")].set_index("step")["value"]
    chosen = yaml.safe_load((run / "model" / "oracle" / "config.yaml").read_text())
    assert (scores < 0).all()
    assert scores.idxmax() == chosen["step"]


def test_the_oracle_goes_to_other_processes(study: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    _, held_out = seal(open_study(study), Fold(("A",)), 0, cache)
    asked = pickle.loads(pickle.dumps(Oracle(held_out, 0.5, torch.device("cpu"), tmp_path / "log")))
    assert asked.held_out.case_ids == held_out.case_ids


def test_a_manifest_that_changed_is_read_again_in_the_same_process(bench: Bench, study: Path, tmp_path: Path) -> None:
    """The run's identity is of the new rows, so its results must be too."""
    bench(study)
    lines = (study / "manifest.csv").read_text().splitlines(keepends=True)
    (study / "manifest.csv").write_text("".join(line for line in lines if not line.startswith("images/s0-00")))
    again = Bench(tmp_path / "again")
    again(study)
    results = again.results()
    assert set(results[results["split"] == "held-out"]["n_cases"].astype(int)) == {5}
