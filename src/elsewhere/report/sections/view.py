"""What every section needs to know of the page: the findings, the colours of the methods, and the warnings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from elsewhere.evidence.findings import Findings
from elsewhere.evidence.findings_material import BASELINE, LOWER_IS_BETTER, NAMES, REFERENCE
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import Cell, Row, Section, Table, Text, limits, number

CROWD = 5
"""Curves in one chart that can be told apart: of more methods ERM's are bold, and those of the others thin."""

DISTANCES, UNIT = ("hd95", "assd"), "mm"
PIXELS = "Distances are in mm, or in pixels where the file has no spacing."


@dataclass(frozen=True)
class View:
    """One selection rule's findings on a page.

    Attributes:
        findings: what is shown.
        colours: number of each method's colour.
        warnings: marks that belong on every table.
        evaluation: predictions made elsewhere, without training and home.
        sees_target: methods that see unlabelled target images in training.
    """

    findings: Findings
    colours: Mapping[str, int]
    warnings: Sequence[str] = ()
    evaluation: bool = False
    sees_target: Sequence[str] = ()

    @property
    def metric(self) -> str:
        """As people write it."""
        return NAMES.get(self.findings.metric, self.findings.metric)

    @property
    def digits(self) -> int:
        """Of a score: millimetres need fewer."""
        return 2 if self.findings.metric in DISTANCES else 3

    @property
    def axis(self) -> str:
        """The metric as it stands below an axis, with its unit."""
        return f"{self.metric} ({UNIT})" if self.findings.metric in DISTANCES else self.metric

    @property
    def direction(self) -> str:
        """`higher is better`, or lower."""
        return "lower is better" if self.findings.metric in LOWER_IS_BETTER else "higher is better"

    @property
    def over(self) -> str:
        """`these 3 held-out sites`."""
        n = len(self.findings.sites)
        return f"these {n} held-out sites" if n > 1 else "this one held-out site"

    def score(self, one: Interval | None, second: Interval | None = None, *, sign: bool = False) -> Cell:
        """A score with its interval, and a second interval; a difference (`sign`) with a digit more in its limits."""
        if one is None:
            return Cell("–", mark="quiet")
        digits = self.digits if sign else self.digits - 1
        small = [limits(one, digits, sign=sign)]
        if second is not None and second.lo == second.lo:
            small.append(limits(second, digits, sign=sign))
        if one.doubt is not None and not sign:
            small.append("in doubt")
        return Cell(number(one.value, self.digits, sign=sign), small)

    def grid(self, cells: Mapping[tuple[str, str], Cell], title: str, captions: Sequence[str] = ()) -> Table:
        """Methods down, held-out sites across; a dash where there is no cell.

        Args:
            cells: by method and held-out site.
            title: what is read out.
            captions: what the numbers are.
        """
        methods = [name for name in self.findings.methods if any(method == name for method, _ in cells)]
        dash = Cell("–", mark="quiet")
        rows = [
            Row(
                method,
                [cells.get((method, site), dash) for site in self.findings.sites],
                self.colours.get(method),
                self.stamps(method),
            )
            for method in methods
        ]
        return Table(title, ["method", *self.findings.sites], rows, captions, self.warnings)

    def at(self, site: str) -> str:
        """A site with the number of its patients, as the title of a chart."""
        n = max((one.models.n_patients for one in self.findings.scores if one.held_out == site), default=0)
        return f"{site} ({n} {'patient' if n == 1 else 'patients'})"

    def stamps(self, method: str) -> list[str]:
        """What must be known of a method wherever it is compared with others."""
        stamps = ["trained within the site"] if method == REFERENCE else []
        return [*stamps, *(["sees unlabelled target"] if method in self.sees_target else [])]

    def empty(self, name: str, title: str, why: str = "") -> Section:
        """A section with nothing to show, and why."""
        return Section(name, title, [Text([f"Not here: {why or self.findings.missing.get(name, '')}."])])


def stands_out(method: str, methods: Collection[str]) -> bool:
    """Its curve is drawn bold: of a crowd, only ERM's."""
    return len(methods) <= CROWD or BASELINE not in methods or method == BASELINE


def crowded(methods: Collection[str]) -> str:
    """What the caption says of it."""
    bold = all(stands_out(method, methods) for method in methods)
    return "" if bold else " Bold: ERM; thin: the other methods, whose numbers are in the tables."
