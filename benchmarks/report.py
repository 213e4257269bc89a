"""What is printed: every line by figure, then the figures with PASS or what is short; also as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import FIGURES, Figure, Line, Reached, reached

DECIMALS = {"x": 2, "us": 1, "%": 0}
"""Of a figure in each unit."""
NOTATION = (
    "Shapes are B×T×D×H (rows, steps, inputs, hidden units); L2: two layers; bi: two directions; "
    "ragged: lengths from T/4 to T. Times are medians in ms; x: how many times as fast as the best of the "
    "others; calls: the fewest that a median is of. Targets: of the mean / of the worst line. "
    "Limit: what the roofline of this machine leaves, in the mean / in the worst line (see roofline.py)."
)


def summary(key: str, lines: Sequence[Line]) -> str:
    """What a case came to while the measurements run, with rich's markup: the values by figure."""
    parts = []
    for name in dict.fromkeys(line.figure for line in lines):
        values = [_value(FIGURES[name], line) for line in lines if line.figure == name]
        parts.append(f"{name} {' '.join(values)}")
    return f"{escape(key)}: {', '.join(parts)}"


def _value(figure: Figure, line: Line) -> str:
    return "[red]FAIL[/red]" if line.failures else number(figure, line.value)


def line_tables(lines: Sequence[Line]) -> Iterator[Table]:
    """Each figure's lines with the times of all contestants."""
    for figure in FIGURES.values():
        own = [line for line in lines if line.figure == figure.name]
        if own:
            yield _line_table(figure, own)


def _line_table(figure: Figure, lines: Sequence[Line]) -> Table:
    table = _table(f"{figure.name}: {figure.what}")
    contestants = list(dict.fromkeys(name for line in lines for name in line.times))
    for column in ("cell", "shape"):
        table.add_column(column)
    limited = any(line.limit is not None for line in lines)
    for column in ("thr", *contestants, "calls", figure.unit, *["limit"] * limited):
        table.add_column(column, justify="right")
    for line in lines:
        times = [milliseconds(line.times[name]) if name in line.times else "" for name in contestants]
        values = [str(line.repeats), _value(figure, line), *[number(figure, line.limit)] * limited]
        table.add_row(line.cell, line.case, str(line.threads), *times, *values)
    return table


def remarks(lines: Sequence[Line]) -> list[str]:
    """What was left out or failed, once each."""
    notes = (f"{line.cell}: {note}" for line in lines for note in line.notes if "left out" in note)
    failed = (f"{line.figure}: {line.title} FAIL {_list_of_errors(line)}" for line in lines if line.failures)
    return list(dict.fromkeys([*notes, *failed]))


def _list_of_errors(line: Line) -> str:
    return "relative errors " + "; ".join(f"{name} {errors}" for name, errors in line.failures.items())


def figure_table(
    lines: Sequence[Line], wanted: Sequence[Figure], unavailable: Mapping[str, str], title: str
) -> Table:
    """The table of the figures that were asked for: reached, target, and PASS or what is short."""
    table = _table(title)
    table.add_column("figure", width=44)
    for column in ("mean", "worst", "target", "limit"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for figure in wanted:
        result = reached(figure, lines)
        verdict = _verdict(result, unavailable)
        colour = "green" if verdict == "PASS" else "red" if verdict.startswith("FAIL") else "yellow"
        worst = f"\n[dim]  worst: {result.worst_case}" if result.count > 1 else ""
        table.add_row(
            escape(figure.what) + worst,
            number(figure, result.mean),
            number(figure, result.worst),
            target(figure),
            limit(result),
            f"[{colour}]{escape(verdict).replace('; ', chr(10))}",
        )
    return table


def markdown(
    lines: Sequence[Line], wanted: Sequence[Figure], unavailable: Mapping[str, str], facts: Mapping[str, Any]
) -> str:
    """The same table for a document, under the machine it was measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    changed = " with changes" if facts["modified"] else ""
    rows = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['instructions']}; {versions}; "
        f"commit {facts['commit']}{changed}, {facts['date'][:10]}.",
        "",
        "| figure | lines | mean | worst | worst at | target | limit | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in wanted:
        result = reached(figure, lines)
        cells = (
            figure.what,
            str(result.count),
            number(figure, result.mean),
            number(figure, result.worst),
            result.worst_case,
            target(figure),
            limit(result),
            _verdict(result, unavailable),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _verdict(result: Reached, unavailable: Mapping[str, str]) -> str:
    if result.verdict == "not measured" and result.figure.name in unavailable:
        return unavailable[result.figure.name]
    return result.verdict


def target(figure: Figure) -> str:
    """Of the mean and of the worst line: "2.0 / 1.2"; a dash where there is none."""
    if figure.mean is None and figure.worst is None:
        return "reported"
    parts = [f"{value:g}" if value is not None else "-" for value in (figure.mean, figure.worst)]
    return f"{'≤ ' if figure.lower_is_better else ''}{' / '.join(parts)}"


def limit(result: Reached) -> str:
    """Of the mean and of the worst line: "2.31 / 1.38"; empty where there is none."""
    if result.limit is None or result.worst_limit is None:
        return ""
    decimals = DECIMALS[result.figure.unit]
    return f"{result.limit:.{decimals}f} / {result.worst_limit:.{decimals}f}"


def number(figure: Figure, value: float | None) -> str:
    """With the unit; a dash for nothing."""
    if value is None:
        return "-"
    space = " " if figure.unit != "x" else ""
    return f"{value:.{DECIMALS[figure.unit]}f}{space}{figure.unit}"


def milliseconds(value: float) -> str:
    """Three figures or the whole number: 0.0123, 1.23, 12.3, 1234."""
    return f"{value:#.3g}".rstrip(".") if value < 100 else f"{value:.0f}"


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
