"""All randomness of a training is a pure function of (seed, step, rank): exact resume needs no stored generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def number(*parts: int | str) -> int:
    """A 63-bit seed from whatever identifies the draw; unlike sums of seeds, no two identifications collide."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def own_state(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run with torch's global generators (dropout, initialisation) seeded so, and put back the user's state after."""
    device = torch.device(device)
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.init()  # type: ignore[no-untyped-call]
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
