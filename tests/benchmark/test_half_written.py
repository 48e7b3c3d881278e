"""What a killed process was writing does not stay."""

from __future__ import annotations

from pathlib import Path

from elsewhere.files import atomic, remove_half_written


def test_half_written_files_go_and_all_others_stay(tmp_path: Path) -> None:
    whole = [tmp_path / "runs" / "a.csv", tmp_path / ".lock", tmp_path / "notes.part"]
    folder = tmp_path / "runs" / ".export.0123abcd.part"  # of another command, which removes it itself
    folder.mkdir(parents=True)
    for path in whole:
        path.parent.mkdir(exist_ok=True)
        path.write_text("whole")
    with atomic(tmp_path / "runs" / "b.csv") as temporary:
        temporary.write_text("half")
        remove_half_written(tmp_path)
        assert not temporary.exists()
        temporary.write_text("again")
    assert folder.is_dir()
    assert all(path.read_text() == "whole" for path in whole)
