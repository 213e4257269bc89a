"""What is said about a run: the layers before it, the figures after it, and the model card."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.training.layers import Layer


@dataclass(frozen=True)
class Report:
    """What came out of a training run.

    Attributes:
        output: the folder of the saved model.
        metrics: "dev" and, if there was test data, "test" -> name -> figure; empty if no epoch ended. Simpler
            methods that the task measures on the test data follow by their names.
        monitor: name of the dev figure that decided which epoch was best.
        parameters: numbers that were trained.
        epochs: how many ended.
        best_epoch: the one whose weights were saved, from 1; 0 if none ended.
        seconds: of training and measuring, earlier parts of a resumed run included.
        interrupted: whether it was stopped before its end.
        comparisons: title -> "model" and names of slower methods -> their figures on a part of the test data.
    """

    output: Path
    metrics: dict[str, dict[str, float]]
    monitor: str
    parameters: int
    epochs: int
    best_epoch: int
    seconds: float
    interrupted: bool
    comparisons: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """130 if training was interrupted, as shells have it; else 0."""
        return 130 if self.interrupted else 0

    def to_json(self) -> dict[str, Any]:
        """The figures as metrics.json holds them."""
        compared = {
            title: {name: _rounded(figures) for name, figures in parts.items()}
            for title, parts in self.comparisons.items()
        }
        return {
            **{part: _rounded(figures) for part, figures in self.metrics.items()},
            **({"comparisons": compared} if compared else {}),
            "parameters": self.parameters,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 1),
        }


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures to six decimals: the rest is float32's."""
    return {name: round(value, 6) for name, value in figures.items()}


def make_console() -> Console:
    """The console of training: as wide as the terminal, or 100 columns where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=100)


def show_layers(console: Console, rows: list[Layer]) -> None:
    """Print the layers of a model as a table."""
    table = make_table("layer", "kind", ">output", ">parameters")
    for row in rows:
        shape = " x ".join(map(str, row.shape)) if row.shape else ""
        parameters = f"{row.parameters:,}" if not row.frozen else f"{row.frozen:,} frozen"
        table.add_row(row.name, row.kind, shape, parameters)
    table.add_section()
    table.add_row("trained", "", "", f"[bold]{sum(row.parameters for row in rows):,}[/]")
    console.print(table)


def show_report(console: Console, report: Report) -> None:
    """Print the figures of a finished run, and where things lie."""
    show_figures(console, report.metrics, report.comparisons)
    if report.interrupted:
        console.print("  [yellow]interrupted; --resume goes on from here[/]")
    weights = f"the best, of epoch {report.best_epoch} of {report.epochs}"
    facts = {
        "parameters": f"{report.parameters:,}",
        "time": duration(report.seconds),
        "weights": weights if report.best_epoch else "as they are, no epoch has ended",
        "model": str(report.output),
        "curves": str(report.output / "curves.png") if report.epochs else "",
        "logs": str(report.output / "logs"),
        "predict": f"penstock predict {report.output} ...",
    }
    for name, value in facts.items():
        if value:
            console.print(Text.assemble((f"  {name:<11}", "dim"), value), soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: '41 s', '3 min 05 s', '2 h 10 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def show_figures(
    console: Console, parts: dict[str, dict[str, float]], comparisons: dict[str, dict[str, dict[str, float]]]
) -> None:
    """Print figures as a table with a column a part, and a table for every comparison, by its title."""
    for title, columns in {"": parts, **comparisons}.items():
        if not columns:
            continue
        table = make_table(title, *(f">{part}" for part in columns))
        for name, row in _rows(columns):
            table.add_row(name, *row)
        console.print(table)


def _rows(parts: dict[str, dict[str, float]]) -> Iterator[tuple[str, list[str]]]:
    """The name of every figure that a part has, with its values in all of them."""
    for name in dict.fromkeys(name for figures in parts.values() for name in figures):
        values = [figures.get(name) for figures in parts.values()]
        yield name.replace("_", " "), ["" if value is None else f"{value:.4f}" for value in values]


def make_table(*heads: str) -> Table:
    """A table with these column heads, those that begin with '>' aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=True)
    for head in heads:
        table.add_column(head.lstrip(">"), justify="right" if head.startswith(">") else "left")
    return table


def model_card(task: str, report: Report, config: dict[str, Any]) -> str:
    """README.md of a model folder."""
    lines = [
        f"# {report.output.name}",
        "",
        f"A Penstock model for the task `{task}`, trained on `{config.get('data')}`.",
        "",
    ]
    for title, parts in {"metric": report.metrics, **report.comparisons}.items():
        if parts:
            lines += [f"| {title} | {' | '.join(parts)} |", "|---" * (len(parts) + 1) + "|"]
            lines += [f"| {name} | {' | '.join(row)} |" for name, row in _rows(parts)]
            lines.append("")
    lines += [
        f"{report.parameters:,} trained parameters; weights of epoch {report.best_epoch} of {report.epochs}, "
        f"trained in {duration(report.seconds)}.",
        "",
        "```sh",
        f"penstock predict {report.output.name} ...",
        f"penstock evaluate {report.output.name} DATA",
        "```",
        "",
        "```python",
        "import penstock",
        "",
        f'penstock.load("{report.output.name}").predict([...])',
        "```",
        "",
        "The full configuration is in `config.yaml`; `penstock train "
        f"{task} --config config.yaml --output NEW` trains it again.",
        "",
    ]
    return "\n".join(lines)
