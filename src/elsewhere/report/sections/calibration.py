"""Calibration at each held-out site, before and after the temperature, and what conformal prediction held there."""

from __future__ import annotations

from elsewhere.evidence.findings_calibration import LEVEL, MISSED, CalibrationAt, ConformalAt, ReliabilityCurve
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import (
    Block,
    Cell,
    Figure,
    Figures,
    Heading,
    Row,
    Section,
    Table,
    Text,
    limits,
    name,
    number,
    percent,
    percents,
)
from elsewhere.report.charts import Line, curves
from elsewhere.report.sections.view import View, crowded, stands_out

TITLE = "Calibration"

FEW_ANSWERS, FEW_VOXELS = 10, 0.01
"""Answers, or share of the voxels, below which a bin is faded: chance moves it more than the model (our choice)."""

SCALED = "Scaled: after temperature scaling, fitted on the calibration patients of the development sites."

NOT_EXCHANGEABLE = (
    "The promise is made to patients exchangeable with the calibration patients. Those of a held-out site are not: "
    "nothing makes the promise hold there, and the table shows what was found."
)


def section(view: View, name: str = "calibration") -> Section:
    """Reliability curves, errors, temperature, prediction sets."""
    found = view.findings
    if not found.calibration:
        return view.empty(name, TITLE)
    blocks: list[Block] = [*_curves(view), _errors(view), _table(view), Heading("Prediction sets")]
    if found.conformal:
        blocks += [_held(view), _sets(view)]
    else:
        blocks.append(Text([f"Not here: {found.missing.get('conformal', '')}."]))
    unit = "a case" if found.task == "classification" else "a voxel"
    lead = f"Of the answers that a model is 80 % sure of, 80 % should be right. An answer is the label of {unit}."
    return Section(name, TITLE, blocks, lead, found.selection, [("dashed", "as sure as right")], legend=True)


def _curves(view: View) -> list[Figures]:
    found = view.findings
    some = [one for one in found.calibration if one.curve.confidence]
    low = min((min(one.curve.confidence) for one in some), default=0.0)
    few = {one.held_out: FEW_ANSWERS / max(one.n_cases, 1) for one in found.at}
    if found.task == "segmentation":
        few = dict.fromkeys(few, FEW_VOXELS)
    across, methods = (max(0.0, min(low - 0.02, 0.5)), 1.0), {one.method for one in some}

    def drawn(scaled: bool) -> list[Figure]:
        figures = []
        for site in found.sites:
            lines = [
                _line(curve, view.colours[one.method], one.method, stands_out(one.method, methods), few.get(site, 0.0))
                for one in some
                if one.held_out == site and (curve := one.scaled_curve if scaled else one.curve) is not None
            ]
            text = f"share right against confidence at {site}" + ", after the temperature" * scaled
            if lines:
                chart = curves(
                    lines, text, across=across, up=(0.0, 1.0), diagonal=True, under="confidence", beside="share right"
                )
                figures.append(Figure(view.at(site), chart))
        return figures

    after = drawn(scaled=True)
    least = f"{100 * FEW_VOXELS:g} % of the voxels" if found.task == "segmentation" else f"{FEW_ANSWERS} answers"
    what = [
        "Share of right answers in bins of confidence. The larger a dot, the more answers are in its bin; faded: fewer "
        f"than {least}." + crowded(methods)
    ]
    return [
        Figures(drawn(scaled=False), what),
        *([Figures(after, [SCALED], folded="After the temperature")] if after else []),
    ]


def _line(curve: ReliabilityCurve, colour: int, method: str, bold: bool, few: float) -> Line:
    points = list(zip(curve.confidence, curve.right, strict=True))
    faded = [share < few for share in curve.weight]
    return Line(points, colour, method, faint=not bold, dots=bold, weights=curve.weight, faded=faded)


def _errors(view: View) -> Table:
    cells = {(one.method, one.held_out): _error(one.ece) for one in view.findings.calibration}
    caption = "ECE: expected calibration error, 15 equal bins, without what chance adds (below 0: read it as 0)."
    return view.grid(cells, "expected calibration error", [caption])


def _table(view: View) -> Table:
    found = view.findings
    after = any(one.scaled_ece is not None for one in found.calibration)
    home = any(one.home_ece is not None for one in found.calibration)
    rows = []
    for one in found.calibration:
        cells = [name(one.held_out), _error(one.ece)]
        if after:
            cells += [_error(one.scaled_ece), _temperature(one)]
        if home:
            cells.append(_error(one.home_ece))
        cells.append(Cell(number(one.brier)))
        rows.append(Row(one.method, cells, view.colours.get(one.method)))
    head = ["method", "held out", "ECE", *(["ECE, scaled", "temperature"] if after else [])]
    head += [*(["ECE at home"] if home else []), "Brier score"]
    brier = "of the cases" if found.task == "classification" else "of P(not background) over voxels, each case alike"
    captions = [
        f"Brier score: {brier}, mean over cases; lower is better.",
    ]
    if after:
        captions.append(SCALED)
    reasons = dict.fromkeys(one.reason for one in found.calibration if one.reason)
    captions += [f"No temperature for some runs: {reason}." for reason in list(reasons)[:3]]
    return Table("calibration", head, rows, captions, view.warnings, "Temperatures, errors at home, Brier scores")


def _error(one: Interval | None) -> Cell:
    return Cell("–", mark="quiet") if one is None else Cell(number(one.value), [limits(one, 3)])


def _temperature(one: CalibrationAt) -> Cell:
    if not one.temperatures:
        return Cell("–", mark="quiet")
    low, high = min(one.temperatures), max(one.temperatures)
    text = number(low, 2) if high - low < 0.005 else f"{number(low, 2)} to {number(high, 2)}"
    return Cell(text, [f"{one.calibration_patients} patients"])


def _held(view: View) -> Table:
    found = view.findings.conformal
    cells = {}
    for one in found:
        cell = _share(one.away.value, one.away.lo, one.away.hi, one)
        below = ["below the promise"] * (cell.mark == "missing")
        cells[one.method, one.held_out] = Cell(cell.text, [*cell.small, *below], cell.mark)
    what = "their true foreground in the mask" if found[0].kind == "outer masks" else "the true label in the set"
    caption = f"Share of patients with {what}; promised: {100 * LEVEL:g} % of patients like the calibration patients."
    return view.grid(cells, "prediction sets: share held", [caption, NOT_EXCHANGEABLE])


def _sets(view: View) -> Table:
    found = view.findings.conformal
    masks = found[0].kind == "outer masks"
    rows = [
        Row(
            one.method,
            [
                name(one.held_out),
                _share(one.away.value, one.away.lo, one.away.hi, one),
                Cell("–", mark="quiet") if one.home is None else _share(one.home.value, one.home.lo, one.home.hi, None),
                Cell(percent(one.size.value) if masks else number(one.size.value, 2)),
                Cell(str(one.calibration_patients)),
            ],
            view.colours.get(one.method),
        )
        for one in found
    ]
    promise = f"{100 * LEVEL:g} % of patients are promised"
    if masks:
        what = (
            f"Outer mask: where P(not background) is so high that {promise} to have at most {100 * MISSED:g} % of "
            "their true foreground outside."
        )
        size = "mask, share of image"
    else:
        what = f"Sets of labels: {promise} to have the true label in the set of every one of their cases."
        size = "labels in a set"
    captions = [what]
    captions += [f"Everything is in the set for some runs: {reason}." for reason in _reasons(found)]
    head = ["method", "held out", "held there", "held at home", size, "calibration patients"]
    return Table("prediction sets", head, rows, captions, view.warnings, "Held at home, size of the sets, patients")


def _share(value: float, lo: float, hi: float, one: ConformalAt | None) -> Cell:
    below = one is not None and hi == hi and hi < one.level
    return Cell(percent(value), [percents(lo, hi)], "missing" if below else "")


def _reasons(found: tuple[ConformalAt, ...]) -> list[str]:
    return [reason for reason in dict.fromkeys(one.reason for one in found) if reason][:3]
