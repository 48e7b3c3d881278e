from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from bench import THREE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "out")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tiny.segmentation(tmp_path / "study", THREE)
