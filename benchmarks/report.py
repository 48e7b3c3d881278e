"""Statistics and report of 500 runs of 200 cases: time, peak memory, size of the page, and how soon it opens.

python benchmarks/report.py [--methods 10 --sites 5 --seeds 10 --cases 200] [--json FILE]

The folder is made up (`made_up_folder`), nothing is trained. Two processes are timed from their start, one after the
other: `tables`, the results.csv and cases.csv of `elsewhere benchmark`, and `report`, the command `elsewhere report`
(findings, report.html, evidence.json, comparisons.csv). Where playwright and chromium are installed the page is opened,
too, with all its pictures decoded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from made_up_folder import MadeUp

METHODS = ("erm", "gin", "vrex", "irm", "coral", "dann", "mixstyle", "swad", "fish", "groupdro")

TABLES = """
import sys
from pathlib import Path
from elsewhere.benchmark.loading import read_plan
from elsewhere.benchmark.tables import write_tables
folder = Path(sys.argv[1])
write_tables(folder, read_plan(folder)[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("methods", 10), ("sites", 5), ("seeds", 10), ("cases", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tasks", nargs="+", default=["classification", "segmentation"])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, Any] = {
        "runs": asked.methods * asked.sites * asked.seeds,
        "cases": asked.cases,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    for task in asked.tasks:
        with tempfile.TemporaryDirectory() as folder:
            found[task] = measure(Path(folder), task, asked)
            print(task, json.dumps(found[task]), flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def measure(folder: Path, task: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Make the folder up, then time what a person waits for."""
    methods = {METHODS[i % len(METHODS)] + "2" * (i >= len(METHODS)): 0.05 * i for i in range(asked.methods)}
    sites = {f"site {chr(65 + i)}": asked.cases for i in range(asked.sites)}
    begun = time.monotonic()
    MadeUp(task, sites, methods, tuple(range(asked.seeds)), home=40, calibration=40).write(folder, tables=False)
    made = time.monotonic() - begun
    tables = timed([sys.executable, "-c", TABLES, str(folder)])
    report = timed([sys.executable, "-m", "elsewhere.cli", "report", str(folder), "--prevalence", "0.1"])
    return {
        "made_up_s": round(made, 1),
        "tables": tables,
        "report": report,
        "html_mb": round((folder / "report.html").stat().st_size / 1e6, 2),
        "opens_s": opened(folder / "report.html"),
    }


def timed(command: list[str]) -> dict[str, float]:
    """Seconds of wall clock and of the processor (which other programs disturb less), and MiB at the peak."""
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "mib": round(usage.ru_maxrss / 1024),
    }


def opened(page: Path) -> float | None:
    """Seconds from asking for the page to its `load` event in headless Chromium, median of 5; None without one."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        seconds = []
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            begun = time.monotonic()
            tab.goto(page.as_uri(), wait_until="load")
            seconds.append(time.monotonic() - begun)
            tab.close()
        browser.close()
    return round(sorted(seconds)[2], 2)


if __name__ == "__main__":
    main()
