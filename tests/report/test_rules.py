"""Two selection rules side by side, in print and on the page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from folders import MadeUp, Page
from rich.console import Console

from elsewhere.benchmark import print_summary, summarise
from elsewhere.report import write_report

SITES = {"North": 10, "South": 10}
METHODS = {"erm": 0.0, "gin": 1.0}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    rules = ("source-val", "oracle")
    MadeUp("segmentation", SITES, METHODS, reference=True, selection=rules).write(folder)
    return folder


def printed(folder: Path) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    print_summary(console, summarise(folder))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_one_printed_table_has_a_row_for_each_rule(both: Path) -> None:
    lines = printed(both)
    assert sum("┏" in line for line in lines) == 1, "one table"
    rows = [[cell.strip() for cell in line.strip("│").split("│")][:2] for line in lines if line.startswith("│")]
    named = [row for row in rows if row[1]]
    assert named == [
        ["erm", "source-val"],
        ["erm", "ORACLE"],
        ["gin", "source-val"],
        ["gin", "ORACLE"],
        ["reference", "source-val"],
        ["reference", "ORACLE"],
    ]
    text = "\n".join(lines)
    assert "Selection: source-val (" in text
    assert "Selection: oracle (ORACLE: selected by the held-out site itself" in text
    assert text.count("[ ]") == 1, "what both rules share is said once"


def test_one_rule_has_no_column_for_it(tmp_path: Path) -> None:
    MadeUp("segmentation", SITES, METHODS).write(tmp_path)
    lines = printed(tmp_path)
    assert not any("selection" in line for line in lines if "┃" in line)
    assert 'id="rules"' not in write_report(tmp_path).read_text(encoding="utf-8")


def test_the_page_has_them_side_by_side_and_the_oracle_stamped(both: Path) -> None:
    text = write_report(both).read_text(encoding="utf-8")
    page = Page(text)
    order = [name for name in page.sections if name in ("scores", "rules", "scores-oracle")]
    assert order == ["scores", "rules", "scores-oracle"]
    section = text[text.index('id="rules"') : text.index('id="comparisons"')]
    assert section.count('<td class="missing words">ORACLE</td>') == 3
    assert section.count('<td class="words">source-val</td>') == 3
    assert "nobody who deploys a model can do" in page.sections["rules"]
    # The numbers are those of each rule's own table.
    summaries = summarise(both)
    for summary in summaries:
        for row in summary.rows:
            assert f"{row.cells['North'].value:.3f}" in page.sections["rules"]
