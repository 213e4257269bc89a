"""Series over regular time, from wide tables (a column a series) and long ones (a row a value).

Dimensions: N series, T steps.
"""

import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.data.frequency import (
    Frequency,
    Stamps,
    counts_steps,
    guess_frequency,
    parse_number,
    parse_stamp,
)
from penstock.data.lines import place
from penstock.data.numbers import LARGEST, MISSING, is_number
from penstock.data.table import column_names, delimited_records, read_rows
from penstock.errors import InputError

_TIME_NAMES = ("time", "date", "datetime", "timestamp", "ds")


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what.

    Attributes:
        id: tells the series of a long table apart; None for a wide table, where every column is a series.
        time: the time stamps; None looks for a column called time, date, datetime, timestamp or ds, then for
            dates in the first column, and else counts rows.
        value: the numbers of a long table; None if there is only one column that can be meant.
        header: whether the first row names the columns; None takes a row of numbers for data.
    """

    id: str | None = None
    time: str | None = None
    value: str | None = None
    header: bool | None = None


class TimeSeries(NamedTuple):
    """One series.

    Attributes:
        name: its column, or the value of the id column.
        start: the stamp of its first step.
        values: float64 (T,), NaN where a value is missing, T >= 1.
    """

    name: str
    start: int
    values: NDArray[np.float64]


class Panel(NamedTuple):
    """Series of one frequency, each with its own beginning and length."""

    frequency: Frequency
    series: list[TimeSeries]


Table = Mapping[str, Sequence[Any]]


def read_panel(
    source: str | os.PathLike[str] | Table,
    columns: Columns,
    frequency: Frequency | None = None,
    regularize: bool = False,
) -> Panel:
    """Read the series of a table; they are held in memory.

    Args:
        source: a csv, tsv, txt (as csv), jsonl or Parquet file, each also .gz; or column name -> values.
        columns: which column is what.
        frequency: the step that time must have; None takes the one that occurs most often.
        regularize: put values on a regular grid: average those of one step, and leave steps between missing.
            Without it, time that is not regular is an error.

    Raises:
        InputError: a missing or damaged file or column, text where a number or a time stamp should stand, or
            time stamps that repeat or leave the grid; naming file, row and value.
    """
    rows = _memory_rows(source) if isinstance(source, Mapping) else _file_rows(Path(source), columns)
    tracks = _long(rows, columns) if columns.id is not None else _wide(rows, columns)
    return _on_grid(tracks, frequency, regularize, rows.source)


# --- rows, whatever they come from ---


@dataclass
class _Rows:
    """The header of a table and its records, each with what an error calls its place."""

    source: str
    names: list[str]
    records: Iterator[tuple[int, list[str]]]
    place: Callable[[int], str]

    def index(self, name: str, flag: str) -> int:
        if name not in self.names:
            known = ", ".join(map(repr, self.names))
            raise InputError(f"{self.source}: {flag}: no column {name!r}; the columns are {known}")
        return self.names.index(name)


def _memory_rows(table: Table) -> _Rows:
    names = [str(name) for name in table]
    lengths = {len(table[name]) for name in table}
    if len(lengths) != 1:
        raise InputError(f"the table: expected columns of one length, got {sorted(lengths)}")
    texts = ([_cell(value) for value in record] for record in zip(*table.values(), strict=True))
    return _Rows("the table", names, enumerate(texts, 1), lambda row: f"the table, row {row}")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _file_rows(path: Path, columns: Columns) -> _Rows:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".parquet", ".jsonl", ".ndjson")):
        names = column_names(path)
        records = (
            (row.line, [row.values[name] for name in names])
            for row in read_rows(path, names, nulls=[name for name in names if name != columns.id])
        )
        return _Rows(str(path), names, records, lambda line: place(path, line))
    records = iter(delimited_records(path))
    line, first = next(records, (0, []))
    if not first:
        raise InputError(f"{path}: expected rows, got none")
    header = columns.header
    if header is None:
        header = not all(is_number(text) or text.strip().lower() in MISSING for text in first)
    if header:
        names = [text.strip() for text in first]
    else:
        names = [str(number) for number in range(1, len(first) + 1)]
        records = _before((line, first), records)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: the column {name!r} appears more than once in the header")
    return _Rows(str(path), names, _checked(path, len(names), records), lambda line: place(path, line))


def _before(first: tuple[int, list[str]], rest: Iterable[tuple[int, list[str]]]) -> Iterator:
    yield first
    yield from rest


def _checked(path: Path, count: int, records: Iterable[tuple[int, list[str]]]) -> Iterator:
    for line, record in records:
        if len(record) != count:
            raise InputError(f"{path}, line {line}: expected {count} columns, got {len(record)}")
        yield line, record


def _number(text: str, where: Callable[[], str]) -> float:
    """A finite number, or NaN for a missing one."""
    try:
        number = float(text)
    except ValueError:
        if text.strip().lower() in MISSING:
            return math.nan
        raise InputError(f"{where()}: expected a number, got {text!r}") from None
    if abs(number) > LARGEST:
        raise InputError(f"{where()}: expected a finite number, got {text.strip()}")
    return number


# --- from rows to tracks: stamps and values as they stand in the table ---


@dataclass
class _Track:
    """The values of one series with their stamps and lines, which all series of a wide table share."""

    name: str
    time: "_Time"
    values: array = field(default_factory=lambda: array("d"))


@dataclass
class _Time:
    """Stamps and lines of the rows of a series.

    Attributes:
        numbers: whether they are counted, not dated; None before the first.
    """

    place: Callable[[int], str]
    numbers: bool | None = None
    stamps: array = field(default_factory=lambda: array("q"))
    texts: list[str] = field(default_factory=list)
    lines: array = field(default_factory=lambda: array("q"))

    def add(self, text: str, line: int) -> None:
        if self.numbers is None:
            self.numbers = counts_steps(text)
        stamp = parse_number(text) if self.numbers else parse_stamp(text)
        if stamp is None:
            wanted = "a whole number" if self.numbers else "a date or a time stamp (2016-07-01 08:00)"
            raise InputError(f"{self.place(line)}: expected {wanted}, got {text!r}")
        self.stamps.append(stamp)
        self.texts.append(text)
        self.lines.append(line)

    def count(self, line: int) -> None:
        """Add a row that has no stamp: the row's number counts as time."""
        self.numbers = True
        self.stamps.append(len(self.stamps))
        self.texts.append(str(len(self.texts)))
        self.lines.append(line)


def _first(rows: _Rows) -> tuple[int, list[str]]:
    for head in rows.records:
        return head
    raise InputError(f"{rows.source}: expected rows, got none")


def _wide(rows: _Rows, columns: Columns) -> list[_Track]:
    head = _first(rows)
    at = _time_column(rows, columns, head[1])
    series = [i for i in range(len(rows.names)) if i != at]
    if not series:
        raise InputError(f"{rows.source}: expected a column a series beside the time column, got none")
    time = _Time(rows.place)
    tracks = [_Track(rows.names[i], time) for i in series]
    for line, record in _before(head, rows.records):
        if at is None:
            time.count(line)
        else:
            time.add(record[at], line)
        for track, i in zip(tracks, series, strict=True):
            name = rows.names[i]
            track.values.append(
                _number(record[i], lambda line=line, name=name: f"{rows.place(line)}, column {name!r}")
            )
    return tracks


def _time_column(rows: _Rows, columns: Columns, first: list[str]) -> int | None:
    if columns.time is not None:
        return rows.index(columns.time, "--time-column")
    for i, name in enumerate(rows.names):
        if name.lower() in _TIME_NAMES:
            return i
    dated = not is_number(first[0]) and parse_stamp(first[0]) is not None
    return 0 if dated else None


def _long(rows: _Rows, columns: Columns) -> list[_Track]:
    assert columns.id is not None
    head = _first(rows)
    id = rows.index(columns.id, "--id-column")
    at = _time_column(rows, columns, head[1])
    value = _value_column(rows, columns, (id, at))
    tracks: dict[str, _Track] = {}
    for line, record in _before(head, rows.records):
        name = record[id]
        if name not in tracks:
            tracks[name] = _Track(name, _Time(rows.place))
        time = tracks[name].time
        if at is None:
            time.count(line)
        else:
            time.add(record[at], line)
        tracks[name].values.append(
            _number(record[value], lambda line=line: f"{rows.place(line)}, column {rows.names[value]!r}")
        )
    return list(tracks.values())


def _value_column(rows: _Rows, columns: Columns, taken: tuple[int | None, ...]) -> int:
    if columns.value is not None:
        return rows.index(columns.value, "--value-column")
    left = [i for i in range(len(rows.names)) if i not in taken]
    if len(left) != 1:
        names = ", ".join(repr(rows.names[i]) for i in left) or "none"
        raise InputError(
            f"{rows.source}: --value-column: expected the column with the values, could be {names}"
        )
    return left[0]


# --- from tracks to a regular grid ---


def _on_grid(tracks: list[_Track], frequency: Frequency | None, regularize: bool, source: str) -> Panel:
    times = list({id(track.time): track.time for track in tracks}.values())
    if frequency is None:
        frequency = _common_frequency(times, source)
    _check_kind(times, frequency)
    grids = {id(time): _grid(time, frequency, regularize) for time in times}
    return Panel(
        frequency,
        [
            TimeSeries(track.name, *_fill(grids[id(track.time)], np.array(track.values, np.float64)))
            for track in tracks
        ],
    )


def _common_frequency(times: list[_Time], source: str) -> Frequency:
    """That of the longest series."""
    longest = max(times, key=lambda time: len(set(time.stamps)))
    if len(set(longest.stamps)) < 2:
        raise InputError(f"{source}: expected a series of at least two time stamps, got one")
    return guess_frequency(np.array(longest.stamps, np.int64), bool(longest.numbers))


def _check_kind(times: list[_Time], frequency: Frequency) -> None:
    counted = frequency.unit == "number"
    for time in times:
        if time.numbers != counted:
            wanted, got = ("a whole number", "a date") if counted else ("a date", "a whole number")
            raise InputError(
                f"{time.place(time.lines[0])}: expected {wanted} as time stamp, got {got}: {time.texts[0]!r}"
            )


def _grid(time: _Time, frequency: Frequency, regularize: bool) -> tuple[int, Stamps]:
    """The first stamp, and for every row its step on the grid, from 0."""
    stamps = np.array(time.stamps, np.int64)
    start = int(stamps.min()) if regularize else int(stamps[0])
    steps = frequency.positions(start, stamps)
    if not regularize:
        exact = frequency.stamps(start, np.arange(len(stamps))) == stamps
        if not exact.all():
            raise InputError(_irregular(time, frequency, int(np.argmin(exact))))
    return start, steps


def _irregular(time: _Time, frequency: Frequency, i: int) -> str:
    where, text, hint = time.place(time.lines[i]), time.texts[i], "--regularize puts them on a regular grid"
    if time.stamps[i] == time.stamps[i - 1]:
        return f"{where}: the time stamp {text!r} repeats that of the row before; {hint}"
    wanted = frequency.show(int(frequency.stamps(time.stamps[0], np.array([i]))[0]))
    return f"{where}: expected the time stamp {wanted}, one step after the row before, got {text!r}; {hint}"


def _fill(grid: tuple[int, Stamps], values: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """The mean of the values of every step, NaN where there is none."""
    start, steps = grid
    present = ~np.isnan(values)
    counts = np.bincount(steps[present], minlength=steps.max() + 1)
    sums = np.bincount(steps[present], values[present], minlength=steps.max() + 1)
    return start, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
