"""The ablation as it is run, resumed and shown."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from elsewhere.analysis.ablation import run_ablation, variants_of
from elsewhere.analysis.sensitivity import remove_channels
from elsewhere.analysis.sensitivity_table import change, is_done, read_sensitivity, sensitivities
from elsewhere.benchmark.loading import read_plan
from elsewhere.errors import ModelError, RunError, SettingsError
from elsewhere.report import write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmark"))
import tiny

WHOLE = ["image", "feature", "all features"]


def ablate(folder: Path, **more: object) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=200)
    question = {"held_out": ["A"], "steps": 2, "seeds": 2, "changes": tiny.SETTINGS, "cache": folder / "cache", **more}
    code = run_ablation("dropgen", folder / "study", out=folder / "out", console=console, **question)  # type: ignore[arg-type]
    return code, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("ablation")
    tiny.segmentation(folder / "study", {"A": 6, "B": 6, "C": 6})
    code, said = ablate(folder, variants=["erm", "features", "both-50"])
    assert code == 0, said
    return folder, said


def test_what_is_written_and_said(done: tuple[Path, str]) -> None:
    folder, said = done
    table = read_sensitivity(folder / "out")
    assert table is not None
    assert set(table["method"]) == {"erm", "features", "both-50"}
    assert set(table["split"]) == {"held-out", "in-domain"}
    kinds = table[table["split"] == "held-out"].groupby("method")["kind"].agg(lambda kinds: list(dict.fromkeys(kinds)))
    assert kinds.to_dict() == {"erm": ["image"], "features": ["feature"], "both-50": WHOLE}
    assert (table["n_seeds"] == 2).all()
    held_out = table[table["split"] == "held-out"]
    assert (held_out["n_patients"] == 6).all()
    assert "both-50 (dropgen)" in said
    assert "change of Dice without an input channel" in said
    for name in ("image", "mind", "all features"):
        assert name in said
    options = {
        spec["spec"]["method"]: spec["spec"]["options"]
        for spec in json.loads((folder / "out" / "plan.json").read_text())["runs"]
    }
    assert (options["features"]["image"], options["features"]["p"]) == (False, 0)
    assert (options["both-50"]["image"], options["both-50"]["p"]) == (True, 0.5)


def test_the_network_as_it_is_scores_what_its_run_wrote(done: tuple[Path, str]) -> None:
    runs = sorted((done[0] / "out").glob("runs/*/*/*"))
    assert len(runs) == 6
    for run in runs:
        rows = pd.read_parquet(run / "sensitivity.parquet")
        mine = rows[rows["channel"] == ""].set_index(["split", "case"])["value"]
        cases = pd.read_csv(run / "cases.csv")
        wrote = cases[(cases["metric"] == "dice") & (cases["class"] == "all")].set_index(["split", "case"])["value"]
        pd.testing.assert_series_equal(mine, wrote.loc[mine.index], atol=1e-6, check_exact=False)
        assert len(mine) == len(wrote)
        opened = [json.loads(line)["reason"] for line in (run / "openings.jsonl").read_text().splitlines()]
        assert opened == ["evaluation, source-val", "removal of channels, source-val"]


def test_it_goes_on_where_it_stopped(done: tuple[Path, str]) -> None:
    folder, _ = done
    written = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/*/*/*/sensitivity.parquet")}
    (gone, *others) = sorted(written)
    gone.with_suffix(".json").unlink()
    code, said = ablate(folder, variants=["erm", "features", "both-50"])
    assert code == 0
    assert "5 done, 1 to do" in said
    assert gone.stat().st_mtime_ns != written[gone]
    assert all(path.stat().st_mtime_ns == written[path] for path in others)


def test_a_changed_file_is_named(done: tuple[Path, str]) -> None:
    folder, _ = done
    path = sorted(folder.glob("out/runs/*/*/*/sensitivity.parquet"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(RunError, match="was changed since it was written"):
        ablate(folder, variants=["erm", "features", "both-50"])
    path.write_bytes(whole)


def test_the_report_has_a_section_where_the_files_are(done: tuple[Path, str]) -> None:
    out = done[0] / "out"
    page = write_report(out).read_text(encoding="utf-8")
    section = page[page.index('id="ablation"') : page.index('id="cases"')]
    assert "What the parts of dropgen add" in section
    for words in ("image alone", "features alone, no dropout", "channels dropped with p\u00a0=\u00a00.5"):
        assert words in section
    bars = section.count('<line class="bar ')
    # 4 features, at home and elsewhere; beside the image and all of them together for the variant that has both.
    assert bars == 2 * 4 + 2 * (4 + 2)
    assert section.count('class="bar pale') == bars // 2
    (out / "sensitivity.csv").rename(out / "kept")
    page = write_report(out).read_text(encoding="utf-8")
    assert 'id="ablation"' in page
    assert "Without one input channel" not in page
    (out / "kept").rename(out / "sensitivity.csv")
    (out / "ablation.json").rename(out / "kept")
    assert 'id="ablation"' not in write_report(out).read_text(encoding="utf-8")
    (out / "kept").rename(out / "ablation.json")


def test_the_report_shows_nothing_of_another_question(done: tuple[Path, str]) -> None:
    folder, _ = done
    out, drawn = folder / "out", "Without one input channel"
    assert ablate(folder, variants=["erm", "both-50"], seeds=1, steps=1, sensitivity=0)[0] == 0
    page = write_report(out).read_text(encoding="utf-8")
    assert 'id="ablation"' in page
    assert drawn not in page
    assert "sensitivity.csv is of other runs or rules than these" in page
    about = json.loads((out / "ablation.json").read_text())
    about["variants"][1]["options"]["p"] = 0.25
    (out / "ablation.json").write_text(json.dumps(about))
    assert 'id="ablation"' not in write_report(out).read_text(encoding="utf-8"), "both-50 is no variant with p = 0.25"
    assert ablate(folder, variants=["erm", "features", "both-50"])[0] == 0
    page = write_report(out).read_text(encoding="utf-8")
    assert drawn in page
    assert "Training runs behind each change: 2." in page


def test_the_report_shows_no_channels_of_another_rule(tmp_path: Path) -> None:
    tiny.segmentation(tmp_path / "study", {"A": 6, "B": 6})
    small: dict[str, object] = {"variants": ["erm", "both-50"], "seeds": 1, "steps": 1}
    for rule, most in (("oracle", 1), ("source-val", 0)):  # the runs are the same
        assert ablate(tmp_path, selection=[rule], sensitivity=most, **small)[0] == 0
        page = write_report(tmp_path / "out").read_text(encoding="utf-8")
        assert ("Without one input channel" in page) == (rule == "oracle")
        assert ("is of other runs or rules than these" in page) == (rule != "oracle")


def test_a_run_that_is_stopped_between_its_two_files_is_done_again(
    done: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(done[0] / "out", tmp_path / "out")
    spec = read_plan(out)[1][0]
    run = out / spec.folder
    assert is_done(run, spec, None)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("elsewhere.analysis.sensitivity_table.write_text", stop)
        with pytest.raises(KeyboardInterrupt):
            remove_channels(spec, run, lambda _: None, most=1)
    assert not is_done(run, spec, None)
    remove_channels(spec, run, lambda _: None)
    assert is_done(run, spec, None)


def test_an_answer_that_is_no_number_is_no_score(
    done: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(done[0] / "out", tmp_path / "out")
    spec = read_plan(out)[1][0]
    monkeypatch.setattr(
        "elsewhere.analysis.sensitivity.answers",
        lambda *_, **__: iter([np.ones((2, 32, 32)), np.full((2, 32, 32), np.nan)]),
    )
    with pytest.raises(ModelError, match="the model without image answers with NaN or Inf"):
        remove_channels(spec, out / spec.folder, lambda _: None, most=1)


def test_a_folder_in_which_nothing_was_begun_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    tiny.segmentation(tmp_path / "study", {"A": 2, "B": 2})
    monkeypatch.setattr("elsewhere.benchmark.benchmark.run_benchmark", stop)
    with pytest.raises(KeyboardInterrupt):
        ablate(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_classification_by_auroc_on_few_patients(tmp_path: Path) -> None:
    tiny.classification(tmp_path / "study", {"A": 8, "B": 8})
    code, said = ablate(tmp_path, variants=["erm", "both"], seeds=1, changes=tiny.CLASSIFIER, sensitivity=4)
    assert code == 0, said
    table = read_sensitivity(tmp_path / "out")
    assert table is not None
    assert set(table["metric"]) == {"auroc"}
    assert (table.loc[table["split"] == "held-out", "n_patients"] == 4).all()
    assert table["method_lo"].isna().all(), "one seed"


def test_sensitivity_may_be_left_out(tmp_path: Path) -> None:
    tiny.segmentation(tmp_path / "study", {"A": 4, "B": 6})
    assert ablate(tmp_path, variants=["erm", "both"], seeds=1, sensitivity=0)[0] == 0
    assert not (tmp_path / "out" / "sensitivity.csv").exists()
    assert (tmp_path / "out" / "ablation.json").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["dropgen.p=0.3"], "dropgen.p=0.3: the ablation sets dropgen.p itself"),
        (["both-25.image=false"], "the ablation sets both-25.image itself"),
        (["features.p_image=0.9"], "the ablation sets features.p_image itself"),
    ],
)
def test_what_the_ablation_sets_is_not_set_twice(tmp_path: Path, changes: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ablate(tmp_path, changes=changes)
    assert not (tmp_path / "out").exists()


def test_the_image_may_have_a_probability_of_its_own_in_the_variants_that_drop(tmp_path: Path) -> None:
    tiny.segmentation(tmp_path / "study", {"A": 4, "B": 6})
    changes = [*tiny.SETTINGS, "dropgen.p_image=0.9"]
    ablate(tmp_path, variants=["features", "both", "both-25"], seeds=1, sensitivity=0, changes=changes)
    runs = json.loads((tmp_path / "out" / "plan.json").read_text())["runs"]
    found = {run["spec"]["method"]: run["spec"]["options"]["p_image"] for run in runs}
    assert found == {"features": None, "both": None, "both-25": 0.9}
    with pytest.raises(SettingsError, match=r"p_image: found 'often', wanted a number, or null"):
        ablate(tmp_path, changes=["dropgen.p_image=often"])


def test_there_is_no_such_ablation_or_variant() -> None:
    with pytest.raises(SettingsError, match="no ablation of 'gin'; there are those of: dropgen"):
        variants_of("gin")
    with pytest.raises(SettingsError, match=r"--variants: found 'both-90', wanted some of: erm, features, both"):
        variants_of("dropgen", ["both-90"])
    assert [one.label for one in variants_of("dropgen", ["both-25", "erm"])] == ["erm", "both-25"]


def rows(site: str, seeds: int, n: int, channels: tuple[str, ...], rng: np.random.Generator) -> pd.DataFrame:
    """Dice of cases of n / 2 patients, all channels there and each removed; the last case is not all seeds'."""
    made = [
        {"case": f"{site}{i}", "patient": f"{site}-p{i // 2}", "site": site, "split": "held-out", "channel": channel,
         "kind": "image" if channel else "", "value": rng.random(), "seed": seed, "method": "both",
         "selection": "source-val", "held_out": site}
        for seed in range(seeds) for i in range(n) for channel in ("", *channels) if seed == 0 or i < n - 1
    ]  # fmt: skip
    return pd.DataFrame(made)


def test_the_change_is_the_mean_over_seeds_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    table = pd.concat([rows("A", 2, 10, ("t1",), rng), rows("B", 2, 6, ("t1",), rng)], ignore_index=True)
    wanted = {}
    for site in "AB":
        here = table[table["site"] == site].pivot(index=["seed", "case"], columns="channel", values="value")
        wanted[site] = (here["t1"] - here[""]).groupby("seed").mean().mean()
    found = sensitivities(table, ["A", "B"], "segmentation").set_index("held_out")
    for site in "AB":
        assert found.loc[site, "change"] == pytest.approx(wanted[site])
        assert found.loc[site, "models_lo"] < wanted[site] < found.loc[site, "models_hi"]
        assert found.loc[site, "method_hi"] - found.loc[site, "method_lo"] > 0
    assert found.loc["all", "change"] == pytest.approx((wanted["A"] + wanted["B"]) / 2)
    # Patients of two sites are apart: distances to the limits in quadrature (MOVER).
    below = [found.loc[site, "change"] - found.loc[site, "models_lo"] for site in "AB"]
    assert found.loc["all", "models_lo"] == pytest.approx(found.loc["all", "change"] - np.hypot(*below) / 2)
    assert "all" not in set(sensitivities(table, ["A", "B", "C"], "segmentation")["held_out"]), "C is not done yet"


def test_the_change_of_an_auroc() -> None:
    rng = np.random.default_rng(1)
    table = rows("A", 2, 20, ("t1",), rng).drop(columns="value")
    table["target"] = table["case"].str[1:].astype(int) % 2
    table["probability:ill"] = np.clip(0.25 * table["target"] + 0.7 * rng.random(len(table)), 0, 1)
    table["probability:well"] = 1 - table["probability:ill"]
    table = table[[*[c for c in table if not c.startswith("prob")], "probability:well", "probability:ill"]]
    wanted = []
    for _, of in table.groupby("seed"):
        without, whole = (of[of["channel"] == channel] for channel in ("t1", ""))
        wanted.append(
            roc_auc_score(without["target"], without["probability:ill"])
            - roc_auc_score(whole["target"], whole["probability:ill"])
        )
    found = change(table, "t1", "auroc")
    np.testing.assert_allclose(found.runs.values, wanted)
    assert found.models.value == pytest.approx(np.mean(wanted))
    assert found.models.lo < found.models.value < found.models.hi
