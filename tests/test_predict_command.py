"""`elsewhere predict` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.predict_material import NUMBER, ct_voxels, make_model, write_series
from elsewhere.cli import main


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, printed.out, printed.err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tissues")


def test_what_is_done_is_said_and_a_failed_case_is_an_exit_code(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "exam", ct_voxels(), series="1.2.3")
    write_series(tmp_path / "exam", ct_voxels(), series="1.2.4", skip=(3,))
    (tmp_path / "exam" / "README.txt").write_text("viewer")
    command = ("predict", model, tmp_path / "exam", "--out", tmp_path / "out", "--trust", "--device", "cpu")
    code, out, err = run(*command, capsys=capsys)
    assert code == 1
    assert out.startswith(f"wrote {tmp_path / 'out' / 'predictions.csv'}: 1 predicted, 1 failed")
    assert err.splitlines() == [
        "passed over 1 file: no image",
        "failed: series-0002: 1 slice missing between 106.00 and 112.00 mm along the normal; the other slices are 3.00 "
        "mm apart",
    ]
    assert NUMBER not in out + err
    write_series(tmp_path / "exam", ct_voxels(), series="1.2.4")
    code, out, _ = run(*command, capsys=capsys)
    assert (code, "1 predicted, 1 kept from before" in out) == (0, True)
    code, out, _ = run(*command, "--json", capsys=capsys)
    assert (code, json.loads(out)["kept"], json.loads(out)["failed"]) == (0, 2, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("{model}", "{there}/no.nii.gz", "--out", "{there}/out", "--trust"),
            "no.nii.gz: there is no such file",
        ),
        (("{there}/none", "{there}", "--out", "{there}/out"), "there is no such folder; wanted a model"),
        (("{model}", "{there}", "--out", "{there}/out"), "use --trust"),
        (("{model}", "{there}", "--out", "{there}/file", "--trust"), "is a file; wanted a folder"),
    ],
)
def test_one_clear_sentence(
    model: Path, tmp_path: Path, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("x")
    given = [argument.format(model=model, there=tmp_path) for argument in arguments]
    code, _, err = run("predict", *given, capsys=capsys)
    assert code == 1
    assert words in err
    assert len(err.splitlines()) == 1
