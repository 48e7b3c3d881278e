"""The command line: one thin command a verb. Imports nothing heavy before a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from elsewhere import __version__
from elsewhere.cli.ablate import ablate
from elsewhere.cli.benchmark import benchmark, demo, methods
from elsewhere.cli.evaluate import evaluate
from elsewhere.cli.export import export
from elsewhere.cli.learning_curve import learning_curve
from elsewhere.cli.predict import predict
from elsewhere.cli.pretrain import pretrain
from elsewhere.cli.report import report
from elsewhere.cli.stability import stability
from elsewhere.cli.study import study_app
from elsewhere.cli.train import train
from elsewhere.errors import ElsewhereError

app = typer.Typer(
    name="elsewhere",
    help="Medical imaging models that work elsewhere: trained on the sites you have, judged on the one left out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(study_app, name="study")
for command in (
    demo, methods, benchmark, train, report, predict, evaluate, export, pretrain, ablate, stability, learning_curve,
):  # fmt: skip
    app.command()(command)

INTERRUPTED = 130

LONGEST = 500

MANY = ("--held-out", "--set", "--selection", "--column", "--local", "--subgroup", "--labels", "--sites")
"""Options that take several values: --held-out A B."""


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def spread_values(arguments: list[str]) -> list[str]:
    """`--held-out A B` as click wants it: `--held-out A --held-out B`; the same for every option in MANY."""
    spread: list[str] = []
    option: str | None = None
    fresh = False
    for argument in arguments:
        if argument.startswith("-"):
            option, fresh = (argument, True) if argument in MANY else (None, False)
            spread.append(argument)
        else:
            spread += [argument] if option is None or fresh else [option, argument]
            fresh = False
    return spread


def main(arguments: list[str] | None = None) -> None:
    """Entry point: one sentence for an error (traceback with --debug); 1 failed, 2 wrong usage, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"]
    try:
        app(args=spread_values(given), prog_name="elsewhere")
    except ElsewhereError as error:
        if debug:
            raise
        sys.exit(_say(f"elsewhere: {error}", 1))
    except (KeyboardInterrupt, SystemExit) as ending:  # of the first, typer makes the second, without a word
        if isinstance(ending, SystemExit) and ending.code != INTERRUPTED:
            raise
        sentence = "elsewhere: interrupted; what was finished stays, the same command goes on from there"
        sys.exit(_say(sentence, INTERRUPTED))
    except Exception as error:
        if debug:
            raise
        sentence = f"elsewhere: unexpected {type(error).__name__}: {error} (a bug of ours; --debug shows where)"
        sys.exit(_say(sentence, 1))


def _say(sentence: str, code: int) -> int:
    """One line of at most `LONGEST` characters; of a longer one the middle goes: a sentence ends with the remedy."""
    line = " ".join(sentence.split())
    if len(line) > LONGEST:
        kept = (LONGEST - 5) // 2
        line = f"{line[:kept].rstrip()} ... {line[-kept:].lstrip()}"
    print(line, file=sys.stderr)
    return code
