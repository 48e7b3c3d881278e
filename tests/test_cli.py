"""The command line as a person meets it: one sentence for an error, nothing heavy before it must."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from elsewhere.cli import main, spread_values


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    printed = capsys.readouterr()
    code = stop.value.code
    return (code if isinstance(code, int) else int(code is not None)), printed.out, printed.err


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two sites of four cases, as folders of images and masks."""
    generator = np.random.default_rng(0)
    for site in ("north", "south"):
        for i in range(4):
            image = generator.integers(0, 255, (32, 40), dtype=np.uint8)
            for kind, array in (("images", image), ("masks", (image > 128).astype(np.uint8))):
                (tmp_path / "data" / site / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(tmp_path / "data" / site / kind / f"{i}.png")
    return tmp_path / "data"


def test_options_may_take_several_values() -> None:
    given = ["b", "S", "--held-out", "A", "B", "--set", "a=1", "b=2", "--steps", "5", "x"]
    wanted = ["b", "S", "--held-out", "A", "--held-out", "B", "--set", "a=1", "--set", "b=2", "--steps", "5", "x"]
    assert spread_values(given) == wanted
    assert spread_values(["--held-out", "A+B", "--out", "D", "S"]) == ["--held-out", "A+B", "--out", "D", "S"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom elsewhere.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'monai', 'pandas', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "benchmark" in done.stdout
    assert "HEAVY []" in done.stdout


def test_from_folders_to_a_checked_and_shown_study(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("study", "new", str(folders), str(folders), "--from", "folders", capsys=capsys)
    assert (code, err) == (0, "")
    assert "next: elsewhere study check" in out
    assert len((folders / "manifest.csv").read_text().splitlines()) == 9
    code, out, _ = run("study", "check", str(folders), "--json", "--jobs", "1", capsys=capsys)
    assert code == 0
    assert json.loads(out)["cases"] == 8
    code, out, _ = run("study", "show", str(folders), "--out", str(folders / "sheet.png"), capsys=capsys)
    assert code == 0
    assert "north" in out
    assert "south" in out
    with Image.open(folders / "sheet.png") as sheet:
        assert sheet.width > 100
    code, out, _ = run("study", "show", str(folders), "--yaml", capsys=capsys)
    assert next(iter(yaml.safe_load(out)["classes"])) == "background"


def test_check_exits_1_and_names_the_file(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("study", "new", str(folders), str(folders), "--from", "folders", capsys=capsys)
    (folders / "north" / "images" / "2.png").write_bytes(b"not a picture")
    code, out, _ = run("study", "check", str(folders), "--json", "--jobs", "1", capsys=capsys)
    assert code == 1
    problems = json.loads(out)["problems"]
    assert any("north/images/2.png" in p["message"] or "north/images/2.png" in p["where"] for p in problems)


def test_a_long_error_is_one_line_of_500_characters(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    long = f"{tmp_path}/{'x' * 240}/{'y' * 240}/{'z' * 240}\nsecond line"
    _, _, said = run("study", "check", long, capsys=capsys)
    assert said.count("\n") == 1
    assert len(said) <= 501
    assert said.startswith("elsewhere: ")
    assert " ... " in said
    assert said.endswith("wanted a folder with manifest.csv, or a manifest\n"), "the remedy stays"


def test_methods_are_listed_with_their_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("methods", capsys=capsys)
    assert code == 0
    for name in ("erm", "gin", "vrex"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["benchmark", "nowhere", "--out", "b"], "nowhere"),
        (["study", "check", "nowhere"], "nowhere"),
        (["study", "show", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_an_error_is_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments, capsys=capsys)
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "erm,nope"], "unknown method 'nope'"),
        (["--held-out", "west"], "west"),
        (["--set", "stepz=5"], "stepz"),
        (["--set", "steps"], "key=value"),
        (["--set", "steps=many"], "steps"),
        (["--set", "vrex.wieght=1", "--methods", "vrex"], "wieght"),
        (["--set", "network=nope"], "nope"),
        (["--set", "network_options={channels: 5}"], "channels"),
    ],
)
def test_a_wrong_question_is_answered_before_anything_runs(
    arguments: list[str], sentence: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("study", "new", str(folders), str(folders), "--from", "folders", capsys=capsys)
    out = folders.parent / "benchmark"
    code, _, err = run("benchmark", str(folders), "--out", str(out), "--methods", "erm", *arguments, capsys=capsys)
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert not list(out.glob("runs/**/log.csv"))
