"""Pretraining: from settings to the file of an extractor and its card."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from elsewhere import __version__
from elsewhere.errors import SettingsError
from elsewhere.files import folder_lock, write_text
from elsewhere.networks.stable import build, write_ours
from elsewhere.training.bfloat16 import describe_device
from elsewhere.training.pretrain.card import Facts, card
from elsewhere.training.pretrain.device import choose_device
from elsewhere.training.pretrain.label_maps import CutMaps, digest, read_label_maps
from elsewhere.training.pretrain.loop import SCALING, PretrainLoop
from elsewhere.training.pretrain.retrieval import POINTS
from elsewhere.training.pretrain.settings import PretrainSettings
from elsewhere.training.state import Progress

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Pretrained:
    """A finished pretraining.

    Attributes:
        path, card: the file of the extractor, and its model card.
        curve: (step, mean loss since the row before, share of places found again).
        mind: that share for MIND on the same images.
        seconds: of all its sittings together.
        fresh: whether there was something to do.
    """

    path: Path
    card: Path
    curve: Sequence[tuple[int, float, float]]
    mind: float
    seconds: float
    fresh: bool


def pretrain(
    dims: int,
    out: Path,
    settings: PretrainSettings,
    *,
    labels: Sequence[Path] = (),
    seed: int = 0,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> Pretrained:
    """Pretrain an extractor, and write `out` and its card.

    Beside `X.safetensors` lie `X.md` and the folder `X.pretrain` with `log.csv` and `checkpoint/`. The same call goes
    on from the last checkpoint; on a CPU with as many threads it ends with the same weights, bit for bit.

    Args:
        dims: 2 or 3.
        out: the `.safetensors` file.
        settings: see `PretrainSettings`.
        labels: label maps from which anatomies are made besides the random ensembles, see `read_label_maps`.
        seed: of weights, anatomies, images and sampled voxels.
        command: for card and metadata.
        progress: told how far it is.

    Raises:
        StudyError: a label map that is none.
        SettingsError: no `.safetensors`, or no such device.
        RunError: what lies there is of another pretraining, the loss is not finite, or nothing can be written.
    """
    if out.suffix != SUFFIX:
        raise SettingsError(f"--out {out}: wanted a file that ends in {SUFFIX}")
    device = choose_device(settings.device, settings.precision, dims)
    maps = read_label_maps(labels, dims) if labels else None
    folder = out.with_suffix(".pretrain")
    with folder_lock(folder, "a pretraining"):
        loop = PretrainLoop(dims, settings, maps, seed, device, folder, progress)
        fresh = loop.run() or not out.is_file()
        mind = loop.found_again(build("mind", dims).to(device))
        text = out.with_suffix(".md")
        curve = [(int(step), loss, score) for step, loss, score in loop.state.curve]
        seconds = loop.state.seconds
        if fresh:
            data = _data(maps, settings)
            about = {
                "command": command,
                "version": __version__,
                "steps": str(settings.steps),
                "seconds": f"{seconds:.0f}",
                "seed": str(seed),
                "data": data,
            }
            write_ours(out, loop.network, about, scaling=SCALING)
            facts = Facts(
                name=out.name,
                dims=dims,
                command=command,
                version=__version__,
                machine=f"{describe_device(device)}, torch {torch.__version__}, {platform.system()}",
                settings=settings.model_dump(),
                seed=seed,
                data=data,
                seconds=seconds,
                curve=curve,
                mind=mind,
                points=POINTS,
                parameters=sum(parameter.numel() for parameter in loop.network.parameters()),
                weights_hash=build(f"elsewhere-{dims}d", dims, weights=out).weights_hash,
            )
            write_text(text, card(facts))
        return Pretrained(out, text, curve, mind, seconds, fresh)


def _data(maps: CutMaps | None, settings: PretrainSettings) -> str:
    """What the anatomies were made of, in a sentence."""
    if maps is None or settings.given == 0:
        return "Random ensembles of shapes, drawn on the fly by `elsewhere.acquisition`; no image of anybody."
    return (
        f"{1 - settings.given:.0%} random ensembles of shapes and {settings.given:.0%} pieces of {len(maps.maps)} "
        f"given label maps with {len(maps.names) - 1} structures (digest {digest(maps)}), turned and bent; drawn on "
        "the fly by `elsewhere.acquisition`; no image of anybody."
    )
