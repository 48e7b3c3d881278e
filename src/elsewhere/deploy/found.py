"""What a benchmark found elsewhere of the method that the final model is trained with: for the card, as plain values.

Reads the two files of a benchmark's folder that say it, `plan.json` and `results.csv`, and refuses a benchmark of
something else: a card that quotes the wrong benchmark is worse than one that quotes none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from elsewhere import methods
from elsewhere.errors import RunError, StudyError
from elsewhere.evidence.estimands import THESE_MODELS, sentence
from elsewhere.evidence.sites import new_site_interval
from elsewhere.identity import identifying
from elsewhere.study.config import CONFIG_NAME, load_config
from elsewhere.training.settings import Settings

if TYPE_CHECKING:
    from elsewhere.study.study import Study

METRICS: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("dice", "hd95"),
    "classification": ("auroc", "balanced_accuracy", "brier"),
}
"""On the card, the metric of selection first."""

GLANCE = ("sentence", "figures", "against", "compared", "steps", "caveats")
"""Of a benchmark's `glance.json`, what the card quotes."""

NORMAL = 1.96
"""Standard errors on each side of a 95 % interval."""

NOT_COMPARED = ("loggers", "log_every", "checkpoint_every", "device", "devices")
"""Settings that do not make another model."""


def found_elsewhere(
    folder: Path,
    study: Study,
    method: str,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    selection: str,
    *,
    patients: int | None = None,
) -> dict[str, Any]:
    """Read what a benchmark found of a method at the sites that it held out.

    Args:
        folder: of a benchmark of this study.
        study: that the final model is trained on.
        method: that it is trained with; the benchmark may have run it under labels of its own (`LABEL=METHOD`).
        options: of the method, all of them.
        settings: of the training, resolved, as plain values.
        selection: by which its model is chosen.
        patients: that train at most; None: all.

    Returns:
        Plain values: `folder` (its name), `rows` (held_out, split, metric, value, lo, hi, n_cases, n_patients; `seeds`:
        the value of each seed's model), `estimand` (a sentence on the intervals), `new_site` (value, lo, hi,
        reason: prediction interval of the first metric for one more site), `missing` (sites without a result),
        `differences` (sentences: what was not as in this training), `glance` (the benchmark's card of this method; None
        for a folder that has none).

    Raises:
        RunError: no benchmark, one of another study, task or method, or without results by this selection.
    """
    question = _question(folder)
    _require_same(folder, question, study)
    specs = [run["spec"] for run in question["runs"]]
    label = _label(specs, method, options)
    mine = [spec for spec in specs if spec["method"] == label]
    if not mine:
        methods = list(dict.fromkeys(str(spec["method"]) for spec in specs))
        raise RunError(f"{folder}: is a benchmark without method {method}; it has: {', '.join(methods)}")
    rules = list(dict.fromkeys(rule for spec in mine for rule in spec["selection"]))
    honest = [rule for rule in rules if rule != "oracle"]  # which chooses no model that is trained on all sites
    mine = [spec for spec in mine if selection in spec["selection"]]
    if not mine:
        raise RunError(
            f"{folder}: its models of {label} were not selected by {selection}, but by {', '.join(rules)}; "
            + (f"give --selection {honest[0]}, or " if honest else "")
            + f"run the benchmark with --selection {selection}"
        )
    planned = list(dict.fromkeys("+".join(spec["fold"]["held_out"]) for spec in mine))
    rows = [row for row in _rows(folder, label, selection, METRICS[study.task]) if row["held_out"] in planned]
    seen = {row["held_out"] for row in rows if row["split"] == "held-out"}
    if not seen:
        raise RunError(
            f"{folder}: no run of {label} is finished there; run its 'elsewhere benchmark' command again, or leave "
            "--benchmark away"
        )
    return {
        "folder": Path(folder).resolve().name,
        "rows": rows,
        "estimand": sentence(THESE_MODELS),
        "new_site": _new_site(rows, METRICS[study.task][0]),
        "missing": [site for site in planned if site not in seen],
        "glance": _glance(folder, label, selection),
        "differences": [
            *_differences(mine[0], options, settings, patients),
            *_other_rules(folder, study, settings),
            *_other_cases(folder, study),
        ],
    }


def _label(specs: Sequence[Mapping[str, Any]], method: str, options: Mapping[str, Any]) -> str:
    """The name under which a benchmark ran this method: with these options where it did, else the method's own name."""
    own = {
        str(spec["method"]): spec
        for spec in specs
        if spec.get("trained_as", spec["method"]) == method and spec["fold"]["part"] is None  # no reference
    }
    later = methods.card(method).later
    asked = _plain(identifying(options, later))
    alike = [name for name, spec in own.items() if asked == _plain(identifying(spec["options"], later))]
    return next(iter([*alike, *(name for name in own if name == method), *own]), method)


def _question(folder: Path) -> dict[str, Any]:
    path = folder / "plan.json"
    try:
        question = json.loads(path.read_text(encoding="utf-8"))
        if question.get("kind") == "evaluation":
            raise RunError(
                f"{folder}: holds an evaluation of given predictions, no benchmark; wanted the folder of 'elsewhere "
                "benchmark'"
            )
        for key in ("study", "task", "classes", "runs"):
            question[key]
    except FileNotFoundError as error:
        raise RunError(
            f"{folder}: is no benchmark's folder, there is no plan.json; wanted what 'elsewhere benchmark --out' wrote"
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RunError(f"{path}: cannot be read as the plan of a benchmark ({type(error).__name__})") from error
    return dict(question)


def _glance(folder: Path, label: str, selection: str) -> dict[str, Any] | None:
    """What `glance.json` says of the method; None in a folder of before there was one."""
    path = folder / "glance.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        mine = [one for one in listed if (one["about"], one["selection"]) == (label, selection)]
        return {key: mine[0][key] for key in GLANCE} if mine else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: is damaged ({type(error).__name__}); run the same 'elsewhere benchmark' command again to write it"
        ) from error


def _require_same(folder: Path, question: Mapping[str, Any], study: Study) -> None:
    for what, found, wanted in (
        ("another study", question["study"], study.name),
        ("another task", question["task"], study.task),
        ("other classes", ", ".join(question["classes"]), ", ".join(study.classes)),
    ):
        if found != wanted:
            raise RunError(
                f"{folder}: is a benchmark of {what}: {found}, and not {wanted}; the card can only say what "
                "was found with this study"
            )
    sites = {site for run in question["runs"] for site in run["spec"]["fold"]["held_out"]}
    unknown = sorted(sites - set(study.sites))
    if unknown:
        raise RunError(
            f"{folder}: is a benchmark with other sites: it held out {unknown[0]}, which this study does not have (its "
            f"sites: {', '.join(study.sites)})"
        )


def _rows(folder: Path, method: str, selection: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The means over seeds' models, held out and at home."""
    path = folder / "results.csv"
    text = {name: str for name in ("method", "held_out", "seed", "selection", "split", "class", "metric")}
    try:
        # keep_default_na: a site may be called "NA"
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={n: ["", "nan"] for n in _NUMBERS})
        table = table[
            (table["method"] == method)
            & (table["selection"] == selection)
            & (table["class"] == "all")
            & table["metric"].isin(metrics)
        ]
        single = table[table["seed"] != "all"].sort_values("seed")
        each = {key: list(map(_number, some["value"])) for key, some in single.groupby(["held_out", "split", "metric"])}
        rows = [
            {
                "held_out": row["held_out"],
                "split": row["split"],
                "metric": row["metric"],
                **{name: _number(row[name]) for name in _NUMBERS},
                "n_cases": int(row["n_cases"]),
                "n_patients": int(row["n_patients"]),
                "seeds": each.get((row["held_out"], row["split"], row["metric"]), []),
            }
            for row in table[table["seed"] == "all"].to_dict("records")
        ]
    except FileNotFoundError as error:
        raise RunError(f"{path}: is missing; run the 'elsewhere benchmark' command again to write it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: is damaged ({type(error).__name__}); run the same 'elsewhere benchmark' command again to write it"
        ) from error
    return sorted(rows, key=lambda row: metrics.index(row["metric"]))


_NUMBERS = ("value", "lo", "hi")


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def _new_site(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Prediction interval for one more site; the error of a site's score is read off its interval."""
    held_out = [row for row in rows if row["split"] == "held-out" and row["metric"] == metric]
    columns = np.array([[row[name] for name in _NUMBERS] for row in held_out], dtype=np.float64).reshape(-1, 3)
    errors = (columns[:, 2] - columns[:, 1]) / (2 * NORMAL)
    found = new_site_interval(columns[:, 0], errors, bounds=(0.0, 1.0))
    return {**{name: _number(getattr(found, name)) for name in _NUMBERS}, "reason": found.reason}


def _differences(
    spec: Mapping[str, Any], options: Mapping[str, Any], settings: Mapping[str, Any], patients: int | None
) -> list[str]:
    """Sentences: what the benchmark's runs were trained with, where it is not what this training is."""
    found = []
    later = methods.card(spec.get("trained_as", spec["method"])).later  # which an older benchmark does not name
    there = {**Settings.LATER, **spec["settings"], **_named(spec["method"], {**later, **spec["options"]})}
    here = {**Settings.LATER, **settings, **_named(spec["method"], {**later, **options})}
    for key in sorted({*there, *here} - set(NOT_COMPARED)):
        if not _same(_plain(there.get(key)), _plain(here.get(key))):
            found.append(f"{key} was {there.get(key)} there and is {here.get(key)} here")
    few = ["all patients" if n is None else f"at most {n} patients" for n in (spec.get("patients"), patients)]
    if few[0] != few[1]:
        found.append(f"{few[0]} trained there and {few[1]} here")
    return found


def _named(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{method}.{key}": value for key, value in options.items()}


def _other_rules(folder: Path, study: Study, settings: Mapping[str, Any]) -> list[str]:
    """Sentences on preprocessing in `study.yaml`, where no setting overrules it; the benchmark's is in its folder."""
    try:
        there = load_config(folder / CONFIG_NAME)
    except StudyError:
        return []  # a benchmark of an older version
    return [
        f"{key} in study.yaml was {getattr(there, key)} there and is {getattr(study.config, key)} here"
        for key in ("size", "spacing", "intensity", "patch_size")
        if settings.get(key) is None and getattr(there, key) != getattr(study.config, key)
    ]


def _same(one: Any, other: Any) -> bool:
    """One number for all axes is the same as that number for each."""
    if isinstance(one, list) and isinstance(other, int | float):
        other = [other] * len(one)
    elif isinstance(other, list) and isinstance(one, int | float):
        one = [one] * len(other)
    return bool(one == other)


def _other_cases(folder: Path, study: Study) -> list[str]:
    """A sentence where the study is of other cases now; nothing where the benchmark did not write down which it had."""
    try:
        table = pd.read_csv(folder / "covariates.csv", usecols=["case"], dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return []
    there, here = set(table["case"]), set(study.by_id)
    if there == here:
        return []
    return [f"cases of the study: {len(there - here)} of the benchmark's are gone, {len(here - there)} are new"]


def _plain(value: Any) -> Any:
    """Numbers, lists and tuples as JSON has them."""
    return json.loads(json.dumps(value, default=str))
