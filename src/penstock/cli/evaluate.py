"""`penstock evaluate DIR DATA`: measure a trained model on a file with the right answers."""

import json
from typing import TYPE_CHECKING, Any

from penstock.cli.model import parse

if TYPE_CHECKING:
    from rich.console import Console

HELP = """\
usage: penstock evaluate DIR DATA [options]

Measure the model in the folder DIR on the file DATA, which holds the right answers.

`penstock evaluate DIR --help` shows the options of that model's task.
"""

_WIDEST_CONFUSION = 24  # labels; a larger matrix is only written with --json


def run(arguments: list[str]) -> int:
    """Evaluate as the arguments say."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    folder, task, options = parse("evaluate", "DIR DATA [options]", arguments, "EvaluateOptions")
    from penstock.files import atomic_write
    from penstock.training.report import make_console, show_figures

    figures = task.evaluate(folder, **options.model_dump(exclude={"json_file"}))
    console = make_console()
    references = figures.get("references", {})
    parts = {"model" if references else "value": figures["metrics"], **references}
    show_figures(console, parts, figures.get("comparisons", {}))
    if figures.get("labels"):
        _show_labels(console, figures["labels"])
    if "confusion" in figures and len(figures["labels"]) <= _WIDEST_CONFUSION:
        _show_confusion(console, list(figures["labels"]), figures["confusion"])
    if options.json_file:
        with atomic_write(options.json_file) as file:
            file.write(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    return 0


def _show_labels(console: "Console", labels: dict[str, dict[str, Any]]) -> None:
    from rich.markup import escape

    from penstock.training.report import make_table

    table = make_table("label", ">precision", ">recall", ">F1", ">count")
    for label, row in labels.items():
        figures = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        table.add_row(escape(label), *figures, f"{row['count']:,}")
    console.print(table)


def _show_confusion(console: "Console", labels: list[str], matrix: list[list[int]]) -> None:
    """The matrix, its diagonal in green and its mistakes in red."""
    from rich.markup import escape

    from penstock.training.report import make_table

    table = make_table("truth \\ predicted", *(f">{escape(label)}" for label in labels))
    for i, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        cells = (f"[{_colour(i == j, count)}]{count:,}[/]" for j, count in enumerate(row))
        table.add_row(escape(label), *cells)
    console.print(table)


def _colour(right: bool, count: int) -> str:
    return "green" if right else "red" if count else "dim"
