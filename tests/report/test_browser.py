"""The page in a real browser: the card is seen unscrolled, nothing sticks out, and axe has no complaint.

Chromium alone measures (`--dump-dom`); axe needs playwright and axe-playwright-python besides.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import NASTY, MadeUp

from elsewhere.evidence.at_a_glance import Glance, at_a_glance
from elsewhere.evidence.facts import Curve, Facts, Longer
from elsewhere.evidence.findings import find
from elsewhere.report import write_report
from elsewhere.report.page import LONGEST_STUDY, Page, render
from elsewhere.wording import clip

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evidence"))
from made_up_material import RULE, InMemory, classification, segmentation

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

VIEWPORTS = ((1280, 800), (400, 800))

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]

MEASURE = """
<body>FRAMES<script>
const found = [], frames = [...document.querySelectorAll("iframe")];
frames.forEach(frame => frame.onload = () => {
  const inside = frame.contentDocument, card = inside.getElementById("glance");
  found.push({
    width: frame.clientWidth,
    bottom: card ? card.getBoundingClientRect().bottom : -1,
    overflow: inside.documentElement.scrollWidth - frame.clientWidth,
    height: inside.documentElement.scrollHeight,
    cut: [...inside.querySelectorAll(".answer, .figures div, .plain li")]
      .filter(e => e.scrollWidth > e.clientWidth + 1).length,
  });
  if (found.length == frames.length) document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
});
</script></body>
"""

needs_chromium = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")


def measured(text: str, folder: Path) -> list[dict[str, Any]]:
    """Of a page in both viewports: bottom of the card, pixels that stick out, height, texts that are cut."""
    frame = '<iframe style="width:{}px;height:{}px;border:0" srcdoc="{}"></iframe>'
    frames = "".join(frame.format(width, height, html.escape(text)) for width, height in VIEWPORTS)
    page = folder / "measure.html"
    page.write_text("<!doctype html>" + MEASURE.replace("FRAMES", frames), encoding="utf-8")
    command = [str(BROWSER), *FLAGS, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(html.unescape(re.findall(r"<pre>(.*)</pre>", done.stdout)[0]))
    return sorted(found, key=lambda one: -one["width"])


def alone(glance: Glance) -> str:
    return render(
        Page(
            "t",
            f"{clip('study ' * 9, LONGEST_STUDY)}: leave one site out",
            "",
            "What was done.",
            (),
            [],
            [],
            "",
            glance,
        )
    )


def many(names: dict[str, str], sites: list[str], n: int = 30) -> dict[tuple[str, str], Any]:
    """Every method of another quality."""
    rng = np.random.default_rng(0)
    base = {site: np.clip(rng.normal(0.5, 0.1, (3, n)), 0, 1) for site in sites}
    return {
        (name, site): {"held-out": segmentation(np.clip(base[site] + 0.02 * i, 0, 1), site)}
        for i, name in enumerate(names)
        for site in sites
    }


LONG = "the University Hospital with the longest name of all " * 4

WORST = Facts(
    False, 999, 99, 99, True, {LONG: "5 of its 12 cases trained, selected or calibrated the model"}, False, 30000,
    tuple(Curve(f"{NASTY}{LONG}{i}", "A", 33, 33, 33) for i in range(11)),
    Longer("pays", "+0.047 [0.040, 0.054]", 60000), 999, 999,
)  # fmt: skip
"""Everything that can be wrong, at once."""


def hostile(case: str) -> Glance:
    twelve = [f"{LONG}{i}" for i in range(12)]
    methods = {"erm": "", **{f"{NASTY}{LONG}{i}": "" for i in range(11)}}
    if case == "all at once":
        return at_a_glance(find(InMemory(many(methods, twelve)), RULE, whole=False), WORST)
    if case == "one method":
        return at_a_glance(find(InMemory(many({"erm": ""}, ["A"])), RULE, whole=False), Facts(planned=3, steps=60))
    if case == "no erm":
        few = {name: "" for name in list(methods)[1:4]}
        return at_a_glance(find(InMemory(many(few, twelve[:4])), RULE, whole=False), replace(WORST, failed=0))
    if case == "nothing but NaN":
        cases = {(m, "A"): {"held-out": classification(np.full((2, 9), 0.5), np.ones(9))} for m in ("erm", "gin")}
        of = InMemory(cases, task="classification", classes=("healthy", LONG))
        return at_a_glance(find(of, RULE, whole=False), WORST)
    cases = {("erm", "A"): {}}
    return at_a_glance(find(InMemory(cases), RULE, whole=False), replace(WORST, curves=()))


@needs_chromium
@pytest.mark.parametrize("case", ["all at once", "one method", "no erm", "nothing but NaN", "nothing finished"])
def test_the_card_is_seen_unscrolled(case: str, tmp_path: Path) -> None:
    wide, narrow = measured(alone(hostile(case)), tmp_path)
    for one, (width, height) in zip((wide, narrow), VIEWPORTS, strict=True):
        assert one["width"] == width
        assert 100 < one["bottom"] <= height, case
        assert one["overflow"] <= 0, "nothing sticks out on the right"
        assert one["cut"] == 0, "no text is cut"


@needs_chromium
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_whole_page(task: str, tmp_path: Path) -> None:
    sites = {"North": 14, NASTY: 13, "A & B": 12, LONG[:50]: 12}
    methods = {"erm": 0.0, "gin": 1.0, "vrex": -0.5}
    MadeUp(task, sites, methods, reference=True, home=12, calibration=12).write(tmp_path)
    wide, narrow = measured(write_report(tmp_path).read_text(encoding="utf-8"), tmp_path)
    for one, (_, height) in zip((wide, narrow), VIEWPORTS, strict=True):
        assert 100 < one["bottom"] <= height
        assert one["overflow"] <= 0
    # Before there were grids this page was 19,000 and 27,000 pixels long.
    assert wide["height"] < 11_000
    assert narrow["height"] < 18_000


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_complaint(scheme: str, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    MadeUp("segmentation", {"A": 13, NASTY: 8}, {"erm": 0.0, "gin": 1.0}, home=8, calibration=8).write(tmp_path)
    path = write_report(tmp_path)
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=FLAGS[1:])
        for width, height in VIEWPORTS:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(path.as_uri())
            found = axe.Axe().run(tab).response["violations"]
            assert not found, [(one["id"], one["nodes"][0]["html"][:200]) for one in found]
        browser.close()
