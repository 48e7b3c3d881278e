"""The best, the median and the worst case of each held-out site: image, truth, prediction and error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from elsewhere.benchmark.examples import load_views
from elsewhere.benchmark.loading import Loaded
from elsewhere.benchmark.record import reading
from elsewhere.report.blocks import Block, Case, Cases, Fold, Section, Text
from elsewhere.report.pictures import panels, side_for

TITLE = "Cases to look at"


def section(loaded: Loaded, selection: str, colours: Mapping[str, int], name: str = "examples") -> Section:
    """By held-out site and method, of the lowest seed."""
    folders = _folders(loaded, selection)
    listed = {key: _listed(folder) for key, folder in folders.items()}
    n_views = sum(len(case.get("views", ["image"])) for cases in listed.values() for case in cases)
    if not n_views:
        return Section(name, TITLE, [Text(["Not here: no case was drawn."])])
    side, numbers = side_for(n_views), count()
    blocks: list[Block] = []
    for site in dict.fromkeys(site for site, _ in folders):
        blocks.append(
            Fold(
                f"{site}, held out",
                [
                    Cases(method, colours.get(method), _cases(folder, listed[site, method], loaded, numbers, side))
                    for (of, method), folder in folders.items()
                    if of == site
                ],
            )
        )
    of = "the predictions" if loaded.evaluation else "the first seed's model"
    lead = f"The best, the median and the worst case of each held-out site, for {of}."
    key: list[tuple[str, str]] = []
    if loaded.task == "segmentation":
        key = [("truth", "truth; in the error: missed"), ("said", "prediction; in the error: false")]
        if len(loaded.classes) > 2:
            key.append(("confused", "in the error: another class"))
    else:
        lead += " Ordered by the probability of the true class."
    return Section(name, TITLE, blocks, lead, selection, key)


def _folders(loaded: Loaded, selection: str) -> dict[tuple[str, str], Path]:
    """By held-out site and method."""
    found: dict[tuple[str, str], Path] = {}
    if loaded.evaluation:
        for site in loaded.held_out(selection):
            for method in loaded.methods(selection):
                for folder in (loaded.folder / "examples").glob("*/examples.json"):
                    if any((case["held_out"], case["method"]) == (site, method) for case in _listed(folder.parent)):
                        found.setdefault((site, method), folder.parent)
        return found
    runs = [run for run in loaded.runs if run.done is not None and run.spec.fold.part is None]
    for run in sorted(runs, key=lambda one: one.spec.seed):
        # Without a folder of its own: those of a run of before, drawn by one rule.
        for folder in (run.folder / "examples" / selection, run.folder / "examples"):
            if any(case["selection"] == selection for case in _listed(folder)):
                found.setdefault((run.spec.fold.name, run.spec.method), folder)
    order = loaded.held_out(selection), loaded.methods(selection)
    return {(site, method): found[site, method] for site in order[0] for method in order[1] if (site, method) in found}


def _listed(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "examples.json").is_file():
        return []
    with reading(folder / "examples.json", "delete the folder and write the report again"):
        listed = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        return [{**one, "name": str(one["name"]), "selection": one.get("selection")} for one in listed]


def _cases(folder: Path, listed: list[dict[str, Any]], loaded: Loaded, numbers: Iterator[int], side: int) -> list[Case]:
    cases = []
    for one in listed:
        path = folder / f"{one['name']}.npz"
        with reading(path, "delete the folder and write the report again"):
            views = load_views(path)
            text = f"Dice {one['score']:.3f}" if loaded.task == "segmentation" else str(one["caption"])
            about = f"{one['name']} case of {one['method']} at {one['held_out']}, {one['case']}, {text}"
            cases.append(Case(str(one["name"]), text, str(one["case"]), panels(views, about, numbers, side)))
    return cases
