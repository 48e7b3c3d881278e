"""The README: both commands on its first screen, and nothing that it points to is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FIRST_SCREEN = 25  # lines
LARGEST_PICTURE = 300_000  # bytes


def targets(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_both_commands_are_on_the_first_screen_and_in_the_makefile(command: str) -> None:
    assert command in "\n".join(README.splitlines()[:FIRST_SCREEN])
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{command.split()[1]}:", rules, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [t for t in targets(page.read_text(encoding="utf-8")) if not (page.parent / t.partition("#")[0]).exists()]
    assert not missing


def test_the_picture_is_on_the_first_screen_and_small() -> None:
    pictures = [ROOT / target for target in targets(README) if target.endswith((".png", ".svg"))]
    assert pictures
    assert "docs/img/" in "\n".join(README.splitlines()[:FIRST_SCREEN])
    assert all(picture.stat().st_size < LARGEST_PICTURE for picture in pictures)


def test_the_methods_table_is_the_registry() -> None:
    from elsewhere import methods

    section = README.partition("## Methods")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \|.*\| ([^|]+) \|$", section, re.M)
    assert dict(rows) == {name: ", ".join(methods.card(name).shift) or "none" for name in methods.names()}


def test_no_badges() -> None:
    """A badge claims what this file cannot check."""
    assert not re.search(r"shields\.io|badge\.svg|badge\.fury", README)
