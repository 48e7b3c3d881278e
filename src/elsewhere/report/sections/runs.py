"""What was run: the command, versions, time, settings, every run, and what the runs noted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elsewhere.benchmark.display import clock
from elsewhere.benchmark.loading import Loaded, Run
from elsewhere.benchmark.spec import few_patients, few_patients_said
from elsewhere.report.blocks import Block, Cell, Facts, Heading, Row, Section, Table, Text

TITLE = "What was run"


def section(loaded: Loaded, name: str = "runs") -> Section:
    """What makes these numbers again."""
    question, runs = loaded.question, loaded.runs
    versions = ", ".join(f"{package} {version}" for package, version in question.get("versions", {}).items())
    facts = [("written", str(question.get("written", ""))), ("classes", ", ".join(loaded.classes))]
    facts.append(("versions", versions))
    if runs:
        seeds = sorted({run.spec.seed for run in runs})
        seconds = sum(run.seconds for run in runs)
        of_seeds = f"of {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(map(str, seeds))})"
        facts.insert(0, ("runs", f"{len(runs)}, {of_seeds}; {clock(seconds)} of computing"))
        if any(run.spec.variant for run in runs):
            names = ", ".join(dict.fromkeys(run.spec.method_title for run in runs))
            facts.insert(1, ("methods", f"{names}; in brackets what is trained under a name of the question's own"))
    few = few_patients(run.spec for run in runs)
    if few is not None:
        facts.insert(1, ("training patients", few_patients_said(few)))
    command = str(question.get("command", ""))
    if not command:
        facts.append(("command", "none: it was started from Python"))
    blocks: list[Block] = [Facts(facts, command=command)]
    if runs:
        blocks.append(Facts([(key, _said(value)) for key, value in runs[0].spec.settings.items()], folded="Settings"))
        options = _options(runs)
        if options:
            blocks.append(Facts(options, folded="Options of the methods"))
        blocks.append(_table(runs))
    notes = _notes(loaded)
    failed = [f"failed: {run.spec.title}: {run.error}" for run in runs if run.error is not None]
    if notes or failed:
        blocks.append(Heading("Notes"))
        blocks.append(Text(notes))
        blocks.append(Text(failed, "missing"))
    return Section(name, TITLE, blocks)


def _table(runs: Sequence[Run]) -> Table:
    rows = [
        Row(
            run.spec.title,
            [Cell(_state(run), mark="missing" if run.error else ""), Cell(clock(run.seconds) if run.done else ""),
             Cell(str(run.spec.folder), mark="words")],
        )
        for run in runs
    ]  # fmt: skip
    return Table("all runs", ["run", "state", "time", "folder"], rows, folded="All runs")


def _state(run: Run) -> str:
    return "done" if run.done else "failed" if run.error else "waiting"


def _options(runs: Sequence[Run]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for run in runs:
        for key, value in run.spec.options.items():
            found.setdefault(f"{run.spec.method}.{key}", _said(value))
    return list(found.items())


def _said(value: Any) -> str:
    return "–" if value is None else str(value)


def _notes(loaded: Loaded) -> list[str]:
    """Each note once, with the number of runs that have it."""
    counts: dict[str, int] = {}
    for run in loaded.runs:
        for note in dict.fromkeys((run.done or {}).get("notes", ())):
            counts[note] = counts.get(note, 0) + 1
    notes = [f"{note} ({n} {'run' if n == 1 else 'runs'})" for note, n in counts.items()]
    return [*loaded.notes, *notes]
