"""Two ways to do a thing, in turns within one process: the median ratio of their times and its bootstrap interval."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int, warm_up: int = 3) -> dict[str, Any]:
    """Time `ours` and `theirs` alternately, which goes first alternating too.

    Returns:
        `ratio` (ours / theirs, median over pairs, wall clock) and `interval` (95 %, pairs resampled); the same of the
        process' CPU time, which other programs on the machine disturb less; median seconds of each; and the machine.
    """
    for _ in range(warm_up):
        ours()
        theirs()
    wall, cpu = np.zeros((pairs, 2)), np.zeros((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            start, used = time.perf_counter(), time.process_time()
            (ours, theirs)[which]()
            wall[pair, which], cpu[pair, which] = time.perf_counter() - start, time.process_time() - used
    return {
        **_summary(wall),
        "cpu_time": _summary(cpu),
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _summary(times: np.ndarray[Any, Any]) -> dict[str, Any]:
    ratios = times[:, 0] / times[:, 1]
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return {
        "ratio": round(float(np.median(ratios)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "seconds": [round(float(s), 5) for s in np.median(times, axis=0)],
    }
