"""Makes the pictures of README and docs from pages that commands write; Chromium must be on the path.

    elsewhere demo --out demo && python docs/picture.py demo/benchmark/report.html docs/img/report.png --readme
    python docs/picture.py ABLATION/report.html docs/img/ablation.png --section ablation
    python docs/picture.py PAGE.html PICTURE.png

A picture is of the whole page, without the empty rows under it; of one section of a report; or, for the README, of
the card over three sections in two columns, with the cases of the last site unfolded, cut at its height. Nothing but
the layout is changed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
README = """
body { max-width: none !important; margin: 0 !important; padding: 12px 26px !important; }
header, main { width: auto !important; max-width: none !important; }
header > :not(.top, #glance, .legend), footer, .to-notes { display: none !important; }
.legend { margin: 0 0 4px !important; }
main { display: grid; grid-template: min-content 1fr / minmax(0, 1fr) minmax(0, 1fr); gap: 16px 20px; }
main { align-items: start; }
main > section { margin: 0 !important; display: none !important; }
#comparisons { display: block !important; grid-column: 1; grid-row: 1 / span 2; }
#examples { display: block !important; grid-column: 2; }
#scores { display: block !important; grid-column: 2; grid-row: 2; }
#scores .caption, #examples .panels .quiet, #examples > details:not(:last-of-type) { display: none !important; }
"""
SECTION = """
body { margin: 0 !important; padding: 6px 20px !important; }
header, nav, footer, main > * { display: none !important; }
#%s { display: block !important; margin: 0 !important; border: 0 !important; }
"""
TALLEST = 6000


def _indexed(picture: Image.Image) -> Image.Image:
    """256 colours: the commonest ones as they are, greys for the images, the rest for lines and letters."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    common = colours[np.argsort(-counts)[:48]]
    coloured = pixels[np.ptp(pixels.astype(int), axis=1) > 24]
    lines = Image.fromarray(coloured[None]).quantize(96).getpalette() or [] if len(coloured) else []
    greys = np.linspace(0, 255, 256 - len(common) - len(lines) // 3).round().astype(int).repeat(3)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common.ravel().tolist(), *lines, *greys.tolist()])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _without_empty_end(picture: Image.Image, margin: int = 10) -> Image.Image:
    """Cut below the last row that is not of one colour."""
    pixels = np.asarray(picture)
    drawn = np.flatnonzero((pixels != pixels[:, :1]).any(axis=(1, 2)))
    if not len(drawn):
        sys.exit("docs/picture.py: the picture is empty")
    return picture.crop((0, 0, picture.width, min(int(drawn[-1]) + margin, picture.height)))


def main(page: Path, out: Path, layout: str, width: int, height: int) -> None:
    """Take the picture of a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("docs/picture.py: no Chromium on the path; install it (Debian: apt-get install chromium)")
    text = page.read_text(encoding="utf-8").replace('loading="lazy"', "")
    if layout == README:
        before, examples = text.split('id="examples"', 1)
        text = f'{before}id="examples"{examples.replace("<details>", "<details open>")}'
    if layout:
        text = text.replace("</head>", f"<style>{layout}</style></head>", 1)
    with tempfile.TemporaryDirectory() as folder:
        changed, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        changed.write_text(text, encoding="utf-8")
        command = [browser, *FLAGS, f"--window-size={width},{height}", f"--screenshot={shot}", changed.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        picture = _without_empty_end(Image.open(shot).convert("RGB"))
        if picture.height >= TALLEST:
            sys.exit(f"docs/picture.py: {page} is taller than {TALLEST} pixels; give a --section, or a larger --width")
        _indexed(picture).save(out, optimize=True)
    print(f"wrote {out} ({out.stat().st_size // 1000} kB)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1040, help="pixels; the README's is fixed")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--readme", action="store_true", help="the README's card and three sections")
    which.add_argument("--section", help="the one section of a report with this id")
    asked = parser.parse_args()
    if asked.section and not re.search(rf'id="{re.escape(asked.section)}"', asked.page.read_text(encoding="utf-8")):
        sys.exit(f"docs/picture.py: {asked.page} has no section {asked.section!r}")
    if asked.readme:
        main(asked.page, asked.out, README, 1500, 1480)
    else:
        main(asked.page, asked.out, SECTION % asked.section if asked.section else "", asked.width, TALLEST)
