"""Two folders side by side: what is the same, what differs, and what that does to the scores of the same patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elsewhere.benchmark.loading import Loaded, load
from elsewhere.errors import RunError
from elsewhere.evidence.estimands import THESE_MODELS, THIS_METHOD, over_these, sentence
from elsewhere.evidence.findings_comparisons import LEVEL, Contrast, contrast, told_all
from elsewhere.evidence.findings_material import HELD_OUT, LOWER_IS_BETTER, NAMES, Judged, metric_of
from elsewhere.evidence.paired import Comparison
from elsewhere.files import write_text
from elsewhere.report.blocks import (
    Block,
    Cell,
    Facts,
    Figure,
    Figures,
    Row,
    Section,
    Table,
    Text,
    limits,
    name,
    number,
    p_value,
)
from elsewhere.report.charts import Span, forest
from elsewhere.report.charts.forest import reach
from elsewhere.report.page import Page, render, warnings

OUT = "report-of-two.html"

NOT_SAID = ("runs", "written", "command")
"""Keys of `plan.json` that differ without meaning anything, or are shown elsewhere."""


@dataclass(frozen=True)
class Pair:
    """A method at a held-out site, in both folders.

    Attributes:
        method, held_out, selection: which; "mine / theirs" where the folders call it differently.
        first, second: the scores in each folder; NaN where there is none.
        difference: second minus first on the cases that both have; None where there are none.
        shared, cases: how many cases both have, of how many in either.
    """

    method: str
    held_out: str
    selection: str
    first: float
    second: float
    difference: Contrast | None
    shared: int
    cases: int


def write_comparison(
    first: Path | str, second: Path | str, *, out: Path | str | None = None, metric: str | None = None
) -> Path:
    """Write one page that compares the folders of two benchmarks or evaluations.

    Args:
        first, second: the folders; differences are second minus first.
        out: the file; `report-of-two.html` in the second folder where None.
        metric: None for the one that models are selected by, or the first that both folders can give.

    Raises:
        RunError: there is no such folder, a file is damaged, or their tasks differ.
        SettingsError: no such metric, or a folder cannot give it.
    """
    one, two = load(first), load(second)
    if one.task != two.task:
        raise RunError(
            f"{second}: its task is {two.task}, that of {first} is {one.task}: their scores cannot be compared"
        )
    metric = metric_of(one.task, metric, one.metrics_missing + two.metrics_missing)
    where = Path(out) if out is not None else two.folder / OUT
    write_text(where, render(page_of_two(one, two, metric)))
    return where


def page_of_two(one: Loaded, two: Loaded, metric: str) -> Page:
    """The page."""
    found = pairs(one, two, metric)
    methods = list(dict.fromkeys(pair.method for pair in found))
    colours = {method: number_ for number_, method in enumerate(methods)}
    marks = [f"first folder: {line}" for line in warnings(one)] + [f"second folder: {line}" for line in warnings(two)]
    sections = [_scores(found, colours, metric, marks), _same(one, two), _settings(one, two)]
    return Page(
        f"{one.study} and {two.study}: two folders",
        f"{one.folder.resolve().name} and {two.folder.resolve().name}: what differs?",
        answer(found, metric),
        "Differences are those of the second folder minus those of the first.",
        marks,
        list(colours.items()),
        sections,
        "Made by elsewhere from the tables of both folders.",
    )


def pairs(one: Loaded, two: Loaded, metric: str) -> list[Pair]:
    """Every method and held-out site that both folders have, under the rules that both have (or the first of each)."""
    rules = [(rule, rule) for rule in one.rules() if rule in two.rules()]
    rules = rules or list(zip(one.rules()[:1], two.rules()[:1], strict=False))
    asked = [
        (rule, other, mine, theirs, site)
        for rule, other in rules
        for mine, theirs in _matching(one.methods(rule), two.methods(other))
        for site in one.held_out(rule)
        if site in two.held_out(other)
    ]
    found: list[Pair] = []
    compared: dict[int, Comparison] = {}
    for rule, other, mine, theirs, site in asked:
        a, b = one.judged(rule, mine, site).get(HELD_OUT), two.judged(other, theirs, site).get(HELD_OUT)
        if a is None or b is None:
            continue
        shared = set(a.cases) & set(b.cases)
        same = shared and _same_people(a, b, shared)
        values = _value(one, rule, mine, site, metric), _value(two, other, theirs, site, metric)
        cases = len(set(a.cases) | set(b.cases))
        if same:
            compared[len(found)] = contrast(b, a, metric, hypotheses=len(asked))
        found.append(Pair(_both(mine, theirs), site, _both(rule, other), *values, None, len(shared), cases))
    tested = [found[i] for i in compared]
    names, rules_of = [(pair.method, pair.held_out) for pair in tested], [pair.selection for pair in tested]
    for i, difference in zip(compared, told_all(names, list(compared.values()), metric, rules_of), strict=True):
        found[i] = replace(found[i], difference=difference)
    return found


def answer(found: Sequence[Pair], metric: str) -> str:
    """One sentence."""
    tested = [pair for pair in found if pair.difference is not None]
    if not found:
        return "The folders have no method and held-out site in common, so there is nothing to compare."
    where = f"{NAMES.get(metric, metric)} {over_these(len({pair.held_out for pair in found}))}"
    if not tested:
        return f"{where}: the folders have no patients in common, so their scores stand side by side and no more."
    counts = {
        verdict: [
            f"{pair.method} at {pair.held_out}"
            for pair in tested
            if pair.difference and pair.difference.verdict == verdict
        ]
        for verdict in ("better", "worse")
    }
    claims = [
        f"{verdict} for {', '.join(names) if len(names) <= 4 else f'{len(names)} of {len(tested)}'}"
        for verdict, names in counts.items()
        if names
    ]
    said = (
        f"the second folder is {' and '.join(claims)}"
        if claims
        else "the second folder is not shown to be better or worse"
    )
    tests = f"Holm-corrected over {len(tested)} tests" if len(tested) > 1 else "one test"
    return f"{where}, on the same patients: {said} ({tests}; the models as trained)."


def _both(mine: str, theirs: str) -> str:
    """What it is called in the first folder, and in the second where that differs."""
    return mine if mine == theirs else f"{mine} / {theirs}"


def _matching(mine: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Methods of the same name; where each folder has one method only, these, whatever they are called."""
    same = [(method, method) for method in mine if method in theirs]
    return same or ([(mine[0], theirs[0])] if len(mine) == len(theirs) == 1 else [])


def _same_people(a: Judged, b: Judged, shared: set[Any]) -> bool:
    """Cases of the same name are of the same patients, and, in a classification, of the same class."""
    one, two = (
        {case: (patient, target) for case, patient, target in zip(j.cases, j.patients, _targets(j), strict=True)}
        for j in (a, b)
    )
    return all(one[case] == two[case] for case in shared)


def _targets(judged: Judged) -> Sequence[Any]:
    return [0] * len(judged.cases) if judged.target is None else judged.target.tolist()


def _value(loaded: Loaded, rule: str, method: str, site: str, metric: str) -> float:
    table = loaded.results
    wanted = {"selection": rule, "method": method, "held_out": site, "metric": metric, "class": "all", "seed": "all"}
    here = table[(table["split"] == HELD_OUT)]
    for column, value in wanted.items():
        here = here[here[column].astype(str) == value]
    return float(here["value"].iloc[0]) if len(here) else math.nan


def _scores(found: Sequence[Pair], colours: Mapping[str, int], metric: str, marks: Sequence[str]) -> Section:
    title = f"{NAMES.get(metric, metric)} in both folders"
    if not found:
        return Section("scores", title, [Text(["No method and held-out site is in both."])])
    blocks: list[Block] = []
    figures = []
    spans = {
        site: _spans([p for p in found if p.held_out == site], colours)
        for site in dict.fromkeys(p.held_out for p in found)
    }
    across = reach([span for some in spans.values() for span in some], [0.0])
    for site, some in spans.items():
        if some:
            under = f"{NAMES.get(metric, metric)}, second minus first"
            chart = forest(some, f"{under}: {site}", across=across, line_at=0.0, under=under)
            figures.append(Figure(site, chart))
    if figures:
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        caption = f"Second folder minus first; {better} is better. Thick line: 95 % interval for these models; thin "
        caption += "line: for these methods, had they been trained again."
        blocks.append(Figures(figures, [caption]))
    blocks.append(_table(found, colours, metric, marks))
    rules = {pair.selection for pair in found}
    return Section("scores", title, blocks, selection=rules.pop() if len(rules) == 1 else "")


def _spans(some: Sequence[Pair], colours: Mapping[str, int]) -> list[Span]:
    spans = []
    for pair in some:
        one = pair.difference
        if one is not None:
            text = f"{number(one.models.value, sign=True)} {limits(one.models, 3, sign=True)}"
            wide = (one.training.lo, one.training.hi)
            spans.append(
                Span(pair.method, colours[pair.method], one.models.value, one.models.lo, one.models.hi, text, wide)
            )
    return spans


def _table(found: Sequence[Pair], colours: Mapping[str, int], metric: str, marks: Sequence[str]) -> Table:
    several = len({pair.selection for pair in found}) > 1
    rows = []
    for pair in found:
        cells = [name(pair.held_out), *([name(pair.selection)] if several else [])]
        cells += [Cell(number(pair.first)), Cell(number(pair.second)), *_difference(pair)]
        rows.append(Row(pair.method, cells, colours[pair.method]))
    captions = [
        sentence(THESE_MODELS),
        sentence(THIS_METHOD).replace("[ ]", "( )", 1),
        "p, models: permutation test over patients; p, method: had it been trained again. Each is corrected by Holm "
        "over this table; the intervals are not. Better or worse is said only where the models' p is not above "
        f"{LEVEL:g}; for these models only, where the method's is above it, or cannot be had. Differences are on the "
        "cases that both folders have.",
    ]
    head = ["method", "held out", *(["selection"] if several else []), "first", "second", "second minus first"]
    head += ["p, models", "p, method", "verdict", "cases in both"]
    return Table(f"{metric} in both folders", head, rows, captions, marks)


def _difference(pair: Pair) -> list[Cell]:
    share = Cell(f"{pair.shared} of {pair.cases}", mark="" if pair.shared == pair.cases else "missing")
    one = pair.difference
    if one is None:
        plain = Cell(number(pair.second - pair.first, sign=True), ["no interval"])
        why = "not the same patients" if pair.shared == 0 else "cases of one name are of other patients or classes"
        dash = Cell("–", mark="quiet")
        return [plain, dash, dash, Cell(why, mark="missing words"), share]
    small = [limits(one.models, 3, sign=True)]
    if not math.isnan(one.training.lo):
        small.append(limits(one.training, 3, sign=True))
    mark = {"better": "good", "worse": "missing"}.get(one.verdict, "quiet")
    only = ["for these models only"] if mark != "quiet" and not one.of_methods else []
    return [
        Cell(number(one.models.value, sign=True), small),
        Cell(p_value(one.p_holm)),
        Cell(p_value(one.p_method_holm)),
        Cell(one.verdict, only, f"{mark} words"),
        share,
    ]


def _same(one: Loaded, two: Loaded) -> Section:
    """What of the questions is the same, and what differs."""
    first, second = _question(one), _question(two)
    same = [(key, value) for key, value in first.items() if second.get(key) == value]
    rows = _rows(first, second)
    blocks: list[Block] = [Facts(same)]
    if rows:
        blocks.append(Table("what differs in the questions", ["of the question", "first", "second"], rows))
    return Section("question", "What is the same", blocks)


def _question(loaded: Loaded) -> dict[str, str]:
    shown = (*NOT_SAID, "versions", "classes")
    plain = {key: _said(value) for key, value in loaded.question.items() if key not in shown}
    rule = loaded.rules()[0] if loaded.rules() else ""
    return {
        **plain,
        "classes": ", ".join(loaded.classes),
        "selection": ", ".join(loaded.rules()),
        "methods": ", ".join(loaded.methods(rule)),
        "held out": ", ".join(loaded.held_out(rule)),
        "seeds": ", ".join(map(str, sorted({run.spec.seed for run in loaded.runs}))) or "–",
        "runs finished": f"{sum(run.done is not None for run in loaded.runs)} of {len(loaded.runs)}",
        "versions": ", ".join(f"{key} {value}" for key, value in loaded.question.get("versions", {}).items()),
        "command": str(loaded.question.get("command", "")) or "–",
    }


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) or "–" if isinstance(value, list) else str(value)


def _settings(one: Loaded, two: Loaded) -> Section:
    """Settings and options that differ."""
    first, second = _all_settings(one), _all_settings(two)
    rows = _rows(first, second)
    if not rows:
        return Section("settings", "What differs in the settings", [Text(["Nothing: all settings are the same."])])
    n = len([key for key in first if second.get(key) == first[key]])
    table = Table("settings that differ", ["setting", "first", "second"], rows, [f"{n} further settings are the same."])
    return Section("settings", "What differs in the settings", [table])


def _all_settings(loaded: Loaded) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in loaded.runs:
        found |= {key: str(value) for key, value in run.spec.settings.items() if key not in found}
        for key, value in run.spec.options.items():
            found.setdefault(f"{run.spec.method}.{key}", str(value))
    return found


def _rows(first: Mapping[str, str], second: Mapping[str, str]) -> list[Row]:
    both = {key: [of.get(key, "–") for of in (first, second)] for key in [*first, *second]}
    return [Row(key, [Cell(text, mark="words") for text in said]) for key, said in both.items() if len(set(said)) > 1]
