"""Folders to report on, without a training, and a parser for pages."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from made_up_folder import MadeUp

__all__ = ["NASTY", "MadeUp", "Page"]

NASTY = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Tags, their attributes, the text, and the text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.sections: dict[str, str] = {}
        self._section = ""
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"
        if tag == "section":
            self._section = dict(attrs).get("id") or ""
            self.sections[self._section] = ""

    def handle_endtag(self, tag: str) -> None:
        self._style = False
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if self._style:
            return
        self.text += data
        if self._section:
            self.sections[self._section] += " " + " ".join(data.split())

    def count(self, tag: str, section: str = "") -> int:
        return sum(name == tag for name, _ in self.tags)
