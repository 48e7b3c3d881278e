"""The demo's study: four hospitals that image the same kind of anatomy, each in its own way."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from elsewhere.acquisition import BiasField, Curve, Gamma, GaussianBlur, GaussianNoise, Mechanism, Resolution, Scanner
from elsewhere.simulate.site import SimulatedSite
from elsewhere.simulate.study import TaskName, simulate_study


def four_hospitals(
    folder: Path,
    *,
    n_per_site: int = 24,
    size: int = 96,
    seed: int = 0,
    task: TaskName = "segmentation",
    dims: int = 2,
) -> Path:
    """Write a study of four hospitals; see `simulate_study` for what is written and raised.

    An organ may hold a lesion; a vessel elsewhere has the lesion's intensity. North has a good scanner; east a darker
    contrast and a bias field; south a brighter contrast, half the resolution, more noise, and far fewer patients with a
    lesion; west an inverted contrast and a bias field.

    Args:
        folder: must not exist yet, or be empty.
        n_per_site: patients of each hospital, one image each.
        size: of the images; in 3D the third axis is half as long, its spacing twice as large.
        seed: of everybody's anatomy and noise; the scanners are always the same.
        task: segmentation of organ and lesion, or classification: lesion or none.
        dims: 2 or 3.
    """
    scanners = {
        "north": _scanner(dims, noise=0.02),
        "east": _scanner(dims, gamma=1.7, bias=0.30, noise=0.03),
        "south": _scanner(dims, gamma=0.6, resolution=2.0, noise=0.05),
        "west": _scanner(dims, curve=(0.95, 0.80, 0.50, 0.25, 0.10), bias=0.25, blur=0.5, noise=0.03),
    }
    half = task == "classification"
    sites = [
        SimulatedSite(
            name,
            scanner,
            n_per_site,
            prevalence=(0.25 if half else 0.4) if name == "south" else (0.5 if half else 0.85),
            age=(52.0, 14.0) if name == "south" else (62.0, 11.0),
        )
        for name, scanner in scanners.items()
    ]
    return simulate_study(folder, sites, task=task, dims=dims, size=size, seed=seed, name="four-hospitals")


def _scanner(
    dims: int,
    *,
    noise: float,
    gamma: float | None = None,
    curve: tuple[float, ...] | None = None,
    bias: float = 0.0,
    blur: float = 0.0,
    resolution: float = 1.0,
) -> Scanner:
    """A scanner with these parameters, its noise drawn anew for each image."""
    steps: list[tuple[Mechanism, dict[str, float | Tensor]]] = []
    if gamma is not None:
        steps.append((Gamma(), {"gamma": torch.tensor([gamma])}))
    if curve is not None:
        steps.append((Curve(knots=len(curve)), {"values": torch.tensor([curve])}))
    if bias:
        steps.append((BiasField(), {"control": _coil(bias, dims)}))
    if blur:
        steps.append((GaussianBlur(), {"sigma": torch.tensor([blur])}))
    if resolution > 1:
        steps.append((Resolution(axes="each"), {"factor": torch.full((1, dims), resolution)}))
    steps.append((GaussianNoise(), {"sigma": torch.tensor([noise])}))
    return Scanner.fixed(steps)


def _coil(strength: float, dims: int, points: int = 5) -> Tensor:
    """A bias field (1, 1, *lattice), logarithms from -2 to 2 times `strength`: bright near the coil, a corner."""
    line = torch.linspace(-1, 1, points)
    field = torch.zeros(1, 1, *[points] * dims)
    for axis in range(dims):
        field = field + line.view(*[-1 if a == axis else 1 for a in range(-2, dims)])
    return -field * strength * 2 / dims
