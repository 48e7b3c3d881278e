"""Operating points: thresholds chosen on calibration patients, and what they do where nobody calibrated; lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elsewhere.evidence.findings_decisions import DICE_RULE, DecisionAt
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import Block, Cell, Heading, Row, Section, Table, Text, name, number, percent, percents
from elsewhere.report.sections.view import View

TITLE = "Operating points"

DETAILS = "Thresholds, predictive values, prevalence, and the same at home"

RULES = {
    "youden": "largest sensitivity + specificity",
    "sensitivity:0.9": "sensitivity of at least 90 %",
    DICE_RULE: "largest mean Dice",
}


def section(view: View, prevalence: float | None, name: str = "operating-points") -> Section:
    """Sensitivity, specificity and predictive values at thresholds that the development sites chose."""
    found = view.findings
    blocks: list[Block] = []
    if not found.decisions:
        blocks.append(Text([f"Not here: {found.missing.get('decisions', '')}."]))
    several = len({one.positive for one in found.decisions}) > 1
    for positive in dict.fromkeys(one.positive for one in found.decisions):
        for rule in dict.fromkeys(one.rule for one in found.decisions if one.positive == positive):
            mine = [one for one in found.decisions if (one.positive, one.rule) == (positive, rule)]
            title = f"{positive}: threshold for the {RULES.get(rule, rule)} on the calibration patients"
            if not several:
                blocks.append(Heading(title))
                blocks.append(_found(view, mine))
            blocks.append(_table(view, mine, prevalence, title, folded=title if several else DETAILS))
    if found.task == "segmentation":
        blocks.append(Heading("Lesions"))
        blocks += (
            [*_lesions_found(view), _lesions(view)]
            if found.detection
            else [Text([f"Not here: {found.missing.get('detection', '')}."])]
        )
    return Section(name, TITLE, blocks, selection=found.selection)


def _found(view: View, some: Sequence[DecisionAt]) -> Table:
    """Sensitivity and specificity, or the Dice of a mask, method by site."""
    masks = some[0].dice is not None
    cells = {}
    for one in some:
        sensitivity, specificity = (one.away.get(part) for part in ("sensitivity", "specificity"))
        if masks:
            cells[one.method, one.held_out] = _value(one.dice)
        elif sensitivity is not None and specificity is not None:
            both = f"{percent(sensitivity.value).removesuffix(' %')} / {percent(specificity.value)}"
            small = [percents(of.lo, of.hi) for of in (sensitivity, specificity)]
            cells[one.method, one.held_out] = Cell(both, small)
    what = "Dice of all foreground as one, above the threshold." if masks else "Sensitivity / specificity."
    return view.grid(cells, f"{some[0].positive}, {RULES.get(some[0].rule, some[0].rule)}, by site", [what])


def _lesions_found(view: View) -> list[Table]:
    """A grid for each class of lesions."""
    some, made = view.findings.detection, []
    for lesion in dict.fromkeys(one.lesion for one in some):
        mine = {(o.method, o.held_out): _share(o.found.get("sensitivity")) for o in some if o.lesion == lesion}
        caption = f"{lesion}: share of the lesions that a prediction touches."
        made.append(view.grid(mine, f"share of the lesions found by site, {lesion}", [caption]))
    return made


def _table(view: View, some: Sequence[DecisionAt], prevalence: float | None, title: str, folded: str) -> Table:
    voxels = some[0].dice is not None
    given = any(one.at_prevalence for one in some)
    rows = []
    for one in some:
        cells = [name(one.held_out), _thresholds(one.thresholds)]
        cells += [_share(one.away.get(part), one.home.get(part)) for part in ("sensitivity", "specificity")]
        cells += [_share(one.away.get(part)) for part in ("ppv", "npv")]
        if given:
            cells += [_share(one.at_prevalence.get(part)) for part in ("ppv", "npv")]
        if voxels:
            cells += [_value(one.dice), _value(one.dice_at_half)]
        cells.append(Cell(percent(one.prevalence)))
        rows.append(Row(one.method, cells, view.colours.get(one.method)))
    head = ["method", "held out", "threshold", "sensitivity", "specificity", "PPV", "NPV"]
    if given and prevalence is not None:
        head += [f"PPV at {percent(prevalence)}", f"NPV at {percent(prevalence)}"]
    head += [*(["Dice there", "Dice at 0.5"] if voxels else []), "prevalence"]
    captions: list[str] = []
    if any(one.home for one in some):
        captions.append("home: the same threshold in the in-domain test.")
    if voxels:
        captions.append(
            "Sensitivity to NPV, and prevalence: of voxels, all cases of a site together, so that large images and "
            "large lesions count most. Dice: of all foreground as one, mean over cases."
        )
    if prevalence is not None and voxels:
        captions.append("PPV and NPV of voxels are at the site's own prevalence: that of --prevalence is for cases.")
    if not given and not voxels:
        captions.append("PPV and NPV are at the site's own prevalence; --prevalence gives them at another.")
    return Table(title, head, rows, captions, view.warnings, folded)


def _lesions(view: View) -> Table:
    several = len({one.lesion for one in view.findings.detection}) > 1
    rows = []
    for one in view.findings.detection:
        cells = [name(one.held_out), *([name(one.lesion)] if several else []), _share(one.found.get("sensitivity"))]
        cells += [_value(one.found.get(part), 2) for part in ("missed", "false", "true")]
        rows.append(Row(one.method, cells, view.colours.get(one.method)))
    head = ["method", "held out", *(["class"] if several else []), "found"]
    head += ["missed a case", "false a case", "true a case"]
    captions = [
        "A lesion is a connected component of the mask. Found: any overlap with the prediction; false: a predicted "
        "component that touches no lesion.",
    ]
    folded = "Lesions missed, false and true"
    return Table("lesions found, missed and false", head, rows, captions, view.warnings, folded)


def _thresholds(values: Sequence[float]) -> Cell:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Cell("–", mark="quiet")
    low, high = min(known), max(known)
    return Cell(number(low, 2) if high - low < 0.005 else f"{number(low, 2)} to {number(high, 2)}")


def _share(one: Interval | None, home: Interval | None = None) -> Cell:
    if one is None or math.isnan(one.value):
        return Cell("–", [one.reason] if one is not None and one.reason else [], "quiet")
    small = [percents(one.lo, one.hi)]
    if home is not None and not math.isnan(home.value):
        small.append(f"home {percent(home.value)}")
    return Cell(percent(one.value), small)


def _value(one: Interval | None, digits: int = 3) -> Cell:
    if one is None:
        return Cell("–", mark="quiet")
    interval = f"[{number(one.lo, digits - 1)}, {number(one.hi, digits - 1)}]" if one.lo == one.lo else "no interval"
    return Cell(number(one.value, digits), [interval])
