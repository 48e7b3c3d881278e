"""A training step with weights that lie channels last, beside the same step without. Prints a Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/channels_last.py --pairs 20

Forward pass, backward pass, nothing else: what the setting `channels_last` changes. In alternating pairs; the ratio of
CPU time (other programs disturb it less), median and 95 % interval over pairs. There is no target: the table is to say
where it pays.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from elsewhere import networks
from elsewhere.networks.layout import channels_last
from pairs import compare

CASES: tuple[tuple[str, int, tuple[int, ...], dict[str, Any]], ...] = (
    ("unet", 2, (4, 1, 128, 128), {}),
    ("unet", 2, (8, 3, 128, 128), {"channels": (8, 16, 32, 64), "num_res_units": 1}),
    ("unet", 3, (3, 1, 64, 64, 16), {"channels": (8, 16, 32, 64), "num_res_units": 1}),
    ("unet", 3, (2, 1, 32, 48, 32), {"channels": (16, 32, 64), "num_res_units": 1}),
    ("unet", 3, (2, 1, 48, 48, 48), {"channels": (20, 40, 80, 160), "norm": "batch"}),
    ("dynunet", 3, (2, 1, 48, 48, 48), {}),
    ("resnet18", 2, (16, 1, 96, 96), {"width": 16}),
    ("resnet18", 3, (4, 1, 48, 48, 48), {"width": 16}),
)


def step(network: nn.Module, image: torch.Tensor, low: bool) -> Callable[[], None]:
    """A step's passes, in bfloat16 where `low`."""

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = network(image)
        logits.float().square().mean().backward()

    return run


def main(pairs: int) -> None:
    """The table."""
    print("| network | input | 32 bits | bfloat16 |\n|---|---|---|---|")
    for name, dims, shape, options in CASES:
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        cells = []
        for low in (False, True):
            last, plain = (
                networks.build(name, dims=dims, in_channels=shape[1], out_channels=2, **options) for _ in range(2)
            )
            channels_last(last, dims)
            found = compare(step(last, image, low), step(plain, image, low), pairs)["cpu_time"]
            cells.append(f"{found['ratio']:.2f} [{found['interval'][0]:.2f}, {found['interval'][1]:.2f}]")
        told = ", ".join(f"{key}={value}" for key, value in options.items())
        print(f"| {name} {dims}D {told} | {' x '.join(map(str, shape))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    main(parser.parse_args().pairs)
