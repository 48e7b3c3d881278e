"""The report at a glance, of a folder: its facts gathered, `glance.json` written, the card printed in the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from elsewhere.benchmark.length import gain_said, read_length
from elsewhere.benchmark.loading import Loaded, load
from elsewhere.benchmark.spec import ORACLE
from elsewhere.errors import RunError
from elsewhere.evidence.at_a_glance import SHOWN, Glance, at_a_glance
from elsewhere.evidence.facts import Curve, Facts, Longer, curve
from elsewhere.evidence.findings import Findings, Question, find, plain
from elsewhere.evidence.findings_material import PRIMARY, REFERENCE
from elsewhere.files import write_text

GLANCE = "glance.json"

NEW = "the model was not trained at a site of this name"
"""What `elsewhere evaluate` writes of a site that is new to the model: the words of `benchmark.external_model`, which
brings torch."""

MARKS = {"better": "green", "worse": "red", "both": "yellow", "none": "dim"}


def facts_of(loaded: Loaded) -> Facts:
    """What the first look must know of a folder beside its findings.

    Raises:
        RunError: a log, or `length.json`, is damaged.
    """
    runs, seen = loaded.runs, dict(loaded.question.get("seen", {}))
    repeated = loaded.question.get("repeated", {})
    steps = {int(run.spec.settings.get("steps", 0)) for run in runs}
    return Facts(
        evaluation=loaded.evaluation,
        planned=len(runs),
        failed=sum(run.error is not None for run in runs),
        waiting=sum(run.error is None and run.done is None for run in runs),
        oracle=any(ORACLE in run.spec.selection for run in runs),
        seen={site: words for site, words in seen.items() if words != NEW},
        elsewhere=bool(seen) and all(words == NEW for words in seen.values()),
        steps=steps.pop() if len(steps) == 1 else 0,
        curves=_curves(loaded),
        longer=_longer(loaded),
        at_two_sites=int(repeated.get("at_two_sites", 0)),
        of_two_patients=int(repeated.get("of_two_patients", 0)),
    )


def _curves(loaded: Loaded) -> tuple[Curve, ...]:
    scores: dict[tuple[str, str], list[list[float]]] = {}
    for run in loaded.runs:
        if run.spec.identity in loaded.logs and run.done is not None and run.spec.method != REFERENCE:
            mine = scores.setdefault((run.spec.method, run.spec.fold.name), [])
            mine.append(loaded.logs[run.spec.identity].score[:, 1].tolist())
    return tuple(curve(*key, PRIMARY[loaded.task], some) for key, some in scores.items())


def _longer(loaded: Loaded) -> Longer:
    """Of a `length.json` that is about runs of this folder."""
    length = None if loaded.evaluation else read_length(loaded.folder)
    if length is None or not length.about(run.spec.identity for run in loaded.runs):
        return Longer()
    steps = max(int(run.spec.settings.get("steps", 0)) for run in loaded.runs)
    gain = length.beyond(steps)
    return Longer() if gain is None else Longer(gain.verdict, gain_said(gain), gain.longer)


def write_glances(loaded: Loaded, found: Sequence[Findings], facts: Facts) -> Glance:
    """Write `glance.json`: an object for each selection rule and method (`about` is "" for the whole question).

    Returns:
        that of the whole question, by the first rule.

    Raises:
        RunError: it cannot be written.
    """
    listed = []
    for one in found:
        methods = dict.fromkeys(score.method for score in one.scores if score.method != REFERENCE)
        listed += [{"about": "", **plain(at_a_glance(one, facts))}]
        listed += [{"about": name, **plain(at_a_glance(one, facts, name))} for name in methods]
    write_text(loaded.folder / GLANCE, json.dumps(listed, indent=1, ensure_ascii=False))
    return at_a_glance(found[0], facts)


def look(folder: Path) -> Glance:
    """Open a folder, write its `glance.json`, and return the card of its first selection rule.

    Raises:
        RunError: one of its files is missing or damaged.
    """
    loaded = load(folder)
    rules = loaded.rules()
    if not rules:
        raise RunError(f"{folder}: its tables are empty: nothing was judged")
    question = Question(loaded.question.get("primary"))
    return write_glances(loaded, [find(loaded, rule, question, whole=False) for rule in rules], facts_of(loaded))


def print_glance(console: Console, glance: Glance) -> None:
    """Print the card: warnings first, then the answer, four figures, the methods, what to do next."""
    parts: list[Text | Table] = []
    for caveat in glance.caveats[:SHOWN]:
        parts.append(Text.assemble((f"! {caveat.head}: ", "bold red"), caveat.text))
    if len(glance.caveats) > SHOWN:
        heads = ", ".join(caveat.head for caveat in glance.caveats[SHOWN:])
        parts.append(Text(f"! {len(glance.caveats) - SHOWN} more: {heads}", "red"))
    parts += [Text(), Text(glance.sentence, "bold"), Text(), _figures(glance), Text(), _rest(glance)]
    title = Text.assemble((glance.study, "bold"), ": at a glance")
    console.print()
    console.print(Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, width=min(console.width, 100)))


def _rest(glance: Glance) -> Table:
    """The methods, and what to do next."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    lines = [Text.assemble((one.short, "bold"), " ", (one.words, MARKS[one.verdict])) for one in glance.against[:SHOWN]]
    lines += [Text(line, "dim") for line in (glance.others, glance.compared) if line]
    steps = [Text(step.replace("`", "")) for step in glance.steps[:SHOWN]]
    for head, some in (("against ERM", lines), ("next", steps)):
        for number, line in enumerate(some):
            table.add_row(head if number == 0 else "", line)
    return table


def _figures(glance: Glance) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True)
    for _ in glance.figures:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*(Text(one.label, "dim") for one in glance.figures))
    table.add_row(*(Text(one.value, "bold") for one in glance.figures))
    table.add_row(*(Text(one.small, "dim") for one in glance.figures))
    return table
