"""Files are whole or absent, and as open to others as the umask says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elsewhere.files import atomic, remove_half_written, write_text


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640)])
def test_umask_is_respected(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        write_text(tmp_path / "a.txt", "y")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode
    assert (tmp_path / "a.txt").read_text() == "y"


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".csv")
    write_text(path, "x")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with atomic(tmp_path / "b.txt") as part:
        part.write_text("killed here")
        copy = part.with_name(part.name.replace("b.txt", "c.txt"))
        copy.write_text("left by a process that was killed")
    remove_half_written(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]
