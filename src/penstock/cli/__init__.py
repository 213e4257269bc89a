"""The command line: one verb a file, and nothing heavy imported before a verb needs it."""

import os
import sys
from importlib import import_module

from penstock import __version__
from penstock.errors import InputError

__all__ = ["main"]

VERBS = {
    "train": "train a model on your own file",
    "search": "train with many settings, and keep the best model",
    "evaluate": "measure a trained model on a file with the right answers",
    "predict": "let a trained model label texts, a file or standard input",
}

HELP = """\
usage: penstock VERB ...

Recurrent networks from your own file to a trained model.

verbs:
{verbs}

options:
  -h, --help    show this help; `penstock VERB --help` shows that of a verb
  --version     show the version

A first model:
  penstock train classify reviews.csv --text review --label mood --output model
  penstock predict model "What a splendid film."
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a mistake in the input, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _run(arguments)
    except InputError as error:
        print(f"penstock: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "penstock"):
            raise
        print(f"penstock: error: {module} is not installed: pip install 'penstock[train]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("penstock: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; there is nobody left to write to, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(verbs=table(VERBS)), end="")
        return 0
    if arguments[0] == "--version":
        print(f"penstock {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise InputError(f"unknown verb {verb!r}, expected one of {', '.join(VERBS)}; see penstock --help")
    return import_module(f"penstock.cli.{verb}").run(rest)


def table(lines: dict[str, str]) -> str:
    """Names and what they mean, one a line, in two columns."""
    return "\n".join(f"  {name:<12}  {text}" for name, text in lines.items())
