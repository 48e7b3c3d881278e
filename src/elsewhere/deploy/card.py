"""`card.md`: a model as a person sees it who has to decide whether to use it.

The card says nothing that `config.yaml` does not hold: `write_card(config)` is a function of it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elsewhere.deploy.card_figures import (
    at_home,
    decisions,
    elsewhere,
    elsewhere_in_short,
    glance,
    home_in_short,
    limits,
)
from elsewhere.deploy.card_text import bullets, count, metric_name, number, several, table, text

ROLES = {"train": "training", "validation": "validation", "calibration": "calibration", "test": "in-domain test"}


def write_card(config: Mapping[str, Any]) -> str:
    """The card of a model, in Markdown.

    Args:
        config: as `deploy.final` writes it.
    """
    parts = (_title, _purpose, _data, _training, at_home, elsewhere, decisions, limits, _again)
    return "\n\n".join(part(config).strip() for part in parts) + "\n"


def _title(config: Mapping[str, Any]) -> str:
    sites, first = config["sites"], glance(config)
    first += "\n\n" * bool(first)
    patients = sum(roles.get("train", {}).get("patients", 0) for roles in config["data"]["sites"].values())
    return f"""\
# {text(config["study"])}: a model for {config["task"]}

{first}**What it is.** {_task(config)} Trained with the method `{config["method"]}` \
({text(config["method_title"])}) on {count(patients, "patient")} of {count(len(sites), "site")}: {several(sites)}.

**At home** (unseen patients of these very sites): {home_in_short(config)}

**Elsewhere** (at sites that it was not trained on): {elsewhere_in_short(config)}

It is not a medical device, and nobody has approved it for diagnosis or treatment. Whoever uses it on patients decides \
that, and answers for it."""


def _task(config: Mapping[str, Any]) -> str:
    classes = config["classes"]
    if config["task"] == "segmentation":
        return f"It draws {several(classes[1:])} in {config['dims']}D images."
    return f"It tells {several(classes, 'or')} from {config['dims']}D images."


def _purpose(config: Mapping[str, Any]) -> str:
    images = config["data"]["images"]
    grid, low, high = (" x ".join(str(n) for n in images[key]) for key in ("size", "smallest", "largest"))
    sizes = grid if low == high else f"{grid} (median; {low} to {high})"
    unit = "pixels" if config["dims"] == 2 else "voxels"
    spacing = images["spacing"]
    step = "" if spacing is None else f" of {' x '.join(number(s) for s in spacing)} mm (median)"
    return f"""\
## Intended use

- **Task**: {_task(config)}
- **Sites**: {several(config["sites"])}. At any other site, measure it first, on cases of that site with labels \
(`elsewhere evaluate`).
- **Images**: {config["dims"]}D, {several(images["channels"])}; those of training had {sizes} {unit}{step}.
- **People**: those like the patients below. For ages, devices or diseases that are not among them, nothing is known."""


def _data(config: Mapping[str, Any]) -> str:
    data = config["data"]
    people = [[text(site), *(_people(roles.get(role)) for role in ROLES)] for site, roles in data["sites"].items()]
    parts = [
        "## What it was trained on",
        f"Patients, and in brackets cases where they are more. {_validation(config)}, calibration patients for "
        "temperature, thresholds and flag; in-domain test patients served for nothing but the figures at home.",
        table(["site", *ROLES.values()], people),
    ]
    if config["task"] == "classification":
        counts = [[text(name), *(str(of[role]) for role in ROLES)] for name, of in data["classes"].items()]
        parts.append(table(["class (cases)", *ROLES.values()], counts))
    else:
        shares = [[text(name), f"{100 * share:.3g} %"] for name, share in data["classes"].items()]
        parts.append(table(["class", "share of the training images"], shares))
    if data["covariates"]:
        rows = [[text(name), _covariate(found), str(found["missing"])] for name, found in data["covariates"].items()]
        parts.append(table(["covariate (training patients)", "found", "missing"], rows))
    if data["notes"]:
        parts.append(bullets(text(note) for note in data["notes"]))
    return "\n\n".join(parts)


def _validation(config: Mapping[str, Any]) -> str:
    if config["selection"] == "source-val":
        return "Validation patients served to choose the step whose model this is"
    return "Validation patients chose nothing: this is the model of the last step; they served for its curve"


def _people(found: Mapping[str, int] | None) -> str:
    if not found:
        return "0"
    n, cases = found["patients"], found["cases"]
    return str(n) if n == cases else f"{n} ({cases})"


def _covariate(found: Mapping[str, Any]) -> str:
    if "numbers" in found:
        low, first, middle, third, high = (number(q) for q in found["numbers"]["quartiles"])
        return f"{low} to {high}, half of them {first} to {third}, median {middle}"
    if found.get("values"):
        return ", ".join(f"{text(value)}: {n}" for value, n in found["values"].items())
    return f"{count(found['different'], 'different value')}, not shown" if "different" in found else "nothing"


def _training(config: Mapping[str, Any]) -> str:
    preprocessing, trained, settings = config["preprocessing"], config["training"], config["settings"]
    options = ", ".join(f"{key}={value}" for key, value in config["options"].items())
    patch = preprocessing["patch_size"]
    chosen = "the model of the last step"
    if config["selection"] == "source-val":
        chosen = "the best on the validation patients of these sites"
    lines = [
        f"**Method**: {text(config['method_title'])} ({text(config['method_paper'])})"
        + (f"; options {text(options)}" if options else ""),
        f"**Network**: {text(config['network'])}"
        + (" (named by an import path: its code is not part of this folder)" if ":" in config["network"] else ""),
        f"**Images**: {_grid(preprocessing)}; intensities by the rule `{preprocessing['intensity']}`; "
        + (f"patches of {' x '.join(map(str, patch))}" if patch else "seen whole"),
        f"**Steps**: {trained['steps']} of {settings['batch_size']} cases, learning rate {settings['learning_rate']}, "
        f"seed {config['seed']}. One training: what another seed would give is not known from it",
        f"**Chosen**: step {config['step']}, {chosen}",
    ]
    if trained["scores"]:
        scores = trained["scores"]
        step, middle = scores[(len(scores) - 1) // 2]
        lines.append(
            f"**Validation score** ({metric_name(config['primary'])}): {number(middle)} at step {step}, "
            f"{number(scores[-1][1])} at the end. A score that still rises says that more steps would help"
        )
    return "## How it was trained\n\n" + bullets(f"{line}." for line in [*lines, *map(text, trained["notes"])])


def _grid(preprocessing: Mapping[str, Any]) -> str:
    if preprocessing["size"] is not None:
        return f"resized to {' x '.join(map(str, preprocessing['size']))}"
    if preprocessing["spacing"] is not None:
        return f"resampled to {' x '.join(number(s) for s in preprocessing['spacing'])} mm"
    return "on the grid of the file"


def _again(config: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    command = " ".join(config["command"].split())
    made = f"    {command}" if command else "It was made in Python, by `elsewhere.deploy.final.train_final`."
    return f"""\
## How to make it again

{made}

{config["written"]}; {versions}. SHA-256 of data, split and preprocessing: `{config["question"]["data"]}`.

No image, name or number of a patient is in this folder. `development.safetensors` has features and input statistics \
of some training cases, which were computed from single patients' images."""
