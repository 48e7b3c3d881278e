"""Predictions or a model made anywhere else, judged on a study: what `elsewhere evaluate` does.

The folder that it writes has the tables of a benchmark (`results.csv`, `cases.csv`, `predictions.parquet`) with one
method, every site "held out", seed 0 and selection "given"; `plan.json` says `"kind": "evaluation"`. The report and all
of `elsewhere.evidence` read it as they read a benchmark.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elsewhere.benchmark import examples
from elsewhere.benchmark.content import repeated
from elsewhere.benchmark.covariates import write_covariates
from elsewhere.benchmark.evaluate import labelled
from elsewhere.benchmark.external_exam import Exam, exam_of_predictions
from elsewhere.benchmark.glance import look, print_glance
from elsewhere.benchmark.loading import BEING_WRITTEN, EVALUATION, NOTES, is_evaluation
from elsewhere.benchmark.local import LOCAL, SUMMARY, Local, Tune
from elsewhere.benchmark.local_material import Material
from elsewhere.benchmark.record import versions
from elsewhere.benchmark.scoring import Extras, case_rows, prediction_row
from elsewhere.benchmark.sheets import CASE_COLUMNS, CASES, HELD_OUT, PREDICTIONS
from elsewhere.benchmark.spec import REFERENCE, slug
from elsewhere.benchmark.summary import METRIC_NAMES, Cell
from elsewhere.benchmark.tables import ALL, COLUMNS, PART, RESULTS, result_rows
from elsewhere.errors import RunError, SettingsError, StudyError
from elsewhere.files import atomic, folder_lock, remove_half_written, write_text
from elsewhere.study.cache import Cache
from elsewhere.study.case import Case
from elsewhere.study.decode import Schema
from elsewhere.study.description import describe, study_yaml
from elsewhere.study.hashes import FileHashes
from elsewhere.study.manifest import MANIFEST_NAME
from elsewhere.study.store import Store
from elsewhere.study.study import Study, open_study
from elsewhere.terminal import console as standard_output

GIVEN, PLAN = "given", "plan.json"

PICTURED_BY = "dice"
"""What the cases of a segmentation are ranked by for the pictures, as in a benchmark."""

Progress = Callable[[int, int], None]


def run_evaluation(
    study: Path | str,
    *,
    out: Path | str,
    predictions: Path | str | None = None,
    model: Path | str | None = None,
    name: str | None = None,
    held_out: Sequence[str] | None = None,
    changes: Sequence[str] = (),
    trust: bool = False,
    local: Local | None = None,
    site_column: str | None = None,
    allow_outside: bool = False,
    cache: Path | str | None = None,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Path:
    """Judge predictions, or a model, at each site of a study, and write an evaluation folder.

    Args:
        study: folder or manifest.
        out: the evaluation's folder; what an earlier evaluation wrote there is replaced.
        predictions: a folder of masks, or a CSV; or
        model: a model's folder, a TorchScript or an ONNX file.
        name: in the tables; by default "predictions", or the name of the model's file or folder (of a benchmark's
            run, the method).
        held_out: the sites to judge at; all by default.
        changes: "KEY=VALUE", for a model's file that does not say how images are preprocessed.
        trust: run a TorchScript program, or a network by import path.
        local: also, what would N local patients change?
        site_column: the column that is the site.
        allow_outside: take paths that leave the study's folder.
        cache: folder of decoded cases; None for the user's.
        console: where to print.
        progress: called with (cases judged, cases in all).

    Returns:
        the folder.

    Raises:
        ElsewhereError: the question makes no sense, a file cannot be read or the folder cannot be written.
    """
    out, console = Path(out), console or standard_output()
    if (predictions is None) == (model is None):
        raise SettingsError("give one of --predictions and --model")
    if model is None and changes:
        raise SettingsError(f"--set {changes[0]}: settings are for --model; predictions are taken as they are")
    folder = Cache(None if cache is None else Path(cache))
    opened = open_study(study, site_column=site_column, allow_outside=allow_outside, cache=folder.folder)
    cases = _asked(opened, held_out)
    _require_place(out)
    extras = Extras()
    if predictions is not None:
        exam = exam_of_predictions(Path(predictions), opened, cases, extras)
    else:
        from elsewhere.benchmark.external_model import exam_of_model  # brings torch

        exam = exam_of_model(Path(str(model)), opened, cases, changes, folder, extras, trust)
    method = name or ("predictions" if predictions is not None else str(exam.about["name"]))
    if method == REFERENCE:
        raise SettingsError(f"{method}: is what the network trained within a site is called; choose another --name")
    if local is not None:
        local.check(exam)
    with folder_lock(out, "an evaluation"):
        remove_half_written(out)
        for line in [*describe(opened), f"judged    {method}: {len(exam.cases)} cases at {_sites_text(exam)}"]:
            console.print(escape(line), highlight=False, soft_wrap=True)
        store = Store(folder, Schema.of(opened), exam.cases, *exam.grid)
        material = _judge(out, opened, exam, method, store, local is not None, progress)
        results = _write_results(out, exam)
        notes = [*exam.notes, *_unlabelled(opened, exam, held_out), *extras.notes]
        twice = repeated(opened, FileHashes(folder.folder / "hashes.tsv"))
        _write_question(out, opened, exam, method, notes, twice)
        print_evaluation(console, opened, exam, method, results)
        if local is not None:
            local.run(out, material, console, _tuner(exam, store, local))
        for note in notes:
            console.print(f"[yellow]note[/yellow] {escape(note)}", highlight=False, soft_wrap=True)
        print_glance(console, look(out))
    return out


def _asked(study: Study, held_out: Sequence[str] | None) -> list[Case]:
    """Labelled cases of the sites that are asked for, in the order of the study."""
    sites = list(dict.fromkeys(name for text in held_out or study.sites for name in _names(study, text)))
    study.require_sites(*sites)
    cases = [case for case in study.of_site(*sites) if case.label is not None]
    if not cases:
        raise StudyError(
            f"study {study.name}: no case at {', '.join(sites)} has a label; there is nothing to compare with"
        )
    return cases


def _names(study: Study, text: str) -> list[str]:
    return [text] if text in study.sites else [part.strip() for part in text.split("+")]


def _require_place(out: Path) -> None:
    """Neither a study, nor a benchmark, nor anything else that was there before."""
    if (out / MANIFEST_NAME).exists():
        raise RunError(f"{out}: is the folder of a study, which is never written to; choose another folder with --out")
    # A file that begins with a dot is a lock, or was half written when a process was killed.
    if not out.exists() or (out.is_dir() and all(path.name.startswith(".") for path in out.iterdir())):
        return
    if not is_evaluation(out):
        raise RunError(f"{out}: is there already and is no evaluation's folder; choose another folder with --out")


def _judge(
    out: Path, study: Study, exam: Exam, method: str, store: Store, local: bool, progress: Progress | None
) -> list[Material]:
    """Judge site by site; write `cases.csv`, `predictions.parquet` and examples at the end. What `local` works on."""

    def read(case: str) -> Any:
        return labelled(store, case)

    cases: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    pictures = {}
    material = []
    for site in dict.fromkeys(case.site for case in exam.cases):
        ids = [case.id for case in exam.cases if case.site == site]
        common = {"method": method, "held_out": site, "seed": 0, "selection": GIVEN, "split": HELD_OUT}
        gathered = Material(site, study.task, study.classes)
        scores = []
        for judged in exam.judging.judge(ids, read, gathered.add if local else None):
            cases += case_rows(judged, common)
            predictions.append(prediction_row(judged, common))
            scores.append(examples.Score(judged.stored.case.id, examples.score_of(judged, PICTURED_BY, study.classes)))
            if progress is not None:
                progress(len(predictions), len(exam.cases))
        chosen = examples.choose(scores)
        again = list(dict.fromkeys(one.case for one in chosen.values()))
        drawn = {
            judged.stored.case.id: examples.thumbnail(judged, PICTURED_BY, study.classes)
            for judged in exam.judging.judge(again, read, None)
        }
        pictures[site] = {name: drawn[one.case] for name, one in chosen.items()}, common
        material.append(gathered)
    # Until the whole plan is written, last, the tables are nobody's: some may be of the evaluation before.
    write_text(out / PLAN, json.dumps({"kind": EVALUATION, "runs": [], BEING_WRITTEN: True}))
    shutil.rmtree(out / "examples", ignore_errors=True)
    for name in (LOCAL, SUMMARY):
        (out / name).unlink(missing_ok=True)
    for site, (thumbnails, common) in pictures.items():
        examples.save(thumbnails, out / "examples" / slug(site), common)
    with atomic(out / CASES) as temporary:
        pd.DataFrame(cases, columns=CASE_COLUMNS).to_csv(temporary, index=False)
    with atomic(out / PREDICTIONS) as temporary:
        pd.DataFrame(predictions).to_parquet(temporary, index=False)
    return material


def _tuner(exam: Exam, store: Store, local: Local) -> Tune | None:
    if not local.fine_tune or exam.tunable is None:
        return None
    from elsewhere.benchmark.local_fine_tune import tuner  # brings torch

    return tuner(exam.tunable, store, local.fine_tune)


def _write_results(out: Path, exam: Exam) -> pd.DataFrame:
    """Write `results.csv`; metrics that cannot be computed are absent."""
    text = {column: str for column in ("method", "held_out", "case", "patient", "site", "class")}
    cases = pd.read_csv(out / CASES, dtype=text, keep_default_na=False, na_values={"value": ["", "nan"]})
    predictions = pd.read_parquet(out / PREDICTIONS).assign(**{PART: 0})
    results = pd.DataFrame(list(result_rows(cases, predictions)), columns=COLUMNS)
    results = results[~results["metric"].isin(exam.metrics_missing)]
    with atomic(out / RESULTS) as temporary:
        results.to_csv(temporary, index=False)
    return results


def _write_question(out: Path, study: Study, exam: Exam, method: str, notes: Sequence[str], twice: Any) -> None:
    write_text(out / "study.yaml", study_yaml(study))
    write_covariates(out, study)
    write_text(out / NOTES, json.dumps(list(notes), indent=1))
    question = {
        "kind": EVALUATION,
        "study": study.name,
        "task": study.task,
        "dims": study.dims,
        "classes": list(study.classes),
        "command": shlex.join(["elsewhere", *sys.argv[1:]]) if Path(sys.argv[0]).name == "elsewhere" else "",
        "written": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "versions": versions(),
        "runs": [],
        "method": method,
        "primary": exam.primary,
        "metrics_missing": list(exam.metrics_missing),
        "seen": dict(exam.seen),
        **({"repeated": twice} if twice else {}),
        **exam.about,
    }
    write_text(out / PLAN, json.dumps(question, indent=1))


def _unlabelled(study: Study, exam: Exam, held_out: Sequence[str] | None) -> list[str]:
    sites = {case.site for case in exam.cases}
    without = sum(case.label is None and case.site in sites for case in study.cases)
    notes = [f"{without} cases of these sites have no label and are in no number"] if without else []
    if held_out is None:
        empty = [site for site in study.sites if site not in sites]
        notes += [f"site {site}: none of its cases was judged" for site in empty]
    return notes


def _sites_text(exam: Exam) -> str:
    sites = list(dict.fromkeys(case.site for case in exam.cases))
    return f"{len(sites)} sites" if len(sites) > 1 else f"site {sites[0]}"


def print_evaluation(console: Console, study: Study, exam: Exam, method: str, results: pd.DataFrame) -> None:
    """Print the primary score of each site with its interval, and what is known of the training."""
    metric = METRIC_NAMES.get(exam.primary, exam.primary)
    table = Table(title=f"{escape(study.name)}: {escape(method)}, {metric}", title_justify="left", title_style="bold")
    table.add_column("site")
    for heading in (metric, "cases", "patients"):
        table.add_column(heading, justify="right")
    if exam.seen:
        table.add_column("training")
    rows = results[(results["class"] == ALL) & (results["metric"] == exam.primary) & (results["seed"] == ALL)]
    for row in rows.to_dict("records"):
        cell = Cell(row["value"], row["lo"], row["hi"], row["n_cases"], row["n_patients"])
        site = str(row["held_out"])
        told = [escape(exam.seen.get(site, "not known"))] if exam.seen else []
        table.add_row(escape(site), escape(cell.text()), str(cell.n_cases), str(cell.n_patients), *told)
    console.print()
    console.print(table)
    console.print(
        "[dim]\\[ ]: 95 % interval for these predictions: other patients of the site.[/dim]",
        highlight=False,
        soft_wrap=True,
    )
