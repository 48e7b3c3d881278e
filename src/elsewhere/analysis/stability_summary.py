"""From numbers of patients to means with intervals, to differences between extractors, and to tables on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from elsewhere.analysis.stability_extractors import IMAGE, POSITION
from elsewhere.analysis.stability_measures import CHANCE
from elsewhere.evidence.intervals import Interval, patient_interval

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = [
    "extractor", "measure", "acquisition", "value", "lo", "hi", "n_patients",
    "against", "difference", "difference_lo", "difference_hi",
]  # fmt: skip

CONTROLS = (POSITION, CHANCE)
"""No representations of an image: what the others are to be better than, in the last columns."""

TITLES = {
    "alikeness": "Alike: correlation of features between the views of a case",
    "correspondence": "Corresponding: share of voxels that find themselves in the other view",
    "probe": "Telling apart: balanced accuracy of a linear probe of other patients' images as they are",
    "probe drop": "Lost elsewhere: how much less that is than at home",
}


def reference(extractors: Sequence[str]) -> str | None:
    """With which the others are compared: `mind` where it is there, else the first that is not the image."""
    own = [name for name in extractors if name not in (IMAGE, *CONTROLS)]
    return "mind" if "mind" in own else next(iter(own), None)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Means over patients with 95 % intervals, and what each extractor has more than `reference`, paired by patient.

    Args:
        table: of `stability.stability`.

    Returns:
        `COLUMNS`; `against` is empty and the difference NaN where there is none to make. Intervals are those of
        `evidence.patient_interval`: other patients, these extractors.
    """
    against = reference(list(table["extractor"].unique()))
    rows: list[dict[str, Any]] = []
    for (measure, acquisition), group in table.groupby(["measure", "acquisition"], sort=False):
        wide = group.pivot(index="patient", columns="extractor", values="value")
        for extractor in group["extractor"].unique():
            found = _interval(wide[extractor])
            row = {"extractor": extractor, "measure": measure, "acquisition": acquisition, "value": found.value}
            row |= {"lo": found.lo, "hi": found.hi, "n_patients": found.n_patients, "against": ""}
            if against in wide and extractor not in (against, CHANCE):
                more = _interval(wide[extractor] - wide[against])
                row |= {"against": against, "difference": more.value}
                row |= {"difference_lo": more.lo, "difference_hi": more.hi}
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def tables(summary: pd.DataFrame) -> list[Table]:
    """A table for each measure: acquisitions by extractors, for a rich console."""
    from rich.markup import escape
    from rich.table import Table

    made = []
    for measure, title in TITLES.items():
        own = summary[summary["measure"] == measure]
        if not len(own):
            continue
        extractors = [name for name in own["extractor"].unique() if name not in CONTROLS]
        extractors += [name for name in CONTROLS if (own["extractor"] == name).any()]
        against = next((name for name in own["against"] if name), None)
        least, most = int(own["n_patients"].min()), int(own["n_patients"].max())
        patients = f"{most}" if least == most else f"{least} to {most}"  # not everybody is at every site
        caption = f"mean and 95 % interval over {patients} patient{'s' * (most > 1)}" + (
            f"; below it what is more (+) or less than {against}, of the same patients" if against else ""
        )
        table = Table(title=title, caption=escape(caption), title_justify="left", caption_justify="left")
        table.add_column("acquisition")
        for extractor in extractors:
            table.add_column(escape(str(extractor)), justify="right")
        for acquisition in own["acquisition"].unique():
            cells = []
            for extractor in extractors:
                found = own[(own["acquisition"] == acquisition) & (own["extractor"] == extractor)]
                cells.append(_cell(found.iloc[0].to_dict()) if len(found) else "")
            table.add_row(escape(str(acquisition)), *cells)
        made.append(table)
    return made


def _interval(values: pd.Series[float]) -> Interval:
    return patient_interval(values.to_numpy(dtype=float), list(values.index))


def _cell(row: dict[str, Any]) -> str:
    if row["extractor"] in CONTROLS:
        return f"{row['value']:.3f}"
    text = f"{row['value']:.3f}" + ("" if pd.isna(row["lo"]) else f" ({row['lo']:.3f} to {row['hi']:.3f})")
    if not row["against"]:
        return text
    more = f"{row['difference']:+.3f}"
    more += "" if pd.isna(row["difference_lo"]) else f" ({row['difference_lo']:+.3f} to {row['difference_hi']:+.3f})"
    return f"{text}\n[dim]{more}[/dim]"
