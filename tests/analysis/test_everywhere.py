"""A site of the name that tables give to the mean is refused before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elsewhere.analysis.ablation import run_ablation
from elsewhere.analysis.everywhere import open_for_analysis
from elsewhere.analysis.learning_curve import run_learning_curve
from elsewhere.errors import StudyError
from elsewhere.simulate import four_hospitals


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = four_hospitals(tmp_path_factory.mktemp("all") / "study", n_per_site=2, size=32)
    manifest = folder / "manifest.csv"
    manifest.write_text(re.sub(",west,", ",all,", manifest.read_text()))
    return folder


def test_a_site_called_all_is_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"a site is called 'all'.* give it another name in the manifest"):
        run_learning_curve(study, out=tmp_path / "curve", methods=["erm"], patients=[1])
    with pytest.raises(StudyError, match="a site is called 'all'"):
        run_ablation("dropgen", study, out=tmp_path / "ablation")
    assert not list(tmp_path.iterdir())


def test_another_column_may_be_the_site(study: Path) -> None:
    assert set(open_for_analysis(study, {"site_column": "sex", "seeds": 3}).sites) <= {"F", "M"}
