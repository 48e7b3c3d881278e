"""The figures of a card: at home, elsewhere, what was fitted on calibration patients, and the limits of it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elsewhere.deploy.card_text import (
    bullets,
    count,
    figure,
    interval,
    metric_name,
    number,
    several,
    share,
    table,
    text,
)
from elsewhere.evidence.bounded import IN_DOUBT
from elsewhere.wording import parts as pieces

FEW = 20
"""Patients below which a figure is marked (our choice)."""

SHOWN = 3
"""Steps on the card, as many as in the report."""

SHARES = ("sensitivity", "specificity", "ppv", "npv")

UNKNOWN = "nothing is known: no benchmark was given when it was trained."


def home_in_short(config: Mapping[str, Any]) -> str:
    """One sentence."""
    for row in config["home"]["rows"]:
        if (row["site"], row["class"], row["metric"]) == (None, "all", config["primary"]):
            score = f"{metric_name(row['metric'])} {interval(row, _unit(config))}"
            return f"{score}, {count(row['n_patients'], 'patient')}."
    return "nothing is known: the sites are too small for in-domain test patients."


def elsewhere_in_short(config: Mapping[str, Any]) -> str:
    """One or two sentences."""
    found, primary = config["elsewhere"], config["primary"]
    if found is None:
        return UNKNOWN
    rows = [row for row in found["rows"] if row["split"] == "held-out" and row["metric"] == primary]
    ordered = sorted((row for row in rows if row["value"] is not None), key=lambda row: float(row["value"]))
    if not ordered:
        return "the benchmark found no score that is defined."
    worst, best = (f"{interval(row, '')} at {text(row['held_out'])}" for row in (ordered[0], ordered[-1]))
    span = worst if len(ordered) == 1 else f"from {worst} to {best}"
    otherwise = " They were **made otherwise** than this one, see below." if found["differences"] else ""
    return (
        f"{metric_name(primary)} {span}, of models of the same method that were trained without the site.{otherwise} "
        "Of other sites, nothing is known."
    )


def glance(config: Mapping[str, Any]) -> str:
    """The benchmark's card of this method, with the words of the report and the terminal; "" where there is none."""
    found = (config["elsewhere"] or {}).get("glance")
    if not found:
        return ""
    figures = [f"**{text(one['value'])}** {text(one['small'])}" for one in found["figures"]]
    against = [f"**Against ERM**: {text(one['words'])}." for one in found["against"]] or [text(found["compared"])]
    steps = " ".join(f"{number}. {_commands(step)}" for number, step in enumerate(found["steps"][:SHOWN], 1))
    parts = [
        "\n>\n".join(f"> **{text(one['head'])}**: {text(one['text'])}" for one in found["caveats"]),
        f"**{text(found['sentence'])}** This model is none of those that were judged, but one more of the same method.",
        table([text(one["label"]) for one in found["figures"]], [figures]),
        *against,
        f"**What to do next**: {steps}" if steps else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _commands(step: str) -> str:
    return "".join(f"`{piece}`" if command else text(piece, ends=True) for piece, command in pieces(step))


def at_home(config: Mapping[str, Any]) -> str:
    """Unseen patients of the same sites."""
    home = config["home"]
    title = "## At home: unseen patients of the same sites"
    if not home["rows"]:
        return f"{title}\n\nThe sites are too small for in-domain test patients: nothing was measured."
    rows = [
        [
            "all sites" if row["site"] is None else text(row["site"]),
            text(row["class"]),
            metric_name(row["metric"]),
            interval(row, _unit(config)),
            _patients(row["n_patients"]),
        ]
        for row in home["rows"]
    ]
    about = f"{_brackets(home['estimand'])} Probabilities are those that the model gives, after its temperature."
    if config["task"] == "segmentation" and len(config["classes"]) > 2:
        about += (
            " An image that rightly shows nothing of a class has Dice 1 in the row of that class, which does not count "
            "in `all` of the image."
        )
    parts = [title, about, table(["site", "class", "score", "value", "patients"], rows), _mark(home["rows"])]
    if home["operating"]:
        points = [
            [text(point["class"]), number(point["threshold"]), *(share(point[name]) for name in SHARES)]
            for point in home["operating"]
        ]
        parts += [
            "At the thresholds below, all sites together; PPV and NPV hold at the prevalence of these patients only:",
            table(["class", "threshold", *map(metric_name, SHARES)], points),
        ]
    return "\n\n".join(part for part in [*parts, bullets(map(text, home["sentences"]))] if part)


def elsewhere(config: Mapping[str, Any]) -> str:
    """Sites that it was not trained on, as a benchmark found them."""
    found = config["elsewhere"]
    title = "## Elsewhere: sites that it was not trained on"
    if found is None:
        return f"""\
{title}

Nothing is known. This model was trained on all sites of the study, and no benchmark was given in which models of this \
method were judged at sites held out from them (`elsewhere benchmark`, then `elsewhere train` with `--benchmark`). \
Figures at home say little about it: they are of patients of the same hospitals, devices and readers."""
    rows = [
        [
            text(row["held_out"]) if row["split"] == "held-out" else f"home, without {text(row['held_out'])}",
            metric_name(row["metric"]),
            interval(row, _unit(config)),
            _patients(row["n_patients"]),
            _seeds(row, _unit(config)),
        ]
        for row in sorted(found["rows"], key=lambda row: str(row["split"]) != "held-out")
    ]
    sites = {row["held_out"] for row in found["rows"] if row["split"] == "held-out"}
    parts = [
        title,
        f"From the benchmark {text(found['folder'])}: models of `{config['method']}`, each trained without the site at "
        "which it was judged. This model is none of them, for it was trained on these sites too; they tell what the "
        f"method does at a site that it has not seen. {_brackets(found['estimand'])} This model is one training "
        "more, and may lie as far from the mean of the trainings as they do from each other (last column).",
        table(["held out", "score", "mean of the trainings", "patients", "trainings"], rows),
        _mark(found["rows"]),
        f"These are {count(len(sites), 'held-out site')} and no sample of all hospitals: another site may be worse "
        f"than the worst of them. {_new_site(found['new_site'], config['primary'])}",
    ]
    if found["missing"]:
        parts.append(f"Not finished in the benchmark: {several(found['missing'])} held out.")
    if found["differences"]:
        parts.append("**Not as in the training of this model**, so the figures are of models made otherwise:")
        parts.append(bullets(map(text, found["differences"])))
    return "\n\n".join(part for part in parts if part)


def _seeds(row: Mapping[str, Any], unit: str) -> str:
    """`3: 0.610 to 0.680`: how many trainings, and from the least of their values to the largest."""
    values = [value for value in row["seeds"] if value is not None]
    n = str(len(row["seeds"]))
    if len(values) < 2:
        return n
    low, high = (figure(row["metric"], value, unit) for value in (min(values), max(values)))
    return f"{n}: {low} to {high}"


def _new_site(found: Mapping[str, Any], metric: str) -> str:
    if found["lo"] is None:
        return f"No interval for one more site ({text(found['reason'])})."
    return (
        f"At one more site, if it were drawn like these, {metric_name(metric)} would lie between {found['lo']:.2f} and "
        f"{found['hi']:.2f} (95 % prediction interval, random effects); whether a site is like these is not for "
        "statistics to say."
    )


def decisions(config: Mapping[str, Any]) -> str:
    """What was fitted on the calibration patients."""
    calibration, temperature = config["calibration"], config["temperature"]
    people = f"{count(calibration['n_patients'], 'patient')} ({count(calibration['n_cases'], 'case')}) of these sites"
    reason = f": {text(calibration['reason'])}" if calibration["reason"] else ""
    lines = [
        f"**Calibration**: {people}{reason}.",
        "**Temperature**: none; probabilities are as the network gives them."
        if temperature is None
        else f"**Temperature**: {number(temperature)}; probabilities are p^(1/T), made to add up to 1.",
    ]
    rule = "largest mean Dice" if config["task"] == "segmentation" else "largest sensitivity + specificity"
    for name, value in config["thresholds"].items():
        lines.append(f"**Threshold** of P({text(name)}): {number(value)} ({rule}); labels are the most probable class.")
    if not config["thresholds"]:
        without = calibration["n_patients"] and not calibration["reason"]
        why = ", for the calibration patients do not show every class" if without else ""
        lines.append(f"**Thresholds**: none{why}; labels are the most probable class.")
    sets = text(config["conformal"]["sentence"]) if config["conformal"] else "none"
    lines += [f"**Prediction sets**: {sets}.", f"**Unlike the development data**: {text(calibration['outlier'])}."]
    return f"""\
## Temperature, thresholds, flags

{bullets(lines)}

All of these were fitted at home. Across sites their assumption (new patients could be exchanged for the calibration \
patients) does not hold: check them there."""


def limits(config: Mapping[str, Any]) -> str:
    """What to keep in mind."""
    data, home = config["data"], config["home"]
    small = [site for site, roles in data["sites"].items() if roles.get("train", {}).get("patients", 0) < FEW]
    lines = [
        "It answers whatever it is given: an image of another organ gets a prediction too. The flag `unlike` sees many "
        "such cases, and not all.",
        "What the study's readers drew or wrote is what it learned; where they erred, it does.",
        "It was judged as a whole. Groups of patients (by age, sex, device) may do worse: `elsewhere evaluate` with a "
        "study that has such columns tells.",
    ]
    if small:
        lines.append(f"Fewer than {FEW} training patients are of {several(small)}.")
    if data["unseen"]:
        lines.append(f"No training case shows {several(data['unseen'])}: it cannot know what that is.")
    if home["rows"] and max(int(row["n_patients"]) for row in home["rows"]) < FEW:
        lines.append(f"The figures at home are of fewer than {FEW} patients: read the intervals, not the values.")
    if any(row.get("doubt") for row in home["rows"]):  # older folders do not say
        lines.append(f"An interval at home is in doubt: {IN_DOUBT}")
    if 0 < config["calibration"]["n_patients"] < FEW:
        people = count(config["calibration"]["n_patients"], "calibration patient")
        lines.append(f"Temperature, thresholds and flag were fitted on {people}: others would have given other ones.")
    if config["elsewhere"] is None:
        lines.append("Nothing is known of sites other than these.")
    return "## Limits\n\n" + bullets(lines)


def _unit(config: Mapping[str, Any]) -> str:
    """Of distances."""
    return " mm" if config["data"]["images"]["spacing"] is not None else " pixels"


def _brackets(estimand: str) -> str:
    """What stands in the brackets."""
    return text(f"In brackets: {estimand.removeprefix('[ ]: ')}")


def _patients(n: int) -> str:
    return f"{n} \\*" if n < FEW else str(n)


def _mark(rows: Iterable[Mapping[str, Any]]) -> str:
    return f"\\* fewer than {FEW} patients" if any(row["n_patients"] < FEW for row in rows) else ""
