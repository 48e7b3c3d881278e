"""`truth.yaml`: what really differs between the sites of a simulated study, to be read back as the sites themselves."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml

from elsewhere import acquisition
from elsewhere.acquisition import Fixed, Mechanism, Scanner
from elsewhere.errors import StudyError
from elsewhere.simulate.site import SimulatedSite


def scanner_to_plain(scanner: Scanner) -> list[dict[str, Any]]:
    """A site's own scanner as numbers and text: of each step the mechanism, its settings and its fixed parameters."""
    steps: list[dict[str, Any]] = []
    for mechanism, probability in scanner.steps:
        inner = mechanism.mechanism if isinstance(mechanism, Fixed) else mechanism
        given = mechanism.parameters if isinstance(mechanism, Fixed) else {}
        steps.append(
            {
                "mechanism": type(inner).__name__,
                "probability": probability,
                "settings": _settings(inner),
                "parameters": {name: torch.as_tensor(value).tolist() for name, value in given.items()},
            }
        )
    return steps


def _settings(mechanism: Mechanism) -> dict[str, Any]:
    found = {field.name: getattr(mechanism, field.name) for field in fields(mechanism)}  # type: ignore[arg-type]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def scanner_from_plain(steps: list[dict[str, Any]]) -> Scanner:
    """The scanner that `scanner_to_plain` wrote.

    Raises:
        StudyError: a mechanism that `elsewhere.acquisition` does not have.
    """
    built: list[tuple[Mechanism, float]] = []
    for step in steps:
        kind = getattr(acquisition, str(step["mechanism"]), None)
        if not (isinstance(kind, type) and issubclass(kind, Mechanism)):
            raise StudyError(f"truth: there is no mechanism {step['mechanism']!r} in elsewhere.acquisition")
        known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
        settings = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in step["settings"].items()
            if name in known
        }
        mechanism = kind(**settings)
        parameters = {name: torch.tensor(value) for name, value in step["parameters"].items()}
        built.append((Fixed(mechanism, parameters) if parameters else mechanism, float(step["probability"])))
    return Scanner(built)


def site_to_plain(site: SimulatedSite, scanner: Scanner, lesions: list[bool]) -> dict[str, Any]:
    """One site's entry in `truth.yaml`."""
    return {
        "n_patients": site.n_patients,
        "images_per_patient": site.images_per_patient,
        "prevalence": site.prevalence,
        "patients_with_lesion": sum(lesions),
        "age": list(site.age),
        "scanner": scanner_to_plain(scanner),
    }


def read_truth(folder: Path) -> tuple[SimulatedSite, ...]:
    """The sites of a simulated study with their true scanners; simulated again, they give the same images.

    Raises:
        StudyError: `truth.yaml` is missing or not what `simulate_study` writes.
    """
    path = folder / "truth.yaml"
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        return tuple(
            SimulatedSite(
                name,
                scanner_from_plain(site["scanner"]),
                site["n_patients"],
                site["prevalence"],
                site["images_per_patient"],
                tuple(site["age"]),
            )
            for name, site in plain["sites"].items()
        )
    except FileNotFoundError:
        raise StudyError(f"{path}: not found; only a simulated study has one") from None
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: not what simulate_study writes ({error!r})") from error
