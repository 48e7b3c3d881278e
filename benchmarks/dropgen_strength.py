"""The curve over strength: how methods trained on the real T1 do on drawn acquisitions of other patients.

    elsewhere benchmark STUDIES/hippocampus ... --out BENCH      (the command is in docs/results.md)
    python benchmarks/dropgen_strength.py BENCH [PAGE.html]

Reads `cases.csv` of a finished benchmark of the study `hippocampus` of `benchmarks/dropgen_studies.py`, whose sites are
called KIND-STRENGTH. Prints a Markdown table: Dice, mean over the classes, the patients and the seeds' models, with the
95 % interval over patients for these models. The page has a panel for each kind; its first place,
strength 0, is the unchanged T1 of the same patients. `docs/picture.py` makes a picture of it.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Template

from elsewhere.evidence.bounded import WHOLE
from elsewhere.evidence.intervals import Interval, patient_interval
from elsewhere.report.charts.places import Series, places

KINDS = {
    "fold": "contrast folded over; 1 is inverted",
    "bias": "bias field",
    "blur": "blur",
    "all": "all three",
}
SAME = "same-0"


def cells(bench: Path) -> dict[str, dict[str, Interval]]:
    """By method and site: Dice of the held-out cases."""
    table = pd.read_csv(bench / "cases.csv", dtype={"case": str, "patient": str, "seed": str})
    table = table[(table["split"] == "held-out") & (table["metric"] == "dice")]
    table = table[table["selection"] == table["selection"].iloc[0]]
    mean = table.groupby(["method", "site", "seed", "patient"], sort=False)["value"].mean().reset_index()
    found: dict[str, dict[str, Interval]] = {}
    for (method, site), group in mean.groupby(["method", "site"], sort=False):
        wide = group.pivot(index="seed", columns="patient", values="value")
        found.setdefault(str(method), {})[str(site)] = patient_interval(
            wide.to_numpy(float), list(wide.columns), bounds=WHOLE
        )
    return found


def strengths(sites: list[str], kind: str) -> list[str]:
    """The strengths of a kind, rising, as they are written."""
    return sorted((site.rpartition("-")[2] for site in sites if site.rpartition("-")[0] == kind), key=float)


def main(bench: Path, page: Path | None) -> None:
    """Print the table, write the page."""
    found = cells(bench)
    sites = sorted({site for of_method in found.values() for site in of_method})
    some = next(iter(found.values()))
    print(f"n = {some[SAME].n_patients} patients a cell\n")
    panels = []
    for kind, title in KINDS.items():
        steps = strengths(sites, kind)
        if not steps:
            continue
        print(f"\n| {kind} | 0 | {' | '.join(steps)} |\n|---|---|{'---|' * len(steps)}")
        series = []
        for colour, (method, of_method) in enumerate(found.items()):
            row = [of_method[site] for site in (SAME, *(f"{kind}-{step}" for step in steps))]
            print(f"| {method} | {' | '.join(f'{c.value:.3f} [{c.lo:.2f}, {c.hi:.2f}]' for c in row)} |")
            series.append(Series(method, colour, [(c.value, c.lo, c.hi) for c in row]))
        chart = places(series, title, ["0", *steps], up=(0.0, 1.0), under="strength", beside="Dice")
        panels.append(f"<figure><figcaption>{title}</figcaption>{chart}</figure>")
    if page is not None:
        write(panels, list(found), page)


def write(panels: list[str], methods: list[str], page: Path) -> None:
    """Two panels a row, and a legend."""
    style = Template(files("elsewhere.report").joinpath("templates/report.css").read_text(encoding="utf-8")).render()
    own = """body{max-width:none;margin:0;padding:14px 20px;display:grid;grid-template-columns:1fr 1fr;gap:8px 26px}
    figure{margin:0} figcaption{font-weight:600} svg text{font-size:9px} p{grid-column:1/3;margin:0}
    p i{display:inline-block;width:22px;height:4px;margin:0 7px 4px 0} p span{margin-right:26px}"""
    legend = "".join(f'<span><i class="b{number % 8}"></i>{name}</span>' for number, name in enumerate(methods))
    body = f"<body><p>{legend}</p>{''.join(panels)}</body>"
    page.write_text(f"<!doctype html><head><style>{style}{own}</style></head>{body}", encoding="utf-8")
    print(f"\nwrote {page}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
