"""Memory, cores and time of `elsewhere study check` on very many small PNGs with masks.

    python benchmarks/study_check.py [--rows 100000] [--side 64] [--jobs 2]

Prints JSON. Memory is the sum over the process and its children, sampled ten times a second: `peak_rss_mb` counts
shared pages in every process, `peak_pss_mb` (Linux) counts them once. Utilisation is processor time over wall time
and cores, of the check alone (the images are made before).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from elsewhere.study.check import check_study


def make_study(folder: Path, rows: int, side: int) -> None:
    """Write `rows` grey images of smooth random shapes with noise, and a mask each; ten sites, two images a patient."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    lines = ["image,label,site,patient"]
    for index in range(rows):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).resize((side, side), 2)
        image = np.asarray(coarse).astype(np.int16) + generator.integers(-12, 13, (side, side))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"images/{index:06d}.png", compress_level=1)
        mask = (np.asarray(coarse) > 160).astype(np.uint8)
        Image.fromarray(mask).save(folder / f"masks/{index:06d}.png", compress_level=1)
        lines.append(f"images/{index:06d}.png,masks/{index:06d}.png,site{index % 10},p{index // 20}-{index % 10}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "study.yaml").write_text("task: segmentation\nclasses: {background: 0, shape: 1}\n")


class Watch(threading.Thread):
    """Samples the memory and processor time of this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_rss = self.peak_pss = self.peak_processes = 0
        self.seconds: dict[int, float] = {}
        self.memory: list[float] = []
        self._stop_now = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._stop_now.wait(0.1):
            rss = pss = count = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    info = process.memory_full_info()
                    times = process.cpu_times()
                except psutil.Error:
                    continue
                rss, pss, count = rss + info.rss, pss + getattr(info, "pss", info.rss), count + 1
                self.seconds[process.pid] = times.user + times.system
            self.peak_rss, self.peak_pss = max(self.peak_rss, rss), max(self.peak_pss, pss)
            self.peak_processes = max(self.peak_processes, count)
            self.memory.append(pss)

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        make_study(Path(name), arguments.rows, arguments.side)
        made = time.perf_counter() - start
        watch = Watch()
        before = sum(psutil.Process().cpu_times()[:2])
        watch.start()
        start = time.perf_counter()
        loop_end = start

        def progress(done: int, total: int) -> None:
            nonlocal loop_end
            loop_end = time.perf_counter()

        report = check_study(name, jobs=arguments.jobs, progress=progress)
        seconds = time.perf_counter() - start
        watch.stop()
    busy = sum(watch.seconds.values()) - before
    cores = arguments.jobs or len(os.sched_getaffinity(0))
    quarter = max(1, len(watch.memory) // 4)
    result = {
        "rows": arguments.rows,
        "side": arguments.side,
        "seconds": round(seconds, 1),
        "seconds_reading": round(loop_end - start, 1),
        "seconds_comparing": round(seconds - (loop_end - start), 1),
        "seconds_making_the_data": round(made, 1),
        "rows_per_second": round(arguments.rows / seconds),
        "cores": cores,
        "utilisation": round(busy / seconds / cores, 3),
        "peak_rss_mb": round(watch.peak_rss / 2**20),
        "peak_pss_mb": round(watch.peak_pss / 2**20),
        "peak_pss_mb_by_quarter": [
            round(max(watch.memory[k * quarter : (k + 1) * quarter] or [0]) / 2**20) for k in range(4)
        ],
        "processes": watch.peak_processes,
        "load_of_others": round(os.getloadavg()[0], 2),
        "errors": len(report.errors),
        "warnings": len(report.warnings),
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
