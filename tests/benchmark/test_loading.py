"""A folder read back: what is finished now, whatever the tables say that were written before."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from elsewhere.benchmark.loading import load
from elsewhere.errors import RunError
from elsewhere.evidence.findings_comparisons import contrast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from made_up_folder import MadeUp


def made(folder: Path) -> list[Path]:
    """A finished benchmark; the folders of its runs."""
    question = MadeUp("segmentation", {"A": 6, "B": 6}, seeds=(0, 1), methods={"erm": 0.0}, home=4, calibration=4)
    return [folder / spec.folder for spec in question.write(folder)]


def seeds(folder: Path) -> dict[str, set[str]]:
    results = load(folder).results
    return {str(site): set(rows["seed"]) - {"all"} for site, rows in results.groupby("held_out")}


def test_results_of_before_a_run_finished_are_gathered_anew(tmp_path: Path) -> None:
    """Interrupted between the end of a run and the table: its cases and its scores are of the same runs."""
    runs = made(tmp_path / "whole")
    whole = (tmp_path / "whole" / "results.csv").read_text()
    shutil.copytree(tmp_path / "whole", tmp_path / "copy")
    last = tmp_path / "copy" / runs[-1].relative_to(tmp_path / "whole") / "done.json"
    done = last.read_text()
    last.unlink()
    assert seeds(tmp_path / "copy") == {"A": {"0", "1"}, "B": {"0"}}
    last.write_text(done)
    loaded = load(tmp_path / "copy")
    assert (tmp_path / "copy" / "results.csv").read_text() == whole
    assert len(loaded.whole) == 4
    assert loaded.judged("source-val", "erm", "B")["held-out"].seeds == (0, 1)


def test_a_run_whose_tables_are_being_replaced_is_not_finished(tmp_path: Path) -> None:
    runs = made(tmp_path)
    done = json.loads((runs[0] / "done.json").read_text())
    (runs[0] / "done.json").write_text(json.dumps({**done, "evaluation": 0}))
    assert [run.done is None for run in load(tmp_path).runs] == [True, False, False, False]


def test_a_calibration_changed_by_hand_is_refused(tmp_path: Path) -> None:
    runs = made(tmp_path)
    path = runs[0] / "calibration.json"
    path.write_text(path.read_text().replace("temperature", "temperature ", 1))
    with pytest.raises(RunError, match=r"calibration\.json: was changed since the run wrote it"):
        load(tmp_path).fitted("source-val", "erm", "A")


def test_a_reference_beside_a_method_is_ranked_network_by_network(tmp_path: Path) -> None:
    """Three networks judged the patients of a reference, and their probabilities have no common scale."""
    sites = {"A": 30, "B": 30}
    MadeUp("classification", sites, {"erm": 0.0}, seeds=(0, 1), reference=True, home=4, calibration=4).write(tmp_path)
    loaded = load(tmp_path)
    reference, erm = (loaded.judged("source-val", name, "A")["held-out"] for name in ("reference", "erm"))
    assert reference.probabilities is not None
    assert len(np.unique(reference.parts)) == 3
    reference.probabilities[...] **= 1 + 20 * reference.parts[..., None]  # a scale of its own for each
    reference.probabilities[..., 0] = 1 - reference.probabilities[..., 1]
    found = contrast(reference, erm, "auroc")
    place = {case: number for number, case in enumerate(erm.cases)}
    beside = erm.only(np.array([place[case] for case in reference.cases]))
    wanted = []
    for seed in range(2):
        areas = []
        for part in range(3):
            own = reference.parts[seed] == part
            one, other = (roc_auc_score(j.target[own], j.probabilities[seed, own, 1]) for j in (reference, beside))
            areas.append((one - other, own.sum()))
        wanted.append(sum(area * n for area, n in areas) / sum(n for _, n in areas))
    assert found.difference == pytest.approx(np.mean(wanted))
    assert 0 <= found.p <= 1
    assert contrast(reference, reference, "auroc").p == 1
