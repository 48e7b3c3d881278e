"""`study show`: numbers per site, and a contact sheet."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from elsewhere.study.contact_sheet import draw_contact_sheet, outline
from elsewhere.study.show import render, summarise
from elsewhere.study.study import Study, open_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two sites of different size and brightness; a quarter of each mask is class 2 at A, half is at B."""
    rows = ["image,label,site,patient,age,sex"]
    for site, side, grey, columns in (("A", 16, 40, 4), ("B", 24, 200, 12)):
        for i in range(8):
            image = np.full((side, 16 if site == "A" else 24), grey, np.uint8)
            image[0, 0] = grey + i
            mask = np.zeros_like(image)
            mask[:, :columns] = 2
            if site == "B" and i == 0:
                mask[0, 23] = 1
            Image.fromarray(image).save(tmp_path / f"{site}{i}.png")
            Image.fromarray(mask).save(tmp_path / f"{site}{i}m.png")
            age = "" if i == 3 else str(50 + i)
            rows.append(f"{site}{i}.png,{site}{i}m.png,{site},{site}{i // 2},{age},{'F' if i < 6 else 'M'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    return open_study(tmp_path)


def printed(parts: list[object]) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in parts:
        console.print(part)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_numbers_are_those_of_the_files(study: Study) -> None:
    seen: list[tuple[int, int]] = []
    summary = summarise(study, jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 16) for i in range(1, 17)]
    a, b = summary.sites
    assert (a.cases, a.patients, a.labelled, a.read, a.unreadable) == (8, 4, 8, 8, 0)
    assert a.classes == {"background": 1.0, "class_1": 0.0, "class_2": 1.0}
    assert a.class_fractions == pytest.approx({"background": 0.75, "class_1": 0.0, "class_2": 0.25})
    assert b.classes["class_1"] == pytest.approx(1 / 8)
    assert b.class_fractions["class_2"] == pytest.approx(0.5)
    assert a.shapes == ((16, 16),) * 3
    assert a.spacings is None
    assert a.intensities[1] == 40
    assert b.intensities[1] == 200
    assert a.covariates["age"] == "54 (50 to 57); 1 missing"
    assert a.covariates["sex"] == "F 75%, M 25%"
    assert json.loads(json.dumps(summary.as_dict()))["sites"][1]["site"] == "B"


def test_a_sample_is_told_and_an_unreadable_file_does_not_stop_it(study: Study) -> None:
    (study.root / "A0.png").write_bytes(b"no image")
    summary = summarise(study, images_per_site=4)
    assert [site.read for site in summary.sites] == [4, 4]
    assert summary.sites[0].unreadable == 1
    text = printed(render(summary))
    assert "A0.png" in text
    assert "elsewhere study check" in text
    assert "all of them with --all" in text
    assert "(+1 unreadable)" in text
    assert "all of them with --all" not in printed(render(summarise(study, images_per_site=None)))


def test_outline_is_the_border_within_the_label() -> None:
    label = np.zeros((6, 6), np.uint8)
    label[1:5, 1:5] = 1
    expected = label.astype(bool)
    expected[2:4, 2:4] = False
    assert np.array_equal(outline(label), expected)
    assert not outline(np.ones((4, 4), np.uint8)).any()


def test_contact_sheet_has_a_row_per_site_and_survives_what_it_cannot_read(study: Study, tmp_path: Path) -> None:
    (study.root / "B0.png").write_bytes(b"no image")
    out = draw_contact_sheet(study, tmp_path / "deep" / "sheet.png", per_site=3)
    sheet = Image.open(out)
    assert sheet.size == (8 + 3 * 200, 8 + 2 * (192 + 32 + 8))
    # The outline of class 2 is drawn at site A, in the second colour.
    assert (86, 180, 233) in {pixel for _, pixel in sheet.crop((0, 0, 608, 240)).getcolors(1 << 20) or []}


def test_three_dimensions(shared_data: Path, tmp_path: Path) -> None:
    study = open_study(shared_data / "tcga-lgg" / "manifest-flair.csv")
    summary = summarise(study, images_per_site=2)
    assert [site.site for site in summary.sites] == ["CS", "DU", "FG", "HT"]
    assert all(len(row) == 3 for site in summary.sites for row in site.shapes)
    assert summary.sites[0].spacings is not None
    assert draw_contact_sheet(study, tmp_path / "sheet.jpg", per_site=1).stat().st_size > 1000
