"""The report's section on local patients: what it says of each metric, from the table that `evaluate --local` wrote."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elsewhere.errors import ElsewhereError
from elsewhere.report.blocks import Figures, Heading, Table
from elsewhere.report.sections import local

ROWS = """site,what,metric,n,value,change,change_lo,change_hi
<west>,threshold,dice,0,0.41,0,,
<west>,threshold,dice,4,0.46,0.05,0.012,0.079
<west>,temperature,nll,0,1.2,0,,
<west>,temperature,nll,4,0.9,-0.3,-0.41,-0.22
<west>,temperature,ece,0,0.2,0,,
<west>,temperature,ece,4,0.1,-0.1,-0.12,-0.08
"""


def blocks(folder: Path, rows: str) -> list[Any]:
    (folder / "local_summary.csv").write_text(rows)
    found = local.section(SimpleNamespace(folder=folder))  # type: ignore[arg-type]
    assert found is not None
    return list(found.blocks)


def test_each_way_has_its_curves_and_its_table(tmp_path: Path) -> None:
    found = blocks(tmp_path, ROWS)
    assert [block.text for block in found if isinstance(block, Heading)] == [
        "Threshold done again on them", "Temperature done again on them",
    ]  # fmt: skip
    assert [len(block.figures) for block in found if isinstance(block, Figures)] == [1, 2]
    threshold, temperature = [block for block in found if isinstance(block, Table)]
    assert "Lower is better" not in " ".join(threshold.captions)
    assert "Lower is better for negative log likelihood and ECE." in " ".join(temperature.captions)
    (row,) = threshold.rows
    assert row.head == "<west>"
    assert row.cells[-1].text == "+0.050"
    assert row.cells[-1].small == ["[+0.012, +0.079]"]


def test_there_is_no_section_where_it_was_not_asked(tmp_path: Path) -> None:
    assert local.section(SimpleNamespace(folder=tmp_path)) is None  # type: ignore[arg-type]


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ElsewhereError, match=r"local_summary\.csv.*run the same 'elsewhere evaluate' command again"):
        blocks(tmp_path, "site,what\nwest,threshold\n")
