"""What every section needs to know of the page: the findings, the colours of the methods, and the warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elsewhere.evidence.estimands import NEW_SITE, THESE_MODELS, THIS_METHOD, sentence
from elsewhere.evidence.findings import Findings
from elsewhere.evidence.findings_answer import NAMES
from elsewhere.evidence.findings_material import LOWER_IS_BETTER
from elsewhere.evidence.intervals import Interval
from elsewhere.report.blocks import Cell, Section, Text, limits, number

FEW = 6
"""Methods up to which all of them are shown without a click."""


@dataclass(frozen=True)
class View:
    """One selection rule's findings on a page.

    Attributes:
        findings: what is shown.
        colours: number of each method's colour.
        warnings: sentences that belong on every table.
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
        return 2 if self.findings.metric in ("hd95", "assd") else 3

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
        """A score with its interval, and a second interval in round brackets."""
        if one is None:
            return Cell("–", mark="quiet")
        small = [limits(one, self.digits - 1, sign=sign)]
        if second is not None and second.lo == second.lo:
            small.append(limits(second, self.digits - 1, sign=sign, brackets="()"))
        return Cell(number(one.value, self.digits, sign=sign), small)

    def empty(self, name: str, title: str, why: str = "") -> Section:
        """A section with nothing to show, and why."""
        return Section(name, title, [Text([f"Not here: {why or self.findings.missing.get(name, '')}."])])


def estimands(several_seeds: bool, new_site: bool = False) -> list[str]:
    """What the brackets of a table hold."""
    lines = [sentence(THESE_MODELS)]
    if several_seeds:
        lines.append(sentence(THIS_METHOD).replace("[ ]", "( )", 1))
    if new_site:
        lines.append(sentence(NEW_SITE).replace("[ ]", "a site like these", 1))
    return lines
