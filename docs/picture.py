"""Makes `img/report.png`, the picture of README and docs, from the report of a finished demo.

    elsewhere demo --out demo && python docs/picture.py demo/benchmark

Needs Chromium on the path. Only the layout is changed, so that a page fits a picture: three sections in two columns,
the cases of the last site.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent / "img" / "report.png"
WIDTH, HEIGHT = 1500, 1480
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
LAYOUT = """<style>
body { max-width: none !important; margin: 0 !important; padding: 18px 26px !important; }
header, main { width: auto !important; max-width: none !important; }
header * { max-width: none !important; }
header nav, footer { display: none !important; }
main { display: grid; grid-template: min-content 1fr / 1fr 1fr; gap: 20px; align-items: start; }
main > section { margin: 0 !important; display: none !important; }
#scores, #comparisons { display: block !important; grid-column: 1; }
#examples { display: block !important; grid-column: 2; grid-row: 1 / span 2; }
#examples > :not(h2, .caption):not(h3:last-of-type, h3:last-of-type ~ *) { display: none !important; }
</style></head>"""


def _indexed(picture: Image.Image) -> Image.Image:
    """256 colours: the commonest ones as they are, greys for the images, the rest for lines and letters."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    common = colours[np.argsort(-counts)[:48]]
    coloured = pixels[np.ptp(pixels.astype(int), axis=1) > 24]
    lines = Image.fromarray(coloured[None]).quantize(96).getpalette() or []
    greys = np.linspace(0, 255, 256 - len(common) - len(lines) // 3).round().astype(int).repeat(3)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common.ravel().tolist(), *lines, *greys.tolist()])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def main(benchmark: Path) -> None:
    """Take the picture of `benchmark/report.html`."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("docs/picture.py: no Chromium on the path; install it (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        text = (benchmark / "report.html").read_text(encoding="utf-8")
        page.write_text(text.replace("</head>", LAYOUT, 1).replace('loading="lazy"', ""), encoding="utf-8")
        size = f"--window-size={WIDTH},{HEIGHT}"
        command = [browser, *FLAGS, size, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        OUT.parent.mkdir(exist_ok=True)
        _indexed(Image.open(shot).convert("RGB")).save(OUT, optimize=True)
    print(f"wrote {OUT} ({OUT.stat().st_size // 1000} kB)")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
