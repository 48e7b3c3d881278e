"""A DropGen step beside an ERM step and one forward pass of the extractor: time and peak memory. Prints JSON.

    OMP_NUM_THREADS=1 python benchmarks/dropgen.py --pairs 20 --out dropgen.json
    python benchmarks/dropgen.py --size 32 --pairs 2 --processes 1   # a glance

The sizes are the paper's: one channel, a U-Net of 5 levels from 20 filters with batch norm, and an extractor laid out
as anatomix (5.9 M weights, 16 features; random weights, which take the same time), on 64^3 voxels. Both sides train the
same kind of network with the same loss and optimiser; only its first layer is wider in DropGen.

Time: alternating pairs in one process, median ratio of DropGen step / (ERM step + extractor forward) and its interval.
Memory: the peak of a process that makes three steps, above what it held before them, medians over some processes; the
bound is that of ERM plus the largest activation of the extractor (input and output of its largest layer) plus the
features.

Targets: ratio at most 1.10; peak at most the bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elsewhere import methods, networks, tasks
from elsewhere.methods import Batch, Context
from elsewhere.networks import pretrained, stable
from pairs import compare
from predict import held

EXTRACTOR = "anatomix"


def make_batch(size: int, n: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(n, *(size,) * 3, generator=generator) > 0.9).long()
    return Batch(torch.randn(n, 1, *(size,) * 3, generator=generator), target, torch.zeros(n, dtype=torch.long))


def step_of(name: str, batch: Batch, **options: Any) -> Callable[[], None]:
    """One update of a method, as anybody's own loop makes it."""
    task = tasks.create("segmentation", 3, ("background", "organ"))
    network = networks.build(
        "unet", dims=3, in_channels=1, out_channels=2, channels=(20, 40, 80, 160, 320), norm="batch"
    )
    with pretrained.layout_only():
        method = methods.create(name, network, task, **options).train()
    optimizers = method.optimizers(lambda parameters, **_: torch.optim.AdamW(parameters, lr=2e-4, weight_decay=1e-5))
    step = 0

    def update() -> None:
        nonlocal step
        method.update(batch, Context(step=step, optimizers=optimizers))
        step += 1

    return update


def largest_activation(extractor: nn.Module, image: Tensor) -> int:
    """Bytes of input and output of the layer that has most of them, in one forward pass."""
    most = 0

    def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal most
        own = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*inputs, output)}
        most = max(most, sum(own.values()))

    hooks = [m.register_forward_hook(look) for m in extractor.modules() if not list(m.children())]
    extractor(image)
    for hook in hooks:
        hook.remove()
    return most


def peak(side: str, options: argparse.Namespace) -> float:
    """MiB that three steps need at most, in a process of its own, above what it held before them."""
    command = [sys.executable, __file__, "--side", side, "--size", str(options.size), "--batch", str(options.batch)]
    done = subprocess.run([*command, "--threads", str(options.threads)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def do_one_side(side: str, batch: Batch) -> None:
    step = step_of(side, batch, **({"extractor": EXTRACTOR} if side == "dropgen" else {}))
    before = held("VmRSS")
    for _ in range(3):
        step()
    print(held("VmHWM") - before)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    batch = make_batch(options.size, options.batch)
    extractor = stable.build(EXTRACTOR, 3, load=False)
    erm, ours = step_of("erm", batch), step_of("dropgen", batch, extractor=EXTRACTOR)

    def apart() -> None:
        erm()
        extractor(batch.image)

    found = compare(ours, apart, options.pairs, warm_up=2)
    peaks: dict[str, list[float]] = {"dropgen": [], "erm": []}
    for _ in range(options.processes):
        for side, seen in peaks.items():
            seen.append(peak(side, options))
    mib = {side: float(np.median(seen)) for side, seen in peaks.items()}
    features = extractor.features * batch.image.numel() * 4 / 2**20
    activation = largest_activation(extractor, batch.image) / 2**20
    bound = mib["erm"] + activation + features
    return {
        "size": options.size,
        "batch": options.batch,
        "extractor": EXTRACTOR,
        **found,
        "memory": {
            **mib,
            "largest_activation": activation,
            "features": features,
            "bound": bound,
            "ratio": round(mib["dropgen"] / bound, 4),
            "processes": options.processes,
        },
        "target": {"ratio": 1.10, "memory": 1.0},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--processes", type=int, default=3, help="of each side, for the memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=("dropgen", "erm"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        do_one_side(options.side, make_batch(options.size, options.batch))
        return
    text = json.dumps(measure(options), indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
