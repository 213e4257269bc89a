"""Our recurrent layers beside everything one would use instead: `python -m benchmarks.layers`.

Prints and saves the table of what must be fast (`benchmarks.figures`), each figure with PASS or what is
short. No time stands in it without correct results: every line is checked against float64 first, in the same
run (`benchmarks.gate`). A line that fails has FAIL in place of a time, and the exit code is 1; figures that
are short of their target leave it 0.
"""

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine, peers, report
from benchmarks.checks import (
    Check,
    Settings,
    bf16,
    first_calls,
    frameworks,
    growth,
    memory,
    speed,
    steps,
    tagger,
)
from benchmarks.figures import FIGURES
from benchmarks.grid import GRIDS, KINDS
from benchmarks.peers import PEERS
from benchmarks.store import Store
from penstock.files import atomic_write

WIDTH = 100
"""Columns where there is no terminal that says how many it has."""
CHECKS: tuple[Check, ...] = (speed, steps, first_calls, memory, tagger, growth, bf16, frameworks)
SECONDS = {"short": 0.03, "full": 0.2}
"""For each time, unless said otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    try:
        if args.resume and args.json is None:
            raise ValueError("--resume: needs --json, the file to go on with")
        names = _installed(args.peers, console)
        settings = _settings(args, names)
        facts = machine.provenance(names) | {"settings": _as_json(settings)}
        store = Store(args.json, facts, args.resume)
    except ValueError as error:
        _parser().error(str(error))

    console.print(_heading(facts), highlight=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")  # as expected
        _measure(settings, store, console)
    _print_results(settings, store, console, args.markdown)
    return 1 if any(line.failures for line in store.lines) else 0


def _measure(settings: Settings, store: Store, console: Console) -> None:
    checks = [check for check in CHECKS if settings.wants(*check.FIGURES)]
    cases = [case for check in checks for case in check.cases(settings)]
    for k, case in enumerate(cases, start=1):
        if case.key in store.done:
            continue
        lines = case.measure()
        store.add(case.key, lines)
        console.print(f"[dim]{k}/{len(cases)}[/dim] {report.summary(case.key, lines)}", highlight=False)


def _print_results(settings: Settings, store: Store, console: Console, markdown: Path | None) -> None:
    unavailable = {name: reason for check in CHECKS for name, reason in check.unavailable().items()}
    wanted = [figure for figure in FIGURES.values() if figure.name in settings.figures]
    for table in report.line_tables(store.lines):
        console.print()
        console.print(table)
    console.print()
    console.print(report.NOTATION, style="dim", highlight=False)
    for remark in report.remarks(store.lines):
        console.print(remark, style="dim", highlight=False, markup=False)
    title = (
        f"What is to be reached: {settings.grid} grid, threads {','.join(map(str, settings.threads))}, "
        f"peers {', '.join(settings.peers) or 'none'}"
    )
    console.print()
    console.print(report.figure_table(store.lines, wanted, unavailable, title))
    if markdown is not None:
        with atomic_write(markdown) as file:
            file.write(report.markdown(store.lines, wanted, unavailable, store.facts))


def _heading(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    changed = " with changes" if facts["modified"] else ""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['instructions']}\n"
        f"commit {facts['commit']}{changed}\npeers: {versions or 'none'}"
    )


def _installed(names: Sequence[str], console: Console) -> list[str]:
    """Those of the peers that are installed, with a line for each of "all" that is not.

    ValueError for one that was named and is not installed.
    """
    installed = []
    for name in PEERS if names == ["all"] else names:
        missing = " and ".join(peers.missing(name))
        if not missing:
            installed.append(name)
        elif names == ["all"]:
            console.print(f"{PEERS[name].title}: left out, {missing} not installed")
        else:
            raise ValueError(f"--peers: {name} needs {missing}, not installed (the extra `bench` has it)")
    return installed


def _settings(args: argparse.Namespace, names: Sequence[str]) -> Settings:
    return Settings(
        figures=frozenset(args.checks),
        grid=args.grid,
        shapes=tuple(GRIDS[args.grid]),
        kinds=tuple(KINDS[name] for name in args.cells),
        threads=tuple(args.threads),
        peers=tuple(names),
        seconds=SECONDS[args.grid] if args.seconds is None else args.seconds,
    )


def _as_json(settings: Settings) -> dict[str, Any]:
    return {
        "grid": settings.grid,
        "figures": [name for name in FIGURES if name in settings.figures],
        "cells": [kind.name for kind in settings.kinds],
        "threads": list(settings.threads),
        "seconds": settings.seconds,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layers",
        description="Our recurrent layers beside torch.nn's and others', and what they must reach.",
    )
    parser.add_argument("--grid", choices=GRIDS, default="short", help="which shapes (default: short)")
    parser.add_argument(
        "--peers",
        type=_peers,
        default=["all"],
        help=f"some of {','.join(PEERS)}, or none, or all that are installed (default: all)",
    )
    parser.add_argument(
        "--checks",
        type=_names(FIGURES),
        default=list(FIGURES),
        help=f"some of {','.join(FIGURES)} (default: all)",
    )
    parser.add_argument(
        "--threads", type=_threads, default=sorted({1, min(2, machine.cores())}), help="default: 1,2"
    )
    parser.add_argument(
        "--cells",
        type=_names(KINDS),
        default=list(KINDS),
        help=f"some of {','.join(KINDS)} (default: all)",
    )
    parser.add_argument(
        "--seconds", type=_seconds, help="to spend on each time (default: 0.03 short, 0.2 full)"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="where to write the results, after every case"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run that wrote --json stopped")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="where to write the table of the figures"
    )
    return parser


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    """Reads names with commas between them."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {name!r}")
        return list(dict.fromkeys(names))

    return read


def _peers(text: str) -> list[str]:
    """["all"], nothing for "none", or names."""
    if text in ("all", "none"):
        return ["all"] * (text == "all")
    return _names(PEERS)(text)


def _threads(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 such as 1,2, got {text!r}")
    return sorted({int(part) for part in parts})


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 0, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
