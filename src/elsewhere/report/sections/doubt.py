"""Knowing when it is lost: risk against coverage, and how well confidence and outlier scores find the errors."""

from __future__ import annotations

from elsewhere.evidence.findings_doubt import DoubtAt, RiskCurve
from elsewhere.evidence.findings_material import BASELINE
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import Block, Cell, Figure, Figures, Row, Section, Table, name, number, percent, percents
from elsewhere.report.charts import Line, curves
from elsewhere.report.sections.view import View, crowded, stands_out

TITLE = "Knowing when it is lost"

FLAGGED = 0.05
"""Share of patients like the calibration patients that the threshold flags: `LEVEL` of `deploy.outliers`."""


def section(view: View, name: str = "doubt") -> Section:
    """Does the model know its errors?"""
    found = view.findings
    if not found.doubt:
        return view.empty(name, TITLE)
    blocks: list[Block] = [_curves(view, outlier=False)]
    if any(one.by_outlier is not None for one in found.doubt):
        blocks.append(_curves(view, outlier=True))
    blocks += [_errors(view), _table(view)]
    risk = "share of wrong labels" if found.task == "classification" else "1 − Dice, mean"
    lead = (
        "If the cases of which the model is least sure are left to a person, how good is it on the rest? Risk: "
        f"{risk}. A curve that rises to the right knows its errors; a flat one does not."
    )
    return Section(name, TITLE, blocks, lead, found.selection, legend=True)


def _curves(view: View, *, outlier: bool) -> Figures:
    found, figures, methods = view.findings, [], {one.method for one in view.findings.doubt}
    top = max((max(curve.risk, default=0.0) for one in found.doubt if (curve := _curve(one, outlier))), default=1.0)
    for site in found.sites:
        lines = [
            Line(_points(curve), view.colours[one.method], one.method, faint=not stands_out(one.method, methods))
            for one in found.doubt
            if one.held_out == site and (curve := _curve(one, outlier)) is not None and curve.risk
        ]
        by = "outlier score" if outlier else "confidence"
        text = f"risk against the share of cases kept at {site}, surest by {by} first"
        if lines:
            chart = curves(
                lines,
                text,
                across=(0.0, 1.0),
                up=(0.0, max(top * 1.05, 1e-3)),
                under="share of cases kept",
                beside="risk",
            )
            figures.append(Figure(view.at(site), chart))
    what = "the least unlike the development data" if outlier else "the most confident"
    return Figures(
        figures,
        [f"Risk of the cases kept, {what} first." + crowded(methods)],
        "Kept by the outlier score instead" if outlier else "",
    )


def _curve(one: DoubtAt, outlier: bool) -> RiskCurve | None:
    return one.by_outlier if outlier else one.by_confidence


def _points(curve: RiskCurve) -> list[tuple[float, float]]:
    return [(0.0, curve.risk[0]), *zip(curve.coverage, curve.risk, strict=True)]


def _errors(view: View) -> Table:
    cells = {(one.method, one.held_out): _score(one.errors.get("confidence")) for one in view.findings.doubt}
    caption = "AUROC: the probability that a wrong case has a lower confidence than a right one; 0.5 is chance."
    return view.grid(cells, "errors found by confidence, by site", [caption])


def _table(view: View) -> Table:
    found = view.findings
    flags = any(one.flagged is not None for one in found.doubt)
    outliers = any("outlier" in one.errors for one in found.doubt)
    ranks = any(one.correlation is not None for one in found.doubt)
    rows = []
    for one in found.doubt:
        cells = [name(one.held_out), Cell(percent(one.wrong)), _score(one.errors.get("confidence"))]
        if outliers:
            parts = {name.partition(":")[2]: of.value for name, of in one.errors.items() if ":" in name}
            cells.append(_score(one.errors.get("outlier"), [f"{name} {number(of, 2)}" for name, of in parts.items()]))
        if ranks:
            cells.append(_score(one.correlation))
        cells.append(_area(one.by_confidence))
        if flags:
            cells += [_flagged(one.flagged), _flagged(one.flagged_home)]
        rows.append(Row(one.method, cells, view.colours.get(one.method)))
    head = ["method", "held out", "wrong", "errors found by confidence"]
    head += [*(["errors found by outlier score"] if outliers else []), *(["confidence with Dice"] if ranks else [])]
    head += ["gain", *(["flagged there", "flagged at home"] if flags else [])]
    wrong = "a wrong label" if found.task == "classification" else f"Dice below {found.wrong_below:.2f}"
    if found.task == "segmentation" and any(one.home is not None for one in found.scores):
        whose = BASELINE if BASELINE in found.methods else found.methods[0]
        wrong += f", about the lowest tenth of the cases of {whose} at home"
    captions = [
        f"Wrong: {wrong}. Errors found: AUROC, the probability that a wrong case has a lower confidence (a higher "
        "outlier score) than a right one; 0.5 is chance."
        + " Confidence with Dice: Spearman's rank correlation."
        * ranks,
        "Gain: of the risk that knowing every error would save, the share that confidence saves; 0 is chance.",
    ]
    if flags:
        captions.append(
            f"Flagged: unlike the development data, by a threshold that should flag about {_promised(view)} % of "
            "patients like the calibration patients."
        )
    folded = "Errors found by the outlier score, gain, and cases flagged"
    return Table("how well errors are found", head, rows, captions, view.warnings, folded)


def _promised(view: View) -> str:
    """What a threshold from n calibration patients comes to: with few of them 1 / (n + 1), and no less."""
    sizes = {one.calibration_patients for one in view.findings.calibration} - {0}
    shares = sorted({max(FLAGGED, 1 / (n + 1)) for n in sizes}) or [FLAGGED]
    return " to ".join(dict.fromkeys(f"{100 * share:.0f}" for share in (shares[0], shares[-1])))


def _score(one: Interval | None, more: list[str] | None = None) -> Cell:
    if one is None:
        return Cell("–", mark="quiet")
    if one.value != one.value:
        return Cell("–", [one.reason or ""], "quiet")
    interval = f"[{number(one.lo, 2)}, {number(one.hi, 2)}]" if one.lo == one.lo else "no interval"
    return Cell(number(one.value, 2), [interval, *(more or [])])


def _area(curve: RiskCurve | None) -> Cell:
    if curve is None:
        return Cell("–", mark="quiet")
    room = curve.area_of_random - curve.area_of_perfect
    return Cell(number((curve.area_of_random - curve.area) / room, 2) if room > 1e-12 else "–")


def _flagged(one: Interval | None) -> Cell:
    if one is None:
        return Cell("–", mark="quiet")
    return Cell(percent(one.value), [percents(one.lo, one.hi)])
