"""Each method against ERM on the same patients: the forest plot of differences, the tests, the ranks."""

from __future__ import annotations

import math

from elsewhere.evidence.estimands import THIS_METHOD
from elsewhere.evidence.findings_comparisons import LEVEL, Contrast, OverallContrast
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import (
    Block,
    Cell,
    Figure,
    Figures,
    Row,
    Section,
    Table,
    Text,
    chance,
    limits,
    name,
    number,
    p_value,
)
from elsewhere.report.charts import Span, forest
from elsewhere.report.charts.forest import reach
from elsewhere.report.sections.view import View

NAN = math.nan

MARKS = {"better": "good", "worse": "missing"}


def section(view: View, name: str = "comparisons") -> Section:
    """Differences from ERM."""
    found = view.findings.comparisons
    title = f"Each method against {found.baseline.upper()}"
    if found.reason is not None or not found.contrasts:
        return view.empty(name, title, found.reason or "no site has both finished yet")
    blocks: list[Block] = [
        _verdicts(view),
        _forest(view),
        *([_over_sites(view)] if found.over_sites else []),
        _table(view),
    ]
    return Section(name, title, blocks, selection=view.findings.selection)


def _verdicts(view: View) -> Table:
    """The verdict first, as a word on a colour; the difference and its intervals below it."""
    cells = {}
    for one in view.findings.comparisons.contrasts:
        only = one.verdict in MARKS and not one.of_methods
        score = view.score(one.models, one.training, sign=True)
        small = [*(["for these models only"] if only else []), score.text, *score.small]
        cells[one.method, one.held_out] = Cell(one.verdict, small, f"verdict-{MARKS.get(one.verdict, 'quiet')}")
    caption = (
        f"Below each verdict: {view.metric} minus that of ERM on the same patients, mean over seeds; {view.direction}."
    )
    return view.grid(cells, f"verdicts on {view.metric} against ERM", [caption])


def _forest(view: View) -> Figures:
    found = view.findings.comparisons
    groups = {
        view.at(site): [_span(view, one) for one in found.contrasts if one.held_out == site]
        for site in view.findings.sites
    }
    if found.over_sites:
        groups["mean over these sites"] = [_mean(view, one) for one in found.over_sites]
    new = [one for one in found.over_sites if not math.isnan(one.new_site.lo)]
    if new:
        groups["a site like these"] = [_new_site(view, one) for one in new]
    across = reach([span for spans in groups.values() for span in spans], [0.0])
    under = f"{view.axis}, minus that of ERM"
    figures = [
        Figure(title, forest(spans, f"{under}: {title}", across=across, line_at=0.0, under=under))
        for title, spans in groups.items()
        if reach(spans) is not None
    ]
    caption = (
        "The same as a picture. Thick line: 95 % interval for these models; thin line: for these methods, had they "
        "been trained again. Upright line: no difference."
    )
    prediction = " At a site like these: the 95 % prediction interval." if new else ""
    return Figures(figures, [caption + prediction])


def _span(view: View, one: Contrast) -> Span:
    value = one.models.value
    text = f"{_text(view, one.models)}, corrected p {p_value(one.p_holm)}, for the method {p_value(one.p_method_holm)}"
    wide = (one.training.lo, one.training.hi)
    return Span(one.method, view.colours.get(one.method, 7), value, one.models.lo, one.models.hi, text, wide)


def _mean(view: View, one: OverallContrast) -> Span:
    """A thick line where the interval is for these models, a thin one where it is for the methods."""
    colour, mean, of_methods = view.colours.get(one.method, 7), one.mean, one.mean.estimand == THIS_METHOD
    narrow, wide = (mean.lo, mean.hi), (NAN, NAN)
    if of_methods:
        narrow, wide = wide, narrow
    return Span(one.method, colour, mean.value, *narrow, _text(view, mean), wide)


def _new_site(view: View, one: OverallContrast) -> Span:
    text = limits(one.new_site, view.digits, sign=True)
    return Span(one.method, view.colours.get(one.method, 7), NAN, NAN, NAN, text, (one.new_site.lo, one.new_site.hi))


def _text(view: View, one: Interval) -> str:
    return f"{number(one.value, view.digits, sign=True)} {limits(one, view.digits, sign=True)}"


def _table(view: View) -> Table:
    found = view.findings.comparisons
    rows = [
        Row(
            one.method,
            [
                name(one.held_out),
                view.score(one.models, one.training, sign=True),
                Cell(p_value(one.p)),
                Cell(p_value(one.p_holm)),
                Cell(p_value(one.p_method_holm)),
                Cell(chance(one.better)),
                Cell(one.verdict, _remarks(one), MARKS.get(one.verdict, "quiet") + " words"),
            ],
            view.colours.get(one.method),
            view.stamps(one.method),
        )
        for one in found.contrasts
    ]
    exact = all(one.exact for one in found.contrasts)
    least = min((one.permutations for one in found.contrasts if not one.exact), default=0)
    swaps = "all swaps were counted" if exact else f"all swaps where patients are few, else {least:,} drawn or more"
    holm = "Corrected: one test, there is nothing to correct."
    if found.hypotheses > 1:
        holm = f"Corrected: each by Holm over all {found.hypotheses} tests of this table; the intervals are not."
    captions = [
        f"p, models: permutation test over the patients of a site, the two methods' answers swapped patient by "
        f"patient, mean over seeds ({swaps}). p, method: had it been trained again; from the interval ( ) and a run "
        f"variance borrowed from the table. {holm} Better or worse is said only where the models' corrected p is not "
        f"above {LEVEL:g}; for these models only, where the method's is above it, or cannot be had.",
        "P(better): probability that one more run of the method scores better than one more run of ERM with the same "
        "new seed, on as many further patients of this site; 0.5 is even. It is not a p-value.",
    ]
    p = ["p, models", "p, models, corrected", "p, method, corrected"]
    return Table(
        f"differences of {view.metric} from ERM",
        ["method", "held out", "difference", *p, "P(better)", "verdict"],
        rows,
        captions,
        view.warnings,
        folded="Every test: p, corrected p, and P(better)",
    )


def _remarks(one: Contrast) -> list[str]:
    only = one.verdict in MARKS and not one.of_methods
    return [*(["for these models only"] if only else []), *([one.reason] if one.reason else [])]


def _over_sites(view: View) -> Block:
    found = view.findings.comparisons
    if not found.ranks:
        return Text(["Ranks need a score of each method at every site."])
    over = {one.method: one for one in found.over_sites}
    new = any(not math.isnan(one.new_site.lo) for one in found.over_sites)
    rows = []
    for method, rank in sorted(found.ranks.items(), key=lambda item: item[1]):
        one = over.get(method)
        dash = Cell("–", mark="quiet")
        cells = [Cell(number(rank, 2)), dash if one is None else view.score(one.mean, sign=True)]
        if new:
            cells.append(dash if one is None else Cell(limits(one.new_site, view.digits, sign=True)))
        cells.append(dash if one is None else Cell(f"{len(one.better_at)} / {len(one.worse_at)}"))
        rows.append(Row(method, cells, view.colours.get(method), view.stamps(method)))
    captions = [
        f"Mean rank over {view.over}, 1 the best. No significance is given: so few sites cannot give one.",
        "Difference: mean over these sites, with the interval for these methods ( ) where there are several seeds, "
        "otherwise for these models [ ]; not corrected for the number of methods, and no verdict rests on it.",
    ]
    head = ["method", "mean rank", "difference from ERM", *(["a site like these"] if new else []), "better / worse at"]
    return Table("ranks over sites", head, rows, captions, view.warnings)
