"""What makes a DropGen step cheaper or could, each beside the plain way. Prints a Markdown table of ratios of CPU time.

    OMP_NUM_THREADS=1 python benchmarks/dropgen_parts.py --pairs 20

The sizes of `dropgen.py`: an image of 64^3, 16 features, a first layer to 20 filters, anatomix's layout as extractor.

- First layer on kept channels: with p = 0.75 about 4 of 17 channels are kept. Layer and gradient of its weights on
  these channels alone, gathered, beside the same on all channels, the dropped ones multiplied by 0. Each case keeps
  channels of its own, and a widened layer leaves out those that no case of a batch has; here is a batch
  of one, and a plain layer.
- Extractor in bfloat16: its forward pass under autocast, beside float32.
- Extractor channels last: its forward pass with weights in `channels_last_3d`, as it is built, beside contiguous ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dropgen import EXTRACTOR, make_batch, step_of
from elsewhere.methods.dropgen import ChannelDropout
from elsewhere.networks import stable
from pairs import compare

CHANNELS, FILTERS, KEPT = 17, 20, 4


def first_layer(size: int, stride: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """On the kept channels, and on all."""
    layer = nn.Conv3d(CHANNELS, FILTERS, 3, stride, padding=1)
    image = torch.randn(1, CHANNELS, *(size,) * 3)
    keep = torch.zeros(CHANNELS)
    keep[torch.randperm(CHANNELS)[:KEPT]] = CHANNELS / KEPT
    kept = keep.nonzero()[:, 0]
    convolve = nn.functional.conv3d

    def gathered() -> None:
        some = image[:, kept] * keep[kept].view(1, -1, 1, 1, 1)
        convolve(some, layer.weight[:, kept], layer.bias, stride, 1).sum().backward()

    def whole() -> None:
        layer(image * keep.view(1, -1, 1, 1, 1)).sum().backward()

    return gathered, whole


def extractor(size: int, how: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """In one way, and without it."""
    other, plain = (stable.build(EXTRACTOR, 3, load=False) for _ in range(2))
    image = make_batch(size, 1).image
    if how == "channels last":  # as it is built
        plain = plain.to(memory_format=torch.contiguous_format)

    def another() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "bfloat16"):
            other(image)

    def as_it_is() -> None:
        with torch.no_grad():
            plain(image)

    return another, as_it_is


def dropout(size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The multiplication of all channels, and the whole step that it is part of."""
    channels, module = torch.randn(1, CHANNELS, *(size,) * 3), ChannelDropout(0.75)
    return lambda: module(channels), step_of("dropgen", make_batch(size, 1), extractor=EXTRACTOR)


def main(size: int, pairs: int) -> None:
    """The table."""
    print("| this | to that | ratio of CPU time | seconds |\n|---|---|---|---|")
    for this, that, (ours, theirs) in (
        ("dropout: all channels times 0 or 1 / (1 - p)", "the whole step", dropout(size)),
        (f"first layer on {KEPT} gathered channels, stride 2", f"on all {CHANNELS}", first_layer(size, 2)),
        (f"first layer on {KEPT} gathered channels, stride 1", f"on all {CHANNELS}", first_layer(size, 1)),
        ("extractor under bfloat16", "float32", extractor(size, "bfloat16")),
        ("extractor channels last", "contiguous", extractor(size, "channels last")),
    ):
        found = compare(ours, theirs, pairs, warm_up=2)["cpu_time"]
        ratio = f"{found['ratio']:.3f} [{found['interval'][0]:.3f}, {found['interval'][1]:.3f}]"
        print(f"| {this} | {that} | {ratio} | {found['seconds'][0]:.4f}, {found['seconds'][1]:.4f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    main(args.size, args.pairs)
