"""The documentation: it builds strictly, its Python runs, and every command and setting that it names exists."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from elsewhere.benchmark.sheets import CASE_COLUMNS
from elsewhere.benchmark.tables import COLUMNS
from elsewhere.benchmark.variants import read_methods
from elsewhere.cli import spread_values
from elsewhere.training import Settings, pretrain

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
OF_OTHERS = {"--strict", "--help", "--json"}  # options of mkdocs and pytest, and those that every command has
PYTHON = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.S | re.M)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands(generate: ModuleType) -> dict[str, Any]:
    return dict(generate.commands())


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "reference" / "study" / "index.html").read_text(encoding="utf-8")
    assert "elsewhere.study.seal.Development" in page
    assert not list((tmp_path / "site").rglob("*.py"))


def test_generated_pages_are_what_the_program_says(generate: ModuleType) -> None:
    again = "changed in the program; run: python docs/generate.py"
    assert generate.CLI.read_text(encoding="utf-8") == generate.cli_page(), again
    page = generate.METHODS.read_text(encoding="utf-8")
    assert page == generate.with_table(page), again


def some_results(folder: Path) -> None:
    """Tables as a benchmark writes them, for the snippets that read them."""
    rng = np.random.default_rng(0)
    rows, results = [], []
    for method in ("erm", "gin"):
        for site in ("A", "B"):
            common = {"method": method, "held_out": site, "selection": "source-val", "split": "held-out"}
            score = {"class": "all", "metric": "dice"}
            for seed in (0, 1):
                for n in range(4):
                    case = {"case": f"{site}{n}", "patient": f"{site}{n}", "site": site, "value": rng.random()}
                    rows.append({**common, "seed": seed, **score, **case})
            for seed in ("0", "1", "all"):
                numbers = {"value": 0.5, "lo": 0.4, "hi": 0.6, "n_cases": 4, "n_patients": 4}
                results.append({**common, "seed": seed, **score, **numbers})
    (folder / "results").mkdir()
    pd.DataFrame(rows)[CASE_COLUMNS].to_csv(folder / "results" / "cases.csv", index=False)
    pd.DataFrame(results)[COLUMNS].to_csv(folder / "results" / "results.csv", index=False)


WITH_PYTHON = [
    page for page in PAGES if "--8<--" not in (text := page.read_text(encoding="utf-8")) and PYTHON.search(text)
]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=names(WITH_PYTHON))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    some_results(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "snippet"}
    for found in PYTHON.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        exec(compile("\n" * line + found.group(1), str(page), "exec"), namespace)


def test_the_pages_that_must_run_have_python() -> None:
    ran = names(WITH_PYTHON)
    assert {"docs/how-to/own-loop.md", "docs/getting-started.md", "docs/how-to/benchmark.md"} <= set(ran)


def shell_commands() -> list[tuple[str, str]]:
    found = []
    for page in TEXTS:
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            found += [(page.name, line.strip()) for line in block.splitlines() if line.strip().startswith("elsewhere ")]
    return found


@pytest.mark.parametrize(("page", "line"), shell_commands())
def test_commands_can_be_typed(page: str, line: str, commands: dict[str, Any]) -> None:
    """Every option is one of the command's, arguments are as many as it takes, settings are settings."""
    words = spread_values(shlex.split(line, comments=True)[1:])
    path = "elsewhere"
    while words and f"{path} {words[0]}" in commands:
        path = f"{path} {words.pop(0)}"
    command = commands[path]
    assert not hasattr(command, "commands"), f"{page}: '{path}' is only a group"
    options = {name: option for option in command.params for name in option.opts if name.startswith("-")}
    arguments, changes, labels = [], [], {}
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            arguments.append(word)
            continue
        assert word in options, f"{page}: '{path}' has no option {word}"
        if not options[word].is_flag:
            value = words.pop(0)
            changes += [value] if word == "--set" else []
            labels |= read_methods(value.split(",")) if word == "--methods" else {}
    taken = [p for p in command.params if p.param_type_name == "argument"]
    many = any(p.nargs == -1 for p in taken)
    assert len(arguments) >= len(taken) if many else len(arguments) == len(taken), f"{page}: {line}"
    required = {p.opts[0] for p in command.params if p.required and p.param_type_name != "argument"}
    assert required <= set(shlex.split(line)), f"{page}: {line}"
    if path == "elsewhere pretrain":
        pretrain.parse("cpu", 3, changes)
    else:
        Settings.parse(changes, None, labels)


@pytest.mark.parametrize("page", TEXTS, ids=names(TEXTS))
def test_options_in_the_text_exist(page: Path, commands: dict[str, Any]) -> None:
    known = {name for command in commands.values() for option in command.params for name in option.opts} | OF_OTHERS
    inline = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    mentioned = {option for code in inline for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)}
    assert mentioned <= known


@pytest.mark.parametrize("page", TEXTS, ids=names(TEXTS))
def test_settings_in_the_text_exist(page: Path) -> None:
    """`--set key=value ...` and, beside it, plain `key=value` of a setting."""
    for code in re.findall(r"`--set ([^`\n]*=[^`\n]*)`", page.read_text(encoding="utf-8")):
        changes = [change for change in shlex.split(code) if re.match(r"[a-z_.]+=[^A-Z]", change)]
        Settings.parse(changes)


def test_every_problem_of_study_check_is_explained() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/elsewhere/study").glob("*.py"))
    section = (DOCS / "how-to/own-data.md").read_text(encoding="utf-8").partition("## Check it")[2]
    rows = re.findall(r"^\| (`.*?) \| (?:error|warning) \|", section, re.M)
    explained = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    assert len(explained) > 20
    assert not [code for code in explained if f'"{code}"' not in source]
    raised = set(re.findall(r'(?:Problem|add|_add|_unusual)\(\s*(?:"(?:error|warning)",\s*)?"([a-z-]{4,})"', source))
    assert raised - {"error", "warning"} <= explained


def test_splits_are_as_explained() -> None:
    from elsewhere.study.splits import FRACTIONS, parts_of_site

    text = (DOCS / "explanation/seal-and-splits.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| [a-z-]+(?: test)? \| (\d+) % \|", text, re.M)
    assert [int(share) / 100 for share in told] == list(FRACTIONS.values())
    assert len(parts_of_site(6)) == 4
    assert [set(FRACTIONS) - set(parts_of_site(n)) for n in (5, 4, 3, 2, 1)] == [
        {"calibration"},
        {"calibration"},
        {"calibration", "test"},
        {"calibration", "test"},
        {"calibration", "test", "validation"},
    ]


def test_empty_masks_are_as_explained() -> None:
    from elsewhere.tasks.metrics import score_segmentation

    text = (DOCS / "reference/tasks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d.]+) \| ([^|]+) \|$", text.partition("### Empty masks")[2], re.M)
    assert [name for name, _, _ in rows] == ["dice", "iou", "accuracy", "hd95", "assd"]
    empty, full = np.zeros((3, 4), int), np.eye(3, 4, dtype=int)
    both = score_segmentation(empty, empty, 2)
    for prediction, truth in ((empty, full), (full, empty)):
        one = score_segmentation(prediction, truth, 2)
        for name, value, of_one in rows:
            assert both[1, name] == float(value)
            if of_one == "the image's diagonal":
                assert one[1, name] == 5.0
            elif of_one == "0":
                assert one[1, name] == 0.0
