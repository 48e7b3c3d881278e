"""Writes `reference/cli.md` and the table of `reference/methods.md` from the program itself; a test compares.

python docs/generate.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from elsewhere import methods
from elsewhere.cli import app

DOCS = Path(__file__).resolve().parent
CLI, METHODS = DOCS / "reference" / "cli.md", DOCS / "reference" / "methods.md"
BEGIN, END = "<!-- begin: docs/generate.py -->", "<!-- end: docs/generate.py -->"
SHELL = ("--install-completion", "--show-completion")

CLI_INTRODUCTION = """\
# Command line

`elsewhere COMMAND --help` says the same. Options with `...` take several values: `--held-out north east` and
`--held-out north --held-out east` are the same.

An error is one sentence on standard error; `--debug`, before or after the command, adds the traceback. Exit codes: 0
all went well; 1 something failed (a run, or `study check` found an error); 2 the command line is wrong; 130 it was
interrupted.
"""


def commands(command: Any = None, path: str = "elsewhere") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, groups before what is in them."""
    command = typer.main.get_command(app) if command is None else command
    yield path, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, f"{path} {name}")


def cli_page() -> str:
    """The whole of `reference/cli.md`."""
    parts = [CLI_INTRODUCTION]
    for path, command in commands():
        parts.append(f"## {path}\n\n{_sentences(command.help)}\n")
        shown = [p for p in command.params if not set(p.opts) & {*SHELL, "--help"}]
        arguments = [p for p in shown if p.param_type_name == "argument"]
        options = [p for p in shown if p.param_type_name != "argument"]
        if not hasattr(command, "commands"):
            usage = [
                path,
                *(_metavar(p) for p in arguments),
                *(f"{p.opts[0]} {_metavar(p)}" for p in options if p.required),
            ]
            parts.append(f"```\n{' '.join(usage)}{' [OPTIONS]' if options else ''}\n```\n")
        if arguments or options:
            rows = [(f"`{_metavar(p)}`", _sentences(p.help)) for p in arguments]
            rows += [(_option(p), _described(p)) for p in options]
            parts.append("| | |\n|---|---|\n" + "".join(f"| {one} | {what} |\n" for one, what in rows))
    return "\n".join(parts)


def methods_table() -> str:
    """The catalogue, read off the cards."""
    lines = ["| method | what | for shifts of | assumes | options (range) | is ERM at |", "|---|---|---|---|---|---|"]
    for name in methods.names():
        card = methods.card(name)
        options = [f"`{key}={_plain(value)}`{_range(card, key)}" for key, value in card.defaults.items()]
        if card.null is None:
            null = "never"
        else:
            null = ", ".join(f"`{key}={_plain(value)}`" for key, value in card.null.items()) or "always"
        cells = [
            f"`{name}`",
            f"{card.title}. {card.paper}",
            ", ".join(card.shift) or "none",
            card.assumption,
            "<br>".join(options) or "none",
            null,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """`page` with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{methods_table()}\n{END}{after}"


def _sentences(text: str | None) -> str:
    return re.sub(r"\s+", " ", inspect.cleandoc(text or "")).strip().replace("|", "\\|")


def _metavar(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    return "N" if kind in (int, int | None) else str(parameter.name).upper()


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    if getattr(parameter, "is_flag", False):
        return names
    return f"`{parameter.opts[0]} {_metavar(parameter)}`".replace("|", "\\|")


def _described(parameter: Any) -> str:
    text = _sentences(parameter.help)
    if parameter.required:
        return f"{text} (required)"
    default = parameter.default
    if getattr(parameter, "is_flag", False) or default is None or callable(default) or default in ([], ()):
        return text
    return f"{text} (default `{_plain(default)}`)".strip()


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _range(card: methods.Card, key: str) -> str:
    if key not in card.ranges:
        return ""
    low, high = card.ranges[key]
    return f" ({low:g} to {high:g})"


if __name__ == "__main__":
    CLI.write_text(cli_page(), encoding="utf-8")
    METHODS.write_text(with_table(METHODS.read_text(encoding="utf-8")), encoding="utf-8")
