"""The model card beside a pretrained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROWS = 12
"""Rows of the table at most."""


@dataclass(frozen=True)
class Facts:
    """What a card says.

    Attributes:
        name: of the file.
        dims: 2 or 3.
        command: that made it, "" where it was called from Python.
        version: of elsewhere.
        machine: what it ran on.
        settings: all of them.
        seed: of the pretraining.
        data: what the anatomies were made of, a sentence.
        seconds: of all its sittings together.
        curve: (step, mean loss since the row before, share of places found again).
        mind: the same share for MIND.
        points: voxels among which one was looked for.
        parameters: weights of the network.
        weights_hash: of the extractor.
    """

    name: str
    dims: int
    command: str
    version: str
    machine: str
    settings: Mapping[str, Any]
    seed: int
    data: str
    seconds: float
    curve: Sequence[tuple[int, float, float]]
    mind: float
    points: int
    parameters: int
    weights_hash: str


def card(facts: Facts) -> str:
    """Markdown."""
    settings = ", ".join(f"{key}={value}" for key, value in facts.settings.items())
    made = f"`{facts.command}`" if facts.command else "`elsewhere.training.pretrain.pretrain`, called from Python"
    lines = [
        f"# {facts.name}",
        "",
        f"A frozen {facts.dims}D extractor for `elsewhere` ({facts.parameters:,} weights, "
        f"{facts.settings['features']} features): images of one channel to features that stay when the acquisition "
        f"changes. Use it with `--set dropgen.extractor=elsewhere-{facts.dims}d --set dropgen.weights={facts.name}`.",
        "",
        "## Data",
        "",
        facts.data,
        "",
        "## How it was made",
        "",
        f"- Command: {made}, elsewhere {facts.version}, seed {facts.seed}.",
        f"- Time: {facts.seconds:,.0f} s in all, on {facts.machine}.",
        f"- Settings: {settings}.",
        f"- Hash of the weights: {facts.weights_hash}.",
        "",
        "## Curve",
        "",
        "*Found again*: share of voxels of held-out drawn anatomies whose nearest neighbour in a second image, of "
        f"another contrast and another scanner, is the same voxel among {facts.points} (guessing: "
        f"{1 / facts.points:.2%}). It is measured on drawn images, and says nothing yet of real ones: `elsewhere "
        "stability` does.",
        "",
        "| step | loss | found again |",
        "|---|---|---|",
        *(f"| {step} | {loss:.3f} | {share:.1%} |" for step, loss, share in thin(facts.curve)),
        f"| MIND, for comparison | | {facts.mind:.1%} |",
        "",
        "## Limits",
        "",
        "- Anatomies and images were drawn. What a scanner does that was not drawn, and shapes unlike these, are not "
        "known to it.",
        "- Voxels are all that it knows of scale: features depend on the spacing of an image.",
        f"- Instance norm, where it has it, makes features depend on the whole window; it saw windows of "
        f"{facts.settings['size']} voxels a side.",
        "- It finds no disease and is no medical device.",
    ]
    return "\n".join(lines) + "\n"


def thin(curve: Sequence[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """At most `ROWS` rows, evenly spaced, the last among them."""
    if len(curve) <= ROWS:
        return list(curve)
    return [curve[round((i + 1) * len(curve) / ROWS) - 1] for i in range(ROWS)]
