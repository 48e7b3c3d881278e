"""`report.html` of a benchmark or an evaluation: the answer first, then what it rests on, in one file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from elsewhere.benchmark.glance import facts_of, write_glances
from elsewhere.benchmark.loading import Loaded, load
from elsewhere.errors import RunError
from elsewhere.evidence.at_a_glance import at_a_glance
from elsewhere.evidence.findings import Findings, Question, find, plain
from elsewhere.evidence.findings_subgroups import Wanted
from elsewhere.files import write_text
from elsewhere.report.page import page_of, render

REPORT, EVIDENCE, COMPARISONS = "report.html", "evidence.json", "comparisons.csv"

COLUMNS = (
    "method", "baseline", "held_out", "selection", "metric", "difference", "models_lo", "models_hi", "method_lo",
    "method_hi", "p", "p_holm", "n_tests", "permutations", "exact", "probability_of_being_better", "verdict", "n_cases",
    "n_patients", "note", "p_method", "p_method_holm",
)  # fmt: skip


def write_report(
    folder: Path | str,
    *,
    metric: str | None = None,
    prevalence: float | None = None,
    subgroups: Sequence[str] = (),
) -> Path:
    """Write `report.html`, `evidence.json` and `comparisons.csv` into the folder of a benchmark or an evaluation.

    Args:
        folder: where; the report is one file that opens offline.
        metric: of the table; None for the one that models are selected by.
        prevalence: at which predictive values are given besides those at the site's own.
        subgroups: covariates, `COLUMN` or `COLUMN:EDGE,EDGE`; all that make groups where none is named.

    Returns:
        the path of the report.

    Raises:
        RunError: there is no such folder, one of its files is damaged, or it cannot be written.
        SettingsError: metric, prevalence or a covariate make no sense for it.
    """
    loaded = load(folder)
    # An evaluation of labels says what it can be looked at by: without probabilities there is no AUROC.
    asked = metric or loaded.question.get("primary")
    question = Question(asked, prevalence, tuple(Wanted.parse(text) for text in subgroups))
    found = findings_of(loaded, question)
    where, facts = loaded.folder, facts_of(loaded)
    write_text(where / REPORT, render(page_of(loaded, found, facts, prevalence)))
    if metric is None:  # else the card is of another metric than that of models and terminal
        write_glances(loaded, found, facts)
    whole = [{**plain(one), "glance": plain(at_a_glance(one, facts))} for one in found]
    write_text(where / EVIDENCE, json.dumps(whole, indent=1, ensure_ascii=False))
    write_text(where / COMPARISONS, comparisons_csv(found))
    return where / REPORT


def findings_of(loaded: Loaded, question: Question | None = None) -> list[Findings]:
    """Of each selection rule, the first of them whole."""
    rules = loaded.rules()
    if not rules:
        raise RunError(f"{loaded.folder}: its tables are empty: nothing was judged")
    return [find(loaded, rule, question, whole=number == 0) for number, rule in enumerate(rules)]


def comparisons_csv(found: Sequence[Findings]) -> str:
    """Each method against ERM at each held-out site, a row each."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        for row in one.comparisons.contrasts:
            models, training = row.models, row.training
            writer.writerow(
                [
                    row.method, one.comparisons.baseline, row.held_out, one.selection, one.metric, _cell(models.value),
                    _cell(models.lo), _cell(models.hi), _cell(training.lo), _cell(training.hi), _cell(row.p),
                    _cell(row.p_holm), one.comparisons.hypotheses, row.permutations, row.exact, _cell(row.better),
                    row.verdict, models.n_cases, models.n_patients, row.reason or "",
                    _cell(row.p_method), _cell(row.p_method_holm),
                ]
            )  # fmt: skip
    return text.getvalue()


def _cell(value: float) -> str:
    return "" if value != value else f"{value:.6g}"
